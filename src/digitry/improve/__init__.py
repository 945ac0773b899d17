"""Improves a model with corrections or with a user's own images."""
