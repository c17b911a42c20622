"""Explanations the slow way: a whole pass for each silenced filter, and lists by sorting all there is."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from convscope.classifying.prediction import logits
from convscope.images.preprocess import Preprocess
from convscope.models.taps import tapping


def without_filter(network: nn.Module, layer, images: np.ndarray, preprocess: Preprocess, k: int) -> Tensor:
    """The logits of a whole pass with the filter at 0."""

    def silence(_number: int, maps: Tensor) -> Tensor:
        return maps.index_fill(1, torch.tensor([k]), 0.0)

    with tapping(network, [layer.tap], silence):
        return logits(network, images, preprocess)


def brute_force(maps_NCHW: Tensor, k: int, index: np.ndarray) -> tuple[list, list, list]:
    """For each filter: values, images and places, by sorting everything there is."""
    values, chosen, places = [], [], []
    width = maps_NCHW.shape[3]
    for c in range(maps_NCHW.shape[1]):
        flat = maps_NCHW[:, c].flatten(1)
        rows = sorted((-float(row.max()), int(index[n]), n) for n, row in enumerate(flat))[:k]
        values.append([-value for value, _, _ in rows])
        chosen.append([i for _, i, _ in rows])
        first = [int((flat[n] == flat[n].max()).nonzero()[0]) for _, _, n in rows]
        places.append([[p // width, p % width] for p in first])
    return values, chosen, places
