"""A network's factors and their Jacobians, its gradients, and a verdict in words on whether and why it learns."""
