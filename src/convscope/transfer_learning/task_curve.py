"""Whether more images would help a task: its head trained on a quarter and on half of the images, and continued."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from ..errors import DataError
from ..progress import Progress
from ..randomness import mix
from ..tasks.task import Score
from .learning_curve import CurvePoint, LearningCurve
from .recorded_targets import Recorded, TaskRung, climb

SHARES = (0.25, 0.5)
LEAST = 16  # training images that the smallest share must have
SHUFFLED = 0x7461736B


def measure_task_curve(
    recorded: Recorded, rung: TaskRung, seed: int, progress: Progress | None
) -> LearningCurve | None:
    """The curve of a head that was trained on all training images; None where they are few, or say nothing.

    Each share is trained for the root of it times as many updates: fewer images need fewer, but not in proportion.
    All are measured on the same validation images.
    """
    train = recorded.dataset.parts["train"]
    kind = next(kind for kind in recorded.task.heads if kind.name == rung.name)
    if kind.solve is not None or min(SHARES) * len(train) < LEAST:
        return None
    place = np.argsort(mix(recorded.dataset.keys[train], seed, SHUFFLED), kind="stable")
    points = []
    for share in SHARES:
        rows = np.sort(train[place[: round(share * len(train))]])
        part = replace(recorded, dataset=replace(recorded.dataset, parts={**recorded.dataset.parts, "train": rows}))
        fewer = replace(kind, epochs=math.ceil(kind.epochs / math.sqrt(share)))
        try:
            points.append(_point(len(rows), climb(fewer, part, seed, progress).score))
        except DataError:
            return None
    return LearningCurve((*points, _point(len(train), rung.score)), len(train), 1.0)


def _point(images: int, score: Score) -> CurvePoint:
    """A figure with its interval as of so many images as would make the binomial's as wide."""
    figure = score.figure
    value = min(max(figure.value, 1e-3), 1 - 1e-3)
    spread = max((figure.high - figure.low) / 3.92, 1e-3)
    return CurvePoint(images, value, (value,), max(1, round(value * (1 - value) / spread**2)))


def curve_json(curve: LearningCurve) -> dict[str, Any]:
    """The stable JSON form: the figure by training images, and what twice of these would add."""
    gain = curve.twice()
    return {
        "points": [{"images": point.per_class, "value": point.accuracy} for point in curve.points],
        "images": curve.per_class,
        "gain": {"value": gain.value, "low": gain.low, "high": gain.high},
        "level": gain.level,
    }
