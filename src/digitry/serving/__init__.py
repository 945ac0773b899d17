"""Readers at work: the page and the HTTP API, the store of corrections, many images at once."""
