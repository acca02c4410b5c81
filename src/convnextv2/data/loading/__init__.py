"""Order, workers, batches and the cache."""
