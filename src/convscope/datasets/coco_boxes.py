"""Boxes in the JSON of COCO: one file for all images, or one for each part."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError
from ..visible import visible
from .box_files import BoxFiles
from .coco_files import MAX_BYTES, OUTLINED, counted_images, named_image, read_coco_json
from .part_names import likely_part, parts_of_folders, plain_part
from .told_boxes import Remark, ToldBoxes, ToldImages, by_name

KEYS = ("images", "annotations", "categories", "bbox")
KEPT = ("images", "annotations", "categories", "id", "file_name", "width", "height", "name", "supercategory")
NOWHERE = -1  # in the place of a label, of a class that is not listed
NAMED = re.compile(rb'"file_name"\s*:\s*"((?:[^"\\]|\\.){1,4096})"')


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


def coco_files(files: BoxFiles, asked: bool) -> tuple[Path, ...]:
    """The JSON files that tell of boxes in images that are there; of outlines too only if boxes are asked for."""
    there = {image.name for image in files.images}
    return tuple(path for path in files.jsons if _tells(path, there, asked))


def _tells(path: Path, there: set[str], asked: bool) -> bool:
    try:
        if path.stat().st_size > MAX_BYTES:
            return False
        text = path.read_bytes()
    except OSError:
        return False
    if not all(f'"{key}"'.encode() in text for key in KEYS) or (
        not asked and re.search(OUTLINED.pattern.encode(), text)
    ):
        return False
    return any(_last(_unescaped(match[1])) in there for match in NAMED.finditer(text))


def _unescaped(name: bytes) -> str:
    """A text between quotes in JSON."""
    try:
        return str(json.loads(b'"' + name + b'"'))
    except ValueError:
        return ""


def _last(name: str) -> str:
    return name.replace("\\", "/").rsplit("/", 1)[-1]


def coco_images(files: BoxFiles, paths: Sequence[Path]) -> ToldImages:
    """The images that COCO files list, with their boxes. DataError where that is no one image."""
    read = [read_coco_boxes(path) for path in paths]
    names = tuple(dict.fromkeys(name for one in read for name in one.names))
    where = " and ".join(files.inside(path) for path in paths[:3]) + (" and others" if len(paths) > 3 else "")
    there = by_name(files.images)
    told: dict[Path, tuple[ToldBoxes | str, str]] = {}
    gone, unnamed = [], set()
    for path, one in zip(paths, read, strict=True):
        place = np.array([names.index(name) for name in one.names], np.int64)
        part = _part(path, files.root)
        for name, boxes in one.images.items():
            image = _image(path, part, name, there)
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
    bare = [files.inside(image) for image in files.images if image not in told]
    remarks = (
        Remark(
            "without-image",
            tuple(gone),
            f"image that {where} names is not there",
            f"images that {where} names are not there",
        ),
        Remark(
            "without-boxes",
            tuple(bare),
            f"image is not listed in {where} and is left out",
            f"images are not listed in {where} and are left out",
        ),
    )
    return ToldImages(
        names, images, tuple(told[image][0] for image in images),
        _parts(images, [told[image][1] for image in images], files.root),
        f"{where} {'is' if len(paths) == 1 else 'are'} taken for the boxes of {counted_images(len(images))}",
        (), remarks, frozenset(i for i, image in enumerate(images) if image in unnamed),
    )  # fmt: skip


def _renumbered(boxes: ToldBoxes | str, place: np.ndarray) -> ToldBoxes | str:
    return boxes if isinstance(boxes, str) else replace(boxes, labels=place[boxes.labels])


def _image(path: Path, part: str, name: str, there: dict[str, list[Path]]) -> Path | None:
    """The image of a name: under the file's own folder or in a folder of its part, where it is in several."""
    plain = name.replace("\\", "/")
    likely = there.get(_last(plain), [])
    for choice in (
        lambda image: image.is_relative_to(path.parent),
        lambda image: bool(part) and part in map(plain_part, image.parts[:-1]),
    ):
        if len(likely) > 1:
            likely = list(filter(choice, likely)) or likely
    return named_image(plain, likely, str(path))


def _part(path: Path, root: Path) -> str:
    """The part that the folders of a file tell, or its name: instances_train2017.json."""
    folders = path.relative_to(root).parts[:-1] if path.is_relative_to(root) else ()
    return next(filter(None, map(plain_part, folders)), None) or likely_part(path.stem) or ""


def _parts(images: Sequence[Path], told: Sequence[str], root: Path) -> np.ndarray:
    """The part of each image by its file, else by its folders; none where all have the same."""
    folders = parts_of_folders(images, root)
    found = [part or str(folder) for part, folder in zip(told, folders, strict=True)]
    return np.array(found if len(set(found)) > 1 else [""] * len(found), "U5")
