"""An image moved, turned, mirrored, enlarged or covered in part, to see whether the answer changes."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
from PIL import Image

from ..errors import UsageError

GREY = (128, 128, 128)  # what comes in from outside, and covers
LIMITS = {"right": (-1.0, 1.0), "down": (-1.0, 1.0), "zoom": (0.2, 5.0), "turn": (-180.0, 180.0), "cover": (0.0, 1.0)}


@dataclass(frozen=True)
class Change:
    """``right`` and ``down`` in shares of the side, ``zoom`` as a factor, ``turn`` in degrees against the clock.

    ``mirror`` 1 or 0; ``cover`` is the side of a grey square in shares of the image's, with its middle at ``x``, ``y``.
    """

    right: float = 0.0
    down: float = 0.0
    zoom: float = 1.0
    turn: float = 0.0
    mirror: float = 0.0
    cover: float = 0.0
    x: float = 0.5
    y: float = 0.5

    @classmethod
    def of(cls, said: dict[str, str]) -> Self:
        """The change that an address asks for. UsageError for what is no number."""
        values = {}
        for field in fields(cls):
            if field.name in said:
                low, high = LIMITS.get(field.name, (0.0, 1.0))
                try:
                    value = float(said[field.name])
                except ValueError:
                    value = math.nan
                if math.isnan(value):
                    raise UsageError(f"{field.name} must be a number, and is {said[field.name]!r}.")
                values[field.name] = min(high, max(low, value))
        return cls(**values)


def changed(pixels: np.ndarray, change: Change) -> np.ndarray:
    """The image uint8 (S, S, 3) with the change; without any, the very pixels."""
    size = len(pixels)
    made = pixels
    if (change.right, change.down, change.zoom, change.turn, change.mirror) != (0.0, 0.0, 1.0, 0.0, 0.0):
        angle, middle = np.deg2rad(change.turn), (size - 1) / 2
        across = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / change.zoom
        if change.mirror >= 0.5:
            across = np.array([[-1, 0], [0, 1]]) @ across
        offset = middle - across @ (middle + size * np.array([change.right, change.down]))
        row = (*across[0], offset[0], *across[1], offset[1])
        moved = Image.fromarray(pixels).transform(
            (size, size), Image.Transform.AFFINE, _corners(row), Image.Resampling.BILINEAR, fillcolor=GREY
        )
        made = np.asarray(moved)
    if change.cover > 0:
        made = np.array(made)
        half = change.cover * size / 2
        top, bottom = (round(min(size, max(0, change.y * size + end))) for end in (-half, half))
        left, right = (round(min(size, max(0, change.x * size + end))) for end in (-half, half))
        made[top:bottom, left:right] = GREY
    return made


def _corners(row: tuple[float, ...]) -> tuple[float, ...]:
    """A map of pixels' middles as Pillow takes it: it adds half a pixel itself, before and after."""
    a, b, c, d, e, f = row
    return (a, b, c + 0.5 - 0.5 * (a + b), d, e, f + 0.5 - 0.5 * (d + e))
