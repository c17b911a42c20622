"""A classifier as one file for elsewhere, with a parity seal."""
