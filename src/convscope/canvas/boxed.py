"""Boxes drawn over images: a colour a class, whole lines for what is right and broken ones for what is not."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

DASH = 6  # px of a broken line, and of its gaps, in an image of 256 px
FINE = 200  # the longer side of an image over this is the width of a line, in px


def boxed(
    image_HW3: np.ndarray, corners_n4: np.ndarray, colours_n3: np.ndarray, broken_n: np.ndarray | None = None
) -> np.ndarray:
    """The image uint8 (h, w, 3) with boxes of corners left, top, right, bottom; those that are ``broken`` in dashes."""
    drawn = Image.fromarray(np.ascontiguousarray(image_HW3))
    pen = ImageDraw.Draw(drawn)
    width = max(1, round(max(drawn.size) / FINE))
    broken = np.zeros(len(corners_n4), bool) if broken_n is None else broken_n
    for corners, colour, dashes in zip(corners_n4.tolist(), colours_n3.tolist(), broken.tolist(), strict=True):
        left, top, right, bottom = (
            corners[0],
            corners[1],
            max(corners[0], corners[2] - 1),
            max(corners[1], corners[3] - 1),
        )
        if not dashes:
            pen.rectangle((left, top, right, bottom), outline=tuple(colour), width=width)
            continue
        step = max(3.0, DASH * max(drawn.size) / 256)
        for a, b in (
            ((left, top), (right, top)),
            ((left, bottom), (right, bottom)),
            ((left, top), (left, bottom)),
            ((right, top), (right, bottom)),
        ):
            _dashed(pen, np.array([a, b]), step, tuple(colour), width)
    return np.asarray(drawn)


def _dashed(pen: ImageDraw.ImageDraw, ends_22: np.ndarray, step: float, colour: tuple[int, ...], width: int) -> None:
    """A line in dashes from one end to the other."""
    way = ends_22[1] - ends_22[0]
    length = float(np.hypot(*way))
    for start in np.arange(0.0, length, 2 * step):
        first, last = (ends_22[0] + way * (place / length) for place in (start, min(start + step, length)))
        pen.line([tuple(first), tuple(last)], fill=colour, width=width)
