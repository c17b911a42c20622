"""Networks by name, their layer table and rules, pretrained weights, heads, and the only hooks."""
