"""An answer of another task than one class an image, as JSON values: what `predict` answers, and what draws it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image

from ..canvas.overlays import class_colours, colours_of
from ..canvas.signed import png
from ..classifying.classifier import Classifier
from ..classifying.prediction import Unreadable
from ..errors import ImageError
from ..evaluation.box_answers import BoxAnswer, coco_json, yolo_text
from ..evaluation.task_answers import Labels, Mask, Number, answer_fitted
from ..images.placing import place_of, resized_mask
from ..tasks.detection import LEAST
from .run_data import uri

SHOWN = 640  # pixels a side of an image with its mask, at most
NAME = "the image"


def answer_of_task(classifier: Classifier, pixels_SS3: np.ndarray, size: tuple[int, int]) -> dict[str, Any]:
    """The answer to a fitted image that was of ``size`` (width, height). ImageError where there is none."""
    found = answer_fitted(_asked(classifier), NAME, pixels_SS3, size)
    if isinstance(found, Unreadable):
        raise ImageError(NAME, found.error)
    shown = {"task": classifier.task, "answer": found.to_json(), "image": uri(png(pixels_SS3))}
    if isinstance(found, Mask):
        return shown | _of_mask(classifier, pixels_SS3, found)
    if isinstance(found, BoxAnswer):
        return shown | _of_boxes(classifier, pixels_SS3, found)
    if isinstance(found, Number):
        return shown | _of_number(classifier, found)
    return shown | _of_labels(classifier, found)


def _asked(classifier: Classifier) -> Classifier:
    """The classifier as it is asked: of boxes for all that it finds, so that those below its threshold are shown."""
    if classifier.task != "detection":
        return classifier
    return replace(classifier, settings={**classifier.settings, "threshold": LEAST})


def _of_mask(classifier: Classifier, pixels_SS3: np.ndarray, found: Mask) -> dict[str, Any]:
    """The mask as a file of class numbers, and in colours over the image; a background has no colour."""
    height, width = found.mask.shape
    colours, background = colours_of(classifier.class_names)
    scale = min(1.0, SHOWN / max(width, height))
    small = (max(1, round(height * scale)), max(1, round(width * scale)))
    seen = Image.fromarray(pixels_SS3[place_of(classifier.preprocess, (width, height)).window])
    drawn = resized_mask(found.mask, small)
    opaque = np.where((drawn == 0) & background, 0, 255).astype(np.uint8)
    rows = [
        {"name": name, "share": share, "colour": None if background and k == 0 else colours[k].tolist()}
        for k, (name, share) in enumerate(found.shares)
    ]
    return {
        "told": f"A class for each of {width:,} \u00d7 {height:,} pixels",
        "classes": sorted(rows, key=lambda row: -row["share"]),
        "image": uri(png(np.asarray(seen.resize(small[::-1], Image.Resampling.BILINEAR)))),
        "mask": uri(png(found.mask)),
        "drawn": uri(png(np.dstack([colours[drawn], opaque]))),
    }


def _of_boxes(classifier: Classifier, pixels_SS3: np.ndarray, found: BoxAnswer) -> dict[str, Any]:
    """All boxes that were found; of those that reach the classifier's threshold what is told, and their files."""
    names, threshold = classifier.class_names, classifier.settings["threshold"]
    told = found.sure(threshold)
    seen = pixels_SS3[place_of(classifier.preprocess, (found.width, found.height)).window]
    colours = dict(zip(names, class_colours(len(names), False).tolist(), strict=True))
    counts = Counter(box.label for box in told.boxes)
    return {
        "answer": told.to_json(),
        "told": told.words(),
        "meant": f"Boxes are shown from a score of {threshold:.2f} on, as validation chose it.",
        "image": uri(png(np.ascontiguousarray(seen))),
        "width": found.width,
        "height": found.height,
        "threshold": threshold,
        "boxes": [{**box.to_json(), "colour": colours[box.label]} for box in found.boxes],
        "counts": [{"name": name, "count": counts[name], "colour": colours[name]} for name in names],
        "yolo": yolo_text(told, names),
        "coco": coco_json([told], names),
    }


def _of_labels(classifier: Classifier, found: Labels) -> dict[str, Any]:
    """Each label beside the threshold from which on it is told."""
    thresholds = dict(zip(classifier.class_names, classifier.settings["thresholds"], strict=True))
    rows = [
        {"label": name, "probability": p, "threshold": thresholds[name], "told": name in found.labels}
        for name, p in found.top
    ]
    meant = "A label is told from its threshold on, which is the line across its bar."
    return {"told": found.words(), "meant": meant, "labels": rows}


def _of_number(classifier: Classifier, found: Number) -> dict[str, Any]:
    """The number, and in words what its interval says."""
    if found.low is None:
        meant = "Its interval is not known: there were too few validation images to find one."
    else:
        meant = (
            f"The true number is to lie between {found.low:.4g} and {found.high:.4g}: "
            f"such intervals are to hold it for {100 * found.coverage:.0f} % of images like those of the validation."
        )
    return {"told": f"{classifier.class_names[0]}: {found.value:.4g}", "meant": meant}
