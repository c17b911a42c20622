"""Boxes as files: images with boxes drawn over them, YOLO's text of each, and COCO's JSON of all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from ..canvas.boxed import boxed
from ..canvas.overlays import class_colours
from ..canvas.signed import png
from ..images.decoding import decode
from ..storage import commit_text, make_folder, write_derived
from .box_answers import BoxAnswer, coco_json, yolo_text
from .file_stems import stem_of
from .task_answers import Answer, Source

ALL = "boxes.coco.json"
NAMES = "classes.txt"  # of YOLO's numbers, a name a line
DRAWN, LABELS = "drawn", "labels"  # folders of images with boxes over them, and of YOLO's texts


def written_boxes(
    names: Sequence[str], sources: Sequence[Source], answers: Sequence[Answer], folder: Path
) -> tuple[list[Answer], list[str]]:
    """The answers with their files on disk, and a note of where these are."""
    for place in (DRAWN, LABELS):
        make_folder(folder / place)
    found: list[Answer] = []
    taken: set[str] = set()
    for (name, source), one in zip(sources, answers, strict=True):
        if isinstance(one, BoxAnswer):
            rgb = source.convert("RGB") if isinstance(source, Image.Image) else decode(source, where=name)
            stem = stem_of(name, taken)
            files = (folder / DRAWN / f"{stem}.png", folder / LABELS / f"{stem}.txt")
            write_derived(files[0], png(drawn_boxes(np.asarray(rgb), one, names)))
            commit_text(files[1], yolo_text(one, names))
            found.append(replace(one, files=tuple(map(str, files))))
        else:
            found.append(one)
    boxes = [one for one in found if isinstance(one, BoxAnswer)]
    commit_text(folder / NAMES, "".join(f"{name}\n" for name in names))
    commit_text(folder / ALL, coco_json(boxes, names))
    told = f"{sum(len(one.boxes) for one in boxes):,} boxes in {len(boxes):,} images"
    return found, [
        f"{told} are in {folder}: over the images ({DRAWN}), as YOLO's text ({LABELS}) and as COCO's JSON ({ALL})."
    ]


def drawn_boxes(rgb_HW3: np.ndarray, answer: BoxAnswer, names: Sequence[str]) -> np.ndarray:
    """An image uint8 (h, w, 3) with the boxes of its answer, a colour a class."""
    corners = np.array([(box.left, box.top, box.right, box.bottom) for box in answer.boxes]).reshape(-1, 4)
    labels = np.array([names.index(box.label) for box in answer.boxes], np.int64)
    scale = rgb_HW3.shape[1] / answer.width
    return boxed(rgb_HW3, corners * scale, class_colours(len(names), False)[labels])
