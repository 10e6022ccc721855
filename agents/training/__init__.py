"""What `agents.train` and `agents.evaluate` are made of: settings, run folder, checkpoints."""
