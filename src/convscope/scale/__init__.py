"""What one machine is too small for: workers on a cluster."""
