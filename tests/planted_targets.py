"""Images with masks, labels or numbers, clean ones and ones with a planted fault of each kind.

Of each fault the doctor's name for it stands beside, and its grade.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from planted_folders import pattern

COUNT = 60
NAMES = ("background", "ant", "bee")
LABELS = ("red", "large", "left")


def masked(root: Path, seed: int = 0) -> Path:
    """``images``, ``masks`` of a background and two kinds of discs, and ``classes.txt``."""
    for kind in ("images", "masks"):
        (root / kind).mkdir(parents=True)
    random = np.random.default_rng(seed)
    for i in range(COUNT):
        pattern(seed * 1000 + i, 64).save(root / "images" / f"{i:02}.png")
        mask = Image.new("L", (64, 64))
        for kind in (1, 2):
            x, y = random.integers(12, 52, 2).tolist()
            ImageDraw.Draw(mask).ellipse((x - 9, y - 9, x + 9, y + 9), fill=kind)
        if i % 10 == 9:  # one without objects is no fault
            mask = Image.new("L", (64, 64))
        mask.save(root / "masks" / f"{i:02}.png")
    (root / "classes.txt").write_text("\n".join(NAMES) + "\n", encoding="utf-8")
    return root


def _listed(root: Path, header: str, cell: Callable[[int], str], seed: int = 0) -> Path:
    (root / "images").mkdir(parents=True)
    lines = [f"path,{header}"]
    for i in range(COUNT):
        pattern(seed * 1000 + i, 64).save(root / "images" / f"{i:02}.png")
        lines.append(f"images/{i:02}.png,{cell(i)}")
    (root / "table.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


def labelled(root: Path, seed: int = 0) -> Path:
    """``table.csv`` of three labels, each of half the images, at random."""
    said = np.random.default_rng(seed).random((COUNT, 3)) < 0.5
    return _listed(root, ",".join(LABELS), lambda i: ",".join(str(int(v)) for v in said[i]), seed)


def numbered(root: Path, seed: int = 0) -> Path:
    """``table.csv`` of a number each, normal about 20."""
    values = np.random.default_rng(seed).normal(20, 3, COUNT)
    return _listed(root, "size", lambda i: f"{values[i]:.3f}", seed)


CLEAN: dict[str, Callable[..., Path]] = {"masks": masked, "labels": labelled, "numbers": numbered}

# ------------------------------------------------------------------------------------------------------------- masks


def _mask(root: Path, i: int) -> Path:
    return root / "masks" / f"{i:02}.png"


def _changed(root: Path, i: int, change: Callable[[np.ndarray], np.ndarray]) -> None:
    Image.fromarray(change(np.array(Image.open(_mask(root, i))))).save(_mask(root, i))


def image_alone(root: Path) -> None:
    _mask(root, 3).unlink()


def mask_alone(root: Path) -> None:
    (root / "images" / "03.png").unlink()


def other_size(root: Path) -> None:
    Image.open(_mask(root, 3)).resize((32, 32), Image.Resampling.NEAREST).save(_mask(root, 3))


def other_shape(root: Path) -> None:
    _changed(root, 3, lambda mask: mask[:40])


def unnamed_value(root: Path) -> None:
    _changed(root, 3, lambda mask: np.where(mask == 1, 7, mask).astype(np.uint8))


def no_such_class(root: Path) -> None:
    (root / "classes.txt").write_text("\n".join((*NAMES, "wasp")), encoding="utf-8")


def class_once(root: Path) -> None:
    no_such_class(root)
    _changed(root, 3, lambda mask: np.where(mask == 1, 3, mask).astype(np.uint8))


def rare_class(root: Path) -> None:
    for i in (3, 4, 5):
        no_such_class(root)
        _changed(root, i, lambda mask: np.where(mask == 1, 3, mask).astype(np.uint8))


def void_mask(root: Path) -> None:
    _changed(root, 3, lambda mask: np.full_like(mask, 255))


def mostly_empty(root: Path) -> None:
    for i in range(12, COUNT):
        _changed(root, i, np.zeros_like)


def broken_mask(root: Path) -> None:
    _mask(root, 3).write_bytes(_mask(root, 3).read_bytes()[:60])


def copy_with_another_mask(root: Path) -> None:
    shutil.copy(root / "images" / "03.png", root / "images" / "90.png")
    shutil.copy(_mask(root, 4), _mask(root, 90))


def near_copy_with_another_mask(root: Path) -> None:
    for i in (3, 5, 7):
        Image.open(root / "images" / f"{i:02}.png").save(root / "images" / f"{90 + i}.jpg", quality=85)
        shutil.copy(_mask(root, i + 1), _mask(root, 90 + i))


def mirrored_copy(root: Path) -> None:
    for kind in ("images", "masks"):
        image = Image.open(root / kind / "03.png")
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(root / kind / "90.png")


def grey_jpegs(root: Path) -> None:
    for i in range(COUNT):
        Image.open(_mask(root, i)).save(_mask(root, i).with_suffix(".jpg"))
        _mask(root, i).unlink()


def broken_image(root: Path) -> None:
    path = root / "images" / "03.png"
    path.write_bytes(path.read_bytes()[:-200])


# --------------------------------------------------------------------------------------------------- labels, numbers


def _rewritten(root: Path, change: Callable[[int, list[str]], list[str]]) -> None:
    """The table with each line's cells changed, the header's as line -1."""
    lines = (root / "table.csv").read_text(encoding="utf-8").splitlines()
    rows = [change(i - 1, line.split(",")) for i, line in enumerate(lines)]
    (root / "table.csv").write_text("\n".join(map(",".join, rows)) + "\n", encoding="utf-8")


def _column(name: str, cell: Callable[[list[str]], str]) -> Callable[[Path], None]:
    return lambda root: _rewritten(root, lambda i, cells: [*cells, name if i < 0 else cell(cells)])


def _cells(index: range, *cells: str) -> Callable[[Path], None]:
    return lambda root: _rewritten(root, lambda i, row: [row[0], *cells] if i in index else row)


def _copied(root: Path, i: int, end: str, *cells: str) -> None:
    Image.open(root / "images" / f"{i:02}.png").save(root / "images" / f"9{i}.{end}")
    with (root / "table.csv").open("a", encoding="utf-8") as file:
        file.write(f"images/9{i}.{end},{','.join(cells)}\n")


def _labels_of(root: Path, i: int) -> list[str]:
    return (root / "table.csv").read_text(encoding="utf-8").splitlines()[i + 1].split(",")[1:]


def copy_with_other_labels(root: Path) -> None:
    path = root / "images" / "03.png"
    shutil.copy(path, root / "images" / "93.png")
    cells = ["1" if cell == "0" else "0" for cell in _labels_of(root, 3)]
    with (root / "table.csv").open("a", encoding="utf-8") as file:
        file.write(f"images/93.png,{','.join(cells)}\n")


def copy_with_another_number(root: Path) -> None:
    shutil.copy(root / "images" / "03.png", root / "images" / "93.png")
    with (root / "table.csv").open("a", encoding="utf-8") as file:
        file.write("images/93.png,35.5\n")


def near_copy_with_another_number(root: Path) -> None:
    for i in (3, 5, 7):
        _copied(root, i, "jpg", "35.5")


def only_rare(cells: list[str]) -> str:
    return str(int(cells[0] in ("images/05.png", "images/15.png")))


def one_label(root: Path) -> None:
    one = np.eye(3, dtype=int).astype(str)
    _rewritten(root, lambda i, row: row if i < 0 else [row[0], *one[i % 3]])


def missing_file(root: Path) -> None:
    (root / "images" / "03.png").unlink()


# Each with the kind of data, what it is called, and its grade.
TARGET_FAULTS: dict[str, tuple[str, Callable[[Path], None], str, str]] = {
    "image-alone": ("masks", image_alone, "without-mask", "doubt"),
    "mask-alone": ("masks", mask_alone, "without-image", "doubt"),
    "other-size": ("masks", other_size, "mask-size", "note"),
    "other-shape": ("masks", other_shape, "mask-shape", "fault"),
    "unnamed-value": ("masks", unnamed_value, "mask-values", "fault"),
    "no-such-class": ("masks", no_such_class, "classes-unseen", "doubt"),
    "class-once": ("masks", class_once, "class-once", "doubt"),
    "rare-class": ("masks", rare_class, "few-images", "doubt"),
    "void-mask": ("masks", void_mask, "void-masks", "doubt"),
    "mostly-empty": ("masks", mostly_empty, "no-object", "doubt"),
    "broken-mask": ("masks", broken_mask, "unreadable-masks", "fault"),
    "copy-with-another-mask": ("masks", copy_with_another_mask, "exact-copies-across-masks", "fault"),
    "near-copy-with-another-mask": ("masks", near_copy_with_another_mask, "near-copies-across-masks", "fault"),
    "mirrored-copy": ("masks", mirrored_copy, "near-copies", "doubt"),
    "grey-jpegs": ("masks", grey_jpegs, "refused", "fault"),
    "broken-image": ("masks", broken_image, "unreadable", "fault"),
    "label-of-none": ("labels", _column("round", lambda _: "0"), "labels-unseen", "doubt"),
    "label-of-all": ("labels", _column("round", lambda _: "1"), "labels-everywhere", "doubt"),
    "labels-together": ("labels", _column("crimson", lambda cells: cells[1]), "labels-together", "doubt"),
    "rare-label": ("labels", _column("rare", only_rare), "few-images", "doubt"),
    "no-labels": ("labels", _cells(range(40), "0", "0", "0"), "no-label", "doubt"),
    "one-label": ("labels", one_label, "one-label", "doubt"),
    "copy-with-other-labels": ("labels", copy_with_other_labels, "exact-copies-across-labels", "fault"),
    "missing-file": ("labels", missing_file, "missing-files", "fault"),
    "constant": ("numbers", _cells(range(COUNT), "7.5"), "constant", "fault"),
    "outlier": ("numbers", _cells(range(3, 4), "2004.5"), "outliers", "doubt"),
    "no-number": ("numbers", _cells(range(3, 5), "n/a"), "not-numbers", "fault"),
    "empty-cells": ("numbers", _cells(range(3, 5), ""), "missing-numbers", "doubt"),
    "minus-one-for-none": ("numbers", _cells(range(3, 8), "-1"), "number-repeats", "doubt"),
    "nines-for-none": ("numbers", _cells(range(3, 8), "999"), "number-repeats", "doubt"),
    "copy-with-another-number": ("numbers", copy_with_another_number, "exact-copies-across-numbers", "fault"),
    "near-copy-with-another-number": ("numbers", near_copy_with_another_number, "near-copies-across-numbers", "fault"),
}  # fmt: skip
