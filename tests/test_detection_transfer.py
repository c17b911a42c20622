"""`convscope transfer` to boxes: from a folder to a network that the other commands take."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import convscope
from convscope.classifying.classifier import Classifier
from convscope.datasets.mask_coding import VOID
from convscope.datasets.named_before import remember
from convscope.errors import DamagedFile, DataError, UsageError
from convscope.evaluation.box_answers import BoxAnswer
from convscope.models.box_network import BOX_STRIDES, Fcos, places_of
from convscope.tasks.detection import CROWD
from convscope.tensor_files import commit_tensors, read_tensors
from convscope.transfer_learning.box_filters import ClassesOfPlaces, middles
from convscope.transfer_learning.task_report import TaskReport
from planted_boxes import read
from planted_scenes import KINDS, PARTS, scenes
from random_boxes import coco_evaluator


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scenes(tmp_path_factory.mktemp("data") / "scenes")


@pytest.fixture(scope="module")
def made(data: Path, tmp_path_factory: pytest.TempPathFactory) -> TaskReport:
    found = convscope.transfer(data, runs=tmp_path_factory.mktemp("runs"), image_size=96, engine="torch", name="scenes")
    assert isinstance(found, TaskReport)
    return found


def test_boxes_are_learned_from_a_folder_that_says_so(made: TaskReport) -> None:
    assert made.summary["task"] == "detection"
    assert made.summary["metric"] == "ap50"
    assert made.summary["ap50"] > 0.8  # objects in two colours on noise
    assert made.summary["test_n"] == PARTS["test"]
    assert made.notes[0].startswith("task: detection, boxes around objects of some classes")
    assert [row["name"] for row in made.summary["test"]["classes"]] == list(KINDS)
    page = (made.folder / "report.html").read_text(encoding="utf-8")
    assert "average precision (AP50)" in page
    assert page.count("<img") >= 4  # classes, thresholds, the worst, the learning curve


def test_twice_the_images_are_said_to_add_something_or_nothing(made: TaskReport) -> None:
    curve = made.summary["curve"]
    assert [point["images"] for point in curve["points"]] == [16, 32, 64]
    assert 0 <= curve["gain"]["low"] <= curve["gain"]["value"] <= curve["gain"]["high"]
    assert "twice the images would add about" in made.sentence()


def test_filters_that_speak_for_a_class_of_boxes_are_named_and_drawn(made: TaskReport) -> None:
    assert made.summary["filters_of"] == "FCOS"
    assert [found["name"] for found in made.summary["filters"]] == list(KINDS)
    for found in made.summary["filters"]:
        assert found["filters"]
        assert all(vote["adds"] > 0 for vote in found["filters"])
    assert (made.folder / "transfer" / "filters-0.png").exists()


def test_the_middle_of_a_box_is_of_its_class_and_its_rim_says_nothing() -> None:
    boxes = torch.tensor([[0, 0, 16, 8, 1], [4, 2, 8, 6, 0], [20, 20, 30, 30, CROWD], [-1] * 5], dtype=torch.float32)
    mask = middles(boxes[None], 32)[0]
    assert mask[3, 10].item() == 2  # of the large box
    assert mask[1, 10].item() == mask[7, 15].item() == VOID  # its rim
    assert mask[4, 6].item() == 1  # the small one lies on it
    assert mask[25, 25].item() == VOID
    assert mask[31, 0].item() == 0


def test_classes_of_places_are_the_largest_of_the_maps() -> None:
    torch.manual_seed(0)
    head = Fcos([4, 4, 4], 2, 16).eval()
    maps = [torch.randn(1, 4, 96 // stride, 96 // stride) for stride in BOX_STRIDES]
    with torch.no_grad():
        outputs, found = head(maps)[0], ClassesOfPlaces(head)(maps)[0]
    centres, strides = places_of(96)
    assert found.shape == (3, 12, 12)
    assert bool((found[0] == 0).all())
    for row, column in ((0, 0), (5, 7), (11, 3)):
        x, y = 8 * column + 4, 8 * row + 4
        over = ((centres[:, 0] - x).abs() <= strides / 2) & ((centres[:, 1] - y).abs() <= strides / 2)
        assert int(over.sum()) == 3  # one place of each map
        assert found[1:, row, column].tolist() == outputs[over, :2].amax(0).tolist()


def test_evaluating_again_gives_the_same_figures_and_pycocotools_agrees(made: TaskReport, data: Path) -> None:
    remember(data)
    again = convscope.evaluate(made.folder)
    assert again.summary["ap50"] == made.summary["ap50"]
    assert (again.folder / "thresholds.png").exists()
    assert json.loads((again.folder / "worst.json").read_text(encoding="utf-8"))["cells"] == ["answer", "truth"]
    answers = answers_at(made, data, 0.0)
    truth = json.loads((data / "test" / "_annotations.coco.json").read_text(encoding="utf-8"))
    assert again.summary["ap50"] == pytest.approx(by_pycocotools(truth, answers)[1], abs=1e-6)
    assert again.summary["ap"] == pytest.approx(by_pycocotools(truth, answers)[0], abs=1e-6)


def answers_at(made: TaskReport, data: Path, threshold: float) -> list[BoxAnswer]:
    """The answers of the run's network to the test images, with another threshold."""
    classifier = Classifier.load(made.folder / "classifier.safetensors")
    classifier.settings["threshold"] = threshold
    paths = sorted((data / "test").glob("*.png"))
    found = convscope.predict(classifier, [str(path) for path in paths])
    return [answer for answer in found if isinstance(answer, BoxAnswer)]


