"""Layer probes: at which depth each class becomes readable (Alain and Bengio 2017, arXiv:1610.01644).

A linear probe is fitted to the mean activations of every layer, each by one regularised solve, and scored on held-out
images. A layer's features need not be used by what follows: a probe says what could be read, not what is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..classifying.intervals import Interval, wilson
from .responses import Responses

RIDGE = 0.01  # times the number of images, on standardised features
READABLE = 0.8  # of the best recall that any layer reaches


@dataclass(frozen=True)
class Probe:
    """A linear probe on one layer: held-out accuracy with its interval, and recall of each class (K,), NaN without."""

    layer: str
    filters: int
    accuracy: Interval
    recall: Tensor


@dataclass(frozen=True)
class Probes:
    """The probes of all layers in order; ``readable`` names the first layer where each class is readable.

    That is where its recall reaches 80 % of the best that any layer reaches.
    """

    probes: tuple[Probe, ...]
    readable: tuple[str, ...]
    train_images: int


def probe(
    train: Sequence[Responses], train_labels: Tensor, held_out: Sequence[Responses], labels: Tensor, classes: int
) -> Probes:
    """Fit a probe on each layer's answers to some images, and score it on others."""
    probes = []
    for fitted, scored in zip(train, held_out, strict=True):
        guess = _solve(fitted.mean, train_labels, scored.mean, classes).argmax(1)
        right = guess == labels
        hits = torch.bincount(labels[right], minlength=classes).double()
        recall = hits / torch.bincount(labels, minlength=classes)
        estimate = wilson(int(right.sum()), len(labels))
        probes.append(Probe(fitted.layer.name, fitted.layer.filters, estimate, recall))
    recalls_LK = torch.stack([p.recall for p in probes]).nan_to_num(0)
    reached = recalls_LK >= READABLE * recalls_LK.amax(0)
    readable = tuple(probes[int(column.int().argmax())].layer for column in reached.T)
    return Probes(tuple(probes), readable, len(train_labels))


def _solve(features_NC: Tensor, labels_N: Tensor, others_MC: Tensor, classes: int) -> Tensor:
    """Scores (M, K) by ridge regression on the classes' indicators: the normal equations, in float64."""
    x, others = features_NC.double(), others_MC.double()
    mean, spread = x.mean(0), x.std(0).clamp(min=1e-12)
    spread = torch.where(spread > 1e-9, spread, 1.0)  # a filter that never varies says nothing
    x, others = (x - mean) / spread, (others - mean) / spread
    y = F.one_hot(labels_N, classes).double()
    gram = x.T @ x + RIDGE * len(x) * torch.eye(x.shape[1], dtype=torch.float64)
    weights = torch.linalg.solve(gram, x.T @ (y - y.mean(0)))
    return others @ weights + y.mean(0)
