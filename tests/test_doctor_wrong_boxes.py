"""Boxes that are likely missing or of another class: what heads say is told, by heads that have not seen the image."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from convscope import cli
from convscope.datasets.asked import find_asked
from convscope.datasets.boxes import Boxes, ImageBoxes
from convscope.datasets.dataset import Listing, Undecoded
from convscope.datasets.options import DatasetOptions
from convscope.datasets.packing import digests
from convscope.datasets.unsplit import Unsplit
from convscope.images.preprocess import Preprocess
from convscope.inspection import command, wrong_boxes
from convscope.inspection.box_gallery import COLOUR, cropped
from convscope.inspection.command import doctor
from convscope.inspection.wrong_boxes import BoxCheck, box_check_findings, check_boxes, folds
from convscope.models.box_network import places_of
from convscope.tasks.detection import TASK, assigned, centreness, tensor
from convscope.transfer_learning.recorded_targets import Recorded
from planted_box_faults import COUNT, boxed_images, planted_fault, written

PREPROCESS = Preprocess(320, "pad")
YES, NO = 6.0, -8.0  # logits


@dataclass
class Numbers:
    """In place of features the number of each image."""

    rows: np.ndarray

    def __getitem__(self, index: np.ndarray) -> np.ndarray:
        return np.asarray(index, np.float32)[:, None]


def told(boxes_G5: Tensor, classes: int, side: int) -> Tensor:
    """Outputs (L, K + 5) that tell these boxes and no other."""
    centres, strides = places_of(side)
    row = assigned(boxes_G5, centres, strides)
    outputs = torch.full((len(centres), classes + 5), NO)
    outputs[:, -4:] = 1.0
    mine = torch.nonzero(row >= 0)[:, 0]
    own = boxes_G5[row[mine]]
    outputs[mine, own[:, 4].long()] = YES
    outputs[mine, classes] = torch.logit(centreness(own[:, :4], centres[mine]), eps=1e-4)
    outputs[mine, -4:] = torch.cat([centres[mine] - own[:, :2], own[:, 2:4] - centres[mine]], 1)
    return outputs


def knowing(boxes: Boxes) -> Callable[[Tensor], Tensor]:
    """A head that knows all boxes by the number of the image."""
    return lambda inputs: torch.stack(
        [told(tensor(boxes, np.array([int(i)]), PREPROCESS)[0], len(boxes.names), 320) for i in inputs[:, 0]]
    )


@pytest.fixture
def found(tmp_path: Path) -> Unsplit:
    unsplit = find_asked(str(written(tmp_path / "data", "voc", boxed_images())), DatasetOptions(), None, None)
    assert unsplit is not None
    return unsplit


def recorded(unsplit: Unsplit) -> Recorded:
    listed = Listing(unsplit, digests(unsplit))
    dataset = listed.dataset(Undecoded(listed, PREPROCESS), PREPROCESS)
    return Recorded(TASK, dataset, Numbers(np.arange(len(listed))), [], PREPROCESS)


def checked(unsplit: Unsplit, known: Boxes, monkeypatch: pytest.MonkeyPatch) -> BoxCheck:
    monkeypatch.setattr(wrong_boxes, "trained_head", lambda *_: knowing(known))
    count = np.arange(len(unsplit.labels))
    return check_boxes(recorded(unsplit), count, count)


def changed(boxes: Boxes, index: list[int], change: Callable[[ImageBoxes], ImageBoxes]) -> Boxes:
    return replace(boxes, boxes=tuple(change(one) if i in index else one for i, one in enumerate(boxes.boxes)))


def without_second(one: ImageBoxes) -> ImageBoxes:
    kept = np.arange(len(one)) != 1
    return ImageBoxes(one.size, one.corners[kept], one.labels[kept], one.crowd[kept])


def test_the_boxes_that_were_removed_are_missing_and_no_others(found: Unsplit, monkeypatch: pytest.MonkeyPatch):
    truth, index = found.targets, [2, 5, 31]
    assert isinstance(truth, Boxes)
    check = checked(replace(found, targets=changed(truth, index, without_second)), truth, monkeypatch)
    assert sorted(check.alone.image.tolist()) == index
    for i, corners, label in zip(check.alone.image, check.alone.corners, check.alone.label, strict=True):
        assert corners == pytest.approx(truth.boxes[i].corners[1], abs=0.01)
        assert label == truth.boxes[i].labels[1]
    assert (np.diff(check.alone.score) <= 0).all()
    middle = {k: np.median(check.drawn.score[check.drawn.label == k]) for k in range(3)}
    pairs = zip(check.alone.score.tolist(), check.alone.label.tolist(), strict=True)
    assert check.missing.tolist() == [n for n, (score, label) in enumerate(pairs) if score >= middle[label]]
    assert len(check.missing) > 0
    assert check.drawn.score.min() > 0.5
    assert not len(check.wrong)
    assert len(check.drawn.image) == 54 * 3 - 3
    assert not len(checked(found, truth, monkeypatch).alone.image)


def test_the_boxes_of_another_class_are_wrong_and_no_others(found: Unsplit, monkeypatch: pytest.MonkeyPatch):
    truth = found.targets
    assert isinstance(truth, Boxes)
    renamed = changed(truth, [3, 11], lambda one: replace(one, labels=(one.labels + np.array([0, 1, 0])) % 3))
    check = checked(replace(found, targets=renamed), truth, monkeypatch)
    wrong = check.wrong
    assert sorted(zip(check.drawn.image[wrong].tolist(), check.drawn.box[wrong].tolist(), strict=True)) == [
        (3, 1),
        (11, 1),
    ]
    assert check.drawn.likeliest[wrong].tolist() == [truth.boxes[3].labels[1]] * 2
    assert check.drawn.margin[wrong].min() > 0.9 > 0 > np.delete(check.drawn.margin, wrong).max()
    assert not len(check.alone.image)
    (finding,) = box_check_findings(check, renamed, found.origin)
    assert (finding.kind, finding.grade, finding.count) == ("boxes-wrong-class", "doubt", 2)
    assert {row["image"] for row in finding.details["boxes"]} == {found.origin(3), found.origin(11)}
    assert not len(checked(found, truth, monkeypatch).wrong)


def test_nothing_is_missing_in_a_crowd(found: Unsplit, monkeypatch: pytest.MonkeyPatch):
    truth = found.targets
    assert isinstance(truth, Boxes)

    def crowded(one: ImageBoxes) -> ImageBoxes:
        corners = np.concatenate([without_second(one).corners, [[0.0, 0, 64, 64]]])
        return ImageBoxes(one.size, corners, np.array([0, 2, 1]), np.array([False, False, True]))

    check = checked(replace(found, targets=changed(truth, [2], crowded)), truth, monkeypatch)
    assert not len(check.alone.image)


def test_every_image_is_judged_once_by_a_head_that_saw_neither_it_nor_a_copy(
    found: Unsplit, monkeypatch: pytest.MonkeyPatch
):
    groups = np.arange(COUNT)
    groups[[4, 17, 40]] = 4
    seen: list[set[int]] = []
    judged: list[set[int]] = []

    def trained(_: object, __: object, rows: np.ndarray, *rest: object) -> Callable[[Tensor], Tensor]:
        seen.append(set(rows.tolist()))
        judged.append(set())
        answer = knowing(found.targets)

        def head(inputs: Tensor) -> Tensor:
            judged[-1] |= {int(i) for i in inputs[:, 0]}
            return answer(inputs)

        return head

    monkeypatch.setattr(wrong_boxes, "trained_head", trained)
    here = recorded(found)
    here.features.rows[7] = -1  # an image that could not be read
    check_boxes(here, groups, np.arange(COUNT))
    assert sorted(i for one in judged for i in one) == [i for i in range(COUNT) if i != 7]
    for train, test in zip(seen, judged, strict=True):
        assert 7 not in train
        assert not set(groups[list(train)].tolist()) & set(groups[list(test)].tolist())


def test_nothing_is_judged_where_there_is_no_box_to_learn_from(found: Unsplit, monkeypatch: pytest.MonkeyPatch):
    truth = found.targets
    assert isinstance(truth, Boxes)
    empty = ImageBoxes((64, 64), np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0, bool))
    fold_of = folds(recorded(found).dataset.keys, np.arange(COUNT))
    one_fold = changed(truth, np.flatnonzero(fold_of != 0).tolist(), lambda _: empty)
    check = checked(replace(found, targets=one_fold), truth, monkeypatch)
    assert set(fold_of[check.alone.image].tolist()) == {1, 2}
    assert not len(check.drawn.image)
    assert not len(check.missing)
    assert list(box_check_findings(check, one_fold, found.origin)) == []


def test_folds_go_by_content_and_not_by_the_order_of_images():
    random = np.random.default_rng(0)
    keys = random.integers(0, 2**63, 50).astype(np.uint64)
    groups = np.arange(50) // 2 * 2
    here, order = folds(keys, groups), random.permutation(50)
    assert (folds(keys[order], groups[order]) == here[order]).all()
    assert (here[::2] == here[1::2]).all()
    assert sorted(np.bincount(here[::2]).tolist()) == [8, 8, 9]


def test_a_crop_shows_the_box_and_what_is_around_it():
    image = Image.new("RGB", (300, 200))
    image.paste((255, 255, 255), (100, 50, 140, 90))
    shown = np.asarray(cropped(image, np.array([100.0, 50, 140, 90]), 112)).astype(int)
    assert max(shown.shape) == 112
    green = (np.abs(shown - COLOUR).sum(2) < 10).nonzero()
    scale = 112 / 88  # 24 pixels around 40
    assert green[0].min() == pytest.approx(24 * scale, abs=1)
    assert green[1].max() == pytest.approx(64 * scale, abs=1)
    assert (shown[56, 56] == 255).all()
    assert (shown[4, 4] == 0).all()
    assert cropped(image, np.array([290.0, 190, 300, 200]), 112).size == (112, 112)


def test_boxes_are_judged_where_it_is_asked_for_or_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    root, runs = written(tmp_path / "data", "yolo", boxed_images()), tmp_path / "runs"
    monkeypatch.setattr(command, "BOXES_CHECKED", COUNT - 1)
    report = doctor(root, runs=runs)
    assert any("60 images take about 1 minute; --labels does it" in note for note in report.summary["notes"])
    assert not report.summary["boxes_checked"]
    assert "as asked" in str(doctor(root, runs=runs, labels=False).summary["notes"])
    none = planted_fault("nothing-at-all", tmp_path / "none")
    assert "there are none that can be used" in str(doctor(none, runs=runs).summary["notes"])
    few = written(tmp_path / "few", "yolo", boxed_images()[:20])
    assert "20 images are too few to learn from" in str(doctor(few, runs=runs).summary["notes"])


def test_what_is_judged_is_told_drawn_and_documented(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    for name, value in (("SIZE", 64), ("EPOCHS", 1), ("LEAST_SURE", 0.0), ("SURE_WRONG", -1.0)):
        monkeypatch.setattr(wrong_boxes, name, value)
    root = written(tmp_path / "data", "coco", boxed_images())
    assert cli.run(["doctor", str(root), "--runs", str(tmp_path / "runs"), "--labels", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["boxes_checked"]
    assert said["seconds"]["boxes"] > 0
    page = (tmp_path / "runs" / "data" / "doctor" / "index.html").read_text()
    json_page = (Path(__file__).parents[1] / "docs" / "json.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"^\| `findings` \| list \| the gravest first.*$", json_page, re.M)
    (wrong,) = (finding for finding in said["findings"] if finding["kind"] == "boxes-wrong-class")
    assert wrong["judged"] == wrong["count"] > 100
    assert len(wrong["boxes"]) == 60
    assert all(f"`{key}`" in line for key in wrong["boxes"][0])
    assert page.count("a box that is likely of another class") == 60
    for finding in said["findings"]:
        if finding["kind"] == "boxes-missing":
            assert all(f"`{key}`" in line for key in finding["boxes"][0])
            assert "an object that may lack a box" in page
