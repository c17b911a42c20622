"""What an image is to maximize, as objectives that add and scale: a filter, a class, a direction, this but not that.

Each is a weighted sum of terms, and a term is linear in what one layer outputs. So any number of different objectives
runs in one batch (Olah, Mordvintsev and Schubert 2017, https://doi.org/10.23915/distill.00007, name them so).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..errors import UsageError
from .layers import Layer


@dataclass(frozen=True)
class Term:
    """``weight`` times the product of ``vector`` (C,) with a layer's channels: at its middle place, or their mean.

    ``layer`` None stands for the logits, of which there are as many as classes.
    """

    layer: Layer | None
    vector: tuple[float, ...]
    everywhere: bool
    weight: float = 1.0


@dataclass(frozen=True)
class Objective:
    """A sum of terms: ``a + b``, ``a - b`` (this but not that), ``2 * a`` and ``-a`` are objectives too."""

    terms: tuple[Term, ...]

    def __add__(self, other: Objective) -> Objective:
        return Objective(self.terms + other.terms)

    def __mul__(self, factor: float) -> Objective:
        return Objective(tuple(replace(term, weight=term.weight * factor) for term in self.terms))

    __rmul__ = __mul__

    def __neg__(self) -> Objective:
        return self * -1.0

    def __sub__(self, other: Objective) -> Objective:
        return self + -other


def neuron(layer: Layer, k: int) -> Objective:
    """Filter ``k`` at the middle place of the layer's map: its receptive field is the canvas."""
    return direction(layer, _one_hot(layer.filters, k, f"filter of {layer.name}"))


def channel(layer: Layer, k: int) -> Objective:
    """Filter ``k`` everywhere: the mean of its map."""
    return direction(layer, _one_hot(layer.filters, k, f"filter of {layer.name}"), everywhere=True)


def direction(layer: Layer, vector: Sequence[float], everywhere: bool = False) -> Objective:
    """A mixture of a layer's filters, one number a filter, at the middle place or as the mean of the map."""
    if len(vector) != layer.filters:
        raise UsageError(f"a direction of {layer.name} has {layer.filters} numbers, and got {len(vector)}.")
    return Objective((Term(layer, tuple(float(v) for v in vector), everywhere),))


def logit(classes: int, k: int) -> Objective:
    """The logit of class ``k`` of so many."""
    return Objective((Term(None, _one_hot(classes, k, "class"), everywhere=False),))


def _one_hot(n: int, k: int, what: str) -> tuple[float, ...]:
    if not 0 <= k < n:
        raise UsageError(f"there is no {what} numbered {k}: they go from 0 to {n - 1}.")
    return tuple(float(i == k) for i in range(n))


class Values:
    """The values of a batch of objectives, from what their layers output."""

    def __init__(self, objectives: Sequence[Objective]) -> None:
        self.layers: list[Layer | None] = []
        self._vectors: dict[tuple[int, bool], Tensor] = {}
        for row, objective in enumerate(objectives):
            for term in objective.terms:
                if term.layer not in self.layers:
                    self.layers.append(term.layer)
                key = (self.layers.index(term.layer), term.everywhere)
                blank = torch.zeros(len(objectives), len(term.vector))
                vectors = self._vectors.setdefault(key, blank)
                vectors[row] += term.weight * torch.tensor(term.vector)
        self.rows = torch.arange(len(objectives))

    def local(self) -> Layer | None:
        """The one layer that all terms look at in its middle, or None: then the whole image counts."""
        keys = list(self._vectors)
        return self.layers[0] if len(keys) == 1 and not keys[0][1] else None

    def of(self, outputs: Sequence[Tensor], rows: Tensor, places: Sequence[tuple[int, int]]) -> Tensor:
        """The values (B,) of the objectives ``rows`` for outputs in the order of ``layers``, at these middle places."""
        total = outputs[0].new_zeros(len(rows), dtype=torch.float32)
        for (number, everywhere), vectors in self._vectors.items():
            maps = outputs[number]
            if maps.dim() == 4:
                row, column = places[number]
                maps = maps.mean((2, 3)) if everywhere else maps[:, :, row, column]
            total = total + (maps.float() * vectors[rows].to(maps.device)).sum(1)
        return total
