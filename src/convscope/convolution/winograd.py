"""The three passes of a convolution by minimal filtering: outputs, gradient of the input, gradient of the filters.

Tiles are taken in blocks that fit a processor's cache: transformed, multiplied by torch's matrix products, and
transformed back before the next block is touched. The map is bilinear, so its gradients are its transposes (Lavin and
Gray 2016, arXiv:1509.09308): the input's is the same convolution with filters turned by half a turn and channels
exchanged, the filters' is a product of both transformed images summed over tiles.

Images are float32 tensors (B, C, H, W) in channels-last memory, filters (K, C, r, r), the stride is 1. Where a
result is not finite the caller is told, for then a direct convolution spreads the damage less.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from . import kernels, lanes
from .minimal_filtering import Filtering
from .normalised import channels_last
from .threads import Blocks, shared

BLOCK = 1024  # tiles at a time, at most
LEAST_BLOCK = 32
BLOCK_FLOATS = 1 << 20  # transformed numbers at a time: 4 MB
KEPT_BLOCKS = 8  # of a thread
ROWS = 16  # tiles are multiplied by so many, or what comes out would depend on how many there are
GAP = 16  # floats between the positions of a block

Padding = tuple[int, int]


@dataclass(frozen=True)
class Grid:
    """The tiles of a convolution: outputs (height, width) of ``images`` images, ``padding`` as the tiles see it."""

    filtering: Filtering
    images: int
    height: int
    width: int
    padding: Padding

    @property
    def rows(self) -> int:
        return self.filtering.tiles(self.height)

    @property
    def columns(self) -> int:
        return self.filtering.tiles(self.width)

    @property
    def tiles(self) -> int:
        return self.images * self.rows * self.columns

    def blocks(self, channels: int) -> Blocks:
        """First and last tile of each block: as many for each thread, as large as fits with so many ``channels``."""
        most = max(LEAST_BLOCK, min(BLOCK, BLOCK_FLOATS // (self.filtering.positions * channels)))
        threads = torch.get_num_threads()
        count = threads * math.ceil(self.tiles / (threads * most))
        size = max(LEAST_BLOCK, math.ceil(self.tiles / count))
        return [(first, min(first + size, self.tiles)) for first in range(0, self.tiles, size)]


# -------------------------------------------------------------------------------------------------------- passes


def convolve(images: Tensor, filters: Tensor, filtering: Filtering, padding: Padding) -> tuple[Tensor, bool]:
    """Outputs (B, K, H', W') in channels-last memory, and whether all of them are finite."""
    return _convolved(images, filters, filtering, padding, turned=False)


def input_gradient(gradient: Tensor, filters: Tensor, filtering: Filtering, padding: Padding) -> tuple[Tensor, bool]:
    """The gradient (B, C, H, W) of the input from that of the outputs, and whether all of it is finite."""
    r = filtering.filter_size
    return _convolved(gradient, filters, filtering, (r - 1 - padding[0], r - 1 - padding[1]), turned=True)


def filter_gradient(images: Tensor, gradient: Tensor, filtering: Filtering, padding: Padding) -> Tensor:
    """The gradient (K, C, r, r) of the filters, in channels-last memory."""
    images, gradient = channels_last(images), channels_last(gradient)
    count, height, width, K = gradient.shape
    C, r = images.shape[3], filtering.filter_size
    grid = Grid(filtering, count, height, width, padding)
    read_image = kernels.reading(kernels.INPUT, filtering)
    read_gradient = kernels.reading(kernels.GRADIENT, filtering)
    image, change = images.numpy(), gradient.numpy()
    positions = filtering.positions

    def work(blocks: Blocks) -> Tensor:
        total = torch.zeros(positions, K, C)
        for first, last in blocks:
            x, y = _scratch("x", last - first, C, positions), _scratch("y", last - first, K, positions)
            spare = _spare(filtering, max(C, K))
            read_image(image, x.array, x.gap, first, last, grid.rows, grid.columns, *padding, spare)
            read_gradient(change, y.array, y.gap, first, last, grid.rows, grid.columns, 0, 0, spare)
            total.baddbmm_(y.tensor.transpose(1, 2), x.tensor)
        return total

    parts = shared(work, grid.blocks(C + K))
    total = parts[0]
    for part in parts[1:]:
        total += part
    made = torch.empty(K, r, r, C)
    kernels.filters_loop(kernels.FILTER_GRADIENT, filtering)(made.numpy(), total.view(-1).numpy(), K * C, False)
    return made.permute(0, 3, 1, 2)


def _convolved(
    images: Tensor, filters: Tensor, filtering: Filtering, padding: Padding, turned: bool
) -> tuple[Tensor, bool]:
    """Convolve; with ``turned`` filters their outputs are the channels of the images."""
    images = channels_last(images)
    count, height, width, _ = images.shape
    r = filtering.filter_size
    into = filters.shape[1] if turned else filters.shape[0]
    sides = (height + 2 * padding[0] - r + 1, width + 2 * padding[1] - r + 1)
    out = torch.empty(count, into, *sides, memory_format=torch.channels_last)  # no view: it may be changed in place
    grid = Grid(filtering, count, *sides, padding)
    read = kernels.reading(kernels.INPUT, filtering)
    write = kernels.writing(filtering)
    factors = _transformed(filters, filtering, turned)  # (positions, channels in, channels out)
    image, made = images.numpy(), out.permute(0, 2, 3, 1).numpy()

    def work(blocks: Blocks) -> bool:
        check = np.zeros(lanes.WIDTH, np.float32)
        for first, last in blocks:
            rows = ROWS * math.ceil((last - first) / ROWS)  # what is over is multiplied and not looked at
            x = _scratch("x", rows, factors.shape[1], len(factors))
            y = _scratch("y", rows, into, len(factors))
            spare = _spare(filtering, max(factors.shape[1:]))
            read(image, x.array, x.gap, first, last, grid.rows, grid.columns, *padding, spare)
            torch.bmm(x.tensor, factors, out=y.tensor)
            write(made, y.array, y.gap, first, last, grid.rows, grid.columns, spare, check)
        return bool(np.isfinite(check).all())

    finite = all(shared(work, grid.blocks(sum(factors.shape[1:]))))
    return out, finite


def _transformed(filters: Tensor, filtering: Filtering, turned: bool) -> Tensor:
    """Filters in the points' basis: (positions, C, K), or (positions, K, C) of turned ones."""
    K, C = filters.shape[:2]
    gap = K * C + GAP
    made = torch.empty(filtering.positions * gap)
    kernels.filters_loop(kernels.FILTER, filtering)(channels_last(filters).numpy(), made.numpy(), gap, turned)
    shaped = made.as_strided((filtering.positions, K, C), (gap, C, 1))
    return shaped if turned else shaped.transpose(1, 2)


