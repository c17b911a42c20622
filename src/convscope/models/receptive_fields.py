"""Receptive fields: which part of the image a place of a feature map can see.

They are followed from tensor to tensor during a forward pass, by the usual rules for sizes, strides and paddings
(Araujo, Norris and Sim 2019, https://doi.org/10.23915/distill.00021), without tracing a graph. What happens between
modules (an addition, a functional ReLU) is not seen: there the field is the union of those at the same resolution, and
None wherever that may be wrong.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.weak import WeakTensorKeyDictionary

Pair = tuple[int, int]  # height, width
MAPS_BCHW = 4  # dimensions of a batch of maps

_CONVOLUTIONS_AND_POOLS = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)
_GLOBAL_POOLS = (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
# Kept out of it, as is usual: that the statistics of a layer or group norm depend on the whole map.
_PLACE_BY_PLACE = (_BatchNorm, nn.LayerNorm, nn.GroupNorm, nn.PReLU)


@dataclass(frozen=True)
class Field:
    """The part of the image (px; height, width) that the places of a map see, by sizes and strides alone.

    Place (i, j) sees ``size`` pixels from ``start`` + (i, j) * ``step`` on; the start is negative where the padding is
    seen, and the size may exceed the image. ``places`` is the number of rows and columns of the map.
    """

    size: Pair
    step: Pair
    start: Pair
    places: Pair

    def through(self, kernel: Pair, stride: Pair, padding: Pair, places: Pair) -> Field:
        """The field after a window of ``kernel`` places (its dilation included)."""
        by_axis = zip(self.size, self.step, self.start, kernel, padding, strict=True)
        moved = [(size + (k - 1) * step, start - pad * step) for size, step, start, k, pad in by_axis]
        step = (self.step[0] * stride[0], self.step[1] * stride[1])
        return Field((moved[0][0], moved[1][0]), step, (moved[0][1], moved[1][1]), places)

    def everywhere(self) -> Field:
        """The field of what looks at all places at once: a fully connected layer, or a global pool."""
        return self.through(self.places, (1, 1), (0, 0), (1, 1))


class Fields:
    """The fields of the tensors of one forward pass that starts at ``image``; holds no tensor alive."""

    def __init__(self, image: Tensor) -> None:
        places = _places(image)
        seen = Field((1, 1), (1, 1), (0, 0), places)
        self._known: WeakTensorKeyDictionary = WeakTensorKeyDictionary()  # to (field, version it is true of)
        self._note(image, seen)
        self._by_places: dict[Pair, list[Field | None]] = {places: [seen]}
        self._latest: tuple[Field | None, int, Pair] = (seen, image.numel(), places)

    def of(self, tensor: Tensor) -> Field | None:
        """The field of a tensor that the pass has reached; None where it cannot be followed."""
        field, version = self._known.get(tensor, (None, None))
        if version != tensor._version:  # made, or changed in place, between two modules
            field = self._between_modules(tensor)
            self._note(tensor, field)
        return field

    def pass_through(self, module: nn.Module, given: Sequence[Tensor], outputs: Tensor) -> None:
        """Follow a call of a module that contains no other."""
        field = None
        if given and (seen := union([self.of(tensor) for tensor in given])) is not None:
            field = _after(module, seen, given[0], outputs)
        self._note(outputs, field)
        places = _places(outputs)
        self._by_places.setdefault(places, []).append(field)
        self._latest = (field, outputs.numel(), places)

    def _between_modules(self, tensor: Tensor) -> Field | None:
        """The field of a sum, a functional activation or the like: it can only be made of what was output before."""
        latest, numel, places = self._latest
        if tensor.dim() < MAPS_BCHW:
            return latest if tensor.numel() == numel else None
        return union(self._by_places[places]) if _places(tensor) == places else None

    def _note(self, tensor: Tensor, field: Field | None) -> None:
        self._known[tensor] = (field, tensor._version)


def union(fields: Sequence[Field | None]) -> Field | None:
    """The field of what is computed from several tensors; None if one is unknown or their places do not align."""
    known = [field for field in fields if field is not None]
    if len(known) < len(fields) or len({(field.step, field.places) for field in known}) != 1:
        return None
    starts = [min(field.start[axis] for field in known) for axis in (0, 1)]
    ends = [max(field.start[axis] + field.size[axis] for field in known) for axis in (0, 1)]
    size = (ends[0] - starts[0], ends[1] - starts[1])
    return Field(size, known[0].step, (starts[0], starts[1]), known[0].places)


def _after(module: nn.Module, seen: Field, given: Tensor, outputs: Tensor) -> Field | None:
    """The field of a module's output; None for a module whose windows are not known."""
    if isinstance(module, _CONVOLUTIONS_AND_POOLS) and given.dim() == MAPS_BCHW:
        kernel, stride, padding = windows(module)
        return seen.through(kernel, stride, padding, _places(outputs))
    if isinstance(module, _GLOBAL_POOLS) and given.dim() == MAPS_BCHW:
        rows_cols = _places(outputs)
        if any(had % has for had, has in zip(seen.places, rows_cols, strict=True)):
            return None  # windows of different sizes
        window = (seen.places[0] // rows_cols[0], seen.places[1] // rows_cols[1])
        return seen.through(window, window, (0, 0), rows_cols)
    if isinstance(module, nn.Linear):
        return seen.everywhere() if given.dim() == 2 else None
    if isinstance(module, nn.Flatten):
        return seen
    unweighted = next(module.parameters(), None) is None
    same_places = given.shape == outputs.shape and (unweighted or isinstance(module, _PLACE_BY_PLACE))
    return seen if same_places else None


def windows(module: nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d) -> tuple[Pair, Pair, Pair]:
    """Kernel (dilation included), stride and padding above and to the left of a convolution or pool, each (h, w)."""
    dilation = pair(getattr(module, "dilation", 1))
    size, stride = pair(module.kernel_size), pair(module.stride)
    kernel = (dilation[0] * (size[0] - 1) + 1, dilation[1] * (size[1] - 1) + 1)
    padding = module.padding
    if isinstance(padding, str):
        return kernel, stride, ((kernel[0] - 1) // 2, (kernel[1] - 1) // 2) if padding == "same" else (0, 0)
    return kernel, stride, pair(padding)


def pair(value: int | Sequence[int]) -> Pair:
    """An int, or one or two of them, as (height, width)."""
    if isinstance(value, int):
        return value, value
    return value[0], value[-1]


def _places(tensor: Tensor) -> Pair:
    """Rows and columns of a map; a flat tensor is one place."""
    return (tensor.shape[2], math.prod(tensor.shape[3:])) if tensor.dim() >= MAPS_BCHW else (1, 1)
