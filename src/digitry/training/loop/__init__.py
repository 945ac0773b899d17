"""The training loop: a recipe and a split to a trained model."""
