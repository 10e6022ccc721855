"""Ground-truth worlds: scenes, textures, renderer, walks."""
