"""A model and labelled images to scores."""
