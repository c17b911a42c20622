"""Why a network does or does not learn: its factors and their Jacobians, its gradients, and a verdict in words."""
