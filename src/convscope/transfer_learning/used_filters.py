"""The filters that a head's answers rest on: weight times how much more the images of a class excite them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

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


@dataclass(frozen=True)
class Vote:
    """A filter of a layer and what it ``adds`` to a class's logit, which is that ``part`` of all that lifts it."""

    layer: str | None
    filter: int
    adds: float
    part: float


@dataclass(frozen=True)
class ClassVotes:
    """The filters that speak for a class of pixels, a label or a large number most, counted on so many ``images``.

    ``by_absence`` is the part of all that lifts it which comes from filters that fire less there than on the mean.
    """

    name: str
    votes: tuple[Vote, ...]
    by_absence: float
    images: int

    @property
    def layer(self) -> str | None:
        """The layer of the filter that speaks for it most."""
        return self.votes[0].layer if self.votes else None

    @property
    def filters(self) -> tuple[int, ...]:
        """The filters of that layer, as ``ClassFilters`` has them."""
        return tuple(vote.filter for vote in self.votes if vote.layer == self.layer)

    @property
    def shares(self) -> tuple[float, ...]:
        """What each of those adds."""
        return tuple(vote.adds for vote in self.votes if vote.layer == self.layer)

    def to_json(self) -> dict[str, Any]:
        """The stable JSON form."""
        filters = [asdict(vote) for vote in self.votes]
        return {"name": self.name, "filters": filters, "by_absence": self.by_absence, "images": self.images}


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


def label_votes(
    head: nn.Linear, features_NC: Tensor, labels_NK: Tensor, names: Sequence[str], layer: str | None
) -> tuple[ClassVotes, ...]:
    """Find for each label that some images have, and some have not, the filters that speak for it most.

    What a filter adds is its weight times how much higher its mean is over images with the label than over those
    without: over all filters, how much higher the logit is.
    """
    found = []
    for k, name in enumerate(names):
        has = labels_NK[:, k] > 0
        if not has.any() or has.all():
            continue
        more_C = features_NC[has].mean(0) - features_NC[~has].mean(0)
        adds_C, layers = more_C * head.weight[k].detach(), [(layer, len(more_C))]
        found.append(speaking(name, adds_C, more_C > 0, layers, int(has.sum())))
    return tuple(found)


def number_votes(
    head: nn.Linear, features_NC: Tensor, numbers_N: Tensor, name: str, layer: str | None
) -> tuple[ClassVotes, ...]:
    """Find the filters that speak for numbers above the median, and for the others, as for two labels."""
    both = nn.Linear(head.in_features, 2)
    both.load_state_dict({"weight": torch.cat([head.weight, -head.weight]), "bias": torch.cat([head.bias, -head.bias])})
    above_N = numbers_N > numbers_N.median()
    labels_N2 = torch.stack([above_N, ~above_N], 1)
    return label_votes(both, features_NC, labels_N2, (f"large {name}", f"small {name}"), layer)


def speaking(
    name: str, adds_C: Tensor, excited_C: Tensor, layers: Sequence[tuple[str | None, int]], images: int
) -> ClassVotes:
    """The filters that lift a class by firing more on it than elsewhere, of layers with so many filters each."""
    lifts = adds_C.clamp(min=0)
    whole, speaks = float(lifts.sum().clamp(min=1e-30)), excited_C & (adds_C > 0)
    best = torch.topk(torch.where(speaks, adds_C, 0.0), min(FILTERS_A_CLASS, int(speaks.sum())))
    names = [(layer, k) for layer, count in layers for k in range(count)]
    rows = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    found = tuple(Vote(names[c][0], names[c][1], adds, adds / whole) for c, adds in rows)
    return ClassVotes(name, found, float(lifts[~speaks].sum()) / whole, images)


def pooled_layer(network: nn.Module, size: int, filters: int) -> str | None:
    """Name the layer whose filters the features are the means of; None where there is none."""
    same = [layer.name for layer in find_layers(network, torch.zeros(1, 3, size, size)) if layer.filters == filters]
    return same[-1] if same else None
