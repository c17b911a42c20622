"""What messages about boxes say to do works: each advice is followed, and the data are read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from convscope.classifying.description import check_description
from convscope.datasets.corrections import Correction, write_corrections
from convscope.datasets.dataset import listing
from convscope.datasets.unsplit import Unsplit
from convscope.errors import DamagedFile, DataError
from convscope.storage import file_hash
from planted_boxes import Planted, as_coco, as_voc, as_yolo, coco_values, photograph, read, voc_text, yolo_text

ONE = Planted("one", (60, 40), (("bee", 5.0, 5.0, 25.0, 30.0), ("ant", 30.0, 10.0, 50.0, 35.0)))
TWO = Planted("two", (50, 60), (("wasp", 10.0, 20.0, 30.0, 50.0),))


def refused(root: Path, match: str) -> None:
    with pytest.raises(DataError, match=match):
        read(root, "detection")


def boxes_in(found: Unsplit) -> int:
    targets = found.targets
    assert targets is not None
    return sum(len(one) for one in targets.boxes)


def test_boxes_that_cannot_be_used_are_removed_or_skipped(tmp_path: Path) -> None:
    as_voc(tmp_path, [ONE, TWO])
    (tmp_path / "Annotations" / "one.xml").write_text("<annotation><object/></annotation>")
    refused(tmp_path, "Mend or remove them; transfer leaves them out with --bad-images skip")
    assert boxes_in(read(tmp_path, bad_images="skip")) == 1
    (tmp_path / "Annotations" / "one.xml").write_text(voc_text(ONE))
    assert boxes_in(read(tmp_path)) == 3


def test_classes_of_one_name_are_given_names_of_their_own(tmp_path: Path) -> None:
    as_coco(tmp_path, [ONE, TWO])
    (path,) = tmp_path.rglob("*.json")
    data = coco_values([ONE, TWO])
    data["categories"][0]["name"] = data["categories"][1]["name"]
    path.write_text(json.dumps(data))
    refused(tmp_path, "names two classes alike; each needs its own name")
    data["categories"][0]["name"] = "fly"
    path.write_text(json.dumps(data))
    assert boxes_in(read(tmp_path)) == 3


def test_what_is_told_twice_is_removed_or_the_file_is_named(tmp_path: Path) -> None:
    as_coco(tmp_path, [ONE, TWO])
    (path,) = tmp_path.rglob("*.json")
    again = path.with_name("again.json")
    again.write_text(json.dumps(coco_values([TWO])))
    refused(tmp_path, "twice: remove one, or name the file that is meant")
    assert boxes_in(read(path, "detection")) == 3
    again.unlink()
    assert boxes_in(read(tmp_path)) == 3


def test_images_of_one_name_are_renamed(tmp_path: Path) -> None:
    for part in ("train", "valid"):
        photograph(tmp_path / part / "one.jpg", ONE)
    (tmp_path / "one.xml").write_text(voc_text(ONE))
    refused(tmp_path, "nothing tells which: rename one")
    (tmp_path / "valid" / "one.jpg").rename(tmp_path / "valid" / "other.jpg")
    assert boxes_in(read(tmp_path, "detection")) == 2


def test_of_two_annotations_of_an_image_one_is_removed(tmp_path: Path) -> None:
    as_voc(tmp_path, [ONE, TWO])
    other = tmp_path / "Annotations" / "000.xml"
    other.write_text(voc_text(replace(TWO, name="000"), filename="two.jpg"))
    refused(tmp_path, "are both annotations of .*: remove one")
    other.unlink()
    assert boxes_in(read(tmp_path)) == 3


def test_lists_of_names_are_made_one(tmp_path: Path) -> None:
    as_yolo(tmp_path, [ONE, TWO])
    yaml = tmp_path / "data.yaml"
    good = yaml.read_text()
    for text, match in (
        ("names: [ant, bee, ant]", "each needs its own name"),
        ("a: &a [x, y]\nnames: [*a, *a]", "is not read: write them out"),
        ("names: [ant, no, wasp]", "to YAML: write it in quotes"),
    ):
        yaml.write_text(text)
        refused(tmp_path, match)
    yaml.write_text("names: [ant, 'no', wasp]")
    found = read(tmp_path).targets
    assert found is not None
    assert found.names == ("ant", "no", "wasp")
    yaml.write_text(good)
    assert boxes_in(read(tmp_path)) == 3


def test_of_lists_that_contradict_each_other_the_right_one_is_kept(tmp_path: Path) -> None:
    for part, one in (("train", ONE), ("valid", TWO)):
        photograph(tmp_path / part / f"{one.name}.jpg", one)
        (tmp_path / part / f"{one.name}.txt").write_text(yolo_text(one))
        (tmp_path / part / "_darknet.labels").write_text("ant\nbee\nwasp\n" if one is ONE else "bee\nant\nwasp\n")
    refused(tmp_path, "name different classes: keep the one that is right")
    (tmp_path / "valid" / "_darknet.labels").unlink()
    assert boxes_in(read(tmp_path)) == 3


def test_images_with_boxes_are_left_out_and_not_relabelled(tmp_path: Path) -> None:
    as_voc(tmp_path / "data", [ONE, TWO])
    digest = file_hash(next((tmp_path / "data").rglob("one.jpg")))
    found, table = read(tmp_path / "data"), tmp_path / "corrections.csv"
    write_corrections(table, [Correction(digest, "relabel", "image", "")])
    with pytest.raises(DataError, match="leave them out, or mend what they are given"):
        listing(found, corrections=table)
    write_corrections(table, [Correction(digest, "leave-out", "", "")])
    assert boxes_in(listing(found, corrections=table).unsplit) == 1


def described(task: str, **settings: Any) -> dict[str, Any]:
    network = {"name": "x", "image_size": 32, "options": {"head": "fcos"}, "source": None}
    return {
        "architecture": network,
        "classes": ["a", "b"],
        "preprocess": {},
        "provenance": {},
        "task": task,
        "settings": settings,
    }


def test_a_task_is_given_the_settings_that_it_needs() -> None:
    for task, wrong, right in (
        ("detection", {}, {"threshold": 0.5}),
        ("multi_label", {}, {"thresholds": [0.5, 0.5]}),
        ("multi_label", {"thresholds": [0.5]}, {"thresholds": [0.5, 0.5]}),
    ):
        with pytest.raises(DamagedFile, match="threshold"):
            check_description(described(task, **wrong), Path("c"))
        assert check_description(described(task, **right), Path("c")).settings.model_dump(exclude_unset=True) == right
    assert check_description(described("regression", half_width=None, mean=1.5), Path("c"))
