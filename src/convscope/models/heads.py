"""Heads that a foreign network can end in, in place of its last linear layer. One line of the table each."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import UnknownName, UsageError

TEMPERATURE = 0.07  # of the votes of neighbours: Wu et al. 2018, arXiv:1805.01978


class Neighbours(nn.Module):
    """k nearest neighbours as a layer: (B, C) features to (B, K) logits, the logarithms of each class's share of votes.

    Stored images vote by their cosine, weighted exp(cosine / TEMPERATURE); a thousandth of a vote is spread over all
    classes, so that every logit is finite. ``features`` (rows, C) are unit vectors, ``labels`` (rows,).
    """

    def __init__(self, channels: int, num_classes: int, rows: int, neighbours: int) -> None:
        super().__init__()
        self.neighbours, self.num_classes = min(neighbours, rows), num_classes
        self.register_buffer("features", torch.zeros(rows, channels))
        self.register_buffer("labels", torch.zeros(rows, dtype=torch.int64))

    def forward(self, features_BC: Tensor) -> Tensor:
        return votes(unit(features_BC) @ self.features.T, self.labels, self.neighbours, self.num_classes)


def unit(features_NC: Tensor) -> Tensor:
    """The features (N, C) as vectors of length 1, however short or long they are; zeros stay.

    Each row is divided by its largest magnitude first: squares of what is very short or long do not fit into float32.
    """
    largest = features_NC.detach().abs().amax(dim=1, keepdim=True)
    largest = largest.clamp_min(torch.finfo(features_NC.dtype).tiny).masked_fill(largest == 0, 1)
    return F.normalize(features_NC / largest, dim=1)


def votes(cosines_BN: Tensor, labels_N: Tensor, neighbours: int, num_classes: int) -> Tensor:
    """Logits (B, K) of the ``neighbours`` stored images with the largest cosines."""
    best = torch.topk(cosines_BN, neighbours)
    weights = torch.softmax(best.values / TEMPERATURE, 1)
    shares = F.one_hot(labels_N[best.indices], num_classes).to(weights.dtype).mul(weights[..., None]).sum(1)
    return torch.log(0.999 * shares + 0.001 / num_classes)


def linear(channels: int, num_classes: int) -> nn.Module:
    """A single multinomial layer."""
    return nn.Linear(channels, num_classes)


def fcnn(channels: int, num_classes: int, *, hidden: int = 256, dropout: float = 0.5) -> nn.Module:
    """The lecture's small fully connected network."""
    return Fcnn(nn.Linear(channels, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, num_classes))


def knn(channels: int, num_classes: int, *, rows: int = 1, neighbours: int = 10) -> nn.Module:
    """Nearest neighbours among stored features."""
    return Neighbours(channels, num_classes, rows, neighbours)


# Each takes (channels, num_classes) and, by name, options of its own that all have a default.
HEADS: dict[str, Callable[..., nn.Module]] = {"linear": linear, "fcnn": fcnn, "knn": knn}
HEAD_OPTIONS = ("head", "hidden", "dropout", "rows", "neighbours")


class Fcnn(nn.Sequential):
    """The lecture's small fully connected network, as a head."""


def head_place(network: nn.Module) -> tuple[str, int]:
    """The name of the module that a network ends in, one of HEADS or its last linear layer, and the channels it takes.

    UsageError where there is none.
    """
    get = getattr(network, "get_classifier", None)  # of timm: its last linear layer in the list may be another
    usual = get() if get is not None else None
    found = None
    for name, module in network.named_modules():
        if isinstance(module, Neighbours):
            return name, module.features.shape[1]
        if isinstance(module, Fcnn):
            return name, next(m for m in module.modules() if isinstance(m, nn.Linear)).in_features
        if isinstance(module, nn.Linear) and (found is None or found[2] is not usual):
            found = (name, module.in_features, module)
    if found is None:
        raise UsageError(f"{type(network).__name__} ends in no linear layer, so it can be given no head.")
    return found[0], found[1]


def put_head(network: nn.Module, name: str, num_classes: int, options: dict[str, object]) -> None:
    """Replace the last linear layer by the head of that name; UnknownName or UsageError where that cannot be."""
    if name not in HEADS:
        raise UnknownName("head", name, HEADS)
    place, channels = head_place(network)
    try:
        head = HEADS[name](channels, num_classes, **options)
    except TypeError:
        raise UsageError(f"the head {name} has no option {' or '.join(options)}.") from None
    network.set_submodule(place, head)
