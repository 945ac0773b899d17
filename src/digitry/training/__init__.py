"""Data set to model to artifact to report."""
