"""`convscope transfer` to labels, to numbers and to masks: from data to a network that every other command takes."""

from __future__ import annotations

import csv
import html
import io
import itertools
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import convscope
from convscope.classifying.classifier import Classifier
from convscope.classifying.intervals import Interval
from convscope.datasets.named_before import remember
from convscope.errors import ConvscopeError, DataError, UsageError
from convscope.evaluation.task_answers import task_csv
from convscope.evaluation.tiles import OVERLAP, _starts
from convscope.images.preprocess import Preprocess
from convscope.models.architecture import Architecture
from convscope.tasks.registry import TASKS as REGISTERED
from convscope.tasks.task import Score
from convscope.tensor_files import read_header
from convscope.training.loop import Step, TrainState
from convscope.transfer_learning.recorded_targets import TaskRung, better_head, kept_rung
from convscope.transfer_learning.task_report import TaskReport
from convscope.transfer_learning.task_tuning import Tuning

SIDE = 48
TASKS = ("multi_label", "regression", "segmentation")
PARTS = {"train": 24, "val": 12, "test": 8}
CALLED = {"multi_label": "map", "regression": "mae", "segmentation": "iou"}


def picture(rng: np.random.Generator, height: int = SIDE) -> tuple[Image.Image, np.ndarray, list[str], float]:
    """A red square or none and green stripes or none on grey noise: image, mask of the square, labels, its area."""
    pixels = rng.integers(90, 130, (height, SIDE, 3)).astype(np.uint8)
    mask, names = np.zeros((height, SIDE), np.uint8), []
    if rng.random() < 0.5:
        names.append("stripes")
        pixels[::6, :, 1] = pixels[1::6, :, 1] = 220
    side = int(rng.integers(10, 28)) if rng.random() < 0.7 else 0
    if side:
        names.append("square")
        y, x = rng.integers(0, height - side), rng.integers(0, SIDE - side)
        mask[y : y + side, x : x + side] = 255
        pixels[mask > 0] = (210, 20, 30)
    return Image.fromarray(pixels), mask, names, side**2 / 10


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same images three times: with a table of labels, with a table of numbers, with masks."""
    root, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    rows: list[list[str]] = []
    for part, count in PARTS.items():
        for folder in ("images", "masks"):
            (root / "masked" / part / folder).mkdir(parents=True)
        for i in range(count):
            image, mask, names, area = picture(rng, SIDE if i % 2 else 36)
            path = root / "masked" / part / "images" / f"{i}.png"
            image.save(path)
            Image.fromarray(mask).save(root / "masked" / part / "masks" / f"{i}.png")
            rows.append([path.relative_to(root).as_posix(), "|".join(names), f"{area:.1f}", part])
    for name, column in (("labels", 1), ("areas", 2)):
        with open(root / f"{name}.csv", "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([["path", "label", "split"], *([r[0], r[column], r[3]] for r in rows)])
    return {"multi_label": root / "labels.csv", "regression": root / "areas.csv", "segmentation": root / "masked"}


def transferred(data: Path, runs: Path, **options: Any) -> TaskReport:
    made = convscope.transfer(data, **{"runs": runs, "image_size": 64, "engine": "torch"} | options)
    assert isinstance(made, TaskReport)
    return made


@pytest.fixture(scope="module")
def reports(data: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, TaskReport]:
    runs = tmp_path_factory.mktemp("runs")
    return {task: transferred(data[task], runs, name=task) for task in TASKS}


def files(data: dict[str, Path]) -> list[Path]:
    return sorted((data["segmentation"] / "test" / "images").iterdir(), key=lambda path: int(path.stem))


def answers(run: str, images: list[Path], **options: Any) -> list[dict[str, Any]]:
    return [one.to_json() for one in convscope.predict(run, images, **options)]


def stored(path: str | Path) -> np.ndarray:
    """The pixels of a file."""
    with Image.open(path) as image:
        return np.array(image)


def column(table: Path) -> dict[str, str]:
    """The label of each path."""
    with open(table, encoding="utf-8") as file:
        return {row["path"]: row["label"] for row in csv.DictReader(file)}


# ---------------------------------------------------------------------------------------------------------- transfer


@pytest.mark.parametrize("task", TASKS)
def test_the_summary_answers_what_was_asked(task: str, reports: dict[str, TaskReport]):
    report = reports[task]
    s, metric = report.summary, CALLED[task]
    assert (s["task"], s["metric"]) == (task, metric)
    assert s["notes"][0].startswith(f"task: {task}, ")
    assert s[metric] == s["test"][metric]
    assert s["low"] <= s[metric] <= s["high"]
    assert (s["test_n"], s["val_n"]) == (PARTS["test"], PARTS["val"])
    assert [row["name"] for row in s["rungs"]] == [kind.name for kind in report.task.heads]
    best = next(row for row in s["rungs"] if row["name"] == s["best"])
    assert best["value"] == s["val_value"]
    assert not any(report.task.is_better(row["value"], best["value"]) for row in s["rungs"])
    assert s["left_out"] == ["last stage", "full"]
    assert sum(s["spent_seconds"].values()) == pytest.approx(s["seconds"])
    assert report.called in s["sentence"]
    assert json.loads(json.dumps(s, allow_nan=False))["best"] == s["best"]


def test_something_was_learned(reports: dict[str, TaskReport]):
    assert reports["multi_label"].summary["map"] > 0.8
    found = reports["regression"].summary["test"]
    assert found["mae"] < 0.7 * found["mean_mae"]
    assert reports["segmentation"].summary["iou"] > 0.4


@pytest.mark.parametrize("task", TASKS)
def test_the_run_holds_what_it_says(task: str, reports: dict[str, TaskReport]):
    report = reports[task]
    drawn = {"regression": "numbers"}.get(task, "classes")
    for name in ("report.html", "classifier.safetensors", "transfer/transfer.json", "transfer/test.json"):
        assert (report.folder / name).exists()
    for name in (drawn, "worst"):
        assert (report.folder / "transfer" / f"{name}.png").stat().st_size > 2000
    page = (report.folder / "report.html").read_text(encoding="utf-8")
    assert all(rung.name in page for rung in report.rungs)
    assert len(report.run.openings()) >= 1
    assert (report.run.openings()[0]["part"], report.run.openings()[0]["n"]) == ("test", PARTS["test"])


@pytest.mark.parametrize("task", TASKS)
def test_a_classifier_of_a_task_is_read_as_it_was_written(task: str, reports: dict[str, TaskReport]):
    report = reports[task]
    meta = read_header(report.folder / "classifier.safetensors").meta
    found = Classifier.load(report.folder / "classifier.safetensors")
    assert (meta["task"], found.task) == (task, task)
    assert meta["settings"] == found.settings == report.best.settings
    keys = {"multi_label": {"thresholds"}, "regression": {"mean", "half_width"}, "segmentation": set()}[task]
    assert set(found.settings) == keys
    assert found.provenance["transfer"]["task"] == task
    images = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(found.network(images), report.classifier.network(images))


def test_the_answer_is_the_same_each_time(data: dict[str, Path], reports: dict[str, TaskReport], tmp_path: Path):
    for task in ("regression", "segmentation"):
        again, before = transferred(data[task], tmp_path, name=task).summary, reports[task].summary
        keys = ("best", "val_value", "val_low", "val_high", "test", "settings")
        assert {key: again[key] for key in keys} == {key: before[key] for key in keys}
        values = [[row["value"] for row in s["rungs"]] for s in (again, before)]
        assert values[0] == values[1]


def test_a_quick_answer_tries_the_first_way_only(data: dict[str, Path], tmp_path: Path):
    s = transferred(data["multi_label"], tmp_path, quick=True).summary
    assert [row["name"] for row in s["rungs"]] == ["linear"]
    assert s["left_out"] == ["FCNN", "last stage", "full"]


def test_fine_tuning_is_tried_as_far_as_the_budget_reaches(
    data: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("convscope.transfer_learning.task_ladder_command.EPOCHS", {"last stage": 2, "full": 2})
    monkeypatch.setattr("convscope.transfer_learning.task_ladder_command.LEAST_EPOCHS", 1)
    made = transferred(data["segmentation"], tmp_path, name="tuned", budget=3.0)
    s = made.summary
    assert [row["name"] for row in s["rungs"]] == ["linear", "top-down", "last stage", "full"]
    assert set(s["paired"]) == {"linear", "last stage", "full"}
    assert "image by image" in s["sentence"]
    assert s["left_out"] == []
    remember(data["segmentation"])
    assert convscope.evaluate("tuned", runs=tmp_path).summary["iou"] == pytest.approx(s["iou"])
    s = transferred(data["segmentation"], tmp_path, name="short", budget=0.0001).summary
    assert [row["name"] for row in s["rungs"]] == ["linear", "top-down"]
    assert sum("is left out: an epoch takes about" in note for note in s["notes"]) == 2


def test_a_transfer_that_was_killed_goes_on(data: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("convscope.transfer_learning.task_report.write", killed)
        with pytest.raises(KeyboardInterrupt):
            transferred(data["multi_label"], tmp_path, name="k", quick=True)
    assert not (tmp_path / "k" / "transfer" / "transfer.json").exists()
    made = transferred(data["multi_label"], tmp_path, name="k", quick=True)
    assert json.loads((made.folder / "transfer" / "transfer.json").read_text())["map"] == made.summary["map"]


@pytest.mark.parametrize("damaged", [False, True])
def test_a_fine_tuning_that_was_stopped_goes_on_with_its_next_epoch(
    damaged: bool, data: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """And begins again where the file that it would go on from is damaged."""
    monkeypatch.setattr("convscope.transfer_learning.task_ladder_command.EPOCHS", {"last stage": 3, "full": 0})
    epochs: list[tuple[str, int]] = []
    steps, keep = Tuning._steps, Tuning._keep

    def counted(self: Tuning, state: TrainState, asked: int) -> Iterator[Step]:
        for step in steps(self, state, asked):
            epochs.extend([(self.reach, step.epoch)] if asked > 1 and step.summary else [])
            yield step

    def stopped(self: Tuning, state: TrainState, *given: Any) -> None:
        keep(self, state, *given)
        if state.epoch == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Tuning, "_steps", counted)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Tuning, "_keep", stopped)
        transferred(data["multi_label"], tmp_path, name="again", budget=60.0)
    assert epochs == [("last stage", 1), ("last stage", 2)]
    epochs.clear()
    path = tmp_path / "again" / "transfer" / "last-stage.safetensors"
    if damaged:
        path.write_bytes(path.read_bytes()[:-1000])
    made = transferred(data["multi_label"], tmp_path, name="again", budget=60.0)
    assert epochs == [("last stage", epoch) for epoch in ((1, 2, 3) if damaged else (3,))]
    assert made.summary["rungs"][-1]["name"] == "last stage"
    assert not list((tmp_path / "again" / "transfer").glob("*.safetensors"))


# ------------------------------------------------------------------------------------------------ evaluate, predict


@pytest.mark.parametrize("task", TASKS)
def test_the_test_images_score_the_same_by_evaluate(task: str, data: dict[str, Path], reports: dict[str, TaskReport]):
    remember(data[task])
    report = reports[task]
    before = len(report.run.openings())
    found = convscope.evaluate(task, runs=report.folder.parent)
    s = found.summary
    assert {key: s[key] for key in report.summary["test"]} == report.summary["test"]
    assert (s["part"], s["task"], s["metric"]) == ("test", task, CALLED[task])
    assert len(report.run.openings()) == before + 1
    assert json.loads((found.folder / "evaluation.json").read_text())[CALLED[task]] == s[CALLED[task]]
    assert (found.folder / "worst.png").exists()
    val = convscope.evaluate(task, data[task], part="val", runs=report.folder.parent).summary
    assert val["n"] == PARTS["val"]
    if task != "segmentation":  # whose validation is at the size of the network's input
        assert val[CALLED[task]] == pytest.approx(report.summary["val_value"], rel=1e-4)


@pytest.mark.parametrize("task", TASKS)
def test_its_page_and_card_tell_what_it_was_asked_since(
    task: str, data: dict[str, Path], reports: dict[str, TaskReport], tmp_path: Path
):
    remember(data[task])
    run = shutil.copytree(reports[task].run.folder, tmp_path / "run")
    found = convscope.evaluate(run, data[task], part="val", runs=tmp_path).summary
    shown = (run / "report.html").read_text(encoding="utf-8")
    scale, digits, unit = (1, ".3g", "") if found["metric"] == "mae" else (100, ".1f", " %")
    value = f"{scale * found[found['metric']]:{digits}}{unit}"
    assert "Asked again" in shown
    assert value in shown
    assert reports[task].sentence()[:40] in html.unescape(shown)
    card = (run / "README.md").read_text(encoding="utf-8")
    assert f"**{value}**" in card
    assert " test images" not in card.split("## How good")[0]  # those with a class, or a label, are more than images
    kind = {"segmentation": "image-segmentation"}.get(task, "image-classification")
    assert f'pipeline_tag: "{kind}"' in card
    before = shown
    (run / "report.html").unlink()
    convscope.report(run, runs=tmp_path)
    assert (run / "report.html").read_text(encoding="utf-8") == before


def test_labels_are_those_that_reach_their_thresholds(data: dict[str, Path], reports: dict[str, TaskReport]):
    report, images = reports["multi_label"], files(data)
    thresholds = dict(zip(report.classifier.class_names, report.classifier.settings["thresholds"], strict=True))
    found = answers(str(report.folder), images)
    for one in found:
        assert [row["probability"] for row in one["top"]] == sorted(
            (r["probability"] for r in one["top"]), reverse=True
        )
        assert set(one["labels"]) == {r["label"] for r in one["top"] if r["probability"] >= thresholds[r["label"]]}
    table = column(data["multi_label"])
    right = 0
    for path, one in zip(images, found, strict=True):
        true = table[path.relative_to(data["multi_label"].parent).as_posix()].split("|")
        right += set(one["labels"]) == set(true) - {""}
    assert right / len(images) == pytest.approx(report.summary["test"]["exact_match"])


def test_numbers_have_the_interval_of_the_validation_images(data: dict[str, Path], reports: dict[str, TaskReport]):
    report, images = reports["regression"], files(data)
    half = report.classifier.settings["half_width"]
    table = column(data["regression"])
    errors = []
    for path, one in zip(images, answers(str(report.folder), images), strict=True):
        assert (one["high"] - one["value"], one["value"] - one["low"]) == pytest.approx((half, half))
        assert one["coverage"] == 0.9
        errors.append(abs(one["value"] - float(table[path.relative_to(data["regression"].parent).as_posix()])))
    assert np.mean(errors) == pytest.approx(report.summary["mae"], rel=1e-5)
    assert np.mean(np.array(errors) <= half) == pytest.approx(report.summary["test"]["coverage"])


def test_masks_are_written_and_score_as_they_were_scored(
    data: dict[str, Path], reports: dict[str, TaskReport], tmp_path: Path
):
    report, images = reports["segmentation"], files(data)
    found = answers(str(report.folder), images, masks_to=tmp_path / "out")
    both = union = 0
    for path, one in zip(images, found, strict=True):
        assert [Path(file).name for file in one["files"]] == [f"{path.stem}.mask.png", f"{path.stem}.overlay.png"]
        guess, overlay, truth = map(stored, (*one["files"], path.parent.parent / "masks" / path.name))
        assert guess.shape == overlay.shape[:2] == truth.shape == (one["height"], one["width"])
        true = truth > 0
        assert {c["name"]: c["share"] for c in one["classes"]} == {
            "background": pytest.approx((guess == 0).mean()),
            "foreground": pytest.approx((guess == 1).mean()),
        }
        both += int(((guess == 1) & true).sum())
        union += int(((guess == 1) | true).sum())
    assert both / union == pytest.approx(report.summary["iou"])


def test_images_of_one_name_have_masks_of_their_own(data: dict[str, Path], reports: dict[str, TaskReport], tmp_path):
    images = [data["segmentation"] / part / "images" / "0.png" for part in ("train", "test")]
    found = convscope.predict(str(reports["segmentation"].folder), images, masks_to=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "0-2.mask.png", "0-2.overlay.png", "0.mask.png", "0.overlay.png"
    ]  # fmt: skip
    assert "2 masks are in" in found.notes[-1]


def test_an_image_in_memory_is_answered_as_its_file(data: dict[str, Path], reports: dict[str, TaskReport]):
    for task in TASKS:
        path = files(data)[0]
        (of_file,) = convscope.predict(str(reports[task].folder), path)
        (in_memory,) = convscope.predict(str(reports[task].folder), [Image.open(path)])
        assert in_memory.to_json() | {"path": ""} == of_file.to_json() | {"path": ""}


def test_a_turned_photograph_has_a_mask_as_upright_as_itself(
    data: dict[str, Path], reports: dict[str, TaskReport], tmp_path: Path
):
    upright = Image.open(files(data)[0])
    exif = Image.Exif()
    exif[0x0112] = 6
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    run = str(reports["segmentation"].folder)
    found = [convscope.predict(run, [image])[0].mask for image in (files(data)[0], tmp_path / "turned.png")]
    assert np.array_equal(*found)


def test_tiles_cover_an_image_and_answer_one_that_fits_as_ever(data: dict[str, Path], reports: dict[str, TaskReport]):
    for length, side in ((64, 64), (65, 64), (100, 64), (500, 64), (64, 32)):
        starts = _starts(length, side)
        assert (starts[0], starts[-1] + side) == (0, length)
        assert all(b - a <= side * (1 - OVERLAP) + 1 for a, b in itertools.pairwise(starts))
    run, small = str(reports["segmentation"].folder), files(data)[1]
    plain, tiled = (convscope.predict(run, [small], tile=tile)[0].mask for tile in (False, True))
    assert np.array_equal(plain, tiled)


def test_tiles_of_a_network_that_looks_at_one_pixel_are_the_image_as_a_whole(tmp_path: Path):
    network = torch.nn.Conv2d(3, 2, 1)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[0.0, 0.0, 0.0], [1.0, -1.0, 0.0]])[..., None, None])
        network.bias.zero_()
    alone = Classifier(
        network, ("background", "red"), Preprocess(32, fit="pad"), Architecture("own", 32), {}, "segmentation"
    )
    pixels = np.random.default_rng(0).integers(0, 256, (70, 150, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "large.png")
    (one,) = convscope.predict(alone, [tmp_path / "large.png"], tile=True)
    assert np.array_equal(one.mask == 1, pixels[..., 0] > pixels[..., 1])
    assert dict(one.shares)["red"] == pytest.approx((pixels[..., 0] > pixels[..., 1]).mean())


def test_a_fine_tuning_is_measured_beside_the_heads_whatever_the_numbers_unit(data: dict[str, Path], tmp_path: Path):
    rows = data["regression"].read_text().split()
    large = data["regression"].with_name("large.csv")
    scaled = [",".join([r.split(",")[0], str(1e5 * float(r.split(",")[1])), r.split(",")[2]]) for r in rows[1:]]
    large.write_text("\n".join([rows[0], *scaled]))
    report = transferred(large, tmp_path, name="large", budget=5)
    assert [rung.name for rung in report.rungs] == ["ridge", "FCNN", "last stage", "full"]
    head = better_head(report.task, report.rungs[:2])
    assert set(report.paired) == {rung.name for rung in report.rungs} - {head.name}
    assert report.best.name == kept_rung(head, report.rungs[2:]).name
    assert " image by image: " in report.sentence()
    assert convscope.evaluate(str(report.folder)).summary["mae"] == report.summary["mae"]


def test_a_fine_tuning_is_kept_where_it_is_better_beyond_chance():
    def rung(name: str, each: np.ndarray, groups: np.ndarray | None = None) -> TaskRung:
        value = float(each.mean())
        return TaskRung(
            name, Score(Interval(value, value, value, len(each)), {}, each, groups), 1.0, 1, torch.nn.Identity(), {}
        )

    each = np.random.default_rng(0).random(40)
    heads = [rung("linear", each - 0.1), rung("top-down", each)]
    head = better_head(REGISTERED["segmentation"], heads)
    assert head is heads[1]
    assert better_head(REGISTERED["regression"], heads) is heads[0]  # a smaller error
    little, much = each.copy(), each + 0.05
    little[0] += 0.5
    assert kept_rung(head, [rung("last stage", little)]) is head
    assert kept_rung(head, [rung("last stage", little), rung("full", much)]).name == "full"
    assert kept_rung(head, [rung("full", each - 0.05)]) is head
    assert kept_rung(head, [rung("full", much, np.arange(40) % 4)]) is head  # four videos, however long
    assert kept_rung(head, [rung("full", much, np.arange(40) % 10)]).name == "full"


@pytest.mark.parametrize("task", TASKS)
def test_answers_as_a_table(task: str, data: dict[str, Path], reports: dict[str, TaskReport], tmp_path: Path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    images = [*files(data)[:2], tmp_path / "broken.png"]
    found = convscope.predict(str(reports[task].folder), images, csv=tmp_path / "a.csv")
    text = (tmp_path / "a.csv").read_text(encoding="utf-8")
    assert text == found.csv() == task_csv(found)
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["path"] for row in rows] == [str(path) for path in images]
    assert [bool(row["error"]) for row in rows] == [False, False, True]
    told = found[0].to_json()
    if task == "regression":
        assert float(rows[0]["value"]) == told["value"]
        assert float(rows[0]["low"]) < float(rows[0]["value"]) < float(rows[0]["high"])
    elif task == "multi_label":
        assert rows[0]["labels"] == "|".join(told["labels"])
        assert all(float(rows[0][f"p({r['label']})"]) == r["probability"] for r in told["top"])
    else:
        assert all(float(rows[0][f"share({c['name']})"]) == c["share"] for c in told["classes"])
    assert all(not value for key, value in rows[2].items() if key not in ("path", "error"))


# ---------------------------------------------------------------------------------------------------------- export


@pytest.mark.parametrize("task", TASKS)
def test_the_plain_script_answers_every_test_image_the_same(
    task: str, data: dict[str, Path], reports: dict[str, TaskReport], tmp_path: Path
):
    pytest.importorskip("onnxruntime")
    exported = convscope.export(str(reports[task].folder), format="onnx", output=tmp_path).exported
    (script,) = (path for path in exported.files if path.name.endswith(".predict.py"))
    copies = []
    for path in files(data):
        copies.append(tmp_path / path.name)
        shutil.copy(path, copies[-1])
    told = subprocess.run(
        [sys.executable, script, "--json", *map(str, copies)], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    theirs, ours = json.loads(told.stdout), convscope.predict(str(reports[task].folder), copies)
    different = total = 0
    for one, other in zip(theirs, ours, strict=True):
        wanted = other.to_json()
        if task == "regression":
            keys = ("value", "low", "high")
            assert [one[key] for key in keys] == pytest.approx([wanted[key] for key in keys], rel=1e-4, abs=1e-3)
        elif task == "multi_label":
            assert one["labels"] == wanted["labels"]
            found, asked = ({r["label"]: r["probability"] for r in told["top"]} for told in (one, wanted))
            assert found == pytest.approx(asked, abs=1e-4)
        else:
            mask = np.asarray(Image.open(one["mask"]))
            assert mask.shape == other.mask.shape
            different += int((mask != other.mask).sum())
            total += mask.size
    assert different <= total / 10_000 + 1
    plain = subprocess.run([sys.executable, script, *map(str, copies[:1])], capture_output=True, text=True, check=True)
    assert ours[0].words().split(" ")[0] in plain.stdout


@pytest.mark.parametrize("task", TASKS)
def test_an_exported_classifier_is_of_the_same_task(task: str, reports: dict[str, TaskReport], tmp_path: Path):
    made = convscope.export(str(reports[task].folder), format="safetensors", output=tmp_path)
    found = Classifier.load(made.exported.files[0])
    assert (found.task, found.settings) == (task, reports[task].classifier.settings)


# -------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("task", TASKS)
def test_what_is_for_classes_is_refused(task: str, data: dict[str, Path], reports: dict[str, TaskReport]):
    run, runs = str(reports[task].folder), reports[task].folder.parent
    for call in (
        lambda: convscope.explain(run, runs=runs),
        lambda: convscope.explain_image(run, files(data)[0], runs=runs),
        lambda: convscope.evaluate(run, data[task], views="flip", runs=runs),
        lambda: convscope.predict(run, files(data), min_probability=0.5),
        lambda: convscope.predict(run, files(data), coverage=0.9),
        lambda: convscope.predict(run, files(data), copy_to=runs / "sorted"),
    ):
        with pytest.raises(ConvscopeError, match=f"(?s)classification.*{task}|{task}.*classif"):
            call()
    if task != "segmentation":
        with pytest.raises(UsageError, match="`tile` is for the task segmentation or detection"):
            convscope.predict(run, files(data), tile=True)
    with pytest.raises(ConvscopeError, match="`min_probability` is for the task classification"):
        convscope.predict(run, files(data), min_probability=0.0)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"balance": True}, "`balance` is for the task classification"),
        ({"cards": True}, "`cards` is for the task classification"),
        ({"continue_from": "other"}, "`continue_from` is for the task classification"),
        ({"fit": "crop"}, "`fit` crop leaves pixels without an answer"),
        ({"image_size": 50}, "`image_size` 50: for the task segmentation it must be a multiple of 32"),
        ({"quick": True, "budget": 1.0}, "`quick` leaves out what `budget` asks for"),
        ({"task": "regression"}, "cannot be read for the task regression"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], told: str, data: dict[str, Path], tmp_path: Path):
    with pytest.raises(ConvscopeError, match=told):
        transferred(data["segmentation"], tmp_path, **options)
    assert not any(tmp_path.iterdir())


def test_a_network_is_scored_on_targets_of_its_own_names_only(
    data: dict[str, Path], reports: dict[str, TaskReport], tmp_path: Path
):
    text = data["multi_label"].read_text(encoding="utf-8").replace("stripes", "spots").replace("masked/", "")
    (tmp_path / "other.csv").write_text(text, encoding="utf-8")
    with pytest.raises(
        DataError, match=r"other has other classes than the classifier: .* does not know 'spots'; without 'stripes'"
    ):
        convscope.evaluate(str(reports["multi_label"].folder), tmp_path / "other.csv", images=data["segmentation"])
    with pytest.raises(ConvscopeError, match="regression"):
        convscope.evaluate(str(reports["regression"].folder), data["segmentation"])


# -------------------------------------------------------------------------------------------------- classification


@pytest.fixture(scope="module")
def classes(data: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A transfer to classes of the same images, and its folder."""
    root, rng = tmp_path_factory.mktemp("classes"), np.random.default_rng(1)
    for i in range(36):
        image, _, names, _ = picture(rng)
        folder = root / ("striped" if "stripes" in names else "plain")
        folder.mkdir(exist_ok=True)
        image.save(folder / f"{i}.png")
    runs = tmp_path_factory.mktemp("runs")
    made = convscope.transfer(root, name="c", runs=runs, image_size=64, engine="torch", quick=True)
    return str(made.run.folder), root


