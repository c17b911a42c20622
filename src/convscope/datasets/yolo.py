"""Boxes in the text files of YOLO: a line a box, as shares of the image's sides, one file an image."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import DataError
from ..reading import open_regular, read_regular_text
from .box_files import BoxFiles
from .part_names import parts_of_folders
from .told_boxes import Remark, ToldBoxes, ToldImages, listed_parts
from .yolo_names import keypoints_told, names_of, parts_told

MAX_BYTES = 10 * 2**20
LOOKED_AT = 60  # text files by which it is told whether a folder holds boxes
MOST = 0.8  # of them whose first line must be one of a box
SLACK = 0.5  # by which a box may reach over its image in a line that is taken for one


@dataclass(frozen=True)
class YoloFile:
    """The boxes in a file: ``classes`` int64 (n,), ``corners`` float64 (n, 4) in shares of the image's sides.

    ``lines`` int64 (n,) are where they stand, ``surer`` whether lines have a confidence, ``outlines`` whether some are
    of polygons, whose bounding boxes these are, ``points`` whether some have keypoints.
    """

    classes: np.ndarray
    corners: np.ndarray
    lines: np.ndarray
    surer: bool = False
    outlines: bool = False
    points: bool = False


def read_yolo(path: Path, keypoints: int = 0) -> YoloFile:
    """The boxes in a text file; an empty one has none. DataError with the line that is none.

    So many numbers of ``keypoints`` may stand behind a box.
    """
    rows, lines, lengths = [], [], set()
    for number, line in enumerate(_text(path).splitlines(), 1):
        words = line.split()
        if words:
            rows.append(_box(words, f"{path}, line {number}", keypoints))
            lines.append(number)
            lengths.add(len(words))
    table = np.array(rows, np.float64).reshape(-1, 5)
    outlines = max(lengths - {5 + keypoints}, default=0) > 6
    points = bool(keypoints) and 5 + keypoints in lengths
    return YoloFile(
        table[:, 0].astype(np.int64), table[:, 1:], np.array(lines, np.int64), 6 in lengths, outlines, points
    )


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"{path} is larger than {MAX_BYTES >> 20} MB, as no boxes of an image are.")
        return read_regular_text(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}.") from None


def _box(words: list[str], where: str, keypoints: int) -> tuple[float, float, float, float, float]:
    """Class, left, top, right and bottom of a line; a box may have so many numbers of ``keypoints`` behind it."""
    try:
        values = [float(word) for word in words]
    except ValueError:
        values = []
    pointed = bool(keypoints) and len(values) == 5 + keypoints
    if len(values) not in (5, 6) and not pointed and not (len(values) >= 7 and len(values) % 2):
        raise DataError(f"{where} is none of a class and a box (class x y width height), nor of a polygon.")
    if not all(map(math.isfinite, values)):
        raise DataError(f"{where} holds what is no finite number.")
    label = values[0]
    if label != int(label) or not 0 <= label < 2**31:
        raise DataError(f"{where} begins with {words[0][:40]}, which is no number of a class.")
    if len(values) > 6 and not pointed:
        return label, min(values[1::2]), min(values[2::2]), max(values[1::2]), max(values[2::2])
    x, y, width, height = values[1:5]
    return label, x - width / 2, y - height / 2, x + width / 2, y + height / 2


# ------------------------------------------------------------------------------------------------------ whole folders


def holds_yolo(files: BoxFiles, asked: bool) -> bool:
    """Whether text files tell of boxes in images: of half of them, unless it is asked for or something else says so.

    What else may say so is a folder "labels", or a list of the classes as YOLO has them. Captions are no boxes.
    """
    texts = [text for text in _texts_of(files).values() if text is not None]
    chosen = texts[:: max(1, len(texts) // LOOKED_AT)][:LOOKED_AT]
    keypoints = keypoints_told(files, texts) if texts else 0
    told = [found for text in chosen if (found := _looks_like_boxes(text, keypoints)) is not None]
    if not told or sum(told) < MOST * len(told):
        return False
    labelled = bool(_spellings(texts, files.root))
    return asked or labelled or 2 * len(texts) >= len(files.images) or names_of(files, texts) is not None


def _looks_like_boxes(text: Path, keypoints: int) -> bool | None:
    """Whether the first line of a file is one of a box within an image; None of an empty one."""
    try:
        if text.stat().st_size > MAX_BYTES:
            return False
        with open_regular(text) as raw, io.TextIOWrapper(raw, "utf-8-sig") as file:
            words = next((words for line in file if (words := line[:10_000].split())), None)
        if words is None:
            return None
        label, *corners = _box(words, str(text), keypoints)
        return words[0] == str(int(label)) and min(corners) >= -SLACK and max(corners) <= 1 + SLACK
    except (OSError, ValueError, DataError):
        return False


def _texts_of(files: BoxFiles) -> dict[Path, Path | None]:
    """The text file of each image: in labels/ in place of the last images/ in its path, else beside it."""
    texts, labels = set(files.texts), _spellings(files.texts, files.root)
    return {image: next((t for t in _places(image, files.root, labels) if t in texts), None) for image in files.images}


def _spellings(texts: Iterable[Path], root: Path) -> list[str]:
    """How the folders "labels" of text files are spelled: in small letters first, "Labels"."""
    folders = {text.parent for text in texts}
    found = {name for one in folders for name in one.relative_to(root).parts if name.lower() == "labels"}
    return sorted(found, reverse=True)


def _places(image: Path, root: Path, labels: Sequence[str]) -> list[Path]:
    beside = image.with_suffix(".txt")
    parts = beside.relative_to(root).parts
    last = max((k for k, name in enumerate(parts[:-1]) if name.lower() == "images"), default=None)
    if last is None:
        return [beside]
    return [*(root.joinpath(*parts[:last], name, *parts[last + 1 :]) for name in labels), beside]


def yolo_images(files: BoxFiles) -> ToldImages:
    """All images with their boxes, none where an image has no text file."""
    texts = _texts_of(files)
    taken = [text for text in texts.values() if text is not None]
    keypoints = keypoints_told(files, taken)
    read = {image: _read(text, keypoints) for image, text in texts.items() if text is not None}
    named = names_of(files, taken)
    found = [one for one in read.values() if isinstance(one, YoloFile)]
    if named is None:
        seen = sorted({number for one in found for number in one.classes.tolist()})
        names, source = {number: str(number) for number in seen}, None
    else:
        names, source = named
    place = {number: k for k, number in enumerate(sorted(names))}
    images = tuple(texts)
    told = tuple(_told(read.get(image, ""), texts[image], place, source) for image in images)
    given = parts_told(files, taken)
    folders = parts_of_folders(images, files.root)
    parts, part_notes = (folders, ()) if given is None else listed_parts(images, *given, folders)
    files_are = "text file is" if len(read) == 1 else "text files are"
    how = f"{len(read):,} {files_are} taken for the boxes of images, as YOLO has them"
    return ToldImages(
        tuple(names[number] for number in sorted(names)), images, told, parts, how,
        part_notes, _remarks(files, texts, read, () if named else tuple(names.values()), keypoints),
        frozenset(i for i, image in enumerate(images) if _strange(read.get(image, ""), place) is not None),
    )  # fmt: skip


def _read(text: Path, keypoints: int) -> YoloFile | str:
    try:
        return read_yolo(text, keypoints)
    except DataError as error:
        return str(error).rstrip(".")


def _told(read: YoloFile | str, text: Path | None, place: Mapping[int, int], source: Path | None) -> ToldBoxes | str:
    if text is None:
        return ToldBoxes(np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0, bool), relative=True)
    if isinstance(read, str):
        return read
    first = _strange(read, place)
    if first is not None:
        names = f"{source} names {len(place)} class{'' if len(place) == 1 else 'es'}, from {min(place, default=0)} on"
        return f"{text}, line {read.lines[first]} is of class {read.classes[first]}, and {names}"
    labels = np.array([place[number] for number in read.classes.tolist()], np.int64)
    return ToldBoxes(read.corners, labels, np.zeros(len(labels), bool), relative=True)


def _strange(read: YoloFile | str, place: Mapping[int, int]) -> int | None:
    """The first of the boxes in a file whose class has no name."""
    classes = [] if isinstance(read, str) else read.classes.tolist()
    return next((i for i, number in enumerate(classes) if number not in place), None)


def _remarks(
    files: BoxFiles,
    texts: Mapping[Path, Path | None],
    read: Mapping[Path, YoloFile | str],
    numbers: tuple[str, ...],
    keypoints: int,
) -> tuple[Remark, ...]:
    """What is said of files; ``numbers`` are the classes that nothing names."""
    taken = {text for text in texts.values() if text is not None}
    folders = {text.parent for text in taken}
    lonely = [
        files.inside(text)
        for text in files.texts
        if text not in taken and text.parent in folders and _looks_like_boxes(text, keypoints)
    ]
    one = [(image, boxes) for image, boxes in read.items() if isinstance(boxes, YoloFile)]
    return (
        Remark(
            "numbered-classes",
            numbers,
            "class is named nowhere (data.yaml, classes.txt) and is called by its number",
            "classes are named nowhere (data.yaml, classes.txt) and are called by their numbers",
        ),
        Remark(
            "without-image", tuple(lonely), "text file has no image and is ignored",
            "text files have no image and are ignored",
        ),
        Remark(
            "without-text",
            tuple(image.name for image, text in texts.items() if text is None),
            "image has no text file and so counts as one without a box",
            "images have no text file and so count as ones without a box",
        ),
        Remark(
            "confidences",
            tuple(image.name for image, boxes in one if boxes.surer),
            "image has boxes with a sixth number, a confidence, which is not read",
            "images have boxes with a sixth number, a confidence, which is not read",
        ),
        Remark(
            "polygons",
            tuple(image.name for image, boxes in one if boxes.outlines),
            "image has polygons, of which the boxes around them are taken",
            "images have polygons, of which the boxes around them are taken",
        ),
        Remark(
            "keypoints",
            tuple(image.name for image, boxes in one if boxes.points),
            "image has boxes with keypoints, which are not read",
            "images have boxes with keypoints, which are not read",
        ),
    )  # fmt: skip
