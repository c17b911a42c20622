"""Which images have a mask is found out in whatever layout they come, and never where there are only classes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from convscope.datasets.asked import find_asked
from convscope.datasets.mask_folders import bare, find_pairing
from convscope.datasets.mask_loading import load_masked
from convscope.datasets.options import DatasetOptions
from convscope.datasets.unsplit import Unsplit
from convscope.errors import DataError, UsageError
from convscope.recipes import Source

SIDE = 24


def photograph(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)).save(path)


def mask(path: Path, seed: int = 0) -> None:
    """A rectangle whose place says which image it belongs to."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.zeros((SIDE, SIDE), np.uint8)
    values[4:12, 1 : 2 + seed] = 255
    Image.fromarray(values).save(path, quality=95)


def number(found: Unsplit, i: int) -> int:
    """What the place of its rectangle says of image i."""
    return int(found.targets.read(i)[6].sum()) - 1


def made(root: Path, *names: tuple[str, str]) -> None:
    """Image and mask, a pair a name of two paths with an asterisk for the number, from 0 to 3."""
    for place, (image, masked) in enumerate(names):
        for i in range(4):
            photograph(root / image.replace("*", str(i)), i)
            mask(root / masked.replace("*", str(i)), 4 * place + i)


def read(root: Path, masks: Path | None = None, **how: str) -> Unsplit:
    pairing = find_pairing(root, masks)
    assert pairing is not None
    return load_masked(root, pairing, Source(**how))


