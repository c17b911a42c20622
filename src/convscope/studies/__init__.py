"""The lecture's claims as controlled experiments, each with a verdict."""
