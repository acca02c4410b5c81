"""The one training loop. It knows no task: it is handed a model, batches and a step."""
