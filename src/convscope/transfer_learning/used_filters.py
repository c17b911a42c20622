"""The filters that a head's answers rest on: weight times how much more the images of a class excite them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..explanation.layers import find_layers

FILTERS_A_CLASS = 5


@dataclass(frozen=True)
class ClassFilters:
    """The ``filters`` of a layer that speak for a class most, and what each adds to its logit (``shares``).

    A filter speaks for a class that excites it more than classes do on average, and whose weight for it is above
    average. A class may also be known by what it does *not* excite: ``by_absence`` is that part, 0 to 1, of all that
    lifts it. A class that excites nothing more than the others has no filters.
    """

    name: str
    layer: str | None
    filters: tuple[int, ...]
    shares: tuple[float, ...]
    by_absence: float


def used_filters(
    head: nn.Linear, features_NC: Tensor, labels_N: Tensor, class_names: Sequence[str], layer: str | None
) -> tuple[ClassFilters, ...]:
    """Find for each class with images the filters that speak for it most.

    Both parts of a share are measured from the average over classes, each counting once however many images it has:
    weight (K, C) and mean feature (K, C).
    """
    present = labels_N.unique()
    mean_KC = torch.stack([features_NC[labels_N == k].mean(0) for k in present])
    excited_KC, weight_KC = mean_KC - mean_KC.mean(0), head.weight.detach()[present]
    weight_KC -= weight_KC.mean(0)
    found = []
    for k, excited, weight in zip(present.tolist(), excited_KC, weight_KC, strict=True):
        share, speaks = excited * weight, (excited > 0) & (weight > 0)
        best = torch.topk(torch.where(speaks, share, 0.0), min(FILTERS_A_CLASS, int(speaks.sum())))
        lifted = share.clamp(min=0)
        absence = float(lifted[~speaks].sum() / lifted.sum().clamp(min=1e-30))
        shares = tuple(best.values.tolist())
        found.append(ClassFilters(class_names[k], layer, tuple(best.indices.tolist()), shares, absence))
    return tuple(found)


def pooled_layer(network: nn.Module, size: int, filters: int) -> str | None:
    """Name the layer whose filters the features are the means of; None where there is none."""
    same = [layer.name for layer in find_layers(network, torch.zeros(1, 3, size, size)) if layer.filters == filters]
    return same[-1] if same else None
