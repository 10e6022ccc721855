"""The comparisons behind `python -m benchmarks.parity`, one module per kind of reference file."""
