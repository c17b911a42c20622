"""What boxes say: which classes hardly occur, images without any, objects that have two, and sizes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..datasets.boxes import Boxes
from .box_overlap import same_object
from .box_sizes import size_findings, size_rows
from .class_names import times_fewer
from .findings import Finding, counted, first, some
from .mask_findings import EMPTY, class_findings
from .survey import Survey


def box_findings(survey: Survey, boxes: Boxes) -> Iterator[Finding]:
    """Sentences about the boxes of all images."""
    yield from class_findings(survey, boxes.names, shown_in(boxes), np.arange(len(boxes)), "without any box")
    yield from _without(survey, boxes)
    yield from _doubled(survey, boxes)
    yield from size_findings(boxes)
    yield from _balance(boxes)


def shown_in(boxes: Boxes) -> np.ndarray:
    """Which classes have a box in which image, bool (N, K)."""
    found = np.zeros((len(boxes), len(boxes.names)), bool)
    for i, one in enumerate(boxes.boxes):
        found[i, one.labels] = True
    return found


def box_rows(boxes: Boxes) -> list[dict[str, object]]:
    """What each class has: images, boxes and their share of all, and how large they are to a network."""
    counts = _counts(boxes)
    images = shown_in(boxes).sum(0)
    total = max(1, int(counts.sum()))
    return [
        {"name": name, "images": int(i), "boxes": int(n), "share": round(int(n) / total, 6), **sizes}
        for name, i, n, sizes in zip(boxes.names, images, counts, size_rows(boxes), strict=True)
    ]


def _counts(boxes: Boxes) -> np.ndarray:
    labels = np.concatenate([np.zeros(0, np.int64), *(one.labels for one in boxes.boxes)])
    return np.bincount(labels, minlength=len(boxes.names))


def _without(survey: Survey, boxes: Boxes) -> Iterator[Finding]:
    empty = [i for i, one in enumerate(boxes.boxes) if not len(one)]
    if empty:
        names, share = survey.names(empty), len(empty) / len(boxes)
        told = f"{counted(len(empty), 'image')} ({share:.0%}) without any box: {some(names)}."
        advice = "look whether they were annotated at all." if share > EMPTY else ""
        yield Finding("no-object", "doubt" if share > EMPTY else "note", told, len(empty), advice, first(names))


def _doubled(survey: Survey, boxes: Boxes) -> Iterator[Finding]:
    """Boxes that are drawn twice, and objects that are of two classes."""
    twins: list[str] = []
    torn: list[str] = []
    for i, one in enumerate(boxes.boxes):
        for a, b in same_object(one) if len(one) > 1 else ():
            first_name, second = (boxes.names[one.labels[k]] for k in (a, b))
            words = f"{survey.unsplit.origin(i)} ({first_name}"
            torn += [f"{words} and {second})"] if first_name != second else []
            twins += [f"{words})"] if first_name == second else []
    for kind, names, one, many, advice in (
        ("twin-boxes", twins, "box is drawn twice", "boxes are drawn twice", "remove one of each: both are learned."),
        (
            "two-classes",
            torn,
            "object has boxes of two classes",
            "objects have boxes of two classes",
            "decide which class is right, if only one is.",
        ),
    ):
        if names:
            told = f"{counted(len(names), one, many)}: {some(names)}."
            yield Finding(kind, "doubt", told, len(names), advice, first(list(dict.fromkeys(names))))


def _balance(boxes: Boxes) -> Iterator[Finding]:
    """How uneven classes are, by boxes."""
    counts = _counts(boxes)
    seen = np.flatnonzero(counts)
    if len(seen) < 2:
        return
    most, least = seen[counts[seen].argmax()], seen[counts[seen].argmin()]
    ratio = counts[most] / counts[least]
    told = (
        f"the commonest class, {boxes.names[most]!r}, has {counts[most]:,} boxes, the rarest, {boxes.names[least]!r}, "
        f"{counts[least]:,}{times_fewer(ratio)}."
    )
    yield Finding("balance", "note", told, len(seen), "", (), {"ratio": round(float(ratio), 2)})
