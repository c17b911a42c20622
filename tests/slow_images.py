"""Augmentation pixel by pixel, in float64."""

from __future__ import annotations

import math

import numpy as np

from convscope.images import augmentation as module
from convscope.recipes import Augment


def slow_warp(image: np.ndarray, recipe: Augment, u: np.ndarray, flip: bool) -> np.ndarray:
    """One image (3, H, W), pixel by pixel in float64: where does each output pixel come from?"""
    _, height, width = image.shape
    scale = 1 / (1 + recipe.amount("zoom") * u[module.ZOOM])
    angle = math.radians(recipe.amount("rotate")) * (2 * u[module.ROTATE] - 1)
    reach_x, reach_y = round(recipe.amount("translate") * width), round(recipe.amount("translate") * height)
    move_x = (2 * u[module.ZOOM_X] - 1) * (1 - scale) * (width - 1) / 2
    move_y = (2 * u[module.ZOOM_Y] - 1) * (1 - scale) * (height - 1) / 2
    move_x += math.floor(u[module.SHIFT_X] * (2 * reach_x + 1)) - reach_x
    move_y += math.floor(u[module.SHIFT_Y] * (2 * reach_y + 1)) - reach_y
    out = np.empty(image.shape)
    for row in range(height):
        for column in range(width):
            x = (column - (width - 1) / 2) * (-1 if flip else 1)
            y = row - (height - 1) / 2
            from_x = scale * (math.cos(angle) * x - math.sin(angle) * y) + (width - 1) / 2 + move_x
            from_y = scale * (math.sin(angle) * x + math.cos(angle) * y) + (height - 1) / 2 + move_y
            out[:, row, column] = sample(image, from_x, from_y)
    return np.rint(out)


def sample(image: np.ndarray, x: float, y: float) -> np.ndarray:
    """Bilinear, reflected about the border pixels' centres."""

    def fold(place: float, size: int) -> float:
        if size == 1:
            return 0.0
        place = abs(place) % (2 * (size - 1))
        return min(place, 2 * (size - 1) - place)

    _, height, width = image.shape
    x, y = fold(x, width), fold(y, height)
    left, top = int(x), int(y)
    fx, fy = x - left, y - top
    corners = np.pad(image, ((0, 0), (0, 1), (0, 1)))[:, top : top + 2, left : left + 2].astype(float)
    return (
        corners[:, 0, 0] * (1 - fx) * (1 - fy)
        + corners[:, 0, 1] * fx * (1 - fy)
        + corners[:, 1, 0] * (1 - fx) * fy
        + corners[:, 1, 1] * fx * fy
    )
