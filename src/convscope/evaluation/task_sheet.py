"""Small images of what was answered worst, for the page: each image; of masks and boxes the answer and the truth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..canvas.overlays import class_colours, colours_of, overlaid
from ..canvas.sprites import fitted, sprite
from ..classifying.classifier import Classifier
from ..classifying.prediction import each_pass
from ..datasets.boxes import Boxes
from ..datasets.mask_coding import VOID
from ..datasets.masks import Masks
from ..datasets.polygons import has_background
from ..datasets.targets import LabelSets
from ..progress import Progress
from ..storage import commit_json, write_derived
from .box_sheet import answer_and_truth, compared, small
from .task_scoring import TaskEvaluated, worst

MOST = 1024  # images that are kept
BLOCK = 128  # images one below the other in a file: a JPEG holds 65,500 rows, and a browser unpacks it whole
SIDE = 96  # px of an image
BOXES_SIDE = 192  # px of one with boxes, whose lines are to be seen
LISTED = "worst.json"
Words = tuple[str | None, str | None]  # what was answered, and what is true; masks have none
CELLS = {Masks: ("image", "answer", "mask"), Boxes: ("answer", "truth")}
CALLED = {
    "iou": "intersection over union",
    "miou": "mean intersection over union of its classes",
    "map": "distance of the probabilities from the truth, summed over labels",
    "mae": "absolute error",
    "ap50": "F1 of its boxes at the threshold",
}


def write_sheets(
    classifier: Classifier, evaluated: TaskEvaluated, metric: str, folder: Path, progress: Progress | None = None
) -> None:
    """Write ``worst.json``, the images that are answered worst with their figures, and sheets of small images of them.

    A sheet has a row an image: the image, and of masks the answer and the truth drawn over it; of boxes these two.
    """
    places, dataset = worst(evaluated, MOST), evaluated.dataset
    cells = next((cells for kind, cells in CELLS.items() if isinstance(dataset.targets, kind)), ("image",))
    side = BOXES_SIDE if isinstance(dataset.targets, Boxes) else SIDE
    rows: list[dict[str, Any]] = []
    for start in range(0, len(places), BLOCK):
        if progress:
            progress("drawing the worst", start, len(places))
        block = places[start : start + BLOCK]
        strips, words = _looked_at(classifier, evaluated, block)
        write_derived(folder / f"worst-{start // BLOCK}.jpg", sprite(strips, side, len(cells)))
        rows += [_row(evaluated, place, *told) for place, told in zip(block, words, strict=True)]
    listed = {
        "called": CALLED[metric],
        "of": len(evaluated.index),
        "side": side,
        "block": BLOCK,
        "cells": cells,
        "classes": _legend(classifier) if len(cells) > 1 else [],
        "images": rows,
    }
    commit_json(folder / LISTED, listed)


def said_and_true(classifier: Classifier, evaluated: TaskEvaluated, places: list[int]) -> list[tuple[str, str]]:
    """What was answered and what is true of the images at these places, in words; masks have none."""
    targets = evaluated.dataset.targets
    tallies = evaluated.tallies[places]
    if isinstance(targets, LabelSets):
        thresholds = np.asarray(classifier.settings["thresholds"])
        return [(_listed(targets.names, p_t[:, 0] >= thresholds), _listed(targets.names, p_t[:, 1])) for p_t in tallies]
    return [(f"{said:.4g}", f"{true:.4g}") for said, true in tallies]


def _listed(names: tuple[str, ...], there: np.ndarray) -> str:
    return ", ".join(name for name, one in zip(names, there, strict=True) if one) or "none"


def _looked_at(
    classifier: Classifier, evaluated: TaskEvaluated, places: list[int]
) -> tuple[list[list[np.ndarray]], Sequence[Words]]:
    """The small images of each of these places, and what was answered and what is true of it in words."""
    dataset, index = evaluated.dataset, evaluated.index[places]
    if isinstance(dataset.targets, Masks):
        return _mask_strips(classifier, evaluated, index), [(None, None)] * len(places)
    if isinstance(dataset.targets, Boxes):
        rows, count = (
            [small(row, BOXES_SIDE) for row in compared(classifier, dataset, index)],
            len(classifier.class_names),
        )
        return [answer_and_truth(row, count) for row in rows], [(row.said(), row.true()) for row in rows]
    words = said_and_true(classifier, evaluated, places)
    return [[fitted(np.asarray(dataset.images[i]), SIDE)] for i in index], words


def _row(evaluated: TaskEvaluated, place: int, answer: str | None, truth: str | None) -> dict[str, Any]:
    figure, origin = abs(float(evaluated.score.each[place])), evaluated.dataset.origins(int(evaluated.index[place]))
    return {"origin": origin, "figure": figure, "answer": answer, "truth": truth}


def _legend(classifier: Classifier) -> list[dict[str, Any]]:
    """The classes that are drawn, with their colours: of boxes each has one, a background too."""
    names = classifier.class_names
    background = has_background(names) and classifier.task != "detection"
    rows = [
        {"name": n, "colour": c.tolist()} for n, c in zip(names, class_colours(len(names), background), strict=True)
    ]
    return rows[1 if background else 0 :]


def _mask_strips(classifier: Classifier, evaluated: TaskEvaluated, index: np.ndarray) -> list[list[np.ndarray]]:
    """Of each image as the network sees it: itself, what was answered over it, what is true over it."""
    dataset, (colours, background) = evaluated.dataset, colours_of(classifier.class_names)
    masks = dataset.targets
    assert isinstance(masks, Masks)
    strips: list[list[np.ndarray]] = []

    def act(here: np.ndarray, inputs: torch.Tensor) -> None:
        answers = classifier.network(inputs).argmax(1).to(torch.uint8).cpu().numpy()
        truths = masks.all_fitted(here, classifier.preprocess)
        for i, answer, truth in zip(here, answers, truths, strict=True):
            image, true = fitted(np.asarray(dataset.images[int(i)]), SIDE), _small(truth)
            said = np.where(true == VOID, VOID, _small(answer))
            strips.append([image, *(overlaid(image, mask, colours, background) for mask in (said, true))])

    each_pass(classifier.network, dataset.images, classifier.preprocess, index, act)
    return strips


def _small(mask_SS: np.ndarray) -> np.ndarray:
    """A mask at the sheet's size: drawn there, its borders stay sharp."""
    return np.asarray(Image.fromarray(mask_SS).resize((SIDE, SIDE), Image.Resampling.NEAREST))
