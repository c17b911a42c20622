"""Synthetic shapes on noisy grounds, for tests and docs: the answer is known and nothing has to be fetched."""

from __future__ import annotations

import numpy as np

from ..randomness import uniforms
from .unsplit import Unsplit

SIZE = 32  # pixels
COUNT = 1_200


def _circle(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return x**2 + y**2 < 1


def _ring(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    distance = x**2 + y**2
    return (distance < 1) & (distance > 0.4)


def _square(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.maximum(abs(x), abs(y)) < 0.85


def _triangle(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (y < 0.8) & (y > 2 * abs(x) - 1)


def _cross(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (np.minimum(abs(x), abs(y)) < 0.3) & (np.maximum(abs(x), abs(y)) < 1)


def _stripes(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (np.maximum(abs(x), abs(y)) < 1) & (np.floor((x + 1) * 2.5) % 2 == 0)


SHAPES = {
    "circle": _circle,
    "cross": _cross,
    "ring": _ring,
    "square": _square,
    "stripes": _stripes,
    "triangle": _triangle,
}


def load_shapes(count: int = COUNT) -> Unsplit:
    """``count`` images of six shapes: place, size, colours and noise are functions of the image's number alone."""
    keys = np.arange(count, dtype=np.uint64)
    labels = np.arange(count, dtype=np.int64) % len(SHAPES)
    u = uniforms(0, 0, keys, 9)
    noise = uniforms(0, 1, keys, SIZE * SIZE * 3).reshape(count, SIZE, SIZE, 3)
    grid = (np.arange(SIZE) + 0.5) / SIZE * 2 - 1
    images = np.empty((count, SIZE, SIZE, 3), np.uint8)
    draw = list(SHAPES.values())
    for i in range(count):
        radius = 0.35 + 0.35 * u[i, 0]
        centre_x, centre_y = (u[i, 1:3] * 2 - 1) * (1 - radius)
        mask = draw[labels[i]]((grid[None, :] - centre_x) / radius, (grid[:, None] - centre_y) / radius)
        ground, ink = u[i, 3:6] * 0.5, 0.5 + u[i, 6:9] * 0.5
        colour = np.where(mask[..., None], ink, ground)
        images[i] = np.rint(255 * np.clip(colour + 0.25 * (noise[i] - 0.5), 0, 1))
    return Unsplit(
        name="shapes",
        class_names=tuple(SHAPES),
        labels=labels,
        given=np.full(count, "", "U5"),
        image_size=SIZE,
        arrays=images,
    )
