"""Where an image lies within the square that a network sees, for what is drawn on images: masks, and answers by place.

An answer for each pixel must find its way back, so for masks an image is padded or squashed, and nothing of it is cut
off. A map of a network that sees a crop comes back too, to the part that was seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from ..errors import UsageError
from .preprocess import Preprocess


@dataclass(frozen=True)
class Place:
    """The rectangle of a square of ``side`` pixels that an image fills: its left upper corner, width and height."""

    left: int
    top: int
    width: int
    height: int
    side: int

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


def place_of(preprocess: Preprocess, size: tuple[int, int]) -> Place:
    """Where an image of ``size`` (width, height) lies once it is fitted. UsageError for a fit that cuts."""
    side = preprocess.size
    if preprocess.fit == "squash":
        return Place(0, 0, side, side, side)
    if preprocess.fit != "pad":
        raise UsageError("--fit crop leaves the borders of an image without an answer: choose pad or squash.")
    longest = max(size)
    width, height = (max(1, (2 * s * side + longest) // (2 * longest)) for s in size)
    return Place((side - width) // 2, (side - height) // 2, width, height, side)


def fit_mask(mask_HW: np.ndarray, size: tuple[int, int], preprocess: Preprocess, outside: int) -> np.ndarray:
    """A mask uint8 (h, w) of an image of ``size`` (width, height) as the network sees the image: uint8 (S, S).

    By nearest neighbours, so that no value comes up that was not there; ``outside`` fills what is no image.
    """
    place = place_of(preprocess, size)
    fitted = np.full((place.side, place.side), outside, np.uint8)
    fitted[place.window] = resized_mask(mask_HW, (place.height, place.width))
    return fitted


def window_of(preprocess: Preprocess, size: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns of the network's square that hold pixels of an image of ``size`` (width, height)."""
    if preprocess.fit == "crop":
        return slice(0, preprocess.size), slice(0, preprocess.size)
    return place_of(preprocess, size).window


def seen_of(preprocess: Preprocess, size: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns of an image of ``size`` (width, height) that the network's square shows: all, but of a crop."""
    width, height = size
    if preprocess.fit != "crop":
        return slice(0, height), slice(0, width)
    side = max(1, round(preprocess.centre * min(size)))
    top, left = (height - side) // 2, (width - side) // 2
    return slice(top, top + side), slice(left, left + side)


def brought_back(
    window_hw: np.ndarray, size: tuple[int, int], preprocess: Preprocess, shape: tuple[int, int], outside: float
) -> np.ndarray:
    """Values float32 (h, w) of ``window_of`` an image of ``size`` (width, height), at its places: float32 of ``shape``.

    ``shape`` is (height, width), those of the image or smaller ones of the same aspect. Bilinear; ``outside`` stands
    where the network did not look.
    """
    rows, columns = (
        slice(round(part.start * new / old), max(round(part.start * new / old) + 1, round(part.stop * new / old)))
        for part, new, old in zip(seen_of(preprocess, size), shape, size[::-1], strict=True)
    )
    found = np.full(shape, outside, np.float32)
    room = (rows.stop - rows.start, columns.stop - columns.start)
    values = torch.from_numpy(np.ascontiguousarray(window_hw, np.float32))[None, None]
    found[rows, columns] = F.interpolate(values, size=room, mode="bilinear", align_corners=False)[0, 0].numpy()
    return found


def resized_mask(mask_HW: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """A mask uint8 at another ``shape`` (height, width), by nearest neighbours."""
    return np.asarray(Image.fromarray(mask_HW).resize(shape[::-1], Image.Resampling.NEAREST))
