"""Which way is fastest here: each pass of a convolution, each row of a norm, timed against torch, and remembered.

Nothing is believed: what wins on one processor loses on another, and on maps of a few pixels or channels.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import astuple, dataclass
from functools import cache, partial
from typing import Any, TypeVar

import torch
import torch.nn.functional as F

from ..cache import cache_folder
from ..errors import DamagedFile, StorageError
from ..kept_memory import keeping_memory
from ..machine import describe
from ..storage import commit_json, read_json
from .minimal_filtering import Filtering
from .normalised import RowShape, by_torch, normalise
from .passes import DIRECT, LARGEST_TILE, NONE, ONE, Padding, Tiles

LEAD = 1.1  # what minimal filtering must win by
IMAGES = 64  # that a pass is timed on, or fewer: about this much work
WORK = 2e9  # multiplications
TRIES, MOST_TRIES = 3, 12
ENOUGH = 0.03  # seconds of a way
BEHIND = 1.5  # times as slow as the fastest: out of the race
FILTER_SIZES = (3, 5)
SIZES = (3, 4, 6)  # outputs a side of a tile
NEARLY = 1.25  # as many products as the fewest: which is faster depends on more than their number
FILE = "convolutions.json"
ROW_NUMBERS = 4e6  # that a row is timed on, or fewer
EPSILON = 1e-5

T = TypeVar("T")
Told = Callable[[str, int, int], None]  # what is timed, how many were, of how many


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


def fastest_tiles(shapes: Iterable[Shape], progress: Told | None = None) -> dict[Shape, Tiles]:
    """Time each shape that was not timed before on this processor with as many threads; remember what was found."""
    named = {s: json.dumps([s.channels, s.filters, s.filter_size, s.height, s.width, *s.padding]) for s in shapes}
    found = _remembered(named, timed, _are_tiles, partial(progress, "timing convolutions") if progress else None)
    return {shape: (tiles[0], tiles[1], tiles[2]) for shape, tiles in found.items()}


def _are_tiles(kept: Any) -> bool:
    return isinstance(kept, list) and len(kept) == 3 and all(m in (0, *SIZES) for m in kept)


def faster_rows(shapes: Iterable[RowShape], progress: Told | None = None) -> dict[RowShape, bool]:
    """Tell which rows of norms are faster in one go than by torch; timed and remembered as ``fastest_tiles`` does."""
    named = {s: json.dumps(["row", s.channels, s.height, s.width, *astuple(s.row)]) for s in shapes}
    telling = partial(progress, "timing batch norms") if progress else None
    return _remembered(named, timed_row, lambda kept: isinstance(kept, bool), telling)


def _remembered(
    named: Mapping[T, str],
    measure: Callable[[T], Any],
    is_sound: Callable[[Any], bool],
    progress: Callable[[int, int], None] | None,
) -> dict[T, Any]:
    """What was measured of each thing, now or before on this processor with as many threads."""
    key = " ".join(str(v) for v in describe(torch.device("cpu")).values())
    path = cache_folder() / FILE
    known: dict[str, Any] = {}
    with suppress(OSError, DamagedFile, StorageError):
        known = read_json(path)
    mine = known.get(key)
    mine = mine if isinstance(mine, dict) else {}
    found, news = {}, {}
    for number, (thing, name) in enumerate(named.items()):
        if is_sound(mine.get(name)):
            found[thing] = mine[name]
            continue
        if progress:
            progress(number, len(named))
        found[thing] = news[name] = measure(thing)
    if news:
        with suppress(OSError, StorageError):
            commit_json(path, {**known, key: {**mine, **news}})
    return found


@keeping_memory()
def timed_row(shape: RowShape) -> bool:
    """Tell whether a row is faster in one go, forward and backward, by LEAD or more."""
    numbers = shape.channels * shape.height * shape.width
    x = torch.randn(max(1, min(IMAGES, int(ROW_NUMBERS / numbers))), shape.channels, shape.height, shape.width)
    x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
    weight, bias = torch.ones(shape.channels, requires_grad=True), torch.zeros(shape.channels, requires_grad=True)

    def through(way: Callable[[], torch.Tensor]) -> Callable[[], Any]:
        gradient = torch.ones_like(way())
        return lambda: torch.autograd.grad(way(), (x, weight, bias), gradient)

    direct = through(lambda: by_torch(x, weight, bias, shape.row))
    return bool(_best(direct, {1: through(lambda: normalise(x, weight, bias, EPSILON, shape.row))}))


@keeping_memory()
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
    """The key of the fastest way, 0 for direct. They take turns, the first unmeasured; what is far behind drops out.

    What takes a few milliseconds is tried more often, for a neighbour on the processor takes as many from it.
    """
    runs = {0: direct, **ways}
    seconds = dict.fromkeys(runs, float("inf"))
    spent, turn = 0.0, 0
    while turn <= TRIES or (spent < ENOUGH * len(runs) and turn <= MOST_TRIES):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            took = time.perf_counter() - start
            if turn:
                seconds[name] = min(seconds[name], took)
                spent += took
        if turn:
            runs = {name: run for name, run in runs.items() if seconds[name] <= BEHIND * min(seconds.values())}
        turn += 1
    return min(seconds, key=lambda name: seconds[name] * (LEAD if name else 1))
