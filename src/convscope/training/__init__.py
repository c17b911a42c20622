"""From what is asked for to a trained network: recipes settled, batches, the loop, the run on disk."""
