"""Boxes in the JSON of COCO: one file for all images, or one for each part."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DamagedFile, DataError
from ..reading import read_regular
from ..visible import visible
from .box_files import BoxFiles
from .coco_files import MAX_BYTES, OUTLINED, counted_images, read_coco_json
from .part_names import likely_part, parts_of_folders, plain_part
from .told_boxes import Remark, ToldBoxes, ToldImages
from .told_names import ToldNames

KEYS = ("images", "annotations", "categories", "bbox")
KEPT = ("images", "annotations", "categories", "id", "file_name", "width", "height", "name", "supercategory")
NOWHERE = -1  # in the place of a label, of a class that is not listed
NAMED = re.compile(rb'"file_name"\s*:\s*"((?:[^"\\]|\\.){1,4096})"')
POINTS = re.compile(rb'"keypoints"\s*:\s*\[\s*-?\d')  # of an annotation; those of a class are names
CALLED = re.compile(r"^(_annotations\.coco|instances_.*)\.json$", re.IGNORECASE)
FOLDERS = re.compile(r"^annotations?$", re.IGNORECASE)


@dataclass(frozen=True)
class CocoFile:
    """The classes that a file names, and the boxes in each image by its file name, or why these cannot be used.

    ``unnamed`` are the images with a box whose class is not listed.
    """

    names: tuple[str, ...]
    images: dict[str, ToldBoxes | str]
    unnamed: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class _Row:
    """What is kept of an annotation."""

    image: Any
    category: Any
    box: Any
    crowd: Any
    number: Any


def _kept(found: dict[str, Any]) -> Any:
    """What is kept of an object in the file, as soon as it is read: outlines may be most of it."""
    if "image_id" in found and "category_id" in found:
        box = found.get("bbox")
        return _Row(
            found["image_id"], found["category_id"], tuple(box) if isinstance(box, list) else box,
            found.get("iscrowd", 0), found.get("id"),
        )  # fmt: skip
    return {key: found[key] for key in KEPT if key in found}


def read_coco_boxes(path: Path) -> CocoFile:
    """Names of the classes by their numbers, and the boxes in each image. DataError where it is no such file."""
    data = read_coco_json(path, "boxes", _kept)
    try:
        rows, images = data["annotations"], data["images"]
        if not all(isinstance(row, _Row) for row in rows):
            raise DataError(f"{path} has an annotation that names no image_id or no category_id.")
        place = {row["id"]: k for k, row in enumerate(images)}
        if min(len(place), len({row["file_name"] for row in images})) < len(images):
            raise DataError(f"{path} lists an image twice, by its number or its file name.")
        names, label = _classes(path, data["categories"], {row.category for row in rows})
        unknown = next((row for row in rows if row.image not in place), None)
        if unknown is not None:
            raise DataError(f"{path}: annotation {unknown.number} is of an image that is not listed.")
        of = np.array([place[row.image] for row in rows], np.int64)
        labels = np.array([label.get(row.category, NOWHERE) for row in rows], np.int64)
        crowd = np.array([row.crowd == 1 for row in rows], bool)
        corners, faults = _corners(path, rows)
        strange = np.flatnonzero(labels == NOWHERE).tolist()
        faults |= {i: f"{path}: annotation {rows[i].number} is of class {_said(rows[i].category)}, which is not listed"
                   for i in strange}  # fmt: skip
        order = np.argsort(of, kind="stable")
        ends = np.searchsorted(of[order], np.arange(len(images) + 1))
        found: dict[str, ToldBoxes | str] = {}
        for k, row in enumerate(images):
            mine = order[ends[k] : ends[k + 1]]
            fault = next((faults[i] for i in mine.tolist() if i in faults), None)
            found[str(row["file_name"])] = fault or ToldBoxes(corners[mine], labels[mine], crowd[mine], _size(row))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise DataError(f"{path} is no COCO file of boxes: {type(error).__name__} {error}.") from None
    return CocoFile(names, found, frozenset(str(images[of[i]]["file_name"]) for i in strange))


def _classes(path: Path, rows: list[dict[str, Any]], used: set[Any]) -> tuple[tuple[str, ...], dict[Any, int]]:
    """Names, and the place among them of each number; without a class that only stands above all the others."""
    rows = sorted(rows, key=lambda row: row["id"])
    for top in rows:
        others = {row.get("supercategory") for row in rows if row is not top}
        if len(rows) > 1 and top["id"] not in used and others == {top["name"]}:
            rows = [row for row in rows if row is not top]
            break
    names = tuple(visible(str(row["name"]).strip()) for row in rows)
    if not names or not all(names):
        raise DataError(f"{path} names no classes, or one without a name.")
    if len(set(names)) < len(names):
        raise DataError(f"{path} names two classes alike; each needs its own name.")
    return names, {row["id"]: k for k, row in enumerate(rows)}


def _said(category: Any) -> str:
    return visible(str(category)[:40])


def _corners(path: Path, rows: Sequence[_Row]) -> tuple[np.ndarray, dict[int, str]]:
    """Left, top, right and bottom of each annotation, float64 (n, 4), and why some have none."""
    corners, faults = np.zeros((len(rows), 4)), {}
    for i, row in enumerate(rows):
        box = row.box
        if isinstance(box, tuple) and len(box) == 4 and all(_is_number(value) for value in box):
            corners[i] = box
        else:
            faults[i] = f"{path}: annotation {row.number} has no box of four finite numbers"
    with np.errstate(over="ignore"):
        corners[:, 2:] += corners[:, :2]
    return corners, faults


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e300 and math.isfinite(value)


def _size(row: dict[str, Any]) -> tuple[int, int] | None:
    width, height = (row.get(side) or 0 for side in ("width", "height"))
    return (round(width), round(height)) if 1 <= width < 2**31 and 1 <= height < 2**31 else None


# ------------------------------------------------------------------------------------------------------ whole folders


@dataclass(frozen=True)
class CocoFound:
    """The files whose boxes are read, and those beside them of keypoints or captions, which are not."""

    used: tuple[Path, ...] = ()
    left: tuple[Path, ...] = ()


@dataclass(frozen=True)
class _Teller:
    """A file that tells of boxes: the names of images in it that are there, and whether it tells of keypoints too."""

    path: Path
    names: frozenset[str]
    points: bool


def coco_files(files: BoxFiles, asked: bool) -> CocoFound:
    """The JSON files that tell of boxes in images that are there; of outlines too only if boxes are asked for.

    Of half of the images, unless it is asked for or the name of a file or its folder says so. Of two files in a folder
    that tell of an image one with keypoints is left.
    """
    if not files.jsons:
        return CocoFound()
    there = {image.name for image in files.images}
    tellers = [teller for path in files.jsons if (teller := _teller(path, there, asked)) is not None]
    named = {name for teller in tellers for name in teller.names}
    many = sum(image.name in named for image in files.images)
    called = any(CALLED.match(teller.path.name) or FOLDERS.match(teller.path.parent.name) for teller in tellers)
    if not (asked or files.named or called or 2 * many >= len(files.images)):
        return CocoFound()
    plain = [teller for teller in tellers if not teller.points]
    left = [teller.path for teller in tellers if teller.points and any(_beside(teller, other) for other in plain)]
    used = tuple(teller.path for teller in tellers if teller.path not in left)
    captions = [path for path in files.jsons if path not in used and path.name.startswith("captions_")]
    return CocoFound(used, tuple(sorted({*left, *captions})))


def _beside(teller: _Teller, other: _Teller) -> bool:
    return teller.path.parent == other.path.parent and not teller.names.isdisjoint(other.names)


def _teller(path: Path, there: set[str], asked: bool) -> _Teller | None:
    try:
        if path.stat().st_size > MAX_BYTES:
            return None
        text = read_regular(path)
    except (OSError, DamagedFile):
        return None
    if not all(f'"{key}"'.encode() in text for key in KEYS) or (
        not asked and re.search(OUTLINED.pattern.encode(), text)
    ):
        return None
    names = there & {_last(_unescaped(match[1])) for match in NAMED.finditer(text)}
    return _Teller(path, frozenset(names), POINTS.search(text) is not None) if names else None


def _unescaped(name: bytes) -> str:
    """A text between quotes in JSON."""
    try:
        return str(json.loads(b'"' + name + b'"'))
    except ValueError:
        return ""


def _last(name: str) -> str:
    return name.replace("\\", "/").rsplit("/", 1)[-1]


def coco_images(files: BoxFiles, coco: CocoFound) -> ToldImages:
    """The images that COCO files list, with their boxes. DataError where that is no one image."""
    paths = coco.used
    read = [read_coco_boxes(path) for path in paths]
    names = tuple(dict.fromkeys(name for one in read for name in one.names))
    where = " and ".join(files.inside(path) for path in paths[:3]) + (" and others" if len(paths) > 3 else "")
    there = ToldNames(files.images, files.root)
    told: dict[Path, tuple[ToldBoxes | str, str]] = {}
    gone, unnamed = [], set()
    for path, one in zip(paths, read, strict=True):
        place = np.array([names.index(name) for name in one.names], np.int64)
        part = _part(path, files.root)
        for name, boxes in one.images.items():
            image = there.find(path, part, name)
            if image in told:
                raise DataError(f"{where} tell of {image} twice: remove one, or name the file that is meant.")
            if image is None:
                gone.append(visible(name))
                continue
            told[image] = (_renumbered(boxes, place), part)
            unnamed |= {image} if name in one.unnamed else set()
    if not told:
        raise DataError(f"{where} names {counted_images(len(gone))}, and none of them is in {files.root}.")
    images = tuple(sorted(told))
    return ToldImages(
        names, images, tuple(told[image][0] for image in images),
        _parts(images, [told[image][1] for image in images], files.root),
        f"{where} {'is' if len(paths) == 1 else 'are'} taken for the boxes of {counted_images(len(images))}",
        (), _remarks(files, coco.left, where, gone, set(told)),
        frozenset(i for i, image in enumerate(images) if image in unnamed),
    )  # fmt: skip


def _renumbered(boxes: ToldBoxes | str, place: np.ndarray) -> ToldBoxes | str:
    return boxes if isinstance(boxes, str) else replace(boxes, labels=place[boxes.labels])


def _remarks(
    files: BoxFiles, left: Sequence[Path], where: str, gone: Sequence[str], told: Collection[Path]
) -> tuple[Remark, ...]:
    return (
        Remark(
            "other-annotations",
            tuple(map(files.inside, left)),
            "file of keypoints or captions is not read",
            "files of keypoints or captions are not read",
        ),
        Remark(
            "without-image",
            tuple(gone),
            f"image that {where} names is not there",
            f"images that {where} names are not there",
        ),
        Remark(
            "without-boxes",
            tuple(files.inside(image) for image in files.images if image not in told),
            f"image is not listed in {where} and is left out",
            f"images are not listed in {where} and are left out",
        ),
    )


def _part(path: Path, root: Path) -> str:
    """The part that the folders of a file tell, or its name: instances_train2017.json."""
    folders = path.relative_to(root).parts[:-1] if path.is_relative_to(root) else ()
    return next(filter(None, map(plain_part, folders)), None) or likely_part(path.stem) or ""


def _parts(images: Sequence[Path], told: Sequence[str], root: Path) -> np.ndarray:
    """The part of each image by its file, else by its folders; none where all have the same."""
    folders = parts_of_folders(images, root)
    found = [part or str(folder) for part, folder in zip(told, folders, strict=True)]
    return np.array(found if len(set(found)) > 1 else [""] * len(found), "U5")
