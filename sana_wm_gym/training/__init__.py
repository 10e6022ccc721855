"""Training: makes weights, serves nobody at run time."""
