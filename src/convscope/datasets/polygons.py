"""Masks as outlines of objects, in the JSON of COCO: polygons, or run lengths of whole masks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..errors import DataError
from ..images.headers import Header
from ..images.upright import TURNS
from .coco_files import read_coco_json

BACKGROUND = "background"
FAR = 1e7  # pixels beyond which a corner may as well lie there: no image is as large, and squares stay finite
BACKGROUNDS = (BACKGROUND, "bg", "_background_")  # as people call it


def is_background(name: str) -> bool:
    """Whether a class of masks is what is behind all objects."""
    return name.casefold() in BACKGROUNDS


def has_background(names: Sequence[str]) -> bool:
    """Whether the first class of masks is the background."""
    return is_background(names[0])


@dataclass(frozen=True)
class Outline:
    """One object: its class, from 1 on, and its polygons (x, y, x, y, ...) or run lengths, in pixels of the image."""

    label: int
    polygons: tuple[tuple[float, ...], ...] = ()
    runs: tuple[int, ...] = ()
    area: float = 0.0


@dataclass(frozen=True)
class Outlines:
    """The objects in an image of ``size`` (width, height) as the file says."""

    size: tuple[int, int]
    objects: tuple[Outline, ...]


def read_coco(path: Path) -> tuple[tuple[str, ...], dict[str, Outlines]]:
    """Names of the classes, background first, and the objects in each image by its file name. DataError otherwise."""
    data = read_coco_json(path, "masks")
    try:
        categories = sorted(data["categories"], key=lambda row: row["id"])
        number = {row["id"]: i for i, row in enumerate(categories, 1)}
        names = (BACKGROUND, *(str(row["name"]) for row in categories))
        images = {row["id"]: row for row in data["images"]}
        objects: dict[Any, list[Outline]] = {key: [] for key in images}
        for row in data["annotations"]:
            if row["image_id"] not in images or row["category_id"] not in number:
                raise DataError(f"{path}: annotation {row.get('id')} is of an image or a class that is not listed.")
            objects[row["image_id"]].append(_outline(path, row, number[row["category_id"]]))
        found = {
            str(row["file_name"]): Outlines((int(row["width"]), int(row["height"])), tuple(objects[key]))
            for key, row in images.items()
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path} is no COCO file of masks: {type(error).__name__} {error}.") from None
    if len(set(names)) < len(names):
        raise DataError(f"{path} names two classes alike; each needs its own name.")
    return names, found


def draw_outlines(outlines: Outlines, header: Header) -> np.ndarray:
    """The mask of an image, upright: uint8 (h, w), 0 where there is no object; small objects lie on large ones.

    Outlines are drawn on the pixels as they are stored if their size says so, and turn with the image.
    """
    width, height = outlines.size
    mask = np.zeros((height, width), np.uint8)
    for one in sorted(outlines.objects, key=lambda one: -one.area):
        if one.runs:
            mask[_of_runs(one.runs, outlines.size)] = one.label
        for polygon in one.polygons:
            _fill(mask, polygon, one.label)
    turn = TURNS.get(header.orientation)
    if turn is not None and outlines.size == (header.width, header.height):
        return np.asarray(Image.fromarray(mask).transpose(turn))
    return mask


def _fill(mask_HW: np.ndarray, polygon: tuple[float, ...], label: int) -> None:
    """Give the pixels whose centres lie within a polygon its label; pixel (0, 0) has its centre at (0.5, 0.5).

    Each edge turns over all that lies to its right in the rows whose centres it crosses: what is turned over an odd
    number of times is within.
    """
    height, width = mask_HW.shape
    points = np.array(polygon).reshape(-1, 2)
    turned = np.zeros((height, width + 1), np.int64)
    for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, 0), strict=True):
        low, high = sorted((y0, y1))
        rows = np.arange(max(0, math.ceil(low - 0.5)), min(height, math.ceil(high - 0.5)))
        if len(rows):
            crossed = x0 + (rows + 0.5 - y0) * (x1 - x0) / (y1 - y0)
            turned[rows, np.clip(np.ceil(crossed - 0.5), 0, width).astype(np.int64)] += 1
    mask_HW[np.cumsum(turned, 1)[:, :width] % 2 == 1] = label


def _outline(path: Path, row: dict[str, Any], label: int) -> Outline:
    told = row["segmentation"]
    if isinstance(told, dict):
        if isinstance(told["counts"], str):
            raise DataError(
                f"{path}: annotation {row.get('id')} has compressed run lengths, which are not read: save polygons or "
                "uncompressed ones."
            )
        runs = tuple(int(n) for n in told["counts"])
        return Outline(label, runs=runs, area=float(sum(runs[1::2])))
    polygons = tuple(tuple(float(v) for v in polygon) for polygon in told)
    if any(len(polygon) < 6 or len(polygon) % 2 for polygon in polygons):
        raise DataError(f"{path}: annotation {row.get('id')} has a polygon of fewer than three points.")
    if not all(math.isfinite(value) for polygon in polygons for value in polygon):
        raise DataError(f"{path}: annotation {row.get('id')} has a corner that is no finite number.")
    polygons = tuple(tuple(max(-FAR, min(FAR, value)) for value in polygon) for polygon in polygons)
    return Outline(label, polygons, area=sum(map(_area, polygons)))


def _area(polygon: tuple[float, ...]) -> float:
    x, y = np.array(polygon[::2]), np.array(polygon[1::2])
    return 0.5 * abs(float(x @ np.roll(y, 1) - y @ np.roll(x, 1)))


def _of_runs(runs: tuple[int, ...], size: tuple[int, int]) -> np.ndarray:
    """Run lengths down the columns, beginning with what is not the object, as bool (h, w)."""
    width, height = size
    if sum(runs) != width * height or min(runs) < 0:
        raise DataError(f"lengths of {sum(runs):,} pixels are of no image of {width} x {height}.")
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height).T
