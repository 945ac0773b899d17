"""Verbs on models."""
