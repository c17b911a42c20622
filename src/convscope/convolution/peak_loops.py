"""The compiled loop that finds the peaks of maps; see ``peaks``. Importing this file imports Numba."""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import numpy as np

from .compiled import Compiled
from .lanes import BYTES, Run, each, number_of


def _peak(rows: int, run: Run) -> None:
    """The number of the first of some rows, highest, its row, how many were above 0, and x of each of the rows."""
    number, highest, row, above = (run.load(place) for place in range(4))
    for i in range(rows):
        x = run.load(4 + i)
        higher = (highest < x) | x.is_nan() & (highest <= highest)
        highest = higher.chosen(x, highest)
        row = higher.chosen(number + i if i else number, row)
        above = above + (-x < 0.0).chosen(x.all(1.0), 0.0)
    for place, value in enumerate((highest, row, above), start=1):
        run.store(place, value)


def _fold(run: Run) -> None:
    """Columns behind the first of a channel, as a number; how many there are; highest, row, above of a column behind;
    highest, place, above of the channel: the higher of both, at the first of equal ones."""
    column, times, value, row, count = (run.load(place) for place in range(5))
    highest, before = run.load(5), run.load(6)
    place = row.fma(times, column)
    first = (place < before) & ((value <= highest) & (highest <= value) | value.is_nan() & highest.is_nan())
    taken = (highest < value) | first | value.is_nan() & (highest <= highest)
    run.store(5, taken.chosen(value, highest))
    run.store(6, taken.chosen(place, before))
    run.store(7, run.load(7) + count)


PEAK, PEAKS = number_of("peak", partial(_peak, 1)), number_of("peaks", partial(_peak, 4))
FOLD = number_of("fold", _fold)


@cache
def peaks() -> Any:
    """(x, scratch, highest, place, above, first, last): of each image (B, N, times * C) the highest number of each of C
    channels, the first of its N * times places where that is, and how many are above 0, all (B, C).

    ``scratch`` is float32 (B, 4, times * C).
    """

    def loop(x, scratch, highest, place, above, first, last):  # noqa: PLR0913
        rows, width = x.shape[1:]
        channels, step = highest.shape[1], BYTES * width
        times = width // channels
        lines = np.empty((2, channels), np.float32)
        lines[1] = times
        for image in range(first, last):
            best, row, count = scratch[image, 1], scratch[image, 2], scratch[image, 3]
            best[:] = -np.inf
            row[:] = 0
            count[:] = 0
            at = scratch.ctypes.data + 4 * image * step
            sums = (at, at + step, at + 2 * step, at + 3 * step)
            fours = rows - rows % 4  # so that what is kept is read and written once for four rows
            for i in range(0, fours, 4):
                scratch[image, 0] = i
                here = x.ctypes.data + (image * rows + i) * step
                each(PEAKS, width, (*sums, here, here + step, here + 2 * step, here + 3 * step))
            for i in range(fours, rows):
                scratch[image, 0] = i
                each(PEAK, width, (*sums, x.ctypes.data + (image * rows + i) * step))
            highest[image], above[image] = best[:channels], count[:channels]
            place[image] = row[:channels] * times
            found = (highest.ctypes.data, place.ctypes.data, above.ctypes.data)
            own = BYTES * channels * image
            numbers = (lines.ctypes.data, lines.ctypes.data + BYTES * channels)
            for column in range(1, times):
                lines[0] = column
                behind = at + BYTES * column * channels
                theirs = (behind + step, behind + 2 * step, behind + 3 * step)
                each(FOLD, channels, (*numbers, *theirs, found[0] + own, found[1] + own, found[2] + own))

    return Compiled(loop)
