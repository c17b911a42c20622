"""What is wrong in files of boxes is said with their names, parts are found, and nothing else is taken for boxes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from convscope import cli
from convscope.datasets.asked import find_asked
from convscope.datasets.box_folders import find_boxes
from convscope.datasets.coco_boxes import read_coco_boxes
from convscope.datasets.options import DatasetOptions
from convscope.datasets.voc import read_voc
from convscope.datasets.yolo import read_yolo
from convscope.datasets.yolo_names import read_yaml
from convscope.errors import DataError, UsageError
from planted_boxes import (
    FORMS,
    NAMES,
    Planted,
    as_coco,
    as_voc,
    as_yolo,
    assert_same,
    coco_values,
    photograph,
    planted,
    read,
    told,
    voc_text,
    yolo_text,
)
from planted_folders import clean

ONE = Planted("one", (60, 40), (("bee", 10.0, 10.0, 30.0, 20.0), ("ant", 5.0, 5.0, 9.0, 9.0)))
TWO = replace(ONE, name="two", boxes=(("wasp", 1.0, 2.0, 30.0, 20.0),))


def refused(root: Path, *, match: str, left: list[Planted] | None = None) -> None:
    """It stops there with a sentence; what is ``left`` is read where bad images are skipped, with a note."""
    with pytest.raises(DataError, match=match) as caught:
        read(root, "detection")
    assert "\n" not in str(caught.value)
    if left is not None:
        found = read(root, "detection", bad_images="skip")
        assert_same(found, left)
        assert any("left out, for" in note for note in found.notes)


# ---------------------------------------------------------------------------------------------------------------- VOC

BOMB = '<!DOCTYPE b [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]>'
OUTSIDE = '<!DOCTYPE b [<!ENTITY a SYSTEM "file:///etc/passwd">]>'
BAD_XML: dict[str, tuple[Callable[[str], str | bytes], str]] = {
    "entities": (lambda text: BOMB + text.replace("one", "&b;"), "declares a document type"),
    "a file of the machine": (lambda text: OUTSIDE + text.replace("one", "&a;"), "declares a document type"),
    "entities in UTF-16": (lambda text: (BOMB + text).encode("utf-16"), "declares a document type"),
    "a document type in Latin-1": (
        lambda text: ('<?xml version="1.0" encoding="latin-1"?><!DOCTYPE annotation>' + text).encode("latin-1"),
        "declares a document type",
    ),
    "half a file": (lambda text: text[: len(text) // 2], "cannot be read as XML"),
    "bytes of no encoding": (lambda text: text.encode().replace(b"bee", b"\xff\xfe\xfd"), "cannot be read as XML"),
    "too much": (lambda text: text + " " * (11 << 20), "larger than 10 MB"),
    "no box": (lambda text: text.replace("bndbox", "robndbox", 2), r"object 1 \(bee\) has no bndbox"),
    "no name": (lambda text: text.replace("<name>ant</name>", "<name> </name>"), "object 2 has no name"),
    "a number that is none": (lambda text: text.replace(">30.0<", ">nan<"), "xmax of object 1 .* is nan, which is no"),
    "an infinite number": (lambda text: text.replace(">30.0<", ">1e999<"), "is 1e999, which is no finite number"),
    "a word": (lambda text: text.replace(">30.0<", ">wide<"), "is wide, which is no finite number"),
    "a missing corner": (lambda text: text.replace("<xmax>30.0</xmax>", ""), "xmax .* is nothing, which is no"),
}


@pytest.mark.parametrize("kind", BAD_XML)
def test_an_annotation_that_cannot_be_used_is_named(kind: str, tmp_path: Path):
    change, match = BAD_XML[kind]
    as_voc(tmp_path, [ONE, TWO])
    path = tmp_path / "Annotations" / "one.xml"
    changed = change(path.read_text())
    path.write_bytes(changed if isinstance(changed, bytes) else changed.encode())
    with pytest.raises(DataError, match=match):
        read_voc(path)
    refused(
        tmp_path, match=rf"1 of 2 images with boxes cannot be used: .*one\.xml.*{match}.*--bad-images skip", left=[TWO]
    )


def test_a_million_laughs_cost_nothing(tmp_path: Path):
    levels = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))
    path = tmp_path / "a.xml"
    path.write_text(f'<!DOCTYPE b [<!ENTITY l0 "ha">{levels}]><annotation><filename>&l11;</filename></annotation>')
    with pytest.raises(DataError, match="declares a document type"):
        read_voc(path)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "latin-1"])
def test_annotations_in_other_encodings(encoding: str, tmp_path: Path):
    one = replace(ONE, name="größe", boxes=(("Käfer", 1.0, 2.0, 30.0, 20.0),))
    as_voc(tmp_path, [one])
    text = f'<?xml version="1.0" encoding="{encoding.removesuffix("-sig")}"?>{voc_text(one)}'
    (tmp_path / "Annotations" / "größe.xml").write_bytes(text.encode(encoding))
    assert_same(read(tmp_path), [one])


def test_other_xml_and_annotations_without_image_are_noted(tmp_path: Path):
    as_voc(tmp_path, [ONE, TWO])
    (tmp_path / "Annotations" / "pom.xml").write_text("<project><size/></project>")
    (tmp_path / "Annotations" / "page.xml").write_text("<!DOCTYPE html><html></html>")
    (tmp_path / "Annotations" / "gone.xml").write_text(voc_text(replace(ONE, name="gone")))
    photograph(tmp_path / "JPEGImages" / "bare.jpg", Planted("bare"))
    found = read(tmp_path)
    assert_same(found, [ONE, TWO])
    assert (
        "2 XML files are no VOC annotations and are ignored: Annotations/page.xml, Annotations/pom.xml." in found.notes
    )
    assert "1 annotation is of an image that is not there: Annotations/gone.xml." in found.notes
    assert "1 image has no annotation and is left out: JPEGImages/bare.jpg." in found.notes


@pytest.mark.parametrize("filename", ["one.jpg", "C:\\data\\one.jpg", "../../../etc/one.png", "/etc/passwd/one.jpg"])
def test_an_image_is_found_by_the_end_of_what_is_told_and_nothing_else_is_opened(filename: str, tmp_path: Path):
    as_voc(tmp_path, [ONE, TWO])
    (tmp_path / "Annotations" / "one.xml").unlink()
    (tmp_path / "Annotations" / "000.xml").write_text(voc_text(ONE, filename=filename))
    assert_same(read(tmp_path), [ONE, TWO])
    (tmp_path / "Annotations" / "000.xml").write_text(voc_text(ONE, filename="two.jpg"))
    with pytest.raises(DataError, match=r"000\.xml and .*two\.xml are both annotations of .*two\.jpg"):
        read(tmp_path)


def test_the_same_names_in_two_parts_belong_to_the_nearer_annotation(tmp_path: Path):
    for part, one in (("train", ONE), ("valid", replace(TWO, name="one"))):
        photograph(tmp_path / part / "one.jpg", one)
        (tmp_path / part / "one.xml").write_text(voc_text(one))
    found = read(tmp_path)
    assert dict(zip(found.given.tolist(), map(len, found.targets.boxes), strict=True)) == {"train": 2, "val": 1}
    (tmp_path / "train" / "one.xml").rename(tmp_path / "one.xml")
    (tmp_path / "valid" / "one.xml").unlink()
    with pytest.raises(DataError, match="nothing tells which"):
        read(tmp_path, "detection")


def test_lists_of_parts(tmp_path: Path):
    images = planted(8, parts=("train", "train", "val", "test"))
    root = as_voc(tmp_path / "data", images)
    main = root / "ImageSets" / "Main"
    (main / "trainval.txt").write_text("".join(f"{one.name}\n" for one in images if one.part != "test"))
    (main / "ant_train.txt").write_text("image 6.7 1\n")
    (root / "ImageSets" / "Layout").mkdir()
    (root / "ImageSets" / "Layout" / "test.txt").write_text("image 0.7\n")
    parts = {one.name: one.part for one in images}
    found = read(root)
    assert {path.stem: str(part) for path, part in zip(found.files, found.given, strict=True)} == parts
    (main / "val.txt").write_text(f"{images[2].name}  1\n{images[0].name} -1\n")
    found = read(root)
    given = {path.stem: str(part) for path, part in zip(found.files, found.given, strict=True)}
    assert given == parts | {"image 0.7": "val", "image 6.7": ""}
    assert any("1 image stands in two parts of ImageSets/Main" in note and "image 0.7" in note for note in found.notes)
    assert any("1 image stands in no part" in note and "image 6.7" in note for note in found.notes)
    for name in ("train", "val"):
        (main / f"{name}.txt").unlink()
    assert set(read(root).given) == {"train", "test"}
    (main / "test.txt").write_text((main / "trainval.txt").read_text())
    assert set(read(root).given) == {""}


# --------------------------------------------------------------------------------------------------------------- YOLO

BAD_TEXT = {
    "a class without a name": (
        "0 .5 .5 .1 .1\n3 .5 .5 .1 .1",
        r"line 2 is of class 3, and .*data\.yaml names 3 classes",
    ),
    "a word": ("0 .5 .5 .1 .1\n\nbee .5 .5 .1 .1", "line 3 is none of a class and a box"),
    "too few numbers": ("0 .5 .5 .1", "line 1 is none of a class and a box"),
    "two points": ("0 .1 .1 .2 .2 .3 .3 .4", "line 1 is none of a class and a box"),
    "no finite number": ("0 .5 nan .1 .1", "line 1 holds what is no finite number"),
    "an infinite number": ("0 .5 .5 .1 1e999", "line 1 holds what is no finite number"),
    "a class that is no whole number": ("0.5 .5 .5 .1 .1", r"line 1 begins with 0\.5, which is no number of a class"),
    "a class below none": ("-1 .5 .5 .1 .1", "line 1 begins with -1, which is no number of a class"),
    "bytes": (b"\xff\xfe\xfd", "cannot be read"),
    "too much": ("\n" * (11 << 20), "larger than 10 MB"),
}


@pytest.mark.parametrize("kind", BAD_TEXT)
def test_a_text_file_that_cannot_be_used_is_named_with_the_line(kind: str, tmp_path: Path):
    text, match = BAD_TEXT[kind]
    as_yolo(tmp_path, [*planted(16), ONE])
    path = tmp_path / "labels" / "one.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    refused(tmp_path, match=rf"1 of 17 images with boxes cannot be used: .*one\.txt.*{match}", left=planted(16))


def test_files_beside_their_images_empty_ones_ones_that_are_missing_and_ones_too_many(tmp_path: Path):
    bare = replace(ONE, name="bare", boxes=())
    for one in (ONE, TWO, bare, replace(bare, name="none")):
        photograph(tmp_path / f"{one.name}.jpg", one)
        (tmp_path / f"{one.name}.txt").write_text(yolo_text(one))
    (tmp_path / "none.txt").unlink()
    (tmp_path / "gone.txt").write_text(yolo_text(ONE))
    (tmp_path / "notes.txt").write_text("taken in June")
    (tmp_path / "classes.txt").write_text("ant\nbee\nwasp\n\n")
    found = read(tmp_path)
    assert_same(found, [bare, replace(bare, name="none"), ONE, TWO])
    assert found.targets.names == NAMES
    assert "1 text file has no image and is ignored: gone.txt." in found.notes
    assert "1 image has no text file and so counts as one without a box: none.jpg." in found.notes


def test_confidences_are_not_read_and_polygons_are_their_boxes(tmp_path: Path):
    as_yolo(tmp_path, [ONE, TWO])
    (tmp_path / "labels" / "one.txt").write_text("1 0.5 0.5 0.5 0.5 0.875\n2 0.1 0.5 0.2 0.25 0.4 0.75\n")
    found = read(tmp_path)
    assert told(found)["one"] == [("bee", 15, 10, 45, 30, False), ("wasp", 6.0, 10, 24, 30, False)]
    assert any(note.startswith("1 image has boxes with a sixth number") for note in found.notes)
    assert any(note.startswith("1 image has polygons, of which the boxes around them") for note in found.notes)
    assert read_yolo(tmp_path / "labels" / "one.txt").lines.tolist() == [1, 2]


YAML = {
    "a list": ("data.yaml", "names: [ant, bee, wasp]", NAMES),
    "numbers": ("data.yaml", "nc: 3\nnames:\n  0: ant\n  1: bee\n  2: wasp", NAMES),
    "another name": ("insects.yml", "names: ['ant', 'bee', 'wasp']", NAMES),
    "numbers as names": ("data.yaml", "names: [1, 2.5, wasp]", ("1", "2.5", "wasp")),
    "a number beyond": ("data.yaml", "names: {7: fly, 0: ant, 1: bee, 2: wasp}", (*NAMES, "fly")),
    "darknet": ("_darknet.labels", "ant\nbee\nwasp", NAMES),
    "label images": ("labels/classes.txt", "ant\nbee\nwasp\n", NAMES),
    "obj": ("obj.names", "ant\nbee\nwasp\n", NAMES),
    "none": ("readme.md", "", ("0", "1", "2")),
}


@pytest.mark.parametrize("kind", YAML)
def test_names_of_classes(kind: str, tmp_path: Path):
    place, text, names = YAML[kind]
    as_yolo(tmp_path, [ONE, TWO])
    (tmp_path / "data.yaml").unlink()
    (tmp_path / place).write_text(text)
    found = read(tmp_path)
    assert found.targets.names == names
    assert [[names.index(row[0]) for row in rows] for rows in told(found).values()] == [[1, 0], [2]]
    assert any("called by their numbers" in note for note in found.notes) == (kind == "none")


BAD_YAML = {
    "code": ("names: !!python/object/apply:os.system ['true']", "cannot be read as YAML"),
    "references": ("a: &a [x, y]\nnames: [*a, *a]", r"refers to its own parts"),
    "a document cut off": ("names: [ant, bee", "cannot be read as YAML"),
    "a truth that is none": ("x: !!bool foo\nnames: [ant]", "cannot be read as YAML"),
    "a number of nothing": ("x: !!int ''\nnames: [ant]", "cannot be read as YAML"),
    "a day that is none": ("x: !!timestamp foo\nnames: [ant]", "cannot be read as YAML"),
    "a day of a list": ("x: !!timestamp [1]\nnames: [ant]", "cannot be read as YAML"),
    "a list as a key": ("? [a]\n: b\nnames: [ant]", "cannot be read as YAML"),
    "a number of underscores": ("x: !!float _\nnames: [ant]", "cannot be read as YAML"),
    "depth": ("names: " + "[" * 5000, "cannot be read as YAML"),
    "a word": ("names: ant", "names is neither a list of classes nor one by their numbers"),
    "none": ("names: []", "names is neither a list of classes nor one by their numbers"),
    "lists": ("names: [[ant], [bee], [wasp]]", "the name of class 0 is .*: write it in quotes"),
    "a truth": ("names: [ant, no, wasp]", "the name of class 1 is 'False' to YAML: write it in quotes"),
    "a key": ("names: {a: ant, b: bee}", "names has the key 'a', which is no number of a class"),
    "twins": ("names: [ant, bee, ant]", "names two classes alike"),
    "no name": ("names: [ant, '', wasp]", "class 1 has no name"),
    "too much": ("names: [ant, bee, wasp]\n" + "#" * (1 << 20), "larger than 1 MB"),
}


@pytest.mark.parametrize("kind", BAD_YAML)
def test_a_list_of_names_that_cannot_be_read_is_said(kind: str, tmp_path: Path):
    text, match = BAD_YAML[kind]
    as_yolo(tmp_path, [ONE, TWO])
    (tmp_path / "data.yaml").write_text(text)
    refused(tmp_path, match=rf"data\.yaml.*{match}")


def test_references_that_grow_cost_nothing(tmp_path: Path):
    levels = "".join(f"l{n}: &l{n} {{<<: [{', '.join([f'*l{n - 1}'] * 9)}]}}\n" for n in range(1, 12))
    (tmp_path / "data.yaml").write_text(f"l0: &l0 {{a: b}}\n{levels}names: [ant]\n")
    with pytest.raises(DataError, match="refers to its own parts"):
        read_yaml(tmp_path / "data.yaml")


def test_lists_of_names_that_contradict_each_other(tmp_path: Path):
    for part, one in (("train", ONE), ("valid", TWO)):
        photograph(tmp_path / part / f"{one.name}.jpg", one)
        (tmp_path / part / f"{one.name}.txt").write_text(yolo_text(one))
        (tmp_path / part / "_darknet.labels").write_text("ant\nbee\nwasp\n")
    assert_same(read(tmp_path), [ONE, TWO])
    (tmp_path / "valid" / "_darknet.labels").write_text("bee\nant\nwasp\n")
    refused(tmp_path, match="train/_darknet.labels and .*valid/_darknet.labels name different classes")


@pytest.mark.parametrize(
    "yaml",
    [
        "path: ..\ntrain: ../a\nval: ../b",
        "train: images/a\nval: [images/b]",
        "path: {root}\ntrain: images/a\nval: images/b",
        "path: /nowhere\ntrain: images/a\nval: b.txt",
    ],
)
def test_parts_of_a_data_yaml(yaml: str, tmp_path: Path):
    images = [replace(ONE, part="a"), replace(TWO, part="b"), replace(TWO, name="three", part="test")]
    root = as_yolo(tmp_path / "data", images)
    (root / "b.txt").write_text("./images/b/two.jpg\n/etc/passwd\n../../other.jpg\nimages/a/\0one.jpg\n")
    (root / "data.yaml").write_text(f"{yaml.format(root=root)}\nnames: [ant, bee, wasp]\n")
    found = read(root)
    inside = "../a" not in yaml
    wanted = ["train", "val", "test"] if inside else ["", "", "test"]
    assert {path.stem: str(part) for path, part in zip(found.files, found.given, strict=True)} == dict(
        zip(("one", "two", "three"), wanted, strict=True)
    )


def test_a_data_yaml_near_the_text_files_names_the_classes_and_the_parts(tmp_path: Path):
    root, inner = tmp_path / "data", tmp_path / "data" / "insects"
    for part, one in (("first", ONE), ("second", TWO)):
        photograph(inner / part / "images" / f"{one.name}.jpg", one)
        (inner / part / "labels").mkdir()
        (inner / part / "labels" / f"{one.name}.txt").write_text(yolo_text(one))
    text = "train: first/images\nval: second/images\nnames: [ant, bee, wasp]\n"
    (inner / "data.yaml").write_text(text)
    found = read(root)
    assert_same(found, [ONE, TWO])
    assert found.targets.names == NAMES
    assert found.given.tolist() == ["train", "val"]
    assert not any("called by their numbers" in note for note in found.notes)
    (inner / "first" / "data.yaml").write_text("names: [bee, ant, wasp]")
    refused(root, match=r"insects/data\.yaml and .*first/data\.yaml name different classes: keep the one that is right")
    (root / "data.yaml").write_text("names: [fly, gnat, moth]")
    assert read(root).targets.names == ("fly", "gnat", "moth")
    (root / "data.yaml").unlink()
    (inner / "first" / "data.yaml").write_text("names: [bee")
    refused(root, match=r"first/data\.yaml cannot be read as YAML")


@pytest.mark.parametrize("spelled", ["labels", "Labels", "LABELS"])
@pytest.mark.parametrize("images", ["images", "Images"])
def test_folders_are_found_in_any_case(images: str, spelled: str, tmp_path: Path):
    as_yolo(tmp_path, [ONE, TWO, *(Planted(f"bare{i}") for i in range(9))])
    (tmp_path / "data.yaml").unlink()
    (tmp_path / "images").rename(tmp_path / images)
    (tmp_path / "labels").rename(tmp_path / spelled)
    found = read(tmp_path)
    assert sum(map(len, found.targets.boxes)) == 3
    assert any(note.startswith("9 images have no text file") for note in found.notes)


@pytest.mark.parametrize("shape", [[2, 3], [3, 3], [2, 2]])
def test_keypoints_are_not_read_where_data_yaml_tells_of_them(shape: list[int], tmp_path: Path):
    as_yolo(tmp_path, [ONE, TWO])
    points = " 0.9" * (shape[0] * shape[1])
    for one in (ONE, TWO):
        lines = yolo_text(one).splitlines()
        (tmp_path / "labels" / f"{one.name}.txt").write_text("".join(f"{line}{points}\n" for line in lines))
    (tmp_path / "data.yaml").write_text(f"kpt_shape: {shape}\nnames: [ant, bee, wasp]")
    found = read(tmp_path)
    assert_same(found, [ONE, TWO])
    assert "2 images have boxes with keypoints, which are not read: one.jpg, two.jpg." in found.notes
    assert not any("polygons" in note for note in found.notes)
    (tmp_path / "labels" / "two.txt").write_text("2 0.1 0.5 0.2 0.25 0.4 0.75\n1 0.5 0.5 0.5 0.5\n")
    found = read(tmp_path)
    assert told(found)["two"] == [("wasp", 6.0, 10, 24, 30, False), ("bee", 15, 10, 45, 30, False)]
    assert any(note.startswith("1 image has polygons") for note in found.notes)
    for odd in ("[17]", "x", "[0, 3]", "[a, b]"):
        (tmp_path / "data.yaml").write_text(f"kpt_shape: {odd}\nnames: [ant, bee, wasp]")
        (tmp_path / "labels" / "one.txt").write_text("1 0.5 0.5 0.5 0.5\n")
        assert len(read(tmp_path).files) == 2


def test_parts_that_are_one_folder_are_none(tmp_path: Path):
    as_yolo(tmp_path, [ONE, TWO])
    (tmp_path / "data.yaml").write_text("train: images\nval: images\nnames: [ant, bee, wasp]\n")
    assert set(read(tmp_path).given) == {""}


# --------------------------------------------------------------------------------------------------------------- COCO

Values = dict[str, list[dict[str, object]]]


def changed(key: str, place: int, **values: object) -> Callable[[Values], object]:
    return lambda data: data[key][place].update(values)


BAD_JSON: dict[str, tuple[Callable[[Values], object], str, bool]] = {
    "three numbers": (
        changed("annotations", 0, bbox=[1, 2, 3]),
        "annotation 0 has no box of four finite numbers",
        True,
    ),
    "no finite number": (changed("annotations", 1, bbox=[1, 2, float("nan"), 3]), "annotation 1 has no box", True),
    "words": (changed("annotations", 0, bbox=["a", 2, 3, 4]), "annotation 0 has no box", True),
    "a huge number": (changed("annotations", 0, bbox=[10**400, 2, 3, 4]), "annotation 0 has no box", True),
    "no box": (changed("annotations", 0, bbox=None), "annotation 0 has no box", True),
    "another image": (changed("annotations", 0, image_id=77), "annotation 0 is of an image that is not", False),
    "another class": (changed("annotations", 0, category_id=1), "annotation 0 is of class 1, which is not", True),
    "no image": (lambda data: data["annotations"][0].pop("image_id"), "names no image_id or no category_id", False),
    "one name twice": (changed("categories", 0, name="bee"), "names two classes alike", False),
    "one image twice": (changed("images", 1, file_name="one.jpg"), "lists an image twice", False),
    "one number twice": (changed("images", 1, id=0), "lists an image twice", False),
    "no classes": (lambda data: data.update(categories=[], annotations=[]), "names no classes", False),
    "no list": (lambda data: data.update(images=None), "is no COCO file of boxes", False),
}


@pytest.mark.parametrize("kind", BAD_JSON)
def test_a_file_of_boxes_that_cannot_be_used_is_named(kind: str, tmp_path: Path):
    change, match, skips = BAD_JSON[kind]
    as_coco(tmp_path, [ONE, TWO])
    (path,) = tmp_path.rglob("*.json")
    data = coco_values([ONE, TWO])
    change(data)
    path.write_text(json.dumps(data))
    if skips:
        refused(tmp_path, match=rf"1 of 2 images with boxes cannot be used: .*instances.*{match}", left=[TWO])
    with pytest.raises(DataError, match=match):
        read(tmp_path, "detection") if skips else read_coco_boxes(path)


def test_files_of_parts_as_roboflow_exports_them(tmp_path: Path):
    above = {"id": 50, "name": "insects", "supercategory": "none"}
    for part, one in (("train", ONE), ("valid", TWO), ("test", replace(ONE, name="two"))):
        photograph(tmp_path / part / f"{one.name}.jpg", one)
        data = coco_values([one])
        data["categories"] = [above, *({**row, "supercategory": "insects"} for row in data["categories"])]
        for row in data["annotations"]:
            row["segmentation"] = []
        (tmp_path / part / "_annotations.coco.json").write_text(json.dumps(data))
    found = read(tmp_path)
    assert found.targets.names == NAMES
    parts = zip(found.given.tolist(), map(len, found.targets.boxes), strict=True)
    assert sorted(parts) == [("test", 2), ("train", 2), ("val", 1)]


def test_a_class_above_the_others_stays_where_it_has_a_box_and_two_files_may_differ(tmp_path: Path):
    data = coco_values([ONE], names=("bee", "ant"))
    data["categories"][1]["supercategory"] = "bee"
    as_coco(tmp_path, [ONE, TWO])
    (path,) = tmp_path.rglob("*.json")
    path.write_text(json.dumps(data))
    path.with_name("more.json").write_text(json.dumps(coco_values([TWO])))
    found = read(tmp_path)
    assert_same(found, [ONE, TWO])
    assert found.targets.names == ("bee", "ant", "wasp")
    path.with_name("again.json").write_text(json.dumps(coco_values([TWO])))
    with pytest.raises(DataError, match=r"tell of .*two\.jpg twice"):
        read(tmp_path)


def test_images_are_found_by_the_folders_told_and_nothing_outside(tmp_path: Path):
    data = coco_values([ONE, TWO, replace(TWO, name="gone")])
    names = ("train\\one.jpg", "../../data/images/two.jpg", "/etc/gone.jpg")
    for row, name in zip(data["images"], names, strict=True):
        row["file_name"] = name
    for folder in ("train", "other"):
        photograph(tmp_path / "data" / folder / "one.jpg", ONE)
    photograph(tmp_path / "data" / "images" / "two.jpg", TWO)
    (tmp_path / "data" / "all.json").write_text(json.dumps(data))
    found = read(tmp_path / "data")
    assert_same(found, [TWO, ONE])
    assert "1 image that all.json names is not there: /etc/gone.jpg." in found.notes
    assert "1 image is not listed in all.json and is left out: other/one.jpg." in found.notes
    assert {path.parent.name for path in found.files} == {"train", "images"}


# ------------------------------------------------------------------------------------------------- what is no boxes


def nothing(root: Path) -> bool:
    return find_boxes(root) is None and find_asked(str(root), DatasetOptions(), None, None) is None


def test_classes_and_captions_are_no_boxes(tmp_path: Path):
    clean(tmp_path, each=3)
    assert nothing(tmp_path)
    for path in sorted(tmp_path.rglob("*.png")):
        path.with_suffix(".txt").write_text("a photo of 2 ants, 0.5 mm long\n")
        path.with_suffix(".json").write_text(json.dumps({"images": [], "annotations": [], "categories": [], "bbox": 1}))
    assert nothing(tmp_path)
    for path in sorted(tmp_path.rglob("*.txt")):
        path.write_text("1 2004 6 17 12\n")  # numbers, of a day
    assert nothing(tmp_path)
    with pytest.raises(DataError, match=r"holds no boxes that can be told: images with a VOC annotation each"):
        find_asked(str(tmp_path), DatasetOptions(), "detection", None)


@pytest.mark.parametrize("form", ["voc", "yolo"])
def test_a_few_boxes_among_classes_are_taken_only_if_asked_for(form: str, tmp_path: Path):
    clean(tmp_path, each=3)
    first = sorted(tmp_path.rglob("*.png"))[0]
    one = replace(ONE, name=first.stem, size=(48, 48))
    text = voc_text(one) if form == "voc" else yolo_text(one)
    first.with_suffix(".xml" if form == "voc" else ".txt").write_text(text)
    assert nothing(tmp_path)
    found = read(tmp_path, "detection")
    assert len(found.files) == (1 if form == "voc" else 9)
    assert found.notes[0] == "task: detection, boxes around objects of some classes."


def test_outlines_stay_masks_unless_boxes_are_asked_for(tmp_path: Path):
    as_coco(tmp_path, [ONE, TWO])
    (path,) = tmp_path.rglob("*.json")
    data = coco_values([ONE, TWO])
    for row in data["annotations"]:
        x, y, w, h = row["bbox"]
        row["segmentation"] = [[x, y, x + w, y, x + w, y + h]]
    path.write_text(json.dumps(data))
    found = find_asked(str(tmp_path), DatasetOptions(), None, None)
    assert found.targets.task == "segmentation"
    assert find_boxes(tmp_path) is None
    assert_same(read(tmp_path, "detection"), [ONE, TWO])
    for row, outline in zip(data["annotations"], ([], None, []), strict=True):
        row["segmentation"] = outline
    path.write_text(json.dumps(data))
    assert_same(read(tmp_path), [ONE, TWO])


def test_a_file_may_be_named_in_place_of_its_folder(tmp_path: Path):
    umlaut = replace(TWO, name="zwölf")  # which JSON writes with a backslash
    for form, pattern in (("coco", "*.json"), ("yolo", "*.yaml")):
        FORMS[form](tmp_path / form, [ONE, umlaut])
        (tmp_path / form / "one.xml").write_text(voc_text(ONE))
        (path,) = (tmp_path / form).rglob(pattern)
        found = read(path, "detection")
        assert_same(found, [ONE, umlaut])
        assert found.name == form
    shutil.copy(path, tmp_path / "table.csv")
    with pytest.raises(DataError, match="is a table; the task detection takes images with a VOC"):
        find_asked(str(tmp_path / "table.csv"), DatasetOptions(), "detection", None)


def test_the_doctor_looks_through_boxes_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    root = as_voc(tmp_path / "data", planted(40))
    photograph(root / "JPEGImages" / "bare.jpg", Planted("bare"))
    (root / "Annotations" / "image 5.7.xml").write_text("<annotation>")
    assert cli.run(["doctor", str(root), "--runs", str(tmp_path / "runs"), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["task"], summary["images"], summary["classes"]) == ("detection", 39, 3)
    found = {finding["kind"]: finding["sentence"] for finding in summary["findings"]}
    assert "1 image is left out, for its boxes cannot be read" in found["unreadable-boxes"]
    assert found["without-boxes"] == "1 image has no annotation and is left out: JPEGImages/bare.jpg."
    assert "annotations" not in found
    assert not any("left out" in note for note in summary["notes"])


def test_options_of_classes_and_of_masks_are_refused(tmp_path: Path):
    as_voc(tmp_path, [ONE, TWO])
    with pytest.raises(UsageError, match="--masks is for the task segmentation, not detection"):
        find_asked(str(tmp_path), DatasetOptions(), "detection", tmp_path)
    with pytest.raises(UsageError, match="--merge is for the task classification, not detection"):
        read(tmp_path, merge=("a,b=c",))
    with pytest.raises(UsageError, match="digits has one class an image"):
        find_asked("digits", DatasetOptions(), "detection", None)
    assert find_asked(str(tmp_path), DatasetOptions(), "classification", None) is None


@pytest.mark.parametrize("form", FORMS)
def test_groups_and_images_that_cannot_be_read(form: str, tmp_path: Path):
    images = planted(8)
    FORMS[form](tmp_path, images)
    found = read(tmp_path, group=r"image (\d)")
    assert found.groups.tolist() == [path.stem.split()[1][0] for path in found.files]
    (broken,) = tmp_path.rglob("image 3.7.jpg")
    broken.write_bytes(b"\xff\xd8\xff")
    refused(tmp_path, match=r"1 of 8 images with boxes cannot be used: .*image 3\.7\.jpg", left=images[:3] + images[4:])
