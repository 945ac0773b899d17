"""A run folder to pictures and a page."""
