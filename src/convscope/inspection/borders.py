"""Borders of one colour around an image, such as a scanner, a web page or a phone's screenshot adds."""

from __future__ import annotations

import numpy as np

TOLERANCE = 20  # levels of 255 that compression moves a border's colour by
MOSTLY = 0.98  # the share of a line that has the border's colour
MOST = 0.75  # of a side that may be border; beyond, it is an image of one colour


def without_border(image_hw3: np.ndarray) -> tuple[slice, slice] | None:
    """The rows and columns within the border of uint8 (h, w, 3); None where there is none, or nothing else."""
    pixels = image_hw3.astype(np.int16)
    columns = pixels.swapaxes(0, 1)
    edges = [pixels, pixels[::-1], columns, columns[::-1]]
    if not any(_is_flat(lines[0]) for lines in edges):
        return None
    top, bottom, left, right = (_flat_lines(lines) for lines in edges)
    height, width = pixels.shape[:2]
    if top + bottom > MOST * height or left + right > MOST * width or top + bottom + left + right == 0:
        return None
    return slice(top, height - bottom), slice(left, width - right)


def _is_flat(line_n3: np.ndarray) -> bool:
    near = np.abs(line_n3 - line_n3[len(line_n3) // 2]).max(axis=1) <= TOLERANCE
    return bool(np.count_nonzero(near) >= MOSTLY * len(near))


def _flat_lines(lines: np.ndarray) -> int:
    """How many lines from the first one on have the colour of its middle."""
    if not _is_flat(lines[0]):
        return 0
    near = np.abs(lines - lines[0, lines.shape[1] // 2]).max(axis=2) <= TOLERANCE
    flat = np.count_nonzero(near, axis=1) >= MOSTLY * lines.shape[1]
    return len(flat) if flat.all() else int(flat.argmin())
