"""Files of weights: reading, checking and writing them; no other folder knows their layout."""
