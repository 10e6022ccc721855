"""Training of the embedded world; not used at run time."""
