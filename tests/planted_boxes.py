"""Images with rectangles of known places, written with the boxes of these as VOC, as YOLO and as COCO have them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
from PIL import Image

from convscope.datasets.asked import find_asked
from convscope.datasets.options import DatasetOptions
from convscope.datasets.unsplit import Unsplit
from convscope.images.upright import TURNS

NAMES = ("ant", "bee", "wasp")  # in the order of the alphabet, in which VOC's come
BACK = {6: 8, 8: 6}  # what turns an upright image as it is stored: all others undo themselves
Box = tuple[str, float, float, float, float]  # class, left, top, right, bottom in pixels of the upright image


@dataclass(frozen=True)
class Planted:
    """An image of ``size`` (width, height), upright, with its boxes; ``crowd`` are places among these."""

    name: str
    size: tuple[int, int] = (60, 40)
    boxes: tuple[Box, ...] = ()
    crowd: tuple[int, ...] = ()
    part: str = ""
    orientation: int = 1
    told: tuple[int, int] | None = None  # the size that the annotation gives, where it is another one

    @property
    def said(self) -> tuple[int, int]:
        return self.told or self.size


def planted(count: int = 6, seed: int = 0, parts: Sequence[str] = ("",)) -> list[Planted]:
    """Images with none to four boxes of places that are no whole pixels; every fourth is without any."""
    random = np.random.default_rng(seed)
    made = []
    for i in range(count):
        width, height = random.integers(30, 90, 2).tolist()
        boxes = []
        for k in range(i % 4):
            x, y = random.uniform(0, 0.5, 2) * (width, height)
            w, h = random.uniform(0.1, 0.5, 2) * (width, height)
            boxes.append((NAMES[(i + k) % 3], float(x), float(y), float(x + w), float(y + h)))
        made.append(Planted(f"image {i}.7", (width, height), tuple(boxes), part=parts[i % len(parts)]))
    return made


def stored(upright: Image.Image, orientation: int) -> Image.Image:
    """An upright image as a file holds it whose EXIF orientation is this one."""
    turn = TURNS.get(BACK.get(orientation, orientation))
    return upright if turn is None else upright.transpose(turn)


def photograph(path: Path, one: Planted) -> None:
    """A file of the image: grey noise, each box in one colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(len(one.name) + sum(one.name.encode()))
    pixels = random.integers(0, 256, (one.size[1], one.size[0], 3), dtype=np.uint8)
    for _, left, top, right, bottom in one.boxes:
        pixels[round(top) : round(bottom), round(left) : round(right)] = (250, 30, 30)
    exif = Image.Exif()
    exif[0x0112] = one.orientation
    stored(Image.fromarray(pixels), one.orientation).save(path, quality=95, exif=exif)


def voc_text(one: Planted, database: str = "Unknown", filename: str = "") -> str:
    """The XML of VOC."""
    objects = "".join(
        f"<object><name>{escape(name)}</name><difficult>{int(k in one.crowd)}</difficult><bndbox>"
        f"<xmin>{left!r}</xmin><ymin>{top!r}</ymin><xmax>{right!r}</xmax><ymax>{bottom!r}</ymax></bndbox></object>"
        for k, (name, left, top, right, bottom) in enumerate(one.boxes)
    )
    width, height = one.said
    return (
        f"<annotation><filename>{escape(filename or one.name)}</filename><source><database>{database}</database>"
        f"</source><size><width>{width}</width><height>{height}</height><depth>3</depth></size>{objects}</annotation>"
    )


