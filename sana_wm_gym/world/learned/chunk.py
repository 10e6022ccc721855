"""Sizes of SANA-WM's chunks; other worlds have their own in their spec."""

FRAMES_PER_LATENT = 8
"""Video frames per latent frame."""
LATENTS_PER_CHUNK = 3
"""Latent frames that are generated together, besides the first image's."""
CHUNK_FRAMES = FRAMES_PER_LATENT * LATENTS_PER_CHUNK
"""Video frames of a chunk."""
