"""Images from disk to batches of tensors. This room knows no model and no task."""
