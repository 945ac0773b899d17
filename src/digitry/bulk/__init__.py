"""Many images to rows on disk."""
