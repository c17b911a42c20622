"""From recorded features to a classifier: heads, fine-tuning, the ladder of all, the learning curve."""