def test_a_transfer_to_classes_says_nothing_of_tasks(classes: tuple[str, Path]):
    run, _ = classes
    meta = read_header(Path(run) / "classifier.safetensors").meta
    assert {"task", "settings"} & set(meta) == set()
    assert {"task", "settings"} & set(json.loads((Path(run) / "classifier.json").read_text())) == set()
    found = Classifier.load(Path(run) / "classifier.safetensors")
    assert (found.task, found.settings) == ("classification", {})


def test_masks_and_tiles_are_refused_of_a_network_of_classes(classes: tuple[str, Path], data: dict[str, Path]):
    run, root = classes
    with pytest.raises(UsageError, match="`masks`"):
        convscope.evaluate(run, root, masks=data["segmentation"] / "test" / "masks")
    with pytest.raises(UsageError, match="`masks` is for the task segmentation, not classification"):
        convscope.transfer(root, masks=data["segmentation"] / "test" / "masks", task="classification")
    with pytest.raises(UsageError, match="`tile` is for the task segmentation or detection, not classification"):
        convscope.predict(run, files(data), tile=True)
    with pytest.raises(UsageError, match="`masks_to` is for the task segmentation, not classification"):
        convscope.predict(run, files(data), masks_to=root / "out")
    with pytest.raises(UsageError, match="`boxes_to` is for the task detection, not classification"):
        convscope.predict(run, files(data), boxes_to=root / "out")