LAYOUTS = {
    "images and masks": [("images/*.png", "masks/*.png")],
    "camvid": [("train/*.png", "trainannot/*.png"), ("val/*.png", "valannot/*.png"), ("test/*.png", "testannot/*.png")],
    "kaggle": [("Training_Images/*.jpg", "Ground_Truth/*.png")],
    "part first": [("train/images/*.png", "train/masks/*.png"), ("val/images/*.png", "val/masks/*.png")],
    "part last": [("images/train/*.png", "masks/train/*.png"), ("images/test/*.png", "masks/test/*.png")],
    "voc": [("JPEGImages/*.jpg", "SegmentationClass/*.png")],
    "one folder": [("*.jpg", "*_mask.png")],
    "one folder a patient": [("a/*.png", "a/*_mask.png"), ("b/*.png", "b/*_mask.png")],
    "ending in two folders": [("images/x*.png", "labels/x*_gt.png")],
    "masks as jpegs": [("images/*.jpg", "masks/*.jpg")],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_is_understood(layout: str, tmp_path: Path):
    made(tmp_path, *LAYOUTS[layout])
    found = read(tmp_path)
    assert len(found.files) == 4 * len(LAYOUTS[layout])
    wanted = [{image.replace("*", str(i)) for i in range(4)} for image, _ in LAYOUTS[layout]]
    assert {path.relative_to(tmp_path).as_posix() for path in found.files} == set.union(*wanted)
    for i, path in enumerate(found.files):
        place = next(n for n, names in enumerate(wanted) if path.relative_to(tmp_path).as_posix() in names)
        assert number(found, i) == 4 * place + int(path.stem.strip("x")), f"{path} has the mask of another"
    parts = {"camvid": 3, "part first": 2, "part last": 2}.get(layout, 1)
    assert len(set(found.given)) == parts
    if parts > 1:
        for path, part in zip(found.files, found.given, strict=True):
            assert any(folder.startswith(part) for folder in path.relative_to(tmp_path).parts[:-1])
    assert "taken for" in found.notes[0]


def test_a_folder_elsewhere_holds_the_masks(tmp_path: Path):
    made(tmp_path, ("data/photos/*.jpg", "elsewhere/*.png"))
    found = read(tmp_path / "data", tmp_path / "elsewhere")
    assert [number(found, i) for i in range(4)] == [0, 1, 2, 3]
    assert find_pairing(tmp_path / "data") is None
    with pytest.raises(DataError, match="does not exist"):
        find_pairing(tmp_path / "data", tmp_path / "nothing")
    photograph(tmp_path / "other" / "zzz.png")
    with pytest.raises(DataError, match=r"no file in .*other has the name of an image"):
        find_pairing(tmp_path / "data", tmp_path / "other")


def test_a_named_folder_of_masks_may_lie_among_the_images(tmp_path: Path):
    made(tmp_path, ("*.png", "masks/*.png"))
    assert len(read(tmp_path, tmp_path / "masks").files) == 4
    made(tmp_path, ("*.jpg", "*_mask.png"))
    with pytest.raises(DataError, match="name one folder of images"):
        find_pairing(tmp_path, tmp_path / "masks")


def test_the_same_names_in_several_parts_keep_their_own_masks(tmp_path: Path):
    made(tmp_path, ("images/train/*.png", "elsewhere/train/*.png"), ("images/val/*.png", "elsewhere/val/*.png"))
    found = read(tmp_path / "images", tmp_path / "elsewhere")
    told = {(path.parent.name, path.stem): number(found, i) for i, path in enumerate(found.files)}
    assert told == {(part, str(i)): 4 * (part == "val") + i for part in ("train", "val") for i in range(4)}


def test_names_that_nothing_tells_apart_are_refused(tmp_path: Path):
    made(tmp_path, ("images/red/*.png", "elsewhere/*.png"), ("images/blue/*.png", "elsewhere/*.png"))
    with pytest.raises(DataError, match=r"0\.png and .*0\.png"):
        find_pairing(tmp_path / "images", tmp_path / "elsewhere")


def coco(path: Path, names: list[str], classes: tuple[str, ...] = ("leaf",), first: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [{"id": i, "file_name": name, "width": SIDE, "height": SIDE} for i, name in enumerate(names)]
    rows = [
        {"id": i, "image_id": i, "category_id": 1, "segmentation": [[1, 4, 2 + k, 4, 2 + k, 12, 1, 12]]}
        for i, k in zip(range(len(names)), range(first, first + len(names)), strict=True)
    ]
    categories = [{"id": k, "name": name} for k, name in enumerate(classes, 1)]
    path.write_text(json.dumps({"images": images, "annotations": rows, "categories": categories}))


@pytest.mark.parametrize("place", ["named", "labels.json", "annotations/instances.json"])
def test_outlines_in_a_file(place: str, tmp_path: Path):
    for i in range(4):
        photograph(tmp_path / "data" / "images" / f"{i}.png", i)
    path = tmp_path / "elsewhere.json" if place == "named" else tmp_path / "data" / place
    coco(path, [f"{i}.png" for i in range(5)])
    found = read(tmp_path / "data", path if place == "named" else None)
    assert [number(found, i) for i in range(4)] == [0, 1, 2, 3]
    assert found.targets.names == ("background", "leaf")
    assert any("1 image" in note and "not there" in note for note in found.notes)


def test_outlines_name_their_images_by_folders_too(tmp_path: Path):
    for part in ("train", "val"):
        for i in range(3):
            photograph(tmp_path / part / f"{i}.png", i)
    coco(tmp_path / "all.json", [f"{part}/{i}.png" for part in ("train", "val") for i in range(3)])
    found = read(tmp_path)
    told = {(path.parent.name, int(path.stem)): number(found, i) for i, path in enumerate(found.files)}
    assert told == {(part, i): 3 * (part == "val") + i for part in ("train", "val") for i in range(3)}
    coco(tmp_path / "all.json", [f"{i}.png" for i in range(3)])
    with pytest.raises(DataError, match="several images"):
        find_pairing(tmp_path)


def test_a_file_of_outlines_a_part(tmp_path: Path):
    for part, first in (("train", 0), ("val", 3)):
        for i in range(3):
            photograph(tmp_path / f"{part}2017" / f"{part}{i}.png", i)
        coco(tmp_path / "annotations" / f"instances_{part}.json", [f"{part}{i}.png" for i in range(3)], first=first)
    found = read(tmp_path)
    assert sorted(number(found, i) for i in range(6)) == list(range(6))
    coco(tmp_path / "annotations" / "keypoints.json", ["train0.png"], ("person",))
    with pytest.raises(DataError, match=r"--masks"):
        find_pairing(tmp_path)


def test_a_file_of_outlines_of_other_images_is_refused(tmp_path: Path):
    photograph(tmp_path / "images" / "a.png")
    coco(tmp_path / "coco.json", ["b.png"])
    with pytest.raises(DataError, match="names 1 image, and none of them is in"):
        find_pairing(tmp_path)


# -------------------------------------------------------------------------------------------------- what is lacking


def test_what_has_no_partner_is_left_out_with_a_note(tmp_path: Path):
    made(tmp_path, ("images/*.png", "masks/*.png"))
    photograph(tmp_path / "images" / "lonely.png")
    photograph(tmp_path / "images" / "alone.png")
    found = read(tmp_path)
    assert len(found.files) == 4
    assert "2 images of 'images' are without a mask and left out: alone, lonely." in found.notes
    mask(tmp_path / "masks" / "spare.png", 9)
    notes = read(tmp_path).notes
    assert "1 mask of 'masks' is without an image and left out: spare." in notes


def test_in_one_folder_they_are_told_too(tmp_path: Path):
    made(tmp_path, ("*.jpg", "*_mask.png"))
    photograph(tmp_path / "lonely.jpg")
    found = read(tmp_path)
    assert len(found.files) == 4
    assert any("without a mask and left out: lonely." in note for note in found.notes)


def test_a_folder_whose_names_are_others_is_no_folder_of_masks(tmp_path: Path):
    made(tmp_path, ("images/a*.png", "masks/b*.png"))
    assert find_pairing(tmp_path) is None


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("cat_12_mask", "cat_12"),
        ("Cat-12-GT", "cat-12"),
        ("12_segmentation", "12"),
        ("a.ground_truth", "a"),
        ("0001_L", "0001"),
        ("x_mask_01", "x"),
        ("mask", "mask"),
        ("small", "small"),
        ("unmask", "unmask"),
    ],
)
def test_what_is_added_to_a_name(name: str, plain: str):
    assert bare(name) == plain


