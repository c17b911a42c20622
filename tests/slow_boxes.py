"""Boxes as FCOS learns them, place by place in plain Python: which box a place tells, and what the loss is."""

from __future__ import annotations

import math

import numpy as np

from convscope.models.box_network import BOX_STRIDES
from convscope.tasks.detection import CROWD, NEAR, NOBODY, REACH


def soft(p: float) -> float:
    """log(1 + exp(p)), which nothing overflows."""
    return max(p, 0.0) + math.log1p(math.exp(-abs(p)))


def places(side: int) -> list[tuple[float, float, int]]:
    """The middle of each place and its stride, the finest map first, row by row."""
    found = []
    for stride in BOX_STRIDES:
        ends = range(side // stride)
        found += [((j + 0.5) * stride, (i + 0.5) * stride, stride) for i in ends for j in ends]
    return found


def box_of(boxes: list[list[float]], place: tuple[float, float, int]) -> int:
    """Which box a place is to tell; NOBODY or CROWD where none."""
    x, y, stride = place
    best, smallest, crowded = NOBODY, math.inf, False
    for number, (left, top, right, bottom, label) in enumerate(boxes):
        sides = (x - left, y - top, right - x, bottom - y)
        if label == NOBODY or min(sides) <= 0:
            continue
        if label <= CROWD:
            crowded = True
            continue
        low, high = REACH[stride]
        off = max(abs(x - (left + right) / 2), abs(y - (top + bottom) / 2))
        area = (right - left) * (bottom - top)
        if off < NEAR * stride and low < max(sides) <= high and area < smallest:
            best, smallest = number, area
    return CROWD if best == NOBODY and crowded else best


def focal(p: float, yes: bool) -> float:
    """Lin and others' formula: alpha 1/4, gamma 2."""
    chance = 1 / (1 + math.exp(-p)) if p >= 0 else math.exp(p) / (1 + math.exp(p))
    return 0.25 * (1 - chance) ** 2 * soft(-p) if yes else 0.75 * chance**2 * soft(p)


def giou(a: list[float], b: list[float]) -> float:
    """1 less the generalised intersection over union."""
    both = max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both
    hull = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    return 1 - both / (union + 1e-7) + (hull - union) / (hull + 1e-7)


def of_boxes(outputs: np.ndarray, boxes: np.ndarray, side: int) -> float:
    """The loss of FCOS, place by place."""
    classes, where = outputs.shape[2] - 5, places(side)
    of_classes, of_corners, of_centres, near = [], [], [], []
    for rows, told in zip(outputs, boxes, strict=True):
        for (x, y, stride), row in zip(where, rows, strict=True):
            own = box_of(told.tolist(), (x, y, stride))
            label = int(told[own, 4]) if own >= 0 else -1
            if own != CROWD:
                of_classes += [focal(row[k], k == label) for k in range(classes)]
            if own < 0:
                continue
            left, top, right, bottom, _ = told[own].tolist()
            shares = [sorted(pair) for pair in ((x - left, right - x), (y - top, bottom - y))]
            near.append(math.sqrt(math.prod(low / high for low, high in shares)))
            distances = row[-4:]
            found = [x - distances[0], y - distances[1], x + distances[2], y + distances[3]]
            of_corners.append(near[-1] * giou(found, [left, top, right, bottom]))
            of_centres.append(soft(row[classes]) - near[-1] * row[classes])
    total = math.fsum(of_classes)
    if not near:
        return total
    return total / len(near) + math.fsum(of_corners) / math.fsum(near) + math.fsum(of_centres) / len(near)
