"""The boxes that a network finds in an image: in its own pixels, in one look or by tiles."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..classifying.classifier import Classifier
from ..classifying.prediction import NO_NUMBERS
from ..datasets.boxes import back
from ..errors import ImageError
from ..tasks.detection import OVERLAP, decoded
from ..tasks.matching import FoundBoxes
from .tiles import tiles_of, view_of

SEAM = 2.0  # px from a tile's border within which a box counts as cut by it


@dataclass(frozen=True)
class Box:
    """One box: edges in pixels of the upright image."""

    label: str
    score: float
    left: float
    top: float
    right: float
    bottom: float

    def to_json(self) -> dict[str, Any]:
        """The stable JSON form."""
        return vars(self).copy()


@dataclass(frozen=True)
class BoxAnswer:
    """The boxes of an image whose score reaches a threshold, the classifier's unless said otherwise, best first."""

    path: str
    width: int
    height: int
    boxes: tuple[Box, ...]
    files: tuple[str, ...] = ()  # where they were drawn and written

    def to_json(self) -> dict[str, Any]:
        """The stable JSON form."""
        boxes = [box.to_json() for box in self.boxes]
        return {
            "path": self.path,
            "width": self.width,
            "height": self.height,
            "boxes": boxes,
            "files": list(self.files),
        }

    def words(self) -> str:
        """The answer for people."""
        return told_counts(box.label for box in self.boxes)

    def sure(self, threshold: float) -> BoxAnswer:
        """The same with those boxes alone whose score reaches a threshold."""
        return replace(self, boxes=tuple(box for box in self.boxes if box.score >= threshold))


def told_counts(labels: Iterator[str] | Sequence[str]) -> str:
    """How many boxes of which class: "3 RBC, 1 WBC"."""
    counts = sorted(Counter(labels).items(), key=lambda pair: (-pair[1], pair[0]))
    return ", ".join(f"{count} {name}" for name, count in counts) or "no box"


def found_in(classifier: Classifier, outputs_LD: torch.Tensor, size: tuple[int, int]) -> FoundBoxes:
    """All that the outputs tell of an image of ``size`` (width, height), in its pixels; what is padding falls away."""
    found = decoded(outputs_LD)
    corners = back(found.corners, size, classifier.preprocess)
    kept = (corners[:, 2:] - corners[:, :2]).min(1, initial=np.inf) > 0
    return FoundBoxes(corners[kept], found.labels[kept], found.scores[kept])


def sure(found: FoundBoxes, threshold: float) -> FoundBoxes:
    """Those whose score reaches the threshold."""
    kept = found.scores >= threshold
    return FoundBoxes(found.corners[kept], found.labels[kept], found.scores[kept])


def box_answer(classifier: Classifier, name: str, found: FoundBoxes, size: tuple[int, int]) -> BoxAnswer:
    """The answer at the classifier's threshold to an image of ``size`` (width, height)."""
    names, best = classifier.class_names, sure(found, classifier.settings["threshold"])
    rows = zip(best.labels.tolist(), best.scores.tolist(), best.corners.tolist(), strict=True)
    return BoxAnswer(name, *size, tuple(Box(names[k], score, *corners) for k, score, corners in rows))


def found_by_tiles(classifier: Classifier, rgb: Image.Image) -> FoundBoxes:
    """The boxes of a large image, seen whole and by overlapping tiles of the network's size.

    What two looks have found is one box: the one that no border cuts, then the surer. A box that a border cuts is
    dropped where another look has more of it.
    """
    looks = [_look(classifier, np.asarray(classifier.preprocess.fit_array(rgb)), (0, 0), rgb.size, rgb.size)]
    side = classifier.preprocess.size
    for left, top, tile in tiles_of(rgb, side):
        looks.append(_look(classifier, tile, (left, top), (side, side), rgb.size))
    found, cut = (np.concatenate(parts) for parts in zip(*looks, strict=True))
    number = np.repeat(np.arange(len(looks)), [len(rows) for rows, _ in looks])
    order = np.lexsort((-found[:, 5], cut))
    kept = _merged(found[order], number[order], cut[order])
    kept = kept[np.argsort(-kept[:, 5], kind="stable")]
    return FoundBoxes(kept[:, :4], kept[:, 4].astype(np.int64), kept[:, 5])


