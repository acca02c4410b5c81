"""The one path from image files to a model's outputs: every verb that uses a trained model takes it."""
