"""Torch modules of the generator; no files, no network, no environment, no camera code."""
