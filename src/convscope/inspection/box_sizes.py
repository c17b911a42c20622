"""Boxes as a network will see them, once their images are fitted: how large, and which of its maps answers for each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..datasets.boxes import Boxes
from ..images.preprocess import Preprocess
from ..models.box_network import BOX_STRIDES
from ..tasks.detection import REACH, TASK
from .findings import Finding, counted, first, some

NARROWEST = BOX_STRIDES[0]  # pixels of the shorter side, under which a box lies between two places of the finest map
MANY = 0.05  # of a class's boxes that are narrower, from which it is told
STEP, LARGEST = 32, 1280  # pixels: sizes of images are multiples of the one, and advised up to the other


@dataclass(frozen=True)
class FittedBoxes:
    """All boxes that count, in images fitted into a square of ``size`` pixels, padded: (M, 2) width and height there.

    ``labels`` int64 (M,) are their classes.
    """

    size: int
    sides: np.ndarray
    labels: np.ndarray

    @cached_property
    def strides(self) -> np.ndarray:
        """The stride of the map that answers for each box, (M,): that whose reach holds half the longer side."""
        limits = [REACH[stride][1] for stride in BOX_STRIDES[:-1]]
        return np.array(BOX_STRIDES)[np.searchsorted(limits, self.sides.max(1, initial=0) / 2)]

    @cached_property
    def shorter(self) -> np.ndarray:
        """The shorter side of each box in pixels, (M,)."""
        return self.sides.min(1, initial=np.inf)


def fitted_boxes(boxes: Boxes, size: int = TASK.size) -> FittedBoxes:
    """The boxes without crowds as a training sees them that is not asked for another size."""
    preprocess = Preprocess(size, "pad")
    corners = [boxes.fitted(i, preprocess)[~one.crowd] for i, one in enumerate(boxes.boxes)]
    labels = [one.labels[~one.crowd] for one in boxes.boxes]
    every = np.concatenate([np.zeros((0, 4)), *corners])
    return FittedBoxes(size, every[:, 2:] - every[:, :2], np.concatenate([np.zeros(0, np.int64), *labels]))


def size_rows(boxes: Boxes) -> list[dict[str, object]]:
    """Of each class: boxes by the stride of their map, those too narrow, and half-way width, height and aspect."""
    found = fitted_boxes(boxes)
    rows: list[dict[str, object]] = []
    for label in range(len(boxes.names)):
        mine = found.labels == label
        sides = found.sides[mine]
        width, height, aspect = (
            round(float(np.median(values)), 2) if len(values) else None
            for values in (sides[:, 0], sides[:, 1], sides[:, 0] / sides[:, 1])
        )
        rows.append(
            {
                "strides": {str(s): int((found.strides[mine] == s).sum()) for s in BOX_STRIDES},
                "narrow": int((found.shorter[mine] < NARROWEST).sum()),
                "width": width,
                "height": height,
                "aspect": aspect,
            }
        )
    return rows


def size_findings(boxes: Boxes) -> Iterator[Finding]:
    """Classes with too many boxes that are too narrow to be found, and at which size they would not be."""
    found = fitted_boxes(boxes)
    narrow = found.shorter < NARROWEST
    classes = [k for k in range(len(boxes.names)) if narrow[found.labels == k].sum() > MANY * (found.labels == k).sum()]
    if not classes:
        return
    of = {k: narrow[found.labels == k] for k in classes}
    told = [f"{boxes.names[k]!r} ({of[k].mean():.0%} of {counted(len(of[k]), 'box', 'boxes')})" for k in classes]
    larger = _enough(found, classes)
    mine = narrow & np.isin(found.labels, classes)
    middle = float(np.median(found.shorter[mine]))
    then = middle * larger / found.size
    sentence = (
        f"{counted(len(classes), 'class', 'classes')} with boxes narrower than {NARROWEST} px once images are fitted "
        f"into {found.size} x {found.size}, half of these under {middle:.1f} px: {some(told)}: too small to be found "
        f"at this size."
    )
    tiles = "cut the images into tiles to train on, and predict with --tile."
    wide = f"--image-size {larger} makes the middle one of these {then:.0f} px wide"
    advice = f"{wide}; or {tiles}" if then >= NARROWEST else f"{tiles[:-1]}: {wide} only."
    details = {"image_size": larger, "middle": round(middle, 2)}
    yield Finding("narrow-boxes", "doubt", sentence, int(mine.sum()), advice, first(told), details)


def _enough(found: FittedBoxes, classes: list[int]) -> int:
    """The smallest size of images at which enough boxes of each of these classes are wide enough, up to LARGEST."""
    least = min(float(np.quantile(found.shorter[found.labels == k], MANY, method="lower")) for k in classes)
    wanted = min(float(LARGEST), found.size * NARROWEST / max(least, 1e-9))
    return STEP * int(np.ceil(wanted / STEP))
