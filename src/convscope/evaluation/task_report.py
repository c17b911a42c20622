"""What is written of a score: JSON and images. Also used where a transfer opens its test images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..canvas.figures import Drawing
from ..classifying.classifier import Classifier
from ..classifying.prediction import logits
from ..datasets.boxes import Boxes
from ..datasets.mask_coding import VOID
from ..datasets.masks import Masks
from ..folders import fresh_folder
from ..noted import Noted
from ..progress import Progress
from ..storage import commit_json, write_derived
from . import task_drawing as drawing
from .box_drawing import by_threshold, worst_boxes
from .box_sheet import compared
from .opening import ANSWER
from .task_scoring import TaskEvaluated, worst
from .task_sheet import said_and_true, write_sheets

# What is drawn of each class or label: the first of these that it has.
BARS = {
    "iou": "intersection over union",
    "ap50": "average precision at an overlap of one half",
    "ap": "average precision",
}


@dataclass(frozen=True)
class TaskEvaluationReport(Noted):
    """An evaluation against targets, as it is written to ``folder``."""

    TOLD = ("data", "part", "n", "task")
    evaluated: TaskEvaluated
    classifier: Classifier
    folder: Path
    summary: Mapping[str, Any]

    def _repr_png_(self) -> bytes | None:
        images = drawings(self.classifier, self.evaluated)
        return next(iter(images.values())).png if images else None


def write_task_evaluation(report: TaskEvaluationReport, progress: Progress | None = None) -> TaskEvaluationReport:
    """Write images and JSON into the report's folder, replaced whole; returns the report."""
    with fresh_folder(report.folder) as place:
        for name, image in drawings(report.classifier, report.evaluated).items():
            write_derived(place / f"{name}.png", image.png)
        write_sheets(report.classifier, report.evaluated, report.summary["metric"], place, progress)
        commit_json(place / ANSWER, report.summary)
    return report


def drawings(classifier: Classifier, evaluated: TaskEvaluated) -> dict[str, Drawing]:
    """The images of a score, by name."""
    figures = evaluated.score.figures
    rows = figures.get("classes") or figures.get("labels")
    images: dict[str, Drawing] = {}
    if rows:
        key, label = next((key, label) for key, label in BARS.items() if key in rows[0])
        bars = [(row["name"], row[key], row[f"{key}_low"], row[f"{key}_high"]) for row in rows]
        images["classes"] = drawing.class_bars(bars, f"{label}, % (line: 95 % interval)")
    else:
        name, width = classifier.class_names[0], classifier.settings.get("half_width")
        images["numbers"] = drawing.predicted_numbers(evaluated.tallies, name, width)
    if "curve" in figures:
        images["thresholds"] = by_threshold(figures["curve"], figures["threshold"])
    images["worst"] = _worst(classifier, evaluated)
    return images


def _worst(classifier: Classifier, evaluated: TaskEvaluated) -> Drawing:
    places = worst(evaluated, drawing.SHOWN)
    index, dataset = evaluated.index[places], evaluated.dataset
    images = np.asarray(dataset.images[index])
    if isinstance(dataset.targets, Masks):
        outputs = logits(classifier.network, dataset.images, classifier.preprocess, index)
        truths = dataset.targets.all_fitted(index, classifier.preprocess)
        answers = [np.where(t == VOID, VOID, o.argmax(0).to(torch.uint8)) for o, t in zip(outputs, truths, strict=True)]
        return drawing.worst_masks(classifier, images, list(truths), answers, evaluated.score.each[places])
    if isinstance(dataset.targets, Boxes):
        return worst_boxes(list(compared(classifier, dataset, index)), len(classifier.class_names))
    words = said_and_true(classifier, evaluated, places)
    return drawing.worst_answers(images, [f"{true} \u2192 {said}" for said, true in words])
