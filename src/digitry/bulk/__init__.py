"""Bulk reading: very many images to tables on disk."""
