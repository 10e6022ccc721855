"""What `sana-wm train` and `sana-wm evaluate` are made of: settings, run folder, checkpoints."""
