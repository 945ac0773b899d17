"""Readers in processes that may be killed."""