# ----------------------------------------------------------------------------------------------- classes, not masks


def digits(size: int, bold: bool) -> Iterator[tuple[int, int, Image.Image]]:
    """Digits drawn black on white, each a little otherwise: (class, number, image)."""
    rng = np.random.default_rng(0)
    for digit in range(10):
        for i in range(8):
            image = Image.new("L" if bold else "1", (size, size), 255)
            place = tuple(rng.uniform(0.1, 0.4, 2) * size)
            ImageDraw.Draw(image).text(place, str(digit), 0, ImageFont.load_default(0.6 * size * rng.uniform(0.8, 1)))
            yield digit, i, image


@pytest.mark.parametrize(("size", "bold"), [(28, False), (28, True), (64, True), (96, False)])
def test_digits_of_the_same_names_in_ten_folders_are_classes(size: int, bold: bool, tmp_path: Path):
    for digit, i, image in digits(size, bold):
        (tmp_path / str(digit)).mkdir(exist_ok=True)
        image.save(tmp_path / str(digit) / f"{i}.png")
    assert find_pairing(tmp_path) is None
    for part in ("train", "test"):
        for digit, i, image in digits(size, bold):
            (tmp_path / "parts" / part / str(digit)).mkdir(parents=True, exist_ok=True)
            image.save(tmp_path / "parts" / part / str(digit) / f"{i}.png")
    assert find_pairing(tmp_path / "parts") is None


