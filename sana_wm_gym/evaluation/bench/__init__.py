"""Bench data: the public SANA-WM-Bench layout, its results, and benches built from known worlds."""
