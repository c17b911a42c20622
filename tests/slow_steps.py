"""Steps of an optimizer as they are written down, in float64."""

from __future__ import annotations

import torch

from convscope.training.muon import COEFFICIENTS


def newton_schulz(matrix: torch.Tensor, iterations: int) -> torch.Tensor:
    """Newton and Schulz as it is written down."""
    a, b, c = COEFFICIENTS
    x = matrix.double()
    x = x.T / x.norm() if len(x) > x.shape[1] else x / x.norm()
    for _ in range(iterations):
        gram = x @ x.T
        x = a * x + b * gram @ x + c * gram @ gram @ x
    return x.T if len(matrix) > matrix.shape[1] else x
