"""Which JSON files in a folder are read for boxes, and which images the names in them mean."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from convscope.datasets.asked import find_asked
from convscope.datasets.box_folders import find_boxes
from convscope.datasets.options import DatasetOptions
from planted_boxes import Planted, assert_same, coco_values, photograph, read

ONE = Planted("one", (60, 40), (("bee", 10.0, 10.0, 30.0, 20.0), ("ant", 5.0, 5.0, 9.0, 9.0)))
TWO = replace(ONE, name="two", boxes=(("wasp", 1.0, 2.0, 30.0, 20.0),))


def write(path: Path, images: Sequence[Planted], names: Sequence[str] = ()) -> Path:
    """A COCO file of the images, called by ``names`` where these are given."""
    data = coco_values(images)
    for row, name in zip(data["images"], names, strict=False):
        row["file_name"] = name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))
    return path


def classes(root: Path, each: int = 4) -> None:
    for folder in ("bees", "wasps"):
        for i in range(each):
            photograph(root / folder / f"{folder}{i}.jpg", Planted(f"{folder}{i}"))
    photograph(root / "bees" / "one.jpg", ONE)


@pytest.mark.parametrize(
    ("place", "boxes"),
    [
        ("notes.json", False),
        ("bees/export.json", False),
        ("annotations/some.json", True),
        ("bees/_annotations.coco.json", True),
        ("instances_default.json", True),
    ],
)
def test_a_file_of_a_few_images_makes_no_boxes_of_a_folder_unless_it_is_called_so(
    place: str, boxes: bool, tmp_path: Path
):
    classes(tmp_path)
    path = write(tmp_path / place, [ONE])
    assert (find_boxes(tmp_path) is not None) == boxes
    if not boxes:
        assert find_asked(str(tmp_path), DatasetOptions(), None, None) is None
    assert_same(read(tmp_path, "detection"), [ONE])
    assert_same(read(path, "detection"), [ONE])


def test_files_that_name_half_of_the_images_together_are_of_boxes(tmp_path: Path):
    for one in (ONE, TWO, Planted("three"), Planted("four")):
        photograph(tmp_path / f"{one.name}.jpg", one)
    write(tmp_path / "a.json", [ONE])
    assert find_boxes(tmp_path) is None
    write(tmp_path / "b.json", [TWO])
    assert_same(read(tmp_path), [ONE, TWO])


# ---------------------------------------------------------------------------------------------------- whose image it is


def test_an_image_that_is_gone_from_a_part_is_not_taken_from_another(tmp_path: Path):
    other = replace(TWO, name="one")
    photograph(tmp_path / "val" / "one.jpg", other)
    photograph(tmp_path / "train" / "two.jpg", TWO)
    write(tmp_path / "train" / "_annotations.coco.json", [ONE, TWO])
    found = read(tmp_path)
    assert_same(found, [TWO])
    assert "1 image that train/_annotations.coco.json names is not there: one.jpg." in found.notes
    write(tmp_path / "val" / "_annotations.coco.json", [other])
    assert_same(read(tmp_path), [TWO, other])


@pytest.mark.parametrize("told", ["a/one.jpg", "./a/one.jpg", "data\\a\\one.jpg", "/home/me/a/one.jpg"])
def test_an_image_is_in_no_other_folder_than_the_one_told(told: str, tmp_path: Path):
    photograph(tmp_path / "a" / "two.jpg", TWO)
    photograph(tmp_path / "b" / "one.jpg", ONE)
    write(tmp_path / "all.json", [ONE, TWO], [told, "a/two.jpg"])
    found = read(tmp_path, "detection")
    assert_same(found, [TWO])
    assert any(note.startswith("1 image that all.json names is not there") for note in found.notes)


@pytest.mark.parametrize(
    ("told", "place"),
    [
        ("images/one.jpg", "one.jpg"),
        ("/home/me/photos/one.jpg", "one.jpg"),
        ("JPEGImages/one.jpg", "photos/one.jpg"),
        ("train2017/one.jpg", "images/train/one.jpg"),
        ("one.jpg", "train2017/one.jpg"),
        ("train/images/one.jpg", "images/one.jpg"),
    ],
)
def test_an_image_is_found_where_the_folder_told_is_none_here(told: str, place: str, tmp_path: Path):
    photograph(tmp_path / place, ONE)
    photograph(tmp_path / Path(place).parent / "two.jpg", TWO)
    write(tmp_path / "annotations" / "instances_train2017.json", [ONE, TWO], [told])
    assert_same(read(tmp_path), [ONE, TWO])


def test_a_part_that_is_told_is_kept_apart_without_its_folder(tmp_path: Path):
    photograph(tmp_path / "val" / "images" / "one.jpg", ONE)
    photograph(tmp_path / "val" / "images" / "two.jpg", TWO)
    names = ["train/images/one.jpg", "val/images/two.jpg"]
    write(tmp_path / "all.json", [ONE, TWO], names)
    assert_same(read(tmp_path), [TWO])


def test_folders_above_the_root_tell_of_no_part(tmp_path: Path):
    root = tmp_path / "test"
    for one in (ONE, TWO):
        photograph(root / "images" / f"{one.name}.jpg", one)
    write(root / "train" / "all.json", [ONE, TWO])
    assert_same(read(root), [ONE, TWO])


# ------------------------------------------------------------------------------------------- files of the same images


def pointed(path: Path, images: Sequence[Planted]) -> None:
    data = coco_values(images)
    for row in data["annotations"]:
        row |= {"keypoints": [3, 4, 2, 0, 0, 0], "num_keypoints": 1}
    data["categories"] = [{**row, "keypoints": ["nose", "tail"]} for row in data["categories"]]
    path.write_text(json.dumps(data))


def test_of_files_of_the_same_images_those_of_keypoints_and_captions_are_left(tmp_path: Path):
    for one in (ONE, TWO):
        photograph(tmp_path / "train2017" / f"{one.name}.jpg", one)
    folder = tmp_path / "annotations"
    write(folder / "instances_train2017.json", [ONE, TWO])
    pointed(folder / "person_keypoints_train2017.json", [ONE])
    captions = coco_values([ONE, TWO]) | {"annotations": [{"id": 1, "image_id": 0, "caption": "a bee"}]}
    del captions["categories"]
    (folder / "captions_train2017.json").write_text(json.dumps(captions))
    for task in (None, "detection"):
        found = read(tmp_path, task)
        assert_same(found, [ONE, TWO])
        assert (
            "2 files of keypoints or captions are not read: annotations/captions_train2017.json, "
            "annotations/person_keypoints_train2017.json." in found.notes
        )
    (folder / "instances_train2017.json").unlink()
    assert_same(read(tmp_path), [ONE])


def test_keypoints_of_another_folder_are_read(tmp_path: Path):
    for part, one in (("train", ONE), ("val", replace(TWO, name="one"))):
        photograph(tmp_path / part / "one.jpg", one)
    write(tmp_path / "train" / "_annotations.coco.json", [ONE])
    pointed(tmp_path / "val" / "_annotations.coco.json", [replace(TWO, name="one")])
    found = read(tmp_path)
    assert sorted(zip(found.given.tolist(), map(len, found.targets.boxes), strict=True)) == [("train", 2), ("val", 1)]
