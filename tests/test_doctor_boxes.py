"""The doctor on boxes: every planted fault is found and named, and nothing in clean data is."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from convscope import cli
from convscope.datasets.asked import find_asked
from convscope.datasets.boxes import Boxes, ImageBoxes
from convscope.datasets.options import DatasetOptions
from convscope.errors import DataError
from convscope.images.preprocess import Preprocess
from convscope.inspection.box_overlap import agreement, same_object
from convscope.inspection.box_remarks import KINDS
from convscope.inspection.box_sizes import fitted_boxes
from convscope.inspection.command import doctor
from convscope.inspection.findings import Finding
from convscope.inspection.report import DoctorReport
from convscope.models.box_network import BOX_STRIDES, places_of
from convscope.tasks.detection import TASK, assigned
from planted_box_faults import BOX_FAULTS, COUNT, SIDE, annotation, boxed_images, image, planted_fault, written
from planted_boxes import FORMS, voc_text, yolo_text
from planted_folders import pattern


def examined(root: Path, tmp_path: Path, **options: object) -> DoctorReport:
    return doctor(root, runs=tmp_path / "runs", **{"labels": False, **options})


def of(report: DoctorReport, kind: str) -> list[Finding]:
    return [finding for finding in report.findings if finding.kind == kind]


@pytest.mark.parametrize("fault", BOX_FAULTS)
def test_a_planted_fault_is_found(fault: str, tmp_path: Path):
    _, _, _, called, grade = BOX_FAULTS[fault]
    report = examined(planted_fault(fault, tmp_path / "data"), tmp_path)
    found = of(report, called)
    assert [finding.grade for finding in found] == [grade]
    assert found[0].count > 0
    others = {f.kind for f in report.findings if f.grade == "fault" and f.kind != called}
    assert not others, "a fault that was not planted"


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("form", FORMS)
def test_nothing_in_clean_data_is_a_fault_or_a_doubt(form: str, seed: int, tmp_path: Path):
    report = examined(written(tmp_path / "data", form, boxed_images(seed), seed), tmp_path)
    assert [f.sentence for f in report.findings if f.grade != "note"] == []
    assert report.summary["verdict"].startswith("sound")
    assert report.corrections is None
    (empty,) = of(report, "no-object")
    assert empty.sentence.startswith("6 images (10%) without any box")


@pytest.mark.parametrize("fault", [f for f, (*_, grade) in BOX_FAULTS.items() if grade == "fault"])
def test_a_training_stops_at_a_fault_of_a_file(fault: str, tmp_path: Path):
    root = planted_fault(fault, tmp_path / "data")
    if BOX_FAULTS[fault][3] in ("unreadable-boxes", "unreadable-images", "class-unnamed", "refused"):
        with pytest.raises(DataError):
            find_asked(str(root), DatasetOptions(), None, None)


# ------------------------------------------------------------------------------------------- what the advice says helps


def _drawn(form: str) -> Callable[[Path], object]:
    """The boxes of image 3 as they were."""
    one = boxed_images()[3]
    return lambda root: annotation(root, form, 3).write_text(voc_text(one) if form == "voc" else yolo_text(one))


def _image_again(root: Path) -> None:
    (folder,) = (path for path in root.iterdir() if path.name in ("JPEGImages", "images"))
    pattern(3, SIDE).save(folder / "03.jpg", quality=95)


def _named(root: Path) -> None:
    (root / "data.yaml").write_text("names: [ant, bee, wasp, fly]\n")


def _within(root: Path) -> None:
    """The boxes that reach over an edge within it."""
    (path,) = root.rglob("*.json")
    values = json.loads(path.read_text())
    for row in values["annotations"]:
        left, top, wide, high = row["bbox"]
        row["bbox"] = [max(0, left), top, wide + min(0, left), high]
    path.write_text(json.dumps(values))


MENDED: dict[str, Callable[[Path], object]] = {
    "broken-xml": _drawn("voc"),
    "broken-line": lambda root: annotation(root, "yolo", 3).unlink(),
    "garbage": _image_again,
    "half-an-image": _image_again,
    "number-too-high": _named,
    "no-list-of-names": _named,
    "other-shape": _drawn("voc"),
    "flat-voc": _drawn("voc"),
    "outside": _drawn("voc"),
    "page-for-annotation": lambda root: (root / "Annotations" / "page.xml").unlink(),
    "xml-alone": _image_again,
    "text-alone": _image_again,
    "image-alone": _drawn("voc"),
    "image-unlisted": lambda root: (root / "images" / "90.jpg").unlink(),
    "no-text": lambda root: annotation(root, "yolo", 3).write_text(""),
    "confidences": _drawn("yolo"),
    "class-once": _drawn("voc"),
    "drawn-twice": _drawn("voc"),
    "of-two-classes": _drawn("yolo"),
    "mostly-empty": lambda root: [
        annotation(root, "voc", i).write_text(voc_text(one)) for i, one in enumerate(boxed_images())
    ],
    "half-without-text": lambda root: [annotation(root, "yolo", i).touch() for i in range(COUNT)],
    "often-over-the-edge": _within,
}


@pytest.mark.parametrize("fault", MENDED)
def test_what_the_advice_says_mends_it(fault: str, tmp_path: Path):
    root = planted_fault(fault, tmp_path / "data")
    MENDED[fault](root)
    assert all(finding.grade == "note" for finding in of(examined(root, tmp_path), BOX_FAULTS[fault][3]))


@pytest.mark.parametrize("fault", ["broken-xml", "three-numbers", "number-too-high", "garbage"])
def test_boxes_that_cannot_be_used_are_left_out_by_an_option(fault: str, tmp_path: Path):
    root = planted_fault(fault, tmp_path / "data")
    found = find_asked(str(root), DatasetOptions(bad_images="skip"), None, None)
    assert found is not None
    assert len(found.labels) == COUNT - 1


@pytest.mark.parametrize("fault", ["copy-with-other-boxes", "near-copy-with-other-boxes"])
def test_the_corrections_file_leaves_contradictions_out(fault: str, tmp_path: Path):
    root = planted_fault(fault, tmp_path / "data")
    report = examined(root, tmp_path)
    assert report.corrections is not None
    kept = shutil.copy(report.corrections, tmp_path / "corrections.csv")
    assert not of(examined(root, tmp_path, corrections=kept), BOX_FAULTS[fault][3])


def test_narrow_boxes_are_wide_enough_at_the_size_that_is_advised(tmp_path: Path):
    (finding,) = of(examined(planted_fault("narrow", tmp_path / "data"), tmp_path), "narrow-boxes")
    assert "'ant' (11% of 54 boxes)" in finding.sentence
    assert (finding.details["image_size"], finding.details["middle"]) == (1024, 4.0)
    assert "--image-size 1024 makes the middle one of these 8 px wide" in finding.advice
    found = find_asked(str(tmp_path / "data"), DatasetOptions(), None, None)
    assert found is not None
    assert isinstance(found.targets, Boxes)
    assert (fitted_boxes(found.targets, 512).shorter < 8).sum() == 6
    assert (fitted_boxes(found.targets, 1024).shorter < 8).sum() == 0
    tiles = replace(found.targets, boxes=tuple(replace(one, size=(32, 32)) for one in found.targets.boxes))
    assert (fitted_boxes(tiles, 512).shorter < 8).sum() == 0


# ------------------------------------------------------------------------------------------------------ what is told


def test_a_copy_that_is_mirrored_with_its_boxes_is_no_contradiction(tmp_path: Path):
    report = examined(planted_fault("mirrored-copy", tmp_path / "data"), tmp_path)
    assert not of(report, "near-copies-across-boxes")
    targets = report.found.survey.unsplit.targets
    assert isinstance(targets, Boxes)
    pair = targets.boxes[3], targets.boxes[COUNT]
    assert agreement(*pair, exact=False).iou == pytest.approx(1)
    assert agreement(*pair, exact=True).iou < 0.5


def test_the_table_of_classes_counts_boxes_and_strides(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    images = boxed_images()
    root = written(tmp_path / "data", "yolo", images)
    assert cli.run(["doctor", str(root), "--runs", str(tmp_path / "runs"), "--no-labels", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["task"], told["classes"], told["images"]) == ("detection", 3, COUNT)
    for row in told["targets"]:
        mine = [box for one in images for box in one.boxes if box[0] == row["name"]]
        sides = np.array([(right - left, bottom - top) for _, left, top, right, bottom in mine]) * 512 / SIDE
        longest = sides.max(1)
        assert row["boxes"] == len(mine) == row["images"] == 54
        assert row["strides"] == {
            "8": int((longest <= 128).sum()),
            "16": int(((longest > 128) & (longest <= 256)).sum()),
            "32": int((longest > 256).sum()),
        }
        assert row["narrow"] == 0
        medians = [*np.median(sides, 0), np.median(sides[:, 0] / sides[:, 1])]
        assert [row["width"], row["height"], row["aspect"]] == pytest.approx(medians, abs=0.01)
    assert sum(row["share"] for row in told["targets"]) == pytest.approx(1, abs=1e-5)
    page = (tmp_path / "runs" / "data" / "doctor" / "index.html").read_text()
    assert all(f'<th class="n">stride {stride}</th>' in page for stride in BOX_STRIDES)
    assert all(f"<td>{row['name']}</td>" in page for row in told["targets"])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_stride_of_a_box_is_that_of_the_place_at_its_centre(seed: int):
    """A box put with its centre on a place of each map is assigned to it on the map that the table tells, alone."""
    random = np.random.default_rng(seed)
    sides = random.uniform(20, 500, 2)
    centres, strides = places_of(TASK.size)
    own = []
    for stride in BOX_STRIDES:
        here = torch.nonzero(strides == stride)[:, 0]
        place = here[int((centres[here] - 256).abs().sum(1).argmin())]
        middle = centres[place].numpy()
        box = torch.tensor([[*(middle - sides / 2), *(middle + sides / 2), 0.0]], dtype=torch.float32)
        own += [stride] if int(assigned(box, centres, strides)[place]) == 0 else []
    one = ImageBoxes((512, 512), np.array([[0, 0, *sides]]), np.zeros(1, np.int64), np.zeros(1, bool))
    assert fitted_boxes(Boxes(("ant",), (one,))).strides.tolist() == own


def test_crowds_are_not_counted_by_size_and_are_no_twins():
    corners = np.array([[0.0, 0, 10, 10], [0, 0, 10, 10]])
    one = ImageBoxes((64, 64), corners, np.zeros(2, np.int64), np.array([False, True]))
    assert len(fitted_boxes(Boxes(("ant",), (one,))).labels) == 1
    assert list(same_object(one)) == []
    assert list(same_object(replace(one, crowd=np.zeros(2, bool)))) == [(0, 1)]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 7))
def test_boxes_agree_with_themselves_in_each_position_and_less_the_farther_they_move(seed: int, position: int):
    random = np.random.default_rng(seed)
    count = int(random.integers(1, 8))
    corner = random.uniform(0, 40, (count, 2))
    corners = np.concatenate([corner, corner + random.uniform(4, 20, (count, 2))], 1)
    one = ImageBoxes((64, 64), corners, random.integers(0, 3, count), np.zeros(count, bool))
    one = replace(one, corners=np.round(one.corners * 16) / 16)
    turned = _by_pillow(one, position)
    assert agreement(one, turned, exact=False).iou == pytest.approx(1)
    assert agreement(one, one, exact=True).alone == 0
    moved = replace(one, corners=one.corners + 0.5)
    assert agreement(one, moved, exact=True).iou < 1
    fewer = ImageBoxes((64, 64), corners[1:], one.labels[1:], one.crowd[1:])
    assert agreement(one, fewer, exact=True).alone >= 1


def _by_pillow(one: ImageBoxes, position: int) -> ImageBoxes:
    """Each box drawn as a mask, put into a position by Pillow, and read off again at 16 pixels a pixel."""
    ways = [None, *(Image.Transpose(n) for n in range(7))]
    found = []
    for corners in (one.corners * 16).astype(int):
        mask = np.zeros((1024, 1024), np.uint8)
        mask[corners[1] : corners[3], corners[0] : corners[2]] = 255
        way = ways[position]
        drawn = Image.fromarray(mask) if way is None else Image.fromarray(mask).transpose(way)
        box = drawn.getbbox()
        assert box is not None
        found.append(np.array(box) / 16)
    return replace(one, corners=np.array(found))


def test_what_was_left_out_is_told_once_and_the_images_all_the_same(tmp_path: Path):
    root = planted_fault("nothing-at-all", tmp_path / "data")
    report = examined(root, tmp_path)
    assert report.summary["images"] == COUNT
    assert report.summary["targets"] == []
    other = examined(planted_fault("flat-voc", tmp_path / "other"), tmp_path)
    assert not any("left out" in note for note in other.summary["notes"])
    assert of(other, "flat-boxes")[0].where == (f"{image(tmp_path / 'other', 3).name} (ant)",)


def test_each_kind_of_remark_is_planted_and_each_key_of_a_class_documented(tmp_path: Path):
    assert {called for *_, called, _ in BOX_FAULTS.values()} >= set(KINDS)
    report = examined(written(tmp_path / "data", "voc", boxed_images()), tmp_path)
    pages = [
        (Path(__file__).parents[1] / "docs" / f"{name}.md").read_text(encoding="utf-8") for name in ("json", "doctor")
    ]
    (line,) = re.findall(r"^\| `targets` \| list \| of masks.*$", pages[0], re.M)
    assert all(f"`{key}`" in line for row in report.summary["targets"] for key in row)
    assert all(f"`{called}`" in pages[1] or "copies" in called for *_, called, _ in BOX_FAULTS.values())


def test_padding_decides_how_large_a_box_is():
    one = ImageBoxes((128, 64), np.array([[0.0, 0, 16, 16]]), np.zeros(1, np.int64), np.zeros(1, bool))
    boxes = Boxes(("ant",), (one,))
    assert fitted_boxes(boxes).sides.tolist() == [[64.0, 64.0]]
    assert Preprocess(512, "pad").size == TASK.size
