"""Drawn handwriting: what the shipped reader learns from."""
