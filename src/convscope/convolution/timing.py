"""Which way is fastest here: each pass of a convolution timed, direct against minimal filtering, and remembered.

Nothing is believed: what wins on one processor loses on another, and on maps of a few pixels or channels.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F

from ..cache import cache_folder
from ..errors import DamagedFile, StorageError
from ..machine import describe
from ..storage import commit_json, read_json
from .minimal_filtering import Filtering
from .passes import DIRECT, LARGEST_TILE, NONE, ONE, Padding, Tiles

LEAD = 1.1  # what minimal filtering must win by
IMAGES = 64  # that a pass is timed on, or fewer: about this much work
WORK = 2e9  # multiplications
TRIES = 3
BEHIND = 1.5  # times as slow as the fastest: out of the race
FILTER_SIZES = (3, 5)
SIZES = (3, 4, 6)  # outputs a side of a tile
NEARLY = 1.25  # as many products as the fewest: which is faster depends on more than their number
FILE = "convolutions.json"


@dataclass(frozen=True)
class Shape:
    """A convolution: channels in and out, filter size, height and width of its input, padding."""

    channels: int
    filters: int
    filter_size: int
    height: int
    width: int
    padding: Padding

    @property
    def outputs(self) -> tuple[int, int]:
        """Height and width of the output."""
        top, left = self.padding
        return self.height + 2 * top - self.filter_size + 1, self.width + 2 * left - self.filter_size + 1

    @property
    def multiplications(self) -> int:
        """Those of a direct convolution, of one image in one pass."""
        height, width = self.outputs
        return self.channels * self.filters * self.filter_size**2 * height * width

    def ways(self) -> list[Filtering]:
        """Those of the fewest products, or nearly so, and less than half of a direct convolution's."""
        products = {way: way.products(*self.outputs) for m in SIZES for way in [Filtering(m, self.filter_size)]}
        most = min(NEARLY * min(products.values()), self.filter_size**2 / 2)
        return [way for way, count in products.items() if way.side <= LARGEST_TILE and count <= most]


@cache
def is_possible() -> bool:
    """Tell whether what compiles the loops is installed and works."""
    try:
        from . import winograd  # noqa: F401
    except Exception:  # whatever a broken Numba raises when it is imported
        return False
    return True


def usual_tiles(shape: Shape) -> Tiles:
    """The tiles of the fewest products in every pass, untimed."""
    ways = sorted(shape.ways(), key=lambda way: way.products(*shape.outputs))
    return (ways[0].outputs,) * 3 if ways else DIRECT


def fastest_tiles(
    shapes: Iterable[Shape], progress: Callable[[str, int, int], None] | None = None
) -> dict[Shape, Tiles]:
    """Time each shape that was not timed before on this processor with as many threads; remember what was found."""
    key = " ".join(str(v) for v in describe(torch.device("cpu")).values())
    path = cache_folder() / FILE
    known: dict[str, Any] = {}
    with suppress(OSError, DamagedFile, StorageError):
        known = read_json(path)
    mine: dict[str, Any] = known.get(key) or {}
    found, news = {}, {}
    wanted = list(dict.fromkeys(shapes))
    for number, shape in enumerate(wanted):
        name = json.dumps([shape.channels, shape.filters, shape.filter_size, shape.height, shape.width, *shape.padding])
        kept = mine.get(name)
        if isinstance(kept, list) and len(kept) == 3 and all(m in (0, *SIZES) for m in kept):
            found[shape] = tuple(kept)
            continue
        if progress:
            progress("timing convolutions", number, len(wanted))
        found[shape] = news[name] = timed(shape)
    if news:
        with suppress(OSError, StorageError):
            commit_json(path, {**known, key: {**mine, **{name: list(tiles) for name, tiles in news.items()}}})
    return found


def timed(shape: Shape) -> Tiles:
    """The fastest tiles of each pass; 0 where direct convolution is, or is less than LEAD slower."""
    from . import winograd

    height, width = shape.outputs
    count = max(1, min(IMAGES, int(WORK / shape.multiplications)))
    layout = {"memory_format": torch.channels_last}
    x = torch.randn(count, shape.channels, shape.height, shape.width).contiguous(**layout)
    w = torch.randn(shape.filters, shape.channels, shape.filter_size, shape.filter_size).contiguous(**layout)
    dy = torch.randn(count, shape.filters, height, width).contiguous(**layout)
    pad = shape.padding

    def backward(images: bool, filters: bool) -> Callable[[], Any]:
        mask = (images, filters, False)
        return lambda: torch.ops.aten.convolution_backward(dy, x, w, None, ONE, pad, ONE, False, NONE, 1, mask)

    passes: list[tuple[Callable[[], Any], Callable[[Filtering], Any]]] = [
        (lambda: F.conv2d(x, w, padding=pad), lambda way: winograd.convolve(x, w, way, pad)),
        (backward(True, False), lambda way: winograd.input_gradient(dy, w, way, pad)),
        (backward(False, True), lambda way: winograd.filter_gradient(x, dy, way, pad)),
    ]
    with torch.no_grad():
        best = [
            _best(direct, {way.outputs: (lambda f=ours, w=way: f(w)) for way in shape.ways()})
            for direct, ours in passes
        ]
    return best[0], best[1], best[2]


def _best(direct: Callable[[], Any], ways: dict[int, Callable[[], Any]]) -> int:
    """The key of the fastest way, 0 for direct. They take turns, the first unmeasured; what is far behind drops out."""
    runs = {0: direct, **ways}
    seconds = dict.fromkeys(runs, float("inf"))
    for turn in range(TRIES + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if turn:
                seconds[name] = min(seconds[name], time.perf_counter() - start)
        if turn:
            runs = {name: run for name, run in runs.items() if seconds[name] <= BEHIND * min(seconds.values())}
    return min(seconds, key=lambda name: seconds[name] * (LEAD if name else 1))
