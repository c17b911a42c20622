"""Images with boxes, clean ones in the three forms and ones with a planted fault of each kind.

Of each fault the form it is planted in stands beside, the doctor's name for it, and its grade.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from planted_boxes import FORMS, NAMES, Box, Planted, voc_text
from planted_folders import pattern

COUNT, SIDE = 60, 64
Plant = Callable[[list[Planted]], list[Planted]]


def boxed_images(seed: int = 0) -> list[Planted]:
    """Images with one box of each class, apart from each other, and every tenth without any."""
    random = np.random.default_rng(seed)
    made = []
    for i in range(COUNT):
        boxes: list[Box] = []
        for k, name in enumerate(NAMES if i % 10 != 9 else ()):
            left, top = 21 * k + random.uniform(0, 3), random.uniform(1, 30)
            wide, high = random.uniform(8, 16), random.uniform(8, 32)
            boxes.append((name, *(round(float(v), 2) for v in (left, top, left + wide, top + high))))
        made.append(Planted(f"{i:02}", (SIDE, SIDE), tuple(boxes)))
    return made


def written(root: Path, form: str, images: Sequence[Planted], seed: int = 0) -> Path:
    """The folder in a form, each image a pattern of its own."""
    FORMS[form](root, images)
    for one in images if form == "yolo" else ():
        (root / "labels" / f"{one.name}.txt").touch()
    for path in sorted(root.rglob("*.jpg")):
        pattern(seed * 1000 + int(path.stem), SIDE).save(path, quality=95)
    return root


def annotation(root: Path, form: str, i: int) -> Path:
    """The file of the boxes in image ``i``, which COCO has not."""
    return {"voc": root / "Annotations" / f"{i:02}.xml", "yolo": root / "labels" / f"{i:02}.txt"}[form]


def image(root: Path, i: int) -> Path:
    """The file of image ``i``."""
    (found,) = root.rglob(f"{i:02}.jpg")
    return found


# ---------------------------------------------------------------------------------------------------- boxes to plant


def with_box(*boxes: Box, at: Sequence[int] = (3,)) -> Plant:
    """More boxes in some images."""
    return lambda images: [replace(p, boxes=(*p.boxes, *boxes)) if i in at else p for i, p in enumerate(images)]


def without(index: Sequence[int]) -> Plant:
    """No box in some images."""
    return lambda images: [replace(p, boxes=()) if i in index else p for i, p in enumerate(images)]


def again(name: str, by: float) -> Plant:
    """The first box of image 3 a second time, of a class, moved by so many pixels."""

    def change(images: list[Planted]) -> list[Planted]:
        _, left, top, right, bottom = images[3].boxes[0]
        return with_box((name, left + by, top, right + by, bottom))(images)

    return change


def narrowed(images: list[Planted]) -> list[Planted]:
    """Every tenth box of the first class 0.5 pixels wide, which are 4 in the network's square."""
    return [
        replace(p, boxes=((b[0], b[1], b[2], b[1] + 0.5, b[4]), *p.boxes[1:]))
        if i % 10 == 3 and (b := p.boxes[0])
        else p
        for i, p in enumerate(images)
    ]


def told_otherwise(images: list[Planted]) -> list[Planted]:
    """An annotation of an image of another shape."""
    return [replace(p, told=(SIDE, 2 * SIDE)) if i == 3 else p for i, p in enumerate(images)]


def same(images: list[Planted]) -> list[Planted]:
    """Nothing."""
    return images


# ---------------------------------------------------------------------------------------------------- files to change


def _nothing(root: Path) -> None:
    """Leave the files as they are."""


def _text(form: str, i: int, text: str) -> Callable[[Path], None]:
    return lambda root: annotation(root, form, i).write_text(text, encoding="utf-8")  # type: ignore[func-returns-value]


