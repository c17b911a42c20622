"""A classifier, the one pass that yields logits, and what the logits are worth."""
