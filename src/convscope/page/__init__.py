"""The local page: what the commands wrote, shown and asked about in a browser. It computes nothing with tensors."""