def _added(form: str, i: int, text: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        with annotation(root, form, i).open("a", encoding="utf-8") as file:
            file.write(text)

    return change


def _without(path: Callable[[Path], Path]) -> Callable[[Path], None]:
    return lambda root: path(root).unlink()


def _in_json(change: Callable[[dict[str, list[dict[str, object]]]], object]) -> Callable[[Path], None]:
    def rewrite(root: Path) -> None:
        (path,) = root.rglob("*.json")
        values = json.loads(path.read_text(encoding="utf-8"))
        change(values)
        path.write_text(json.dumps(values), encoding="utf-8")

    return rewrite


def _garbage(root: Path) -> None:
    image(root, 3).write_bytes(b"\xff\xd8\xff")


def _half(root: Path) -> None:
    path = image(root, 3)
    path.write_bytes(path.read_bytes()[:-300])


def _flat_voc(root: Path) -> None:
    path = annotation(root, "voc", 3)
    text = path.read_text(encoding="utf-8")
    left = re.search(r"<xmin>(.*?)</xmin>", text)
    assert left is not None
    path.write_text(re.sub(r"<xmax>.*?</xmax>", f"<xmax>{left[1]}</xmax>", text, count=1), encoding="utf-8")


def _half_unannotated(root: Path) -> None:
    for i in range(40):
        annotation(root, "yolo", i).unlink(missing_ok=True)


def _no_list(root: Path) -> None:
    (root / "data.yaml").unlink()


def _all_flat(root: Path) -> None:
    for path in (root / "labels").glob("*.txt"):
        path.write_text("0 0.5 0.5 0 0.1\n", encoding="utf-8")


def _of_page(root: Path) -> None:
    (root / "Annotations" / "page.xml").write_text("<html></html>", encoding="utf-8")


def _confidences(root: Path) -> None:
    path = annotation(root, "yolo", 3)
    path.write_text("".join(f"{line} 0.87\n" for line in path.read_text().splitlines()), encoding="utf-8")


def _keypoints(root: Path) -> None:
    path = annotation(root, "yolo", 3)
    path.write_text("".join(f"{line} 0.5 0.5 2\n" for line in path.read_text().splitlines()), encoding="utf-8")
    names = next(root.rglob("data.yaml"))
    names.write_text(names.read_text() + "kpt_shape: [1, 3]\n", encoding="utf-8")


def _captions(root: Path) -> None:
    path = next(root.rglob("*.json"))
    path.with_name("captions_train.json").write_text('{"images": [], "annotations": []}', encoding="utf-8")


def _copied(end: str, images: Sequence[int], other: int, quality: int = 0) -> Callable[[Path], None]:
    """Copies of images in VOC, each with the boxes of the image so many behind it; ``quality`` if not byte for byte."""

    def copy(root: Path) -> None:
        for i in images:
            to = root / "JPEGImages" / f"9{i}.{end}"
            if quality:
                Image.open(image(root, i)).save(to, quality=quality)
            else:
                shutil.copy(image(root, i), to)
            shutil.copy(annotation(root, "voc", i + other), root / "Annotations" / f"9{i}.xml")

    return copy


def _box_lost(root: Path) -> None:
    """A copy byte for byte of which one box is lost."""
    _copied("jpg", (3,), 0)(root)
    one = boxed_images()[3]
    (root / "Annotations" / "93.xml").write_text(voc_text(replace(one, boxes=one.boxes[1:])), encoding="utf-8")


def _mirrored(root: Path) -> None:
    """A copy of image 3 that is mirrored, with its boxes."""
    one = boxed_images()[3]
    Image.open(image(root, 3)).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(
        root / "JPEGImages" / "93.jpg", quality=95
    )
    boxes = tuple((name, SIDE - right, top, SIDE - left, bottom) for name, left, top, right, bottom in one.boxes)
    (root / "Annotations" / "93.xml").write_text(voc_text(replace(one, boxes=boxes)), encoding="utf-8")


OUTSIDE: Box = ("ant", 70.0, 5.0, 80.0, 20.0)
OVER: Box = ("bee", -3.0, 40.0, 10.0, 60.0)
# Each with its form, the boxes that are planted, what is done to the files, what it is called, and its grade.
BOX_FAULTS: dict[str, tuple[str, Plant, Callable[[Path], None], str, str]] = {
    "broken-xml": ("voc", same, _text("voc", 3, "<annotation><object>"), "unreadable-boxes", "fault"),
    "broken-line": ("yolo", same, _text("yolo", 3, "0 0.5 0.5\n"), "unreadable-boxes", "fault"),
    "three-numbers": ("coco", same, _in_json(lambda v: v["annotations"][0].update(bbox=[1, 2, 3])), "unreadable-boxes",
                      "fault"),
    "garbage": ("voc", same, _garbage, "unreadable-images", "fault"),
    "half-an-image": ("yolo", same, _half, "unreadable", "fault"),
    "number-too-high": ("yolo", same, _added("yolo", 3, "3 0.5 0.5 0.2 0.2\n"), "class-unnamed", "fault"),
    "category-too-many": ("coco", same, _in_json(lambda v: v["annotations"][0].update(category_id=77)), "class-unnamed",
                          "fault"),
    "no-list-of-names": ("yolo", same, _no_list, "numbered-classes", "doubt"),
    "nothing-at-all": ("yolo", same, _all_flat, "refused", "fault"),
    "other-shape": ("voc", told_otherwise, _nothing, "box-shape", "doubt"),
    "other-shape-coco": ("coco", told_otherwise, _nothing, "box-shape", "doubt"),
    "flat-voc": ("voc", same, _flat_voc, "flat-boxes", "doubt"),
    "flat-yolo": ("yolo", same, _added("yolo", 3, "0 0.5 0.5 0 0.2\n"), "flat-boxes", "doubt"),
    "outside": ("voc", with_box(OUTSIDE), _nothing, "boxes-outside", "doubt"),
    "outside-coco": ("coco", with_box(OUTSIDE), _nothing, "boxes-outside", "doubt"),
    "over-the-edge": ("voc", with_box(OVER), _nothing, "boxes-cut", "note"),
    "often-over-the-edge": ("coco", with_box(OVER, at=range(30)), _nothing, "boxes-cut", "doubt"),
    "page-for-annotation": ("voc", same, _of_page, "not-voc", "doubt"),
    "xml-alone": ("voc", same, _without(lambda root: image(root, 3)), "without-image", "doubt"),
    "text-alone": ("yolo", same, _without(lambda root: image(root, 3)), "without-image", "doubt"),
    "listed-alone": ("coco", same, _without(lambda root: image(root, 3)), "without-image", "doubt"),
    "image-alone": ("voc", same, _without(lambda root: annotation(root, "voc", 3)), "without-boxes", "doubt"),
    "image-unlisted": ("coco", same, lambda root: pattern(900, SIDE).save(root / "images" / "90.jpg"), "without-boxes",
                       "doubt"),
    "no-text": ("yolo", same, _without(lambda root: annotation(root, "yolo", 3)), "without-text", "note"),
    "half-without-text": ("yolo", same, _half_unannotated, "without-text", "doubt"),
    "confidences": ("yolo", same, _confidences, "confidences", "doubt"),
    "keypoints": ("yolo", same, _keypoints, "keypoints", "note"),
    "captions": ("coco", same, _captions, "other-annotations", "note"),
    "polygon": ("yolo", same, _added("yolo", 3, "0 0.1 0.6 0.4 0.6 0.3 0.9\n"), "polygons", "note"),
    "class-of-nothing": ("coco", same, _in_json(lambda v: v["categories"].append({"id": 9, "name": "fly"})),
                         "classes-unseen", "doubt"),
    "class-once": ("voc", with_box(("fly", 3, 45, 20, 62)), _nothing, "class-once", "doubt"),
    "rare-class": ("voc", with_box(("fly", 3, 45, 20, 62), at=(3, 4, 5)), _nothing, "few-images", "doubt"),
    "mostly-empty": ("voc", without(range(12, COUNT)), _nothing, "no-object", "doubt"),
    "drawn-twice": ("voc", again("ant", 0.1), _nothing, "twin-boxes", "doubt"),
    "of-two-classes": ("yolo", again("bee", 0.1), _nothing, "two-classes", "doubt"),
    "narrow": ("coco", narrowed, _nothing, "narrow-boxes", "doubt"),
    "copy-with-other-boxes": ("voc", same, _copied("jpg", (3,), 1), "exact-copies-across-boxes", "fault"),
    "copy-that-lost-a-box": ("voc", same, _box_lost, "exact-copies-across-boxes", "fault"),
    "near-copy-with-other-boxes": ("voc", same, _copied("jpg", (3, 5, 7), 1, 80), "near-copies-across-boxes", "fault"),
    "mirrored-copy": ("voc", same, _mirrored, "near-copies", "doubt"),
}  # fmt: skip


def planted_fault(fault: str, root: Path) -> Path:
    """A folder with it."""
    form, plant, change, _, _ = BOX_FAULTS[fault]
    written(root, form, plant(boxed_images()))
    change(root)
    return root
