"""Masks drawn over images: a colour a class, the same everywhere, and a line around each region."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np

from ..datasets.polygons import has_background

FIRST = ((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (230, 159, 0), (86, 180, 233), (240, 228, 66))
STRENGTH = 0.55  # of the colour over the image


def colours_of(names: Sequence[str]) -> tuple[np.ndarray, bool]:
    """The colours of classes by their names, uint8 (K, 3), and whether the first is a background."""
    background = has_background(names)
    return class_colours(len(names), background), background


def class_colours(count: int, background: bool) -> np.ndarray:
    """A colour for each class, uint8 (K, 3): the first ones of Okabe and Ito's (2008), then hues far apart.

    A background is black, and is not drawn.
    """
    coloured = count - background
    more = [
        tuple(round(255 * v) for v in colorsys.hsv_to_rgb((0.11 + 0.618034 * i) % 1, 0.75, 0.6 + 0.35 * (i % 2)))
        for i in range(max(0, coloured - len(FIRST)))
    ]
    return np.array([*([(0, 0, 0)] * background), *FIRST[:coloured], *more], np.uint8)


def overlaid(image_HW3: np.ndarray, mask_HW: np.ndarray, colours_K3: np.ndarray, background: bool) -> np.ndarray:
    """The image uint8 (h, w, 3) with a mask uint8 (h, w) over it; void pixels are darkened, a background is left."""
    known = mask_HW < len(colours_K3)
    painted = image_HW3.astype(np.float32)
    drawn = known & (mask_HW > 0 if background else True)
    colours = colours_K3[np.where(known, mask_HW, 0)]
    painted[drawn] = (1 - STRENGTH) * painted[drawn] + STRENGTH * colours[drawn]
    painted[~known] *= 0.4
    border = np.zeros(mask_HW.shape, bool)
    border[1:] |= mask_HW[1:] != mask_HW[:-1]
    border[:, 1:] |= mask_HW[:, 1:] != mask_HW[:, :-1]
    painted[border] = np.where(colours[border].any(1, keepdims=True), colours[border], 255)
    return painted.round().astype(np.uint8)
