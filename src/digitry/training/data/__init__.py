"""Labelled images: files and folders to arrays."""
