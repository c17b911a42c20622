"""Images with boxes as the doctor reads them: what a reader left out, cut or took for something becomes a finding."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from ..datasets.box_folders import BoxFolder
from ..datasets.box_loading import ReadBoxes, read_boxed
from ..datasets.boxes import Boxes
from ..datasets.folder import IMAGE_SIZE
from ..datasets.options import DatasetOptions
from ..datasets.unsplit import Unsplit
from ..errors import DataError
from .findings import STOPS, Finding, Grade, first

MANY_CUT = 0.05  # of all boxes that reach over an edge, from which one should look
MANY_WITHOUT = 0.5  # of the images that have no text file
MEND = "mend or remove them; --bad-images skip leaves them out."
# Each kind of remark with its grade and the next step.
KINDS: dict[str, tuple[Grade, str]] = {
    "unreadable-images": ("fault", MEND),
    "unreadable-boxes": ("fault", MEND),
    "class-unnamed": ("fault", "name each class where the others are named, or mend the numbers."),
    "box-shape": ("doubt", "they were cut, turned or mixed up: draw the boxes again on these images."),
    "flat-boxes": ("doubt", "remove them, or draw them again: a click without a drag leaves such boxes."),
    "boxes-outside": ("doubt", "look whether they are of another image, or of this one at another size."),
    "boxes-cut": ("note", ""),
    "not-voc": ("doubt", "look whether they were meant as annotations, or move them away."),
    "without-image": ("doubt", "add the images, or remove what is told of them."),
    "without-boxes": ("doubt", "annotate them, with no object where there is none, or move them away."),
    "without-text": ("note", "an empty text file says that nothing is there."),
    "numbered-classes": ("doubt", "list their names in data.yaml or classes.txt."),
    "confidences": ("doubt", "a network has drawn them, as it seems: look whether anybody has checked them."),
    "polygons": ("note", ""),
    "keypoints": ("note", ""),
    "other-annotations": ("note", ""),
}


def read_boxes(root: Path, found: BoxFolder, options: DatasetOptions) -> tuple[Unsplit, tuple[Finding, ...]]:
    """The images with their boxes and what is to be said of the reading; without boxes where training would refuse."""
    try:
        read = read_boxed(root, found, options.source(), skip=True, progress=options.progress)
    except DataError as error:
        count = len(found.files.images)
        unsplit = Unsplit(
            root.resolve().name or str(root), ("image",), np.zeros(count, np.int64), np.full(count, "", "U5"),
            IMAGE_SIZE, files=found.files.images, root=root,
        )  # fmt: skip
        return unsplit, (Finding("refused", "fault", str(error), 1, STOPS),)
    return read.unsplit, tuple(_findings(read))


def _findings(read: ReadBoxes) -> Iterator[Finding]:
    boxes = read.unsplit.targets
    assert isinstance(boxes, Boxes)
    limits = {
        "boxes-cut": (MANY_CUT * sum(map(len, boxes.boxes)), "look whether they were drawn at another size."),
        "without-text": (MANY_WITHOUT * len(boxes), "look whether they were annotated at all."),
    }
    for remark in read.remarks:
        for sentence in remark.note:
            grade, advice = KINDS[remark.kind]
            count = len(remark.names)
            if remark.kind in limits and count > limits[remark.kind][0]:
                grade, advice = "doubt", limits[remark.kind][1]
            yield Finding(remark.kind, grade, sentence, count, advice, first(_once(remark.names)))


def _once(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
