"""The images that have boxes, as a loader returns them: their parts, their groups, and boxes in upright pixels."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ..errors import DataError, ImageError
from ..images.decoding import read_header
from ..images.headers import Header
from ..progress import Progress
from ..recipes import Source
from .box_folders import BoxFolder
from .boxes import Boxes, ImageBoxes
from .folder import IMAGE_SIZE
from .packing import BLOCK, THREADS
from .patterns import groups_of_paths
from .told_boxes import PlacedBoxes, Remark, ToldBoxes, ToldImages, placed
from .unsplit import Unsplit

SHOWN = 5
HARD = {  # why an image cannot be used, of one and of several
    "unreadable-images": ("it cannot be read", "they cannot be read"),
    "unreadable-boxes": ("its boxes cannot be read", "their boxes cannot be read"),
    "class-unnamed": ("the class of a box has no name", "the class of a box has no name"),
}


@dataclass
class _Found:
    """What is known of the images once their headers were read; each list is of file names with what is meant.

    ``hard`` are the images that cannot be used, with the kind of what stands in the way.
    """

    kept: list[int] = field(default_factory=list)
    boxes: list[ImageBoxes] = field(default_factory=list)
    hard: list[tuple[str, str]] = field(default_factory=list)
    shapes: list[str] = field(default_factory=list)
    flat: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    cut: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class ReadBoxes:
    """The images that have boxes, and all that was left out, cut or taken for something on the way."""

    unsplit: Unsplit
    remarks: tuple[Remark, ...]


def load_boxed(
    root: Path, found: BoxFolder, source: Source | None = None, skip: bool = False, progress: Progress | None = None
) -> Unsplit:
    """The images with their boxes as targets, their parts as the files or folders say, and what was left out as notes.

    Images whose boxes or header cannot be read are left out if ``skip``, else DataError names them.
    """
    read = read_boxed(root, found, source, skip, progress)
    notes = (note for remark in read.remarks for note in remark.note)
    return replace(read.unsplit, notes=(*read.unsplit.notes, *notes))


def read_boxed(
    root: Path, found: BoxFolder, source: Source | None = None, skip: bool = False, progress: Progress | None = None
) -> ReadBoxes:
    """The same, with what was left out by kind and by name in place of these notes. DataError as `load_boxed`."""
    told = found.read()
    usable = _usable(told, progress)
    hard = [words for _, words in usable.hard]
    if hard and not skip:
        more = f"; and {len(hard) - SHOWN} more" if len(hard) > SHOWN else ""
        raise DataError(
            f"{len(hard)} of {len(told.images)} images with boxes cannot be used: {'; '.join(hard[:SHOWN])}{more}. "
            "Mend or remove them; transfer leaves them out with --bad-images skip."
        )
    if not any(len(one) for one in usable.boxes):
        why = next(iter(hard + usable.shapes), "all files are empty")
        raise DataError(f"none of the {len(told.images)} images of {root} has a box that can be used: {why}.")
    images = tuple(told.images[i] for i in usable.kept)
    paths = [path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name for path in images]
    unsplit = Unsplit(
        name=root.resolve().name or str(root),
        class_names=("image",),
        labels=np.zeros(len(images), np.int64),
        given=told.parts[usable.kept],
        image_size=IMAGE_SIZE,
        files=images,
        root=root,
        notes=(f"{told.how}.", *told.notes),
        groups=None if source is None or source.group is None else groups_of_paths(paths, source.group),
        targets=Boxes(told.names, tuple(usable.boxes)),
    )
    return ReadBoxes(unsplit, (*told.remarks, *_remarks(usable)))


def _usable(told: ToldImages, progress: Progress | None) -> _Found:
    """Place the boxes of each image, whose header is read once."""
    found = _Found()
    with ThreadPoolExecutor(THREADS) as pool:
        for start in range(0, len(told.images), BLOCK):
            block = told.images[start : start + BLOCK]
            for i, header in enumerate(pool.map(_header, block), start):
                _add(found, told, i, header)
            if progress:
                progress("boxes", start + len(block), len(told.images))
    return found


def _header(image: Path) -> Header | str:
    try:
        return read_header(image)
    except ImageError as error:
        return str(error).rstrip(".")


def _add(found: _Found, told: ToldImages, i: int, header: Header | str) -> None:
    boxes, image = told.told[i], told.images[i]
    if isinstance(boxes, str) or isinstance(header, str):
        kind = "unreadable-boxes" if isinstance(boxes, str) else "unreadable-images"
        words = boxes if isinstance(boxes, str) else str(header)
        found.hard.append(("class-unnamed" if i in told.unnamed else kind, words))
        return
    here = placed(boxes, header)
    if here is None:
        found.shapes.append(f"{image.name} ({_sizes(boxes, header)})")
        return
    found.kept.append(i)
    found.boxes.append(here.boxes)
    _count(found, told.names, image.name, here)


def _sizes(boxes: ToldBoxes, header: Header) -> str:
    told, upright = boxes.size or (0, 0), header.upright_size
    return f"{told[0]} x {told[1]}, and the image is {upright[0]} x {upright[1]}"


def _count(found: _Found, names: Sequence[str], image: str, here: PlacedBoxes) -> None:
    for place, labels in ((found.flat, here.flat), (found.outside, here.outside), (found.cut, here.cut)):
        place += [f"{image} ({names[label]})" for label in labels.tolist()]


def _remarks(found: _Found) -> tuple[Remark, ...]:
    """What was left out or cut, by kind."""
    hard: dict[str, list[str]] = {}
    for kind, words in found.hard:
        hard.setdefault(kind, []).append(words)
    return (
        *(
            Remark(
                kind, tuple(words), f"image is left out, for {why[0]}", f"images are left out, for {why[1]}"
            )
            for kind, why in HARD.items()
            if (words := hard.get(kind))
        ),
        Remark(
            "box-shape", tuple(found.shapes), "image is left out, for its boxes are of an image of another shape",
            "images are left out, for their boxes are of images of another shape",
        ),
        Remark(
            "flat-boxes", tuple(found.flat), "box has no width or height and is left out",
            "boxes have no width or height and are left out",
        ),
        Remark(
            "boxes-outside", tuple(found.outside), "box lies outside its image and is left out",
            "boxes lie outside their images and are left out",
        ),
        Remark(
            "boxes-cut", tuple(found.cut), "box reaches over the edge of its image and is cut there",
            "boxes reach over the edges of their images and are cut there",
        ),
    )  # fmt: skip
