"""What the page shows of a run for boxes that was evaluated: its figures in words, its curve, and its worst answers."""

from __future__ import annotations

import html
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("starlette")

import convscope
from convscope.canvas.overlays import class_colours
from convscope.evaluation import task_sheet
from convscope.evaluation.box_sheet import Compared, compared
from convscope.evaluation.opening import open_classifier
from convscope.evaluation.options import EvaluateOptions
from convscope.evaluation.task_command import read_asked
from convscope.evaluation.task_scoring import evaluate_task, worst
from convscope.page.application import application
from convscope.page.routes import Page
from convscope.page.served import Served
from convscope.page.site import write_site
from convscope.storage import commit_json, read_json
from convscope.tasks.matching import FoundBoxes, TrueBoxes, matched
from page_client import HOST, request
from planted_boxes import NAMES, Planted, as_voc, planted
from test_docs import misfits

SIDE = task_sheet.BOXES_SIDE
PLACE = "evaluate/data-test"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of images with boxes, some of them of crowds, and a run that was evaluated on its ten test images."""
    root = tmp_path_factory.mktemp("made")
    images = planted(40, parts=("train", "train", "val", "test"), seed=4)
    images = [Planted(**{**vars(one), "crowd": (0,) if i % 8 == 3 else ()}) for i, one in enumerate(images)]
    data = as_voc(root / "data", images)
    convscope.transfer(data, runs=root / "runs", name="boxes", image_size=64, engine="torch", quick=True)
    convscope.evaluate("boxes", runs=root / "runs")
    return root


def asking(folder: Path) -> Any:
    guarded = application(Page(Served(folder)), [HOST])
    return lambda address: request(guarded, address)


def text_of(markup: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", markup)).split())


def rows_of(made: Path) -> tuple[list[Compared], list[float]]:
    """Each test image beside the truth, the worst first, and its figure."""
    classifier, _ = open_classifier("boxes", made / "runs", None, None, any_task=True)
    dataset = read_asked(classifier, "boxes", str(made / "data"), EvaluateOptions(runs=made / "runs"))[0]
    evaluated = evaluate_task(classifier, dataset, "test")
    places = worst(evaluated, 10)
    return list(compared(classifier, dataset, evaluated.index[places])), evaluated.score.each[places].tolist()


def test_the_page_of_a_run_tells_its_figures_in_words(made: Path) -> None:
    asked = asking(made / "runs")
    shown, figures = asked("/runs/boxes").text, read_json(made / "runs" / "boxes" / PLACE / "evaluation.json")
    told = text_of(shown)
    percent = {key: f"{100 * figures[key]:.1f} %" for key in ("ap50", "ap", "precision", "recall")}
    low, high = (f"{100 * figures[key]:.1f}" for key in ("low", "high"))
    assert f"AP50: right is what overlaps a true box by half {percent['ap50']} [{low}, {high}] n = 10, average" in told
    assert f"AP, at overlaps of 50 to 95 % {percent['ap']}" in told
    assert f"precision at a score of {figures['threshold']:.2f} {percent['precision']}" in told
    assert f"recall there, of {figures['boxes']} boxes {percent['recall']}" in told
    for row in figures["classes"]:
        told_row = (
            f"{row['name']} {100 * row['ap50']:.1f} % [{100 * row['ap50_low']:.1f}, {100 * row['ap50_high']:.1f}] "
        )
        assert told_row in told
        assert f" {100 * row['ap']:.1f} % {row['boxes']} {row['images']}" in told
    for name in ("classes", "thresholds", "worst"):
        (address,) = re.findall(rf'src="([^"]*data-test/{name}\.png)"', shown)
        assert asked(address).headers["content-type"] == "image/png"
    assert "average precision (AP50)" in text_of(asked("/runs/boxes/transfer").text)


def test_words_below_an_image_count_what_its_figure_counts(made: Path) -> None:
    listed = read_json(made / "runs" / "boxes" / PLACE / "worst.json")["images"]
    rows, figures = rows_of(made)
    assert len(rows) == len(listed) == 10
    assert [row["figure"] for row in listed] == pytest.approx(figures)
    assert [(row["answer"], row["truth"]) for row in listed] == [(row.said(), row.true()) for row in rows]
    for row in listed:
        count = {word: int(n) for n, word in re.findall(r"(\d+) (right|false|doubled)", row["answer"])}
        there, _, lost = row["truth"].partition("; ")
        true = sum(int(n) for n in re.findall(r"(\d+) \w+", there))
        missed = int(lost.removesuffix(" missed") or 0)
        right, wrong = count["right"], count["false"] + count.get("doubled", 0)
        assert true - missed == right
        if right + wrong + true:
            assert row["figure"] == pytest.approx(2 * right / (right + wrong + true))
    assert any("missed" in row["truth"] for row in listed)
    assert any("0 false" not in row["answer"] for row in listed)


def test_a_box_in_a_crowd_is_told_as_neither_right_nor_false() -> None:
    truth = TrueBoxes(np.array([[0, 0, 20, 20], [30, 30, 50, 50.0]]), np.array([0, 0]), np.array([True, False]))
    corners = np.array([[1, 1, 12, 12], [30, 30, 50, 50], [31, 31, 50, 50], [70, 70, 90, 90.0]])
    found = FoundBoxes(corners, np.zeros(4, np.int64), np.array([0.9, 0.8, 0.7, 0.6]))
    one = matched(found, truth, 1)
    wrong = one.false | one.doubled
    image = np.zeros((96, 96, 3), np.uint8)
    row = Compared(image, found, truth, one.right, wrong, one.doubled, one.missed, ("ant",))
    assert row.said() == "1 right, 1 false, 1 doubled"
    assert row.true() == "1 ant"


def test_the_worst_are_shown_with_their_words_and_two_small_images(made: Path) -> None:
    asked = asking(made / "runs")
    shown, found = asked("/runs/boxes/worst/data-test"), asked("/runs/boxes/worst/data-test.json").json()
    assert shown.status == 200
    assert misfits(found, "The page of what was answered worst") == []
    assert found["cells"] == ["answer", "truth"]
    assert [row["name"] for row in found["classes"]] == list(NAMES)
    assert [row["colour"] for row in found["classes"]] == class_colours(3, False).tolist()
    assert shown.text.count('role="img"') == 20
    told = text_of(shown.text)
    assert "F1 of its boxes" in told
    for row in found["images"]:
        assert f"{row['origin']} true: {row['truth']} answered: {row['answer']}" in told
    (sheet,) = re.findall(r'url\("([^"]+)"\)', shown.text)
    assert asked(sheet).headers["content-type"] == "image/jpeg"
    with Image.open(made / "runs" / "boxes" / PLACE / "worst-0.jpg") as image:
        assert image.size == (2 * SIDE, 10 * SIDE)


def test_words_and_sheets_stay_together_over_several_sheets(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier, _ = open_classifier("boxes", made / "runs", None, None, any_task=True)
    dataset = read_asked(classifier, "boxes", str(made / "data"), EvaluateOptions(runs=made / "runs"))[0]
    monkeypatch.setattr(task_sheet, "MOST", 5)
    monkeypatch.setattr(task_sheet, "BLOCK", 2)
    task_sheet.write_sheets(classifier, evaluate_task(classifier, dataset, "test"), "ap50", tmp_path)
    whole = read_json(made / "runs" / "boxes" / PLACE / "worst.json")
    assert read_json(tmp_path / "worst.json")["images"] == whole["images"][:5]
    for row in range(5):
        ours, theirs = (
            np.asarray(Image.open(folder / f"worst-{sheet}.jpg")).astype(float)[place * SIDE : (place + 1) * SIDE]
            for folder, sheet, place in ((tmp_path, row // 2, row % 2), (made / "runs" / "boxes" / PLACE, 0, row))
        )
        assert np.abs(ours - theirs).mean() < 2


def test_an_evaluation_whose_list_has_no_words_is_shown_without(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "runs" / "boxes", tmp_path / "boxes")
    path = tmp_path / "boxes" / PLACE / "worst.json"
    box = read_json(path)
    for row in box["images"]:
        row |= {"answer": None, "truth": None}
    commit_json(path, box)
    shown = asking(tmp_path)("/runs/boxes/worst/data-test")
    assert shown.status == 200
    assert "answered:" not in shown.text


def test_a_site_of_files_holds_the_worst_of_boxes(made: Path, tmp_path: Path) -> None:
    site = write_site(tmp_path / "site", runs=made / "runs").parent / "runs" / "boxes"
    shown = (site / "worst" / "data-test.html").read_text("utf-8")
    (sheet,) = re.findall(r'url\("([^"]+)"\)', shown)
    assert (site / "worst" / sheet).resolve().is_file()
