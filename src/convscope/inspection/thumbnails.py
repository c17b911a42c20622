"""Tiny grey versions of images, by which copies of them are known however they are turned.

Two are kept of each thumbnail: 9 x 9 cells, whose steps between neighbours are compared first (``datasets.near_copies``
has the same in another form), and 16 x 16, whose steps have to agree too.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

SIDE = 32  # pixels of a thumbnail's side
CELLS, FINE = 9, 16


def thumbnail(grey_hw: np.ndarray) -> np.ndarray:
    """The whole image as grey float32 (32, 32), squashed."""
    if grey_hw.shape == (SIDE, SIDE):
        return grey_hw
    image = Image.fromarray(np.ascontiguousarray(grey_hw, np.float32))
    how = Image.Resampling.BOX if min(image.size) >= SIDE else Image.Resampling.BILINEAR
    return np.asarray(image.resize((SIDE, SIDE), how))


def means(cells: int) -> np.ndarray:
    """The matrix (cells, 32) that takes the mean of the pixels that each cell covers, in part too."""
    matrix = np.zeros((cells, SIDE), np.float32)
    for cell in range(cells):
        first, last = cell * SIDE // cells, -(-(cell + 1) * SIDE // cells)
        matrix[cell, first:last] = 1 / (last - first)
    return matrix


class Thumbnails:
    """The thumbnails of many images, M of them: ``cells`` (M, 9, 9) float32, ``fine`` uint8 (M, 16, 16).

    ``owners`` int64 (M,) says which image each is of: one that has a border has a second one without it.
    """

    def __init__(self) -> None:
        self._cells: list[np.ndarray] = []
        self._fine: list[np.ndarray] = []
        self._owners: list[np.ndarray] = []

    def add(self, thumbs: Sequence[np.ndarray], owners: Sequence[int]) -> None:
        """Keep more of them."""
        if not thumbs:
            return
        block = np.stack(thumbs)
        coarse, fine = means(CELLS), means(FINE)
        self._cells.append((coarse @ block @ coarse.T).astype(np.float16))
        self._fine.append(np.rint(np.clip(fine @ block @ fine.T, 0, 255)).astype(np.uint8))
        self._owners.append(np.array(owners, np.int64))

    @property
    def cells(self) -> np.ndarray:
        return np.concatenate([*self._cells, np.zeros((0, CELLS, CELLS), np.float16)]).astype(np.float32)

    @property
    def fine(self) -> np.ndarray:
        return np.concatenate([*self._fine, np.zeros((0, FINE, FINE), np.uint8)])

    @property
    def owners(self) -> np.ndarray:
        return np.concatenate([*self._owners, np.zeros(0, np.int64)])
