"""Images with labels, classes and parts: by name, by folder or by table, split by content."""
