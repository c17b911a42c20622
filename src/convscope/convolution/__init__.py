"""Convolutions with fewer multiplications, in float32 on a CPU."""
