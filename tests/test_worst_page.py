"""What an evaluation of a task keeps of the images that were answered worst, and the page that shows them."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("starlette")

import convscope
from convscope.canvas.overlays import FIRST, STRENGTH
from convscope.evaluation import task_sheet
from convscope.evaluation.opening import open_classifier
from convscope.evaluation.options import EvaluateOptions
from convscope.evaluation.task_command import read_asked
from convscope.evaluation.task_scoring import TaskEvaluated, evaluate_task
from convscope.page.application import application
from convscope.page.routes import Page
from convscope.page.served import Served
from convscope.page.site import write_site
from convscope.storage import commit_json, read_json
from page_client import HOST, request
from small_targets import discs

RUNS = {"masks": "", "tags": "tags.csv", "sizes": "sizes.csv"}
PLACES = {"masks": "discs-test", "tags": "tags-test", "sizes": "sizes-test"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of each task, evaluated on their eight test images; and the folder of discs."""
    root = tmp_path_factory.mktemp("made")
    data = discs(root / "discs")
    for name, table in RUNS.items():
        given: dict[str, Any] = {"quick": True, "engine": "torch", "image_size": 64}
        convscope.transfer(data / table, runs=root / "runs", name=name, **given)
        convscope.evaluate(name, runs=root / "runs")
    return root


def asking(folder: Path) -> Any:
    guarded = application(Page(Served(folder)), [HOST])
    return lambda address: request(guarded, address)


