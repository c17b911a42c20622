"""How well maps find the objects of masks, beside guesses that look at no image: Choe and others 2020 (2001.07437).

A threshold that is chosen on the images it is scored on makes every map look better than it is. So it is chosen on
some images, and the figures are those of the others; what the literature gives, the best on these same, stands beside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from ..classifying.intervals import Interval, PairedTest, paired_test
from ..datasets.mask_coding import VOID
from ..tasks.paired import PairedFigure, paired_figure
from ..tasks.task import ends, interval_of, resamples
from .boxes import Box, box_of, box_overlap, boxes_of, centred_map

STEPS = 50
THRESHOLDS = np.arange(STEPS, dtype=np.float32) / STEPS  # of 0 to below 1, at which a map is cut off
ZHOU = 0.2  # the threshold of Zhou and others 2016, where no mask chooses another
HIT = 0.5  # intersection over union from which a box has found an object
MAP, CENTRE, WHOLE = "map", "centre", "whole image"


@dataclass(frozen=True)
class Truth:
    """Where the objects of one image are: bool (h, w), what is ``known`` at all, and a box a piece, int (n, 4)."""

    objects_hw: np.ndarray
    known_hw: np.ndarray
    boxes: np.ndarray

    @staticmethod
    def of(mask_hw: np.ndarray, classes: Sequence[int]) -> Truth:
        """That of a mask uint8 (h, w) whose ``classes`` are the objects."""
        objects = np.isin(mask_hw, classes)
        return Truth(objects, mask_hw != VOID, np.array(boxes_of(objects), np.int64).reshape(-1, 4))


@dataclass(frozen=True)
class Found:
    """What a map of an image is worth at each of T thresholds: the overlaps of masks and of boxes, float64 (T,)."""

    masks: np.ndarray
    boxes: np.ndarray


def found_by(values_hw: np.ndarray, truth: Truth, thresholds: np.ndarray) -> Found:
    """Score a scaled map (see ``boxes``) against the truth at ascending ``thresholds`` (T,): a pixel that reaches one
    is taken for an object."""
    return Found(mask_overlaps(values_hw, truth, thresholds), _box_overlaps(_boxes(values_hw, thresholds), truth))


def mask_overlaps(values_hw: np.ndarray, truth: Truth, thresholds: np.ndarray) -> np.ndarray:
    """Intersection over union (T,) with the objects, of the pixels that are known."""
    reached = np.searchsorted(thresholds, values_hw.ravel(), side="right")  # how many thresholds a pixel reaches
    known, objects = truth.known_hw.ravel(), truth.objects_hw.ravel()
    count = len(thresholds) + 1
    taken = np.bincount(reached[known], minlength=count)[::-1].cumsum()[::-1][1:]
    both = np.bincount(reached[objects], minlength=count)[::-1].cumsum()[::-1][1:]
    return both / np.maximum(taken + objects.sum() - both, 1)


def _boxes(values_hw: np.ndarray, thresholds: np.ndarray) -> tuple[Box | None, ...]:
    found: list[Box | None] = []
    before = -1
    for threshold in thresholds:
        mask = values_hw >= threshold
        count = int(mask.sum())
        found.append(found[-1] if count == before else box_of(mask))  # masks are nested: as many are the same ones
        before = count
    return tuple(found)


@lru_cache(maxsize=64)
def _centred_boxes(shape: tuple[int, int], thresholds: tuple[float, ...]) -> tuple[Box | None, ...]:
    return _boxes(centred_map(shape), np.array(thresholds, np.float32))


def _box_overlaps(boxes: Sequence[Box | None], truth: Truth) -> np.ndarray:
    return np.array([box_overlap(box, truth.boxes) for box in boxes])


def found_by_guessing(truth: Truth) -> dict[str, Found]:
    """What is found without looking: by a Gaussian in the middle, at each of THRESHOLDS, and by the whole image."""
    shape = truth.objects_hw.shape
    centre = mask_overlaps(centred_map(shape), truth, THRESHOLDS)
    boxes = _box_overlaps(_centred_boxes(shape, tuple(THRESHOLDS.tolist())), truth)
    whole = found_by(np.ones(shape, np.float32), truth, THRESHOLDS[:1])
    return {CENTRE: Found(centre, boxes), WHOLE: whole}


# ------------------------------------------------------------------------------------------------------------- figures


@dataclass(frozen=True)
class Way:
    """A way to guess where objects are, scored on N images: at the ``mask_at`` and ``box_at`` thresholds that other
    images chose, (N,) overlaps of masks and of boxes; ``best_*`` are the means at the best threshold for these same."""

    name: str
    mask_at: float
    box_at: float
    masks: np.ndarray
    boxes: np.ndarray
    best_masks: float
    best_boxes: float

    @property
    def hits(self) -> np.ndarray:
        """Whose box has found an object."""
        return self.boxes >= HIT

    def to_json(self) -> dict[str, Any]:
        """Its figures with their intervals."""
        iou, accuracy = mean_interval(self.masks), mean_interval(self.hits.astype(np.float64))
        return {
            "way": self.name,
            "mask_threshold": self.mask_at,
            "box_threshold": self.box_at,
            **ends("iou", iou),
            **ends("box_accuracy", accuracy),
            "iou_best_here": self.best_masks,
            "box_accuracy_best_here": self.best_boxes,
        }


def mean_interval(values_N: np.ndarray) -> Interval:
    """The mean over images with the bootstrap's interval."""
    n = len(values_N)
    return interval_of(float(values_N.mean()), resamples(n, None) @ values_N / n, n)


def scored_way(
    name: str, found: Sequence[Found], choosing: np.ndarray, scored: np.ndarray, thresholds: np.ndarray
) -> Way:
    """Choose thresholds on the images at ``choosing`` and score at ``scored``, places in ``found``.

    With none that could choose, it is ZHOU's, or what is next to it.
    """
    masks, boxes = (np.stack([getattr(one, kind) for one in found]) for kind in ("masks", "boxes"))
    hits = (boxes >= HIT).astype(np.float64)
    usual = min(int(np.searchsorted(thresholds, ZHOU)), len(thresholds) - 1)
    mask_at, box_at = (int(one[choosing].mean(0).argmax()) if len(choosing) else usual for one in (masks, hits))
    return Way(
        name,
        round(float(thresholds[mask_at]), 6),
        round(float(thresholds[box_at]), 6),
        masks[scored, mask_at],
        boxes[scored, box_at],
        float(masks[scored].mean(0).max()),
        float(hits[scored].mean(0).max()),
    )


@dataclass(frozen=True)
class Beyond:
    """The map less a guess on the same images: in the overlap of masks, and in the share of boxes that hit."""

    guess: str
    masks: PairedFigure
    boxes: PairedTest

    def to_json(self) -> dict[str, Any]:
        """The differences with their intervals."""
        rows = (("iou", self.masks), ("box_accuracy", self.boxes))
        told = {name: {key: getattr(one, key) for key in ("difference", "low", "high", "p")} for name, one in rows}
        return {"than": self.guess, **told}


def beyond(ways: Mapping[str, Way]) -> tuple[Beyond, ...]:
    """The map against each guess."""
    ours = ways[MAP]
    return tuple(
        Beyond(name, paired_figure(ours.masks, way.masks), paired_test(ours.hits, way.hits))
        for name, way in ways.items()
        if name != MAP
    )
