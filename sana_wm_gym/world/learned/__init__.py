"""Worlds that a network has learned."""
