"""What a user imports to evaluate a world: bench layout, scoring, probes, held-out clips."""