@pytest.mark.parametrize("thin", range(2, 10))
def test_digits_of_few_and_of_many_greys_are_classes(thin: int, tmp_path: Path):
    """As of a scan: a thin one has few greys, a bold one many, and so one folder looks like masks of another."""
    rng = np.random.default_rng(1)
    for digit in range(10):
        for i in range(8):
            values = np.zeros((28, 28), np.uint8)
            values[4:24, 10 : 11 + digit] = 255
            edge = values[4:24, 9:11].shape if digit < thin else (20, 8 + digit)
            values[4 : 4 + edge[0], 9 : 9 + edge[1]] = rng.integers(0, 256, edge)
            (tmp_path / str(digit)).mkdir(exist_ok=True)
            Image.fromarray(values).save(tmp_path / str(digit) / f"{i}.png")
    assert find_pairing(tmp_path) is None


def test_photographs_in_folders_of_classes_are_classes(tmp_path: Path):
    for i in range(6):
        for name in ("cat", "dog", "dog_mask"):
            photograph(tmp_path / name / f"{i}.png", i)
    assert find_pairing(tmp_path) is None
    assert find_asked(str(tmp_path), DatasetOptions(), None, None) is None


# ------------------------------------------------------------------------------------------------------- asked, groups


def test_the_task_is_told_and_can_be_overridden(tmp_path: Path):
    made(tmp_path, ("images/*.png", "masks/*.png"))
    data, options = str(tmp_path), DatasetOptions()
    found = find_asked(data, options, None, None)
    assert found is not None
    assert found.notes[0] == "task: segmentation, the class of each pixel; --task says otherwise."
    said = find_asked(data, options, "segmentation", None)
    assert said is not None
    assert said.notes[0] == "task: segmentation, the class of each pixel."
    assert find_asked(data, options, "classification", None) is None
    with pytest.raises(UsageError, match="--masks is for the task segmentation, not regression"):
        find_asked(data, options, "regression", tmp_path / "masks")
    with pytest.raises(UsageError, match="--masks is for the task segmentation, not classification"):
        find_asked(data, options, "classification", tmp_path / "masks")
    with pytest.raises(DataError, match="cannot be read for the task regression: a table"):
        find_asked(data, options, "regression", None)
    with pytest.raises(UsageError, match="digits has one class an image"):
        find_asked("digits", options, "segmentation", None)
    (tmp_path / "masks" / "0.png").rename(tmp_path / "images" / "9.png")
    for path in (tmp_path / "masks").iterdir():
        path.unlink()
    with pytest.raises(DataError, match=r"holds no masks that can be told.*--masks"):
        find_asked(data, options, "segmentation", None)


def test_groups_are_found_in_paths(tmp_path: Path):
    made(tmp_path, ("images/patient1_*.png", "masks/patient1_*.png"), ("images/patient2_*.png", "masks/patient2_*.png"))
    found = read(tmp_path, group=r"(patient\d)_")
    assert found.groups is not None
    assert found.groups.tolist() == [path.stem.split("_")[0] for path in found.files]


@pytest.mark.parametrize("kind", ["truncated", "no image", "resampled"])
@pytest.mark.parametrize(("place", "count"), [(0, 10), (8, 10), (1, 4)])
def test_one_bad_mask_makes_no_classes_of_images_and_masks(kind: str, place: int, count: int, tmp_path: Path):
    for i in range(count):
        photograph(tmp_path / "images" / f"{i}.png", i)
        mask(tmp_path / "masks" / f"{i}.png", i)
    bad = tmp_path / "masks" / f"{place}.png"
    if kind == "resampled":
        soft = np.random.default_rng(0).permutation(SIDE * SIDE).reshape(SIDE, SIDE) % 250
        Image.fromarray(soft.astype(np.uint8)).save(bad)
    else:
        bad.write_bytes(bad.read_bytes()[:40] if kind == "truncated" else b"<html>")
    for task in (None, "segmentation"):
        with pytest.raises(DataError, match=rf"1 of {count} masks .*masks/{place}\.png"):
            find_asked(str(tmp_path), DatasetOptions(), task, None)
        found = find_asked(str(tmp_path), DatasetOptions(bad_images="skip"), task, None)
        assert found is not None
        assert len(found.files) == count - 1