def by_pycocotools(truth: dict[str, Any], answers: list[BoxAnswer]) -> np.ndarray:
    """The summary of the library, from the files that other tools read."""
    number = {row["file_name"]: row["id"] for row in truth["images"]}
    found = [
        {
            "image_id": number[Path(answer.path).name], "category_id": KINDS.index(box.label), "score": box.score,
            "bbox": [box.left, box.top, box.right - box.left, box.bottom - box.top],
        }
        for answer in answers for box in answer.boxes
    ]  # fmt: skip
    rows = [row | {"id": row["id"] + 1} for row in truth["annotations"]]  # to the library a box 0 is no box
    return coco_evaluator("pycocotools", truth | {"info": {}, "annotations": rows}, found).stats


def test_answers_are_drawn_and_written_for_other_tools(made: TaskReport, data: Path, tmp_path: Path) -> None:
    answers = convscope.predict(made.folder, str(data / "test"), boxes_to=tmp_path / "out")
    told = json.loads((tmp_path / "out" / "boxes.coco.json").read_text(encoding="utf-8"))
    assert len(told["annotations"]) == sum(len(one.boxes) for one in answers if isinstance(one, BoxAnswer)) > 0
    assert (tmp_path / "out" / "classes.txt").read_text(encoding="utf-8").split() == list(KINDS)
    first = answers[0]
    assert isinstance(first, BoxAnswer)
    assert [Path(name).name for name in first.files] == ["test 0.png", "test 0.txt"]
    with Image.open(first.files[0]) as drawn:
        assert drawn.size == (first.width, first.height) == (160, 120)
    rows = list(csv.reader(io.StringIO(answers.csv())))
    assert rows[0] == ["path", "label", "score", "left", "top", "right", "bottom", "error"]
    assert len(rows) == 1 + sum(max(1, len(one.boxes)) for one in answers if isinstance(one, BoxAnswer))


def test_what_was_written_is_read_again_as_boxes(made: TaskReport, data: Path, tmp_path: Path) -> None:
    answers = convscope.predict(made.folder, str(data / "test"), boxes_to=tmp_path)
    shutil.rmtree(tmp_path / "drawn")
    (tmp_path / "images").mkdir()
    for path in (data / "test").glob("*.png"):
        (tmp_path / "images" / path.name).write_bytes(path.read_bytes())
    targets = read(tmp_path, "detection").targets
    assert targets is not None
    told = sorted(targets.told(i) for i in range(len(targets)))
    assert told == sorted(one.words() for one in answers if isinstance(one, BoxAnswer))


def test_options_of_other_tasks_are_refused(made: TaskReport, data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="`masks_to` is for the task segmentation, not detection"):
        convscope.predict(made.folder, str(data / "test"), masks_to=tmp_path)
    with pytest.raises(UsageError, match="`image_size` 100: for the task detection it must be a multiple of 32"):
        convscope.transfer(data, runs=tmp_path, image_size=100)
    with pytest.raises(UsageError, match="`fit` crop"):
        convscope.transfer(data, runs=tmp_path, fit="crop")
    with pytest.raises(DataError, match="is a table; the task detection takes"):
        (tmp_path / "t.csv").write_text("path,label\na.png,x\n", encoding="utf-8")
        convscope.transfer(tmp_path / "t.csv", runs=tmp_path, task="detection")


def test_a_file_without_its_threshold_is_refused(made: TaskReport, tmp_path: Path) -> None:
    tensors, meta = read_tensors(made.folder / "classifier.safetensors")
    for settings in ({}, {"threshold": "0.5"}, {"threshold": 2.0}):
        commit_tensors(tmp_path / "c.safetensors", tensors, {**meta, "settings": settings})
        with pytest.raises(DamagedFile, match="threshold"):
            Classifier.load(tmp_path / "c.safetensors")


def test_two_runs_of_boxes_are_compared_image_by_image(made: TaskReport, data: Path) -> None:
    remember(data)
    found = convscope.compare([str(made.folder)] * 2)
    assert "do not differ image by image" in found.summary["sentences"][0]


@pytest.mark.parametrize("command", [convscope.explain, convscope.diagnose, convscope.localize])
def test_commands_for_classes_say_so(made: TaskReport, command: Any) -> None:
    with pytest.raises(UsageError, match="was trained for the task detection"):
        command(made.folder)


def test_fine_tuning_moves_the_backbone_and_is_measured_alike(data: Path, tmp_path: Path) -> None:
    found = convscope.transfer(data, runs=tmp_path, image_size=64, engine="torch", budget=0.6, name="tuned")
    assert isinstance(found, TaskReport)
    names = [rung.name for rung in found.rungs]
    assert names[0] == "FCOS"
    assert names[1:] or any("is left out" in note for note in found.notes)
    assert set(found.paired) == set(names[1:])
