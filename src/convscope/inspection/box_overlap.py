"""How far two images' boxes agree, and which boxes of one image are the same object twice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..datasets.boxes import ImageBoxes
from ..tasks.matching import overlap
from .copies import POSITIONS

PARTNER = 0.5  # the IoU from which a box of a copy is the same one
TWIN, ONE_OBJECT = 0.95, 0.9  # the IoU beyond which two boxes are one, of one class and of two


@dataclass(frozen=True)
class Agreement:
    """How far the boxes of two images agree: ``iou`` is the sum of that of all pairs over all objects, 1 of the same.

    ``alone`` counts the boxes without a partner.
    """

    iou: float
    alone: int


def agreement(one: ImageBoxes, other: ImageBoxes, exact: bool) -> Agreement:
    """Of two copies, in the best of the eight positions unless they are the same bytes; crowds are left out."""
    here, there = _in_shares(one), _in_shares(other)
    positions = range(1 if exact else len(POSITIONS))
    labels = one.labels[~one.crowd], other.labels[~other.crowd]
    return max((_agreed(here, _placed(there, k), *labels) for k in positions), key=lambda found: found.iou)


def _in_shares(one: ImageBoxes) -> np.ndarray:
    """Corners in shares of the sides, so that copies of another size can be compared."""
    return one.corners[~one.crowd] / np.array(2 * one.size, np.float64)


def _placed(corners_n4: np.ndarray, position: int) -> np.ndarray:
    """Corners in shares of an image that is put into one of the eight positions."""
    turned, mirrored = POSITIONS[position]
    found = corners_n4[:, [1, 0, 3, 2]] if turned else corners_n4
    for axis in mirrored:
        k = 2 - axis  # rows are axis 1 and columns axis 2 of images one after the other
        found = found.copy()
        found[:, [k, k + 2]] = 1 - found[:, [k + 2, k]]
    return found


def _agreed(here_n4: np.ndarray, there_m4: np.ndarray, labels_n: np.ndarray, labels_m: np.ndarray) -> Agreement:
    """Boxes of one class that overlap most become partners first."""
    overlaps = overlap(here_n4, there_m4, np.zeros(len(there_m4), bool))
    overlaps[(labels_n[:, None] != labels_m) | (overlaps < PARTNER)] = 0
    total, pairs = 0.0, 0
    while overlaps.size and overlaps.max() > 0:
        i, k = np.unravel_index(overlaps.argmax(), overlaps.shape)
        total, pairs = total + float(overlaps[i, k]), pairs + 1
        overlaps[i], overlaps[:, k] = 0, 0
    objects = len(here_n4) + len(there_m4) - pairs
    return Agreement(total / objects if objects else 1.0, objects - pairs)


def same_object(one: ImageBoxes) -> Iterator[tuple[int, int]]:
    """Pairs of boxes in an image that lie on one object: of one class, or of two; crowds are left out."""
    overlaps = overlap(one.corners, one.corners, np.zeros(len(one), bool))
    same_class = one.labels[:, None] == one.labels
    whole = ~one.crowd[:, None] & ~one.crowd
    found = np.triu(whole & (overlaps > np.where(same_class, TWIN, ONE_OBJECT)), 1)
    yield from ((int(i), int(k)) for i, k in np.argwhere(found))
