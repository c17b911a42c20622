"""Asking the page about an image of a run for boxes: those of `predict`, what lies below its threshold, and files."""

from __future__ import annotations

import base64
import io
import json
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
from convscope.canvas.overlays import class_colours
from convscope.errors import ImageError
from convscope.evaluation.box_answers import BoxAnswer, found_in
from convscope.images.placing import place_of
from convscope.models.taps import evaluating
from convscope.page.application import application
from convscope.page.asked_tasks import answer_of_task
from convscope.page.routes import Page
from convscope.page.served import Served
from convscope.tasks.detection import LEAST
from convscope.training.runs import Run
from page_client import HOST, request
from planted_boxes import NAMES, as_voc, planted
from test_asking_tasks import FILES, file_of, opened, post, predicted, told

HOSTILE = ("</script><img src=x onerror=alert(1)>", "__proto__", "third")
BACKGROUND = ("background", "bee", "wasp")
DOCS = Path(__file__).parents[1] / "docs"


def renamed(runs: Path, name: str, class_names: tuple[str, ...], **settings: float) -> None:
    """The run under another name, with other names of classes and settings."""
    shutil.copytree(runs / "boxes", runs / name)
    found = Run(runs / name).classifier()
    changed = replace(found, class_names=class_names, settings={**found.settings, **settings})
    changed.save(runs / name / "classifier.safetensors")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run for boxes; the same with names to fear, with a class called background, and with other thresholds."""
    runs = tmp_path_factory.mktemp("runs")
    data = as_voc(tmp_path_factory.mktemp("data") / "boxes", planted(40, parts=("train", "train", "val", "test")))
    convscope.transfer(data, runs=runs, name="boxes", image_size=64, engine="torch", quick=True)
    renamed(runs, "hostile", HOSTILE, threshold=0.1)
    renamed(runs, "background", BACKGROUND, threshold=0.2)
    renamed(runs, "strict", NAMES, threshold=0.999)
    return runs


@pytest.fixture(scope="module")
def page(folder: Path) -> Any:
    page = Page(Served(folder))
    yield page
    page.close()


RUNS = ["boxes", "hostile", "background", "strict"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("run", RUNS)
def test_the_page_answers_what_predict_answers(page: Page, folder: Path, run: str, name: str) -> None:
    data = FILES[name]()
    said, found = predicted(folder, data, run), post(page, data, run)
    assert found.status == 200
    answer = found.json()
    assert {key: value for key, value in answer["answer"].items() if key != "path"} == told(said)
    assert answer["told"] == said.words()
    threshold = Run(folder / run).classifier().settings["threshold"]
    assert answer["threshold"] == threshold
    assert f"from a score of {threshold:.2f} on" in answer["meant"]
    sure = [{key: value for key, value in box.items() if key != "colour"} for box in answer["boxes"]]
    assert [box for box in sure if box["score"] >= threshold] == answer["answer"]["boxes"]


def everything(folder: Path, run: str, data: bytes) -> list[tuple[str, float, float, float, float, float]]:
    """All that the network finds, one box after the other: class, score and edges."""
    classifier = Run(folder / run).classifier()
    pixels, size = classifier.preprocess.fit_sized(data, "x")
    inputs = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (classifier.preprocess.mean, classifier.preprocess.std))
    with evaluating(classifier.network), torch.no_grad():
        found = found_in(classifier, classifier.network((inputs - mean) / std)[0], size)
    names = classifier.class_names
    rows = zip(found.labels.tolist(), found.scores.tolist(), found.corners.tolist(), strict=True)
    return [(names[label], score, *corners) for label, score, corners in rows]


@pytest.mark.parametrize("name", FILES)
def test_boxes_below_the_threshold_come_too_the_surest_first(page: Page, folder: Path, name: str) -> None:
    data = FILES[name]()
    boxes, wanted = post(page, data, "strict").json()["boxes"], everything(folder, "strict", data)
    assert len(boxes) == len(wanted) > 0
    assert [box["label"] for box in boxes] == [row[0] for row in wanted]
    numbers = [[box[key] for key in ("score", "left", "top", "right", "bottom")] for box in boxes]
    assert np.allclose(numbers, [row[1:] for row in wanted], atol=2e-3)
    scores = [box["score"] for box in boxes]
    assert scores == sorted(scores, reverse=True)
    assert LEAST < scores[-1] < 0.999


@pytest.mark.parametrize("run", RUNS)
def test_every_class_has_its_colour_and_how_many_boxes_it_has(page: Page, folder: Path, run: str) -> None:
    answer, names = post(page, file_of((80, 96)), run).json(), Run(folder / run).classifier().class_names
    colours = dict(zip(names, class_colours(3, False).tolist(), strict=True))
    assert [row["name"] for row in answer["counts"]] == list(names)
    assert {row["name"]: row["colour"] for row in answer["counts"]} == colours
    labels = [box["label"] for box in answer["answer"]["boxes"]]
    assert {row["name"]: row["count"] for row in answer["counts"]} == {name: labels.count(name) for name in names}
    assert all(box["colour"] == colours[box["label"]] != [0, 0, 0] for box in answer["boxes"])


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("run", ["boxes", "hostile"])
def test_the_files_are_those_that_predict_writes(page: Page, folder: Path, run: str, name: str, tmp_path: Path) -> None:
    data = FILES[name]()
    (tmp_path / "x.png").write_bytes(data)
    convscope.predict(run, tmp_path / "x.png", runs=folder, boxes_to=tmp_path / "boxes")
    answer = post(page, data, run).json()
    assert answer["yolo"] == (tmp_path / "boxes" / "labels" / "x.txt").read_text(encoding="utf-8")
    theirs = json.loads((tmp_path / "boxes" / "boxes.coco.json").read_text(encoding="utf-8"))
    theirs["images"][0]["file_name"] = "the image"
    assert json.loads(answer["coco"]) == theirs
    assert len(theirs["annotations"]) == len(answer["answer"]["boxes"])


@pytest.mark.parametrize("name", FILES)
def test_the_image_is_shown_without_its_border(page: Page, folder: Path, name: str) -> None:
    answer, preprocess = post(page, FILES[name](), "boxes").json(), Run(folder / "boxes").classifier().preprocess
    size = (answer["width"], answer["height"])
    window = np.zeros((preprocess.size, preprocess.size))[place_of(preprocess, size).window]
    assert opened(answer["image"]).shape == (*window.shape, 3)
    assert min(size) / max(size) == pytest.approx(min(window.shape) / max(window.shape), abs=1 / preprocess.size)


def test_boxes_lie_in_the_image_as_it_is_seen_upright(page: Page) -> None:
    answer = post(page, FILES["a turned PNG"](), "hostile").json()
    assert (answer["width"], answer["height"]) == (40, 90)
    assert answer["boxes"]
    for box in answer["boxes"]:
        assert 0 <= box["left"] < box["right"] <= 40
        assert 0 <= box["top"] < box["bottom"] <= 90


def test_no_box_is_an_answer_with_files_of_none(page: Page, folder: Path) -> None:
    answer = post(page, file_of((80, 96)), "strict").json()
    assert answer["told"] == "no box"
    assert answer["answer"]["boxes"] == []
    assert answer["yolo"] == ""
    assert json.loads(answer["coco"])["annotations"] == []
    assert [row["count"] for row in answer["counts"]] == [0, 0, 0]
    assert isinstance(predicted(folder, file_of((80, 96)), "strict"), BoxAnswer)


@pytest.mark.parametrize("data", [b"%PDF-1.4", b"<svg onload=alert(1)>", file_of((40, 40))[:500]])
def test_what_is_no_image_is_refused_with_the_same_sentence(page: Page, folder: Path, data: bytes) -> None:
    answer = post(page, data, "boxes")
    assert answer.status == 422
    assert answer.json()["error"] == f"the image: {predicted(folder, data, 'boxes').error}"


def test_outputs_that_are_no_numbers_are_refused_with_the_same_sentence(page: Page, folder: Path) -> None:
    class Infinite(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.full((len(images), 84, 8), float("nan"))

    kept = page.asker._open("background")
    pixels, size = kept.classifier.preprocess.fit_sized(file_of((64, 64)), "x")
    with pytest.raises(ImageError, match="are no numbers"):
        answer_of_task(replace(kept.classifier, network=Infinite()), pixels, size)


def test_the_page_has_what_boxes_are_asked_with_and_nothing_else(page: Page) -> None:
    guarded = application(page, [HOST])
    shown = request(guarded, "/runs/boxes/ask").text
    for name in ("file", "drawing", "from", "kinds", "file-of-yolo", "file-of-coco", "file-of-names", "answers"):
        assert shown.count(f'id="{name}"') == 1
    for name in ("cover", "mirror", "evidence", "opacity", "mask"):
        assert f'id="{name}"' not in shown
    assert "ask_boxes.js" in shown
    (without,) = re.findall(r"<noscript><p class=\"doubt\">Without it: (.*?)</noscript>", shown)
    assert "convscope predict boxes IMAGE --boxes-to FOLDER" in without
    pixels = page.asker.decoder.fit(
        file_of((64, 64)), Run(page.served.run("boxes").folder).classifier().preprocess, "x"
    )
    refused = request(guarded, f"/runs/boxes/asked/{page.asker._keep(pixels)}.json")
    assert refused.status == 422
    assert "detection" in refused.json()["error"]


def test_every_key_of_the_answer_is_documented(page: Page) -> None:
    text = (DOCS / "json.md").read_text(encoding="utf-8")
    (part,) = re.findall(r"^### The page for asking$(.*?)^###", text, re.M | re.S)
    documented = {key for keys in re.findall(r"^- ((?:`\w+`, )+)", part, re.M) for key in re.findall(r"\w+", keys)}
    assert set(post(page, file_of((80, 96)), "boxes").json()) <= documented


def test_an_image_is_read_as_predict_reads_it_whatever_its_format(page: Page, folder: Path) -> None:
    pixels = opened("data:image/png;base64," + base64.b64encode(file_of((70, 50))).decode())
    for kind in ("JPEG", "WEBP", "TIFF", "GIF", "BMP"):
        box = io.BytesIO()
        Image.fromarray(pixels).save(box, kind)
        found = post(page, box.getvalue(), "hostile").json()
        assert told(predicted(folder, box.getvalue(), "hostile")).items() <= found["answer"].items(), kind
