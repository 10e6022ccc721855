"""Parts of `benchmarks.released_step`: weights, work, measurements and tables at released size."""