def _look(
    classifier: Classifier,
    pixels_SS3: np.ndarray,
    place: tuple[int, int],
    size: tuple[int, int],
    whole: tuple[int, int],
) -> tuple[np.ndarray, np.ndarray]:
    """Rows (n, 6) of corners in the whole image, label and score; and which of them a border within it cuts."""
    outputs = view_of(classifier, pixels_SS3)[0]
    if not bool(torch.isfinite(outputs).all()):
        raise ImageError("", NO_NUMBERS)
    found = found_in(classifier, outputs, size) if size == whole else decoded(outputs)
    corners = found.corners + np.array([*place, *place])
    inner = np.array([place[0] > 0, place[1] > 0, place[0] + size[0] < whole[0], place[1] + size[1] < whole[1]])
    borders = np.array([*place, place[0] + size[0], place[1] + size[1]])
    cut = np.any((np.abs(corners - borders) < SEAM) & inner, axis=1)
    limits = np.array([*whole, *whole], np.float64)
    corners = np.minimum(corners, limits)
    rows = np.concatenate([corners, found.labels[:, None], found.scores[:, None]], 1)
    there = (corners[:, 2:] - corners[:, :2]).min(1, initial=np.inf) > 0
    return rows[there], cut[there]


def _merged(rows_N6: np.ndarray, look_N: np.ndarray, cut_N: np.ndarray) -> np.ndarray:
    """The rows that no earlier row that stays is one box with; a row at a time, for tiles may have found thousands."""
    low, high, label = rows_N6[:, :2], rows_N6[:, 2:4], rows_N6[:, 4]
    areas = (high - low).prod(1)
    kept: list[int] = []
    left = np.arange(len(rows_N6))
    while len(left):
        first, left = int(left[0]), left[1:]
        kept.append(first)
        sides = np.minimum(high[first], high[left]) - np.maximum(low[first], low[left])
        both = sides.clip(0).prod(1)
        overlap = both / (areas[first] + areas[left] - both)
        within = both / np.minimum(areas[first], areas[left])
        same = label[left] == label[first]
        part = cut_N[left] & (look_N[left] != look_N[first]) & (within > OVERLAP)
        one = same & ((overlap > OVERLAP) | part)
        left = left[~one]
    return rows_N6[kept]


# --------------------------------------------------------------------------------------------------- as other tools do


def yolo_text(answer: BoxAnswer, names: Sequence[str]) -> str:
    """The boxes as YOLO's text: class, middle, width and height as parts of the image's, and the score."""
    lines = []
    for box in answer.boxes:
        middle = ((box.left + box.right) / 2 / answer.width, (box.top + box.bottom) / 2 / answer.height)
        sides = ((box.right - box.left) / answer.width, (box.bottom - box.top) / answer.height)
        numbers = " ".join(f"{value:.6f}" for value in (*middle, *sides, box.score))
        lines.append(f"{names.index(box.label)} {numbers}\n")
    return "".join(lines)


def coco_json(answers: Sequence[BoxAnswer], names: Sequence[str]) -> str:
    """All answers as one COCO file: images, categories from 1 on, and annotations with a score."""
    images, annotations = [], []
    for number, answer in enumerate(answers, 1):
        images.append({"id": number, "file_name": answer.path, "width": answer.width, "height": answer.height})
        for box in answer.boxes:
            width, height = box.right - box.left, box.bottom - box.top
            annotations.append({
                "id": len(annotations) + 1, "image_id": number, "category_id": names.index(box.label) + 1,
                "bbox": [box.left, box.top, width, height], "area": width * height, "iscrowd": 0, "score": box.score,
            })  # fmt: skip
    categories = [{"id": k, "name": name} for k, name in enumerate(names, 1)]
    return json.dumps({"images": images, "annotations": annotations, "categories": categories})
