"""What is said to do where labels, numbers or masks are asked for: following it helps."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import convscope
from convscope.datasets.asked import find_asked
from convscope.datasets.named_before import remember
from convscope.datasets.options import DatasetOptions
from convscope.datasets.targets import LabelSets, Numbers
from convscope.datasets.unsplit import Unsplit
from convscope.errors import DataError, UsageError
from convscope.evaluation.task_scoring import task_of
from convscope.images.placing import fit_mask
from convscope.images.preprocess import Preprocess
from convscope.models.pixel_network import backbone_maps
from convscope.tasks.registry import TASKS
from convscope.transfer_learning.options import TransferOptions
from convscope.transfer_learning.task_ladder_command import check_options, fitted_backbone
from convscope.transfer_learning.task_report import TaskReport
from small_targets import discs

SMALL = {"engine": "torch", "image_size": 64, "quick": True}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return discs(tmp_path / "discs", 12)


def asked(data: Path, task: str | None = None, masks: Path | None = None, **options: object) -> Unsplit:
    """The images with their targets; fails where they have none."""
    found = find_asked(str(data), DatasetOptions(**options), task, masks)
    assert found is not None
    assert found.targets is not None
    return found


def test_a_task_that_was_told_wrongly_is_said(data: Path) -> None:
    found = asked(data / "sizes.csv")
    assert isinstance(found.targets, Numbers)
    assert found.notes[0].endswith("; --task says otherwise.")
    assert isinstance(asked(data / "sizes.csv", "multi_label", label_column="radius").targets, LabelSets)
    assert find_asked(str(data), DatasetOptions(), "classification", None) is None


def test_masks_are_named_where_they_are_not_told(data: Path, tmp_path: Path) -> None:
    away = (data / "masks").rename(tmp_path / "away")
    with pytest.raises(DataError, match="name the masks with --masks"):
        asked(data, "segmentation")
    assert len(asked(data, None, away).labels) == 12
    with pytest.raises(UsageError, match="--masks is for the task segmentation, not regression"):
        asked(data / "sizes.csv", "regression", away)
    assert asked(data / "sizes.csv", "regression")


def test_columns_are_said_where_they_cannot_be_told(tmp_path: Path, data: Path) -> None:
    table = data / "more.csv"
    table.write_text("path,age,height\nimages/0.png,1.5,2\nimages/1.png,3,4.5\n", encoding="utf-8")
    with pytest.raises(DataError, match="say which holds the number with --label-column"):
        asked(table, "regression")
    assert asked(table, "regression", label_column="height").targets.names == ("height",)


def test_one_label_an_image_is_one_class_of_several(data: Path) -> None:
    table = data / "one.csv"
    table.write_text("path,label\nimages/0.png,a\nimages/1.png,b\n", encoding="utf-8")
    (note,) = asked(table, "multi_label").notes[1:]
    assert "with --task classification it is one class of several" in note
    assert find_asked(str(table), DatasetOptions(), "classification", None) is None


def test_masks_that_cannot_be_used_are_mended_or_skipped(data: Path) -> None:
    good = (data / "masks" / "3.png").read_bytes()
    (data / "masks" / "3.png").write_bytes(b"")
    with pytest.raises(DataError, match="Mend or remove them; transfer leaves them out with --bad-images skip"):
        asked(data)
    assert len(asked(data, bad_images="skip").labels) == 11
    (data / "masks" / "3.png").write_bytes(good)
    assert len(asked(data).labels) == 12


def test_a_table_of_images_is_no_list_of_classes(data: Path) -> None:
    (data / "tags.csv").rename(data / "labels.csv")
    assert asked(data).targets.names == ("background", "foreground")
    (data / "labels.csv").write_text("paper,0\ndisc,255\n", encoding="utf-8")
    assert asked(data).targets.names == ("paper", "disc")


def coco(data: Path, segmentation: object, names: tuple[str, str] = ("disc", "other")) -> Path:
    """A COCO file with one object on the first image."""
    rows = [{"id": k, "file_name": f"{k}.png", "width": 96, "height": 80} for k in range(12)]
    marked = [{"id": 1, "image_id": 0, "category_id": 1, "segmentation": segmentation}]
    told = {"images": rows, "annotations": marked, "categories": [{"id": k, "name": n} for k, n in enumerate(names, 1)]}
    (data / "coco.json").write_text(json.dumps(told), encoding="utf-8")
    return data / "coco.json"


def test_outlines_are_saved_as_polygons_or_runs_under_names_of_their_own(data: Path) -> None:
    with pytest.raises(DataError, match="save polygons or uncompressed ones"):
        asked(data / "images", None, coco(data, {"counts": "abc", "size": [80, 96]}))
    square = [[10, 20, 30, 20, 30, 40, 10, 40]]
    with pytest.raises(DataError, match="each needs its own name"):
        asked(data / "images", None, coco(data, square, ("disc", "disc")))
    found = asked(data / "images", None, coco(data, square)).targets
    assert (found.read(0) == 1).sum() == 400
    runs = {"counts": [10 * 80 + 20, 20, 96 * 80 - 10 * 80 - 40], "size": [80, 96]}
    assert (asked(data / "images", None, coco(data, runs)).targets.read(0) == 1).sum() == 20


def test_fits_that_cut_are_left_for_pad_or_squash() -> None:
    mask, backbone = np.ones((20, 40), np.uint8), convscope.Classifier.pretrained("lite0")
    with pytest.raises(UsageError, match="choose pad or squash"):
        fit_mask(mask, (40, 20), Preprocess(size=64, fit="crop"), 255)
    with pytest.raises(UsageError, match="choose pad or squash"):
        fitted_backbone(backbone, TransferOptions(fit="crop"), TASKS["segmentation"])
    with pytest.raises(UsageError, match="must be a multiple of 32"):
        fitted_backbone(backbone, TransferOptions(image_size=100), TASKS["segmentation"])
    for fit, filled in (("pad", 64 * 32), ("squash", 64 * 64)):
        taken = fitted_backbone(backbone, TransferOptions(image_size=64, fit=fit), TASKS["segmentation"]).preprocess
        assert (fit_mask(mask, (40, 20), taken, 255) == 1).sum() == filled


def test_options_that_contradict_each_other_are_left_out() -> None:
    with pytest.raises(UsageError, match="leave out one of them"):
        check_options(TransferOptions(quick=True, budget=1.0), "regression")
    check_options(TransferOptions(quick=True), "regression")
    check_options(TransferOptions(budget=1.0), "regression")


def test_a_backbone_of_timm_gives_maps() -> None:
    with pytest.raises(UsageError, match="take timm:NAME"):
        backbone_maps("alexnet")
    assert len(backbone_maps("timm:tf_efficientnet_lite0")(torch.zeros(1, 3, 64, 64))) == 4


def test_nine_validation_images_have_an_interval() -> None:
    check, train = TASKS["regression"].check, Numbers("age", np.arange(5.0))
    (note,) = check(train, Numbers("age", np.arange(8.0)))
    assert "90 % need 9" in note
    assert check(train, Numbers("age", np.arange(9.0))) == []
    error = np.stack([np.arange(9.0), np.zeros(9)], 1)
    assert TASKS["regression"].settings(error) == {"half_width": 8.0}
    assert TASKS["regression"].settings(error[:8]) == {"half_width": None}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> TaskReport:
    """A transfer to numbers."""
    folder = tmp_path_factory.mktemp("numbers")
    return convscope.transfer(discs(folder / "discs", 60) / "sizes.csv", runs=folder / "runs", **SMALL)


def test_commands_that_take_such_a_run_do(made: TaskReport, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="convscope evaluate, predict, compare and export take"):
        convscope.explain(made.folder)
    remember(made.folder.parents[1] / "discs" / "sizes.csv")  # as whoever transferred it had named it
    assert convscope.compare([str(made.folder)] * 2).summary["n"]
    table = made.dataset.origins(0)
    assert convscope.evaluate(made.classifier, made.folder.parents[1] / "discs" / "sizes.csv", runs=tmp_path).notes
    assert convscope.predict(made.folder, made.folder.parents[1] / "discs" / table)[0].value > 0
    assert convscope.export(made.folder, format="safetensors", output=tmp_path / "out").notes is not None


def test_what_is_evaluated_on_is_named(made: TaskReport, tmp_path: Path) -> None:
    table = made.folder.parents[1] / "discs" / "sizes.csv"
    alone = replace(made.classifier, provenance={})
    with pytest.raises(UsageError, match="name a dataset to evaluate it on"):
        convscope.evaluate(alone, runs=tmp_path)
    assert convscope.evaluate(alone, table, runs=tmp_path).summary["n"] == 60
    with pytest.raises(UsageError, match="`views` flip is for the task classification"):
        convscope.evaluate(alone, table, views="flip", runs=tmp_path)
    with pytest.raises(DataError, match="Known: classification, multi_label, regression, detection, segmentation"):
        task_of(replace(alone, task="depth"))
    assert [task_of(replace(alone, task=name)).name for name in TASKS] == list(TASKS)
    image = table.parent / "images" / "0.png"
    before = image.read_bytes()
    try:
        Image.new("RGB", (96, 80)).save(image)
        with pytest.raises(DataError, match="Name it to evaluate on it as it is"):
            convscope.evaluate(made.folder)
        found = convscope.evaluate(made.folder, table)
    finally:
        image.write_bytes(before)
    assert any("the data changed" in note for note in found.notes)


def test_masks_are_left_out_for_a_network_of_classes(tmp_path: Path, data: Path) -> None:
    run = convscope.train("shapes", width=4, epochs=1, limit=60, runs=tmp_path / "runs").run.folder
    with pytest.raises(UsageError, match="`masks` is for the task segmentation"):
        convscope.evaluate(run, masks=data / "masks")
    assert convscope.evaluate(run).summary["n"]
