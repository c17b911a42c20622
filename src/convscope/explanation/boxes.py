"""A map of where a network looks, as a mask and a box: scaled to 0..1, cut at a threshold, the largest piece framed.

As in Zhou and others 2016 (arXiv:1512.04150), and Choe and others 2020 (arXiv:2001.07437).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy import ndimage

from ..images.placing import brought_back, window_of
from ..images.preprocess import Preprocess

Box = tuple[int, int, int, int]  # top, left, bottom, right in pixels, the last two beyond the box
UNSEEN = -1.0  # in a scaled map, where the network did not look: below every threshold
CENTRE_WIDTH = 0.25  # standard deviation of the centred guess, in sides of the image
NEIGHBOURS = np.ones((3, 3), bool)  # pixels that touch at a corner are of one piece


def scaled_map(map_SS: np.ndarray, size: tuple[int, int], preprocess: Preprocess, shape: tuple[int, int]) -> np.ndarray:
    """A map on the network's square as float32 of ``shape`` (height, width) on the image of ``size`` (width, height).

    What pads the square is cut off first. Scaled so that the least is 0 and the largest 1; a map that is the same
    everywhere says nothing and is UNSEEN, as what was cut off before the network looked.
    """
    window = map_SS[window_of(preprocess, size)].astype(np.float64)
    low, high = float(window.min()), float(window.max())
    if not high > low:
        return np.full(shape, UNSEEN, np.float32)
    return brought_back((window - low) / (high - low), size, preprocess, shape, UNSEEN)


@lru_cache(maxsize=8)
def centred_map(shape: tuple[int, int]) -> np.ndarray:
    """A Gaussian in the middle, scaled: what is guessed of an image that nobody looked at (Choe and others 2020)."""
    y, x = ((np.arange(n) + 0.5) / n - 0.5 for n in shape)
    values = np.exp(-(y[:, None] ** 2 + x[None, :] ** 2) / (2 * CENTRE_WIDTH**2))
    spread = float(np.ptp(values))
    found = ((values - values.min()) / spread if spread else np.ones(shape)).astype(np.float32)
    found.flags.writeable = False
    return found


def box_of(mask_HW: np.ndarray) -> Box | None:
    """The box around the largest piece of a mask, the first of several; None where it is empty."""
    pieces, count = ndimage.label(mask_HW, NEIGHBOURS)
    if not count:
        return None
    largest = int(np.bincount(pieces.ravel())[1:].argmax()) + 1
    return _box(ndimage.find_objects(pieces, largest)[largest - 1])


def boxes_of(mask_HW: np.ndarray) -> list[Box]:
    """The boxes around all pieces of a mask."""
    pieces, _ = ndimage.label(mask_HW, NEIGHBOURS)
    return [_box(place) for place in ndimage.find_objects(pieces)]


def _box(place: tuple[slice, slice]) -> Box:
    rows, columns = place
    return rows.start, columns.start, rows.stop, columns.stop


def box_overlap(box: Box | None, others: np.ndarray) -> float:
    """The largest intersection over union of a box with one of ``others`` int (n, 4); 0 without any."""
    if box is None or not len(others):
        return 0.0
    top, left, bottom, right = box
    high = np.minimum(bottom, others[:, 2]) - np.maximum(top, others[:, 0])
    wide = np.minimum(right, others[:, 3]) - np.maximum(left, others[:, 1])
    both = np.maximum(high, 0) * np.maximum(wide, 0)
    areas = (others[:, 2] - others[:, 0]) * (others[:, 3] - others[:, 1])
    return float((both / ((bottom - top) * (right - left) + areas - both)).max())
