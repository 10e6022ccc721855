"""Policies that act in the worlds, one readable script each."""
