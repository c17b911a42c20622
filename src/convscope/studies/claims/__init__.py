"""One file a claim. Files without a CLAIM hold what several claims share."""
