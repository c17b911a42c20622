"""Masks that were saved as JPEG, which blurs values: the greys that were drawn, found again where they stand apart.

A block of 8 x 8 pixels within one class keeps its grey, while blocks across an outline hold all between and beyond.
What was drawn is therefore read from blocks of one grey alone.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import DamagedFile
from ..reading import open_regular

BLOCK = 8  # pixels of a side that JPEG treats together
FLAT = 3  # greys that a block of one class spans at most
ENDS = 3  # greys by which black and white may have moved
NEAR = 6  # greys, beyond which the next one was another class
WIDEST = 16  # greys that blocks of one class may be apart in all; what is wider was drawn softly
APART = 20  # greys that two classes are apart at least
LEAST = 4  # blocks of a grey, under which it is chance
EXTREME = 24  # greys from black or white that count as these
BLACK_WHITE = 0.97  # of all pixels that are black or white in masks with soft outlines


def is_blurred(path: Path) -> bool:
    """Whether a file is a JPEG, or a WebP that is no lossless one, by its first bytes."""
    try:
        with open_regular(path) as file:
            begin = file.read(64)
    except (OSError, DamagedFile):
        return False  # it is told when all are read
    return begin.startswith(b"\xff\xd8") or (begin[8:12] == b"WEBP" and b"VP8L" not in begin)


def flat_greys(grey_HW: np.ndarray) -> np.ndarray:
    """How many blocks of one grey there are of each grey: int64 (256,)."""
    high, wide = (side // BLOCK * BLOCK for side in grey_HW.shape)
    blocks = grey_HW[:high, :wide].reshape(high // BLOCK, BLOCK, wide // BLOCK, BLOCK)
    low, most = blocks.min((1, 3)), blocks.max((1, 3))
    flat = most - low <= FLAT
    middle = (low.astype(np.int64) + most) // 2
    return np.bincount(middle[flat], minlength=256)


def drawn_greys(blocks_256: np.ndarray, pixels_256: np.ndarray) -> list[int] | None:
    """The greys that masks were drawn with, in order, from their blocks of one grey and all pixels; None if unclear."""
    values = np.flatnonzero(blocks_256)
    runs = np.split(values, np.flatnonzero(np.diff(values) > NEAR) + 1)
    runs = [run for run in runs if blocks_256[run].sum() >= LEAST]
    levels = [round(float(np.average(run, weights=blocks_256[run]))) for run in runs]
    soft = any(run[-1] - run[0] > WIDEST for run in runs) or (len(levels) > 1 and min(np.diff(levels)) < APART)
    if len(levels) > 1 and not soft:
        return [0 if level <= ENDS else 255 if level >= 255 - ENDS else level for level in levels]
    ends = pixels_256[:EXTREME].sum(), pixels_256[256 - EXTREME :].sum()
    if min(ends) > 0 and sum(ends) >= BLACK_WHITE * pixels_256.sum():
        return [0, 255]
    return None


def nearest_level(levels: list[int], void: int) -> np.ndarray:
    """The place of the level that each of 256 greys is nearest to, uint8 (256,).

    Two share all greys; of more, what lies in the middle third between two levels is ``void``.
    """
    places = np.array(levels)
    away = np.abs(np.arange(256)[:, None] - places)
    table = away.argmin(1).astype(np.uint8)
    if len(levels) > 2:
        gaps = np.diff(places)
        for grey in range(256):
            below = int(np.searchsorted(places, grey, "right")) - 1
            if 0 <= below < len(gaps) and away[grey].min() > gaps[below] / 3:
                table[grey] = void
    return table