def as_voc(root: Path, images: Sequence[Planted]) -> Path:
    """``JPEGImages``, ``Annotations`` and, where parts are told, ``ImageSets/Main``."""
    (root / "Annotations").mkdir(parents=True)
    for one in images:
        photograph(root / "JPEGImages" / f"{one.name}.jpg", one)
        (root / "Annotations" / f"{one.name}.xml").write_text(voc_text(one), encoding="utf-8")
    for part in {one.part for one in images} - {""}:
        (root / "ImageSets" / "Main").mkdir(parents=True, exist_ok=True)
        names = [one.name for one in images if one.part == part]
        (root / "ImageSets" / "Main" / f"{part}.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    return root


def yolo_text(one: Planted, names: Sequence[str] = NAMES) -> str:
    """The lines of YOLO."""
    width, height = one.size
    rows = [
        (names.index(name), (left + right) / 2 / width, (top + bottom) / 2 / height, (right - left) / width,
         (bottom - top) / height)
        for name, left, top, right, bottom in one.boxes
    ]  # fmt: skip
    return "".join(f"{' '.join(map(repr, row))}\n" for row in rows)


def as_yolo(root: Path, images: Sequence[Planted]) -> Path:
    """``images`` and ``labels``, with folders of parts in them, and ``data.yaml``."""
    for one in images:
        photograph(root / "images" / one.part / f"{one.name}.jpg", one)
        (root / "labels" / one.part).mkdir(parents=True, exist_ok=True)
        if one.boxes:
            (root / "labels" / one.part / f"{one.name}.txt").write_text(yolo_text(one), encoding="utf-8")
    parts = "".join(f"{part}: images/{part}\n" for part in sorted({one.part for one in images} - {""}))
    (root / "data.yaml").write_text(f"{parts}names: [{', '.join(NAMES)}]\n", encoding="utf-8")
    return root


def coco_values(images: Sequence[Planted], names: Sequence[str] = NAMES) -> dict[str, list[dict[str, object]]]:
    """What a COCO file holds; categories count from 0 and leave out numbers."""
    rows = [
        {"id": 100 * i + k, "image_id": i, "category_id": 3 * names.index(name), "iscrowd": int(k in one.crowd),
         "bbox": [left, top, right - left, bottom - top]}
        for i, one in enumerate(images)
        for k, (name, left, top, right, bottom) in enumerate(one.boxes)
    ]  # fmt: skip
    listed = [
        {"id": i, "file_name": f"{one.name}.jpg", "width": one.said[0], "height": one.said[1]}
        for i, one in enumerate(images)
    ]
    return {
        "images": listed,
        "annotations": rows,
        "categories": [{"id": 3 * k, "name": name} for k, name in enumerate(names)],
    }


def as_coco(root: Path, images: Sequence[Planted]) -> Path:
    """``images``, and ``annotations/instances_PART.json`` a part."""
    (root / "annotations").mkdir(parents=True)
    for one in images:
        photograph(root / "images" / f"{one.name}.jpg", one)
    for part in {one.part for one in images}:
        values = coco_values([one for one in images if one.part == part])
        (root / "annotations" / f"instances_{part}2017.json").write_text(json.dumps(values), encoding="utf-8")
    return root


FORMS: dict[str, Callable[[Path, Sequence[Planted]], Path]] = {"voc": as_voc, "yolo": as_yolo, "coco": as_coco}


def read(root: Path, task: str | None = None, **options: object) -> Unsplit:
    """What is found there, which must be boxes."""
    found = find_asked(str(root), DatasetOptions(**options), task, None)
    assert found is not None
    assert found.targets is not None
    assert found.targets.task == "detection"
    return found


def told(found: Unsplit) -> dict[str, list[tuple[str, float, float, float, float, bool]]]:
    """Class, corners and crowd of each box, as they stand, by the name of the image's file."""
    rows = {}
    for path, one in zip(found.files, found.targets.boxes, strict=True):
        boxes = zip(one.labels.tolist(), one.corners.tolist(), one.crowd.tolist(), strict=True)
        rows[path.stem] = [(found.targets.names[label], *corners, crowd) for label, corners, crowd in boxes]
    return rows


def wanted(images: Sequence[Planted]) -> dict[str, list[tuple[str, float, float, float, float, bool]]]:
    """The same of what was planted."""
    return {one.name: [(*box, k in one.crowd) for k, box in enumerate(one.boxes)] for one in images}


def assert_same(found: Unsplit, images: Sequence[Planted], within: float = 1e-6) -> None:
    """Every planted box and no other, to so many pixels."""
    here, there = told(found), wanted(images)
    assert here.keys() == there.keys()
    for name, rows in there.items():
        assert [(row[0], row[5]) for row in here[name]] == [(row[0], row[5]) for row in rows], name
        numbers = [[row[1:5] for row in side[name]] for side in (here, there)]
        assert np.allclose(*numbers, rtol=0, atol=within), name
