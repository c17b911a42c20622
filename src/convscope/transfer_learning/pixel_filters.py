"""The filters that vote for a class of pixels: what each adds to the class's logit where the class is.

Of a linear head the logit of a pixel is the sum of its filters' votes, weight times activation, and a bias. Of a head
that is not linear the gradient takes the weight's place, averaged along the way from the mean activations to those
that are there (integrated gradients, Sundararajan et al. 2017, arXiv:1703.01365). For a linear head that average is
the weight itself, so both are one computation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ..datasets.mask_coding import VOID
from ..models.pixel_network import LinearPixels
from ..progress import Progress
from .used_filters import ClassVotes, speaking

LOOKED_AT = 256  # validation images, at most
OF_A_CLASS = 16  # of these, those that show most of a class: on them its votes are counted
STEPS = 12  # from the mean activations to those that are there, of a head that is not linear
BLOCK = 8  # images at a time
DRAWN = 3  # filters of a class
SHOWN = 3  # images of a filter


@dataclass(frozen=True)
class Given:
    """What a ``head`` is asked about: ``maps`` gives those of images, finest first, and ``masks`` int64 (B, S, S)."""

    head: nn.Module
    maps: Callable[[np.ndarray], list[Tensor]]
    masks: Callable[[np.ndarray], Tensor]


@dataclass(frozen=True)
class Firing:
    """Where a filter fires in the images that excite it most: ``index`` (n,) into the dataset, and of each its map
    float32 (h, w), from 0, where it is at its mean or below, to 1, the strongest of these images."""

    index: np.ndarray
    maps: np.ndarray


@dataclass(frozen=True)
class PixelVotes:
    """The filters that speak for each class, and where the first ones fire, in the same order; ``looked_at`` images."""

    classes: tuple[ClassVotes, ...]
    firing: tuple[tuple[Firing, ...], ...]
    looked_at: int


@dataclass(frozen=True)
class _Seen:
    """One pass: the mean of each filter over the places of each class (K, C), the strongest value in each image
    (N, C), and the places of each class at the finest stride in each image (N, K)."""

    means: Tensor
    peaks: Tensor
    places: Tensor

    @property
    def there(self) -> Tensor:
        """Which classes there are."""
        return self.places.sum(0) > 0

    @property
    def level(self) -> Tensor:
        """The mean of each filter over the classes that there are, each counting once."""
        return self.means[self.there].mean(0)


def pixel_votes(
    given: Given,
    index: np.ndarray,
    class_names: Sequence[str],
    layers: Sequence[str],
    progress: Progress | None = None,
) -> PixelVotes:
    """Find for each class the filters that speak for it most, on the images at ``index``, and where they fire.

    The maps are outputs of ``layers``.
    """
    index = index[np.unique(np.linspace(0, len(index) - 1, min(len(index), LOOKED_AT)).round().astype(int))]
    seen = _look(given, index, len(class_names))
    parts = [one.shape[1] for one in given.maps(index[:1])]
    known = list(zip(layers, parts, strict=True))
    first = dict(zip(layers, np.cumsum([0, *parts[:-1]]).tolist(), strict=True))
    classes, firing = [], []
    for k in torch.where(seen.there)[0].tolist():
        count = seen.places[:, k]
        most = torch.argsort(-count, stable=True)[: min(OF_A_CLASS, int((count > 0).sum()))].numpy()
        adds_C = votes(given, index[most], k, seen.level)
        found = speaking(class_names[k], adds_C, seen.means[k] > seen.level, known, len(most))
        classes.append(found)
        channels = [first[str(vote.layer)] + vote.filter for vote in found.votes[:DRAWN]]
        firing.append(tuple(_firing(given, index, seen, channel) for channel in channels))
        if progress:
            progress("votes of filters", k + 1, len(class_names))
    return PixelVotes(tuple(classes), tuple(firing), len(index))


def votes(given: Given, index: np.ndarray, k: int, mean_C: Tensor) -> Tensor:
    """What each filter adds to the logit of class ``k``, less the mean of all classes', over its pixels: (C,).

    They add up to how much higher that is than if every filter were at ``mean_C`` everywhere: exactly for a linear
    head, and for others as far as STEPS go.
    """
    steps = 1 if isinstance(given.head, LinearPixels) else STEPS
    total, count = torch.zeros_like(mean_C), 0
    for start in range(0, len(index), BLOCK):
        rows = index[start : start + BLOCK]
        maps, masks_BSS = given.maps(rows), given.masks(rows)
        levels = [mean[None, :, None, None] for mean in mean_C.split([one.shape[1] for one in maps])]
        own = sampled(masks_BSS, maps[0].shape[-1]) == k  # a head answers at the finest map's places
        count += int(own.sum())
        away = [one - level for one, level in zip(maps, levels, strict=True)]
        for step in range(steps):
            share = (step + 0.5) / steps
            inputs = [(level + share * far).requires_grad_() for level, far in zip(levels, away, strict=True)]
            with torch.enable_grad():
                logits = given.head(inputs)
                summed = (logits[:, k] - logits.mean(1))[own].sum()
                found = torch.autograd.grad(summed, inputs)
            total += torch.cat([(g * far).sum((0, 2, 3)) for g, far in zip(found, away, strict=True)]) / steps
    return total / count


def sampled(masks_BSS: Tensor, side: int) -> Tensor:
    """Masks at the middles of a map's places, (B, side, side): as the loss sees them."""
    step = masks_BSS.shape[-1] // side
    return masks_BSS[:, step // 2 :: step, step // 2 :: step]


def _look(given: Given, index: np.ndarray, classes: int) -> _Seen:
    sums, counts, peaks, places = [], [], [], []
    for start in range(0, len(index), BLOCK):
        rows = index[start : start + BLOCK]
        maps, masks_BSS = given.maps(rows), given.masks(rows)
        at = [sampled(masks_BSS, one.shape[-1]) for one in maps]
        peaks.append(torch.cat([_peaks(one, where) for one, where in zip(maps, at, strict=True)], 1))
        places.append(torch.stack([(at[0] == k).sum((1, 2)) for k in range(classes)], 1))
        found = [_summed(one, where, classes) for one, where in zip(maps, at, strict=True)]
        sums.append(torch.cat([total for total, _ in found], 1))
        counts.append(torch.cat([n[:, None].expand_as(total) for total, n in found], 1))
    mean_KC = torch.stack(sums).sum(0) / torch.stack(counts).sum(0).clamp(min=1)
    return _Seen(mean_KC.float(), torch.cat(peaks), torch.cat(places))


def _peaks(map_BCHW: Tensor, mask_BHW: Tensor) -> Tensor:
    """The strongest value of each channel in each image (B, C), where nothing is void."""
    return map_BCHW.masked_fill((mask_BHW == VOID)[:, None], -torch.inf).amax((2, 3))


def _summed(map_BCHW: Tensor, mask_BHW: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """The sum of each channel over the places of each class, float64 (K, C), and their number (K,)."""
    known = mask_BHW != VOID
    where, values = mask_BHW[known], map_BCHW.permute(0, 2, 3, 1)[known].double()
    total = torch.zeros(classes, values.shape[1], dtype=torch.float64).index_add_(0, where, values)
    return total, torch.bincount(where, minlength=classes).double()


def _firing(given: Given, index: np.ndarray, seen: _Seen, channel: int) -> Firing:
    """Where a filter fires in the images in which it fires most."""
    rows = index[torch.argsort(-seen.peaks[:, channel], stable=True)[:SHOWN].numpy()]
    maps, place = given.maps(rows), channel
    for one in maps:
        if place < one.shape[1]:
            break
        place -= one.shape[1]
    void = sampled(given.masks(rows), one.shape[-1]) == VOID
    above = (one[:, place] - seen.level[channel]).clamp(min=0).masked_fill(void, 0.0)
    return Firing(rows, (above / above.max().clamp(min=1e-12)).numpy())
