"""Random boxes, and what pycocotools and faster-coco-eval make of them."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from convscope.tasks.matching import FoundBoxes, TrueBoxes, matched

Image = tuple[FoundBoxes, TrueBoxes]


def boxes_of(rng: np.random.Generator, n: int, largest: int = 160) -> np.ndarray:
    """Corners (n, 4) in whole pixels, of all ranges of areas."""
    corner = rng.integers(0, 200, (n, 2))
    return np.concatenate([corner, corner + rng.integers(4, largest, (n, 2))], 1).astype(np.float64)


def random_image(rng: np.random.Generator, true: int, found: int, classes: int, levels: int = 0) -> Image:
    """An image: of the found boxes most lie near a true one; scores are tied where there are few ``levels``."""
    corners, labels = boxes_of(rng, true), rng.integers(0, classes, true)
    guesses, guessed = boxes_of(rng, found), rng.integers(0, classes, found)
    if true:
        near = rng.random(found) < 0.8
        which = rng.integers(0, true, found)
        guesses[near] = corners[which[near]]
        guessed[near] = labels[which[near]]
        shift = np.rint(rng.normal(0, 0.12, (found, 4)) * np.tile(guesses[:, 2:] - guesses[:, :2], 2))
        moved = guesses + shift
        moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2] + 1)
        guesses = moved
    scores = rng.integers(0, levels, found) / levels if levels else rng.random(found)
    return FoundBoxes(guesses, guessed, scores), TrueBoxes(corners, labels, rng.random(true) < 0.12)


def matches_of(images: Sequence[Image], classes: int) -> np.ndarray:
    """The matches of each image, dtype object (N,)."""
    made = np.empty(len(images), object)
    made[:] = [matched(found, truth, classes) for found, truth in images]
    return made


def as_coco(images: Sequence[Image], classes: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The same images as COCO writes them: what is there, and what was found. Ids begin at 1."""
    there: dict[str, Any] = {
        "images": [{"id": i, "width": 1000, "height": 1000} for i in range(1, len(images) + 1)],
        "categories": [{"id": k, "name": str(k)} for k in range(1, classes + 1)],
        "annotations": [],
        "info": {},
    }
    given = []
    for i, (found, truth) in enumerate(images, 1):
        for corners, label, crowd in zip(truth.corners, truth.labels, truth.crowd, strict=True):
            row = _row(i, corners, label) | {"id": len(there["annotations"]) + 1, "iscrowd": int(crowd)}
            there["annotations"].append(row)
        for corners, label, score in zip(found.corners, found.labels, found.scores, strict=True):
            given.append(_row(i, corners, label) | {"score": float(score)})
    return there, given


def _row(image: int, corners: np.ndarray, label: int) -> dict[str, Any]:
    left, top, right, bottom = corners.tolist()
    box = [left, top, right - left, bottom - top]
    return {"image_id": image, "category_id": int(label) + 1, "bbox": box, "area": box[2] * box[3]}


def coco_evaluator(library: str, there: dict[str, Any], given: list[dict[str, Any]]) -> Any:
    """A library's COCOeval of boxes as COCO writes them, evaluated and summarised."""
    if library == "pycocotools":
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval as Evaluator
    else:
        from faster_coco_eval import COCO
        from faster_coco_eval import COCOeval_faster as Evaluator
    with contextlib.redirect_stdout(io.StringIO()):
        truth, nothing = COCO(), COCO()
        truth.dataset, nothing.dataset = there, there | {"annotations": []}
        truth.createIndex()
        nothing.createIndex()
        made = Evaluator(truth, truth.loadRes(given) if given else nothing, "bbox")
        made.evaluate()
        made.accumulate()
        made.summarize()
    return made


def evaluated(library: str, images: Sequence[Image], classes: int) -> tuple[np.ndarray, list[float | None]]:
    """A library's AP (K, A, T), NaN where it says -1, and the six of its summary, None where it says so."""
    made = coco_evaluator(library, *as_coco(images, classes))
    precision = made.eval["precision"][..., -1]  # (T, R, K, A)
    means = np.where((precision > -1).all(1), precision.mean(1), np.nan)
    return means.transpose(1, 2, 0), [float(value) if value > -1 else None for value in made.stats[:6]]