class LeftHalf(torch.nn.Module):
    """Answers that the left half of every image is the object."""

    def forward(self, images_B3HW: torch.Tensor) -> torch.Tensor:
        b, _, h, w = images_B3HW.shape
        logits = torch.zeros(b, 2, h, w)
        logits[:, 1] = torch.where(torch.arange(w) < w // 2, 9.0, -9.0)
        return logits


def known(made: Path) -> tuple[Any, TaskEvaluated]:
    """A network whose masks are known, and its score."""
    found, _ = open_classifier("masks", made / "runs", None, None, any_task=True)
    classifier = replace(found, network=LeftHalf())
    dataset = read_asked(classifier, "masks", str(made / "discs"), EvaluateOptions(runs=made / "runs"))[0]
    return classifier, evaluate_task(classifier, dataset, "test")


def cells_of(folder: Path, sheet: int, row: int) -> list[np.ndarray]:
    side = task_sheet.SIDE
    pixels = np.asarray(Image.open(folder / f"worst-{sheet}.jpg")).astype(float)[row * side : (row + 1) * side]
    return [pixels[:, x * side : (x + 1) * side] for x in range(pixels.shape[1] // side)]


def test_a_known_mask_lies_over_its_image_in_its_colour(made: Path, tmp_path: Path):
    classifier, evaluated = known(made)
    task_sheet.write_sheets(classifier, evaluated, "iou", tmp_path)
    listed = read_json(tmp_path / "worst.json")
    assert listed["classes"] == [{"name": classifier.class_names[1], "colour": list(FIRST[0])}]
    colour = np.array(FIRST[0])
    for row, said in enumerate(listed["images"]):
        image, answer, truth = cells_of(tmp_path, 0, row)
        mask = np.asarray(Image.open(made / "discs" / "masks" / Path(said["origin"]).name)) > 0
        left = np.zeros_like(mask)
        left[:, :48] = True
        assert said["figure"] == pytest.approx((mask & left).sum() / (mask | left).sum(), abs=0.02)
        down, across = (round(v) for v in np.argwhere(mask).mean(0))
        within = np.s_[down + 8 - 2 : down + 8 + 3, across - 2 : across + 3]  # 80 rows lie in the middle of 96
        painted = (1 - STRENGTH) * image + STRENGTH * colour
        assert truth[within] == pytest.approx(painted[within], abs=12)
        for part, wanted in ((np.s_[30:60, 10:40], painted), (np.s_[30:60, 55:90], image)):  # JPEG alters single pixels
            assert answer[part].mean((0, 1)) == pytest.approx(wanted[part].mean((0, 1)), abs=3)
        assert truth[2, 40].mean() < 0.6 * image[2, 40].mean()  # beside the image there is nothing to answer


def test_the_worst_come_first_and_lie_where_the_list_says(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    classifier, evaluated = known(made)
    task_sheet.write_sheets(classifier, evaluated, "iou", tmp_path)
    whole = read_json(tmp_path / "worst.json")
    figures = [row["figure"] for row in whole["images"]]
    assert figures == sorted(figures) == sorted(evaluated.score.each.tolist())
    expected = [cells_of(tmp_path, 0, row) for row in range(5)]
    monkeypatch.setattr(task_sheet, "MOST", 5)
    monkeypatch.setattr(task_sheet, "BLOCK", 2)
    (tmp_path / "few").mkdir()
    task_sheet.write_sheets(classifier, evaluated, "iou", tmp_path / "few")
    few = read_json(tmp_path / "few" / "worst.json")
    assert few["images"] == whole["images"][:5]
    assert (few["of"], few["block"]) == (8, 2)
    assert sorted(p.name for p in (tmp_path / "few").glob("*.jpg")) == ["worst-0.jpg", "worst-1.jpg", "worst-2.jpg"]
    for row, wanted in enumerate(expected):
        for one, other in zip(cells_of(tmp_path / "few", row // 2, row % 2), wanted, strict=True):
            assert np.abs(one - other).mean() < 2


@pytest.mark.parametrize("run", RUNS)
def test_the_page_of_a_task_lists_every_image_with_its_figure(made: Path, run: str):
    asked, place = asking(made / "runs"), f"/runs/{run}/worst/{PLACES[run]}"
    assert f'href="{place}"' in asked(f"/runs/{run}").text
    shown, found = asked(place), asked(f"{place}.json").json()
    assert shown.status == 200
    assert found["of"] == len(found["images"]) == 8
    assert shown.text.count('role="img"') == 8 * len(found["cells"])
    figures = [row["figure"] for row in found["images"]]
    assert figures == sorted(figures, reverse=run != "masks")
    for row in found["images"]:
        assert row["origin"] in shown.text
        assert (row["truth"] is None) == (row["answer"] is None) == (run == "masks")
    if run == "sizes":
        assert figures == pytest.approx(
            [abs(float(r["truth"]) - float(r["answer"])) for r in found["images"]], abs=0.02
        )
    (sheet,) = re.findall(r'url\("([^"]+)"\)', shown.text)
    assert asked(sheet).headers["content-type"] == "image/jpeg"


def test_an_evaluation_without_small_images_offers_to_make_them(made: Path, tmp_path: Path):
    shutil.copytree(made / "runs" / "masks", tmp_path / "masks")
    folder = tmp_path / "masks" / "evaluate" / "discs-test"
    for path in folder.glob("worst*.j*"):
        path.unlink()
    asked = asking(tmp_path)
    for address in ("/runs/masks", "/runs/masks/worst/discs-test"):
        found = asked(address)
        assert found.status == 200
        assert "<code>convscope evaluate masks</code>" in found.text
        assert 'hx-post="/jobs/evaluate/masks"' in found.text
    assert asked("/runs/masks/worst/discs-test.json").json()["images"] is None
    other = read_json(folder / "evaluation.json") | {"test_openings": None}  # as of data that a button does not know
    commit_json(folder / "evaluation.json", other)
    for address in ("/runs/masks", "/runs/masks/worst/discs-test"):
        found = asked(address).text
        assert "<code>convscope evaluate masks DATA --part test</code>" in found
        assert "hx-post" not in found
    convscope.evaluate("masks", made / "discs", part="test", runs=tmp_path)
    assert len(asked("/runs/masks/worst/discs-test.json").json()["images"]) == 8
    (folder / "worst.json").unlink()
    convscope.evaluate("masks", runs=tmp_path)
    assert len(asked("/runs/masks/worst/discs-test.json").json()["images"]) == 8


def test_a_page_shows_evaluations_of_its_kind_alone(made: Path, tmp_path: Path):
    asked = asking(made / "runs")
    assert asked("/runs/masks/worst/none").status == 404
    assert asked("/runs/tags/mistakes/tags-test").status == 404
    shutil.copytree(made / "runs" / "masks", tmp_path / "masks")
    path = tmp_path / "masks" / "evaluate" / "discs-test" / "evaluation.json"
    said = read_json(path)
    commit_json(path, {name: value for name, value in said.items() if name not in ("task", "seal")})
    assert asking(tmp_path)("/runs/masks/worst/discs-test").status == 404


def test_names_in_a_list_are_shown_and_do_nothing(made: Path, tmp_path: Path):
    hostile = "</style><script>x</script>\x1b[31m"
    for run in RUNS:
        shutil.copytree(made / "runs" / run, tmp_path / run)
        path = tmp_path / run / "evaluate" / PLACES[run] / "worst.json"
        box = read_json(path)
        for row in box["images"]:
            row |= {"origin": hostile} | ({} if run == "masks" else {"truth": hostile, "answer": hostile})
        for row in box["classes"]:
            row["name"] = hostile
        commit_json(path, box | {"called": hostile})
        found = asking(tmp_path)(f"/runs/{run}/worst/{PLACES[run]}")
        assert found.status == 200
        assert "<script>x" not in found.text
        assert "\x1b" not in found.text
        assert "&lt;script&gt;x" in found.text


@pytest.mark.parametrize(
    "wrong",
    [
        {"classes": [{"name": "a", "colour": "red}*{display:none"}]},
        {"classes": [{"name": "a", "colour": [0, 0, 256]}]},
        {"block": 0},
        {"images": [{"origin": "a.png"}]},
        {"cells": ["image", "x y0"]},
    ],
)
def test_a_list_of_another_form_is_told(made: Path, tmp_path: Path, wrong: dict[str, Any]):
    shutil.copytree(made / "runs" / "masks", tmp_path / "masks")
    path = tmp_path / "masks" / "evaluate" / "discs-test" / "worst.json"
    commit_json(path, read_json(path) | wrong)
    found = asking(tmp_path)("/runs/masks/worst/discs-test")
    assert found.status == 422
    assert "is not a list of images" in found.text


def test_a_site_of_files_holds_the_worst_with_their_sheets(made: Path, tmp_path: Path):
    site = write_site(tmp_path / "site", runs=made / "runs").parent / "runs" / "masks"
    shown = (site / "worst" / "discs-test.html").read_text("utf-8")
    (sheet,) = re.findall(r'url\("([^"]+)"\)', shown)
    assert (site / "worst" / sheet).resolve().is_file()
    assert "worst/discs-test.html" in (site.parent / "masks.html").read_text("utf-8")
