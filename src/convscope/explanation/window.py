"""The part of an image that a layer's middle place sees: no more of it is climbed than that."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from ..models.taps import reach
from .layers import Layer


@dataclass(frozen=True)
class Window:
    """The part of the image that is climbed, and the middle place of the layer within it; (height, width) each."""

    start: tuple[int, int]
    size: tuple[int, int]
    place: tuple[int, int]
    box: tuple[int, int, int, int]


def window_of(layer: Layer | None, side: int, margin: int) -> Window:
    """The smallest part of an image that holds the receptive field of the layer's middle place, and a margin.

    It begins at a whole number of the layer's steps, so that strides and pools fall on it as they do on the image.
    """
    middle = middle_of(layer)
    if layer is None or layer.field is None:
        return Window((0, 0), (side, side), middle, (0, 0, side, side))
    start, end, place, low, high = [], [], [], [], []
    for axis in (0, 1):
        first = layer.field.start[axis] + middle[axis] * layer.field.step[axis]
        last = first + layer.field.size[axis]
        begin = max(0, (first - margin) // layer.field.step[axis] * layer.field.step[axis])
        start.append(begin)
        end.append(min(side, last + margin))
        place.append(middle[axis] - begin // layer.field.step[axis])
        low.append(max(0, first))
        high.append(min(side, last))
    size = (end[0] - start[0], end[1] - start[1])
    return Window((start[0], start[1]), size, (place[0], place[1]), (low[0], low[1], high[0], high[1]))


def takes(network: nn.Module, layer: Layer, window: Window, device: torch.device) -> bool:
    """Whether the network reaches the layer with a part of an image: some, as transformers, ask for all of it."""
    with torch.no_grad():
        try:
            reach(network, torch.zeros(1, 3, *window.size, device=device), [layer.tap])
        except Exception:  # whatever a network's own code says to another size
            return False
    return True


def middle_of(layer: Layer | None) -> tuple[int, int]:
    return (0, 0) if layer is None else (layer.places[0] // 2, layer.places[1] // 2)
