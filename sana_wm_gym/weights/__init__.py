"""Files of weights: reading, checking and writing them; no other folder depends on their layout."""
