"""Corrections and a user's own images to a better model."""
