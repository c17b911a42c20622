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
    """The ``filters`` of a layer that the answers for one class rest on most, and what each adds to its logit."""

    name: str
    layer: str | None
    filters: tuple[int, ...]
    shares: tuple[float, ...]


def used_filters(
    head: nn.Linear, features_NC: Tensor, labels_N: Tensor, class_names: Sequence[str], layer: str | None
) -> tuple[ClassFilters, ...]:
    """Find for each class the filters that its images' lead rests on: weight times how much more they answer to it."""
    mean, weight = features_NC.mean(0), head.weight - head.weight.mean(0)
    found = []
    for k, name in enumerate(class_names):
        if (labels_N == k).any():
            share = weight[k] * (features_NC[labels_N == k].mean(0) - mean)
            best = torch.topk(share, min(FILTERS_A_CLASS, len(share)))
            found.append(ClassFilters(name, layer, tuple(best.indices.tolist()), tuple(best.values.tolist())))
    return tuple(found)


def pooled_layer(network: nn.Module, size: int, filters: int) -> str | None:
    """Name the layer whose filters the features are the means of; None where there is none."""
    same = [layer.name for layer in find_layers(network, torch.zeros(1, 3, size, size)) if layer.filters == filters]
    return same[-1] if same else None