# ------------------------------------------------------------------------------------------------------- memory


@dataclass(frozen=True)
class _Block:
    """Room for the transformed numbers of a block: ``array`` is what kernels fill, ``tensor`` what is multiplied.

    The ``gap`` between positions is no power of two, or all of a tile would fall on the same lines of the cache.
    """

    array: np.ndarray
    tensor: Tensor
    gap: int


_own = threading.local()


def _scratch(name: str, rows: int, channels: int, positions: int) -> _Block:
    """A block of this thread, kept for the next use; its numbers are whatever they were."""
    kept = _own.blocks = getattr(_own, "blocks", {})
    key = (name, rows, channels, positions)
    if key not in kept:
        gap = rows * channels + GAP
        with torch.inference_mode(False):  # training goes on with what a validation made
            flat = torch.empty(positions * gap)
        kept[key] = _Block(flat.numpy(), flat.as_strided((positions, rows, channels), (gap, channels, 1)), gap)
        while len(kept) > KEPT_BLOCKS:
            kept.pop(next(iter(kept)))
    return kept[key]


def _spare(filtering: Filtering, channels: int) -> np.ndarray:
    """Room of this thread for a window, or more."""
    size = filtering.positions * channels
    if getattr(_own, "size", 0) < size:
        _own.size, _own.spare = size, np.empty(size, np.float32)
    return _own.spare
