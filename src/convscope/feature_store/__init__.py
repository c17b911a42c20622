"""What a backbone makes of each image: recorded once, keyed by content, searched."""
