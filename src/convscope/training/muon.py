"""Muon: momentum whose update of a filter bank is made orthogonal (Jordan 2024, kellerjordan.github.io/posts/muon).

torch's own takes matrices only and computes in bfloat16; here filters are flattened to matrices and it is all float32.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

# Of the quintic iteration that takes singular values of 0.1 to 1 near 1 in three steps, as its authors chose them.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 3
LEAST = torch.finfo(torch.float32).tiny


class Muon(torch.optim.Optimizer):
    """Nesterov momentum; in groups with ``orthogonal``, of parameters of two or more dimensions, as Muon.

    There an update has singular values of about 1, is scaled so that ``lr`` is its size relative to the weights, and
    the weights keep the norm they have: with a norm layer behind them only their direction counts, and weight decay
    does nothing. Groups without ``orthogonal`` are SGD with Nesterov momentum and decay.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], lr: float, momentum: float) -> None:
        super().__init__(groups, {"lr": lr, "momentum": momentum, "weight_decay": 0.0, "orthogonal": False})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # pyrefly: ignore[bad-override]
        """One update of every parameter that has a gradient; a closure, as other optimizers take, is not used."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group)

    def _update(self, weight: torch.Tensor, grad: torch.Tensor, group: dict[str, Any]) -> None:
        if group["weight_decay"] and not group["orthogonal"]:
            grad = grad.add(weight, alpha=group["weight_decay"])
        state = self.state[weight]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(weight)
        buffer = state["momentum_buffer"].mul_(group["momentum"]).add_(grad)
        moved = grad.add(buffer, alpha=group["momentum"])
        if not group["orthogonal"]:
            weight.add_(moved, alpha=-group["lr"])
            return
        norm = weight.norm()
        update = orthogonal(moved.reshape(len(moved), -1)).reshape(weight.shape)
        weight.sub_(update * (group["lr"] * norm / min(update[0].numel(), len(update)) ** 0.5))
        weight.mul_(norm / weight.norm().clamp_min(1e-12))


def orthogonal(matrix_MN: torch.Tensor, iterations: int = ITERATIONS) -> torch.Tensor:
    """The nearest matrix with singular values of about 1 (0.7 to 1.2), by Newton and Schulz' iteration, in float32.

    Singular values below about a hundredth of the largest stay below 1: three iterations are a compromise. An
    iteration multiplies by a polynomial in the Gram matrix, so all of them are multiplied together on its small side,
    and the matrix itself is touched twice only. Its size does not count: its largest magnitude
    is divided out before its norm, for squares of a gradient that has nearly vanished, or exploded, do not fit.
    """
    a, b, c = COEFFICIENTS
    x = matrix_MN.float()
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    x = x / x.abs().amax().clamp_min(LEAST)
    x /= x.norm().clamp_min(LEAST)
    gram = x @ x.T
    product = torch.eye(len(gram), device=x.device)
    for _ in range(iterations):
        factor = torch.addmm(b * gram, gram, gram, alpha=c)
        factor.diagonal().add_(a)
        product = factor @ product
        gram = factor @ gram @ factor
    x = product @ x
    return x.T if tall else x
