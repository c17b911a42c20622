"""How good a classifier is, and what it answers."""
