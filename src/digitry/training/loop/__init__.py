"""The training loop: from a recipe and training images to a trained model."""
