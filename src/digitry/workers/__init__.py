"""Readers in worker processes, which can crash or be killed without harm."""
