"""Asking the page about an image of a run for masks, labels or a number: the answer of `predict`, to the last bit."""

from __future__ import annotations

import base64
import dataclasses
import io
import shutil
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("starlette")

import convscope
from convscope.canvas.overlays import class_colours
from convscope.classifying.prediction import Unreadable
from convscope.evaluation.task_answers import Mask
from convscope.page.application import application
from convscope.page.asked_tasks import SHOWN
from convscope.page.routes import Page
from convscope.page.served import Served
from convscope.storage import read_json
from convscope.training.runs import Run
from page_client import HOST, request
from small_targets import discs

SHARED = Path(__file__).resolve().parents[2] / "shared"
TASKS = {"segmentation": "", "multi_label": "tags.csv", "regression": "sizes.csv"}
HOSTILE = ("</script><img src=x onerror=alert(1)>", "__proto__")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run for each task, and one of masks whose classes have names to fear."""
    data, runs = discs(tmp_path_factory.mktemp("data") / "discs"), tmp_path_factory.mktemp("runs")
    for task, table in TASKS.items():
        convscope.transfer(data / table, runs=runs, name=task, image_size=64, engine="torch", quick=True, task=task)
    for name in ("segmentation", "multi_label"):
        shutil.copytree(runs / name, runs / f"hostile-{name}")
        run = Run(runs / f"hostile-{name}")
        classifier = run.classifier()
        names = (*HOSTILE, "third")[: len(classifier.class_names)]
        dataclasses.replace(classifier, class_names=names).save(run.folder / "classifier.safetensors")
    return runs


@pytest.fixture(scope="module")
def page(folder: Path) -> Any:
    page = Page(Served(folder))
    yield page
    page.close()


def test_the_table_of_runs_shows_the_figure_of_each_task(folder: Path, page: Page) -> None:
    table = request(application(page, [HOST]), "/index.json").json()
    rows = {row["name"]: row for row in table["runs"]}
    for name, short in (("segmentation", "IoU"), ("multi_label", "mAP"), ("regression", "MAE")):
        kept = read_json(folder / name / "transfer" / "transfer.json")
        told = rows[name]["val_task"]
        assert told["short"] == short
        scale = 1 if short == "MAE" else 100
        assert float(told["value"].removesuffix(" %")) == pytest.approx(scale * kept["val_value"], rel=0.01, abs=0.05)
        assert rows[name]["val_top1"] is None
        if kept[kept["metric"]] is not None:
            assert rows[name]["test_task"]["value"]
    text = request(application(page, [HOST]), "/").text
    assert f"{rows['regression']['val_task']['value']}<br>" in text
    assert ">MAE</abbr>" in text


def post(page: Page, data: bytes, run: str) -> Any:
    headers = [("host", HOST), ("x-convscope-token", page.served.token)]
    return request(application(page, [HOST]), f"/runs/{run}/ask", "POST", headers, [data])


def predicted(folder: Path, data: bytes, run: str) -> Any:
    (answer,) = convscope.predict(run, "-", runs=folder, standard_input=data)
    return answer


def told(answer: Any) -> dict[str, Any]:
    """The JSON form, but of the path: what comes from a browser has none."""
    return {key: value for key, value in answer.to_json().items() if key != "path"}


def opened(uri: str) -> np.ndarray:
    with Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,")))) as image:
        return np.array(image)


def file_of(shape: tuple[int, ...], kind: str = "PNG", **options: Any) -> bytes:
    """A disc before noise, in a file."""
    random = np.random.default_rng(3)
    pixels = random.integers(0, 120, (*shape, 3), dtype=np.uint8)
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    pixels[np.hypot(rows - shape[0] / 2, columns - shape[1] / 3) < min(shape) / 4] = (190, 80, 90)
    box = io.BytesIO()
    Image.fromarray(pixels).save(box, kind, **options)
    return box.getvalue()


def turned() -> bytes:
    """A PNG that says at its end that it is to be turned."""
    exif = Image.Exif()
    exif[0x0112] = 6
    block = exif.tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(block)) + b"eXIf" + block + struct.pack(">I", zlib.crc32(b"eXIf" + block))
    whole = file_of((40, 90))
    return whole[:-12] + chunk + whole[-12:]


def turned_photo() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 8
    return file_of((900, 1300), "JPEG", exif=exif)  # decoded at a reduced scale


FILES = {
    "as trained": lambda: file_of((80, 96)),
    "the network's size": lambda: file_of((64, 64)),
    "thin": lambda: file_of((5, 90)),
    "a turned photo": turned_photo,
    "a turned PNG": turned,
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("run", [*TASKS, "hostile-segmentation", "hostile-multi_label"])
def test_the_page_answers_what_predict_answers(page: Page, folder: Path, run: str, name: str) -> None:
    data = FILES[name]()
    said, found = predicted(folder, data, run), post(page, data, run)
    assert found.status == 200
    assert found.headers["content-type"] == "application/json"
    answer = found.json()
    assert {key: value for key, value in answer["answer"].items() if key != "path"} == told(said)
    assert opened(answer["image"]).ndim == 3


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("run", ["segmentation", "hostile-segmentation"])
def test_the_mask_that_is_downloaded_is_the_mask(page: Page, folder: Path, run: str, name: str, tmp_path: Path) -> None:
    data = FILES[name]()
    path = tmp_path / "x.png"
    path.write_bytes(data)
    (said,) = convscope.predict(run, path, runs=folder, masks_to=tmp_path / "masks")
    assert isinstance(said, Mask)
    answer = post(page, data, run).json()
    assert base64.b64decode(answer["mask"].partition(",")[2]) == Path(said.files[0]).read_bytes()
    assert np.array_equal(opened(answer["mask"]), said.mask)
    drawn, background = opened(answer["drawn"]), run == "segmentation"
    assert max(drawn.shape) == min(SHOWN, max(said.mask.shape))
    assert opened(answer["image"]).shape[:2] == drawn.shape[:2]
    assert set(np.unique(drawn[..., 3])) <= ({0, 255} if background else {255})
    if drawn.shape[:2] == said.mask.shape:
        colours = class_colours(2, background)
        assert np.array_equal(drawn[..., :3], colours[said.mask])
        assert np.array_equal(drawn[..., 3] == 0, (said.mask == 0) & background)
    rows = {row["name"]: row for row in answer["classes"]}
    assert {name: row["share"] for name, row in rows.items()} == dict(said.shares)
    assert (rows[said.shares[0][0]]["colour"] is None) == background


def test_a_mask_lies_as_the_image_that_turns_is_seen(page: Page, folder: Path) -> None:
    answer = post(page, turned(), "segmentation").json()
    assert (answer["answer"]["width"], answer["answer"]["height"]) == (40, 90)
    assert opened(answer["mask"]).shape == (90, 40)


def test_labels_stand_beside_their_thresholds(page: Page, folder: Path) -> None:
    answer = post(page, file_of((80, 96)), "multi_label").json()
    classifier = Run(folder / "multi_label").classifier()
    thresholds = dict(zip(classifier.class_names, classifier.settings["thresholds"], strict=True))
    assert {row["label"]: row["threshold"] for row in answer["labels"]} == thresholds
    assert [(row["label"], row["probability"]) for row in answer["labels"]] == [
        (row["label"], row["probability"]) for row in answer["answer"]["top"]
    ]
    for row in answer["labels"]:
        assert row["told"] == (row["probability"] >= row["threshold"]) == (row["label"] in answer["answer"]["labels"])


def test_a_number_comes_with_its_interval_in_words(page: Page, folder: Path, tmp_path: Path) -> None:
    answer = post(page, file_of((80, 96)), "regression").json()
    value, low, high = (answer["answer"][key] for key in ("value", "low", "high"))
    assert answer["told"] == f"radius: {value:.4g}"
    assert f"between {low:.4g} and {high:.4g}" in answer["meant"]
    assert "90 %" in answer["meant"]
    shutil.copytree(folder / "regression", tmp_path / "few")
    run = Run(tmp_path / "few")
    classifier = run.classifier()
    settings = {**classifier.settings, "half_width": None}
    dataclasses.replace(classifier, settings=settings).save(run.folder / "classifier.safetensors")
    few = Page(Served(tmp_path))
    try:
        answer = post(few, file_of((80, 96)), "few").json()
    finally:
        few.close()
    assert answer["answer"]["low"] is None
    assert "too few validation images" in answer["meant"]


@pytest.mark.skipif(not (SHARED / "data" / "broken").is_dir(), reason="no shared data")
@pytest.mark.parametrize("run", TASKS)
def test_every_broken_file_is_answered_or_refused_alike(page: Page, folder: Path, run: str) -> None:
    tried = answered = 0
    for path in sorted(path for path in (SHARED / "data" / "broken").rglob("*") if path.is_file()):
        data = path.read_bytes()
        if not data or len(data) > 30 << 20:
            continue
        said, answer = predicted(folder, data, run), post(page, data, run)
        tried += 1
        if isinstance(said, Unreadable):
            assert answer.status == 422
            assert answer.json()["error"] == f"the image: {said.error}", path
        else:
            answered += 1
            assert told(said).items() <= answer.json()["answer"].items(), path
    assert 0 < answered < tried


@pytest.mark.parametrize(
    "data", [b"%PDF-1.4", b"<svg onload=alert(1)>", file_of((40, 40))[:500], b"GIF89a" + bytes(20)]
)
@pytest.mark.parametrize("run", TASKS)
def test_what_is_no_image_is_refused_with_the_same_sentence(page: Page, folder: Path, run: str, data: bytes) -> None:
    answer = post(page, data, run)
    assert answer.status == 422
    assert answer.json()["error"] == f"the image: {predicted(folder, data, run).error}"


@pytest.mark.parametrize("run", TASKS)
def test_what_makes_no_sense_for_a_task_is_neither_shown_nor_answered(page: Page, run: str) -> None:
    guarded = application(page, [HOST])
    shown = request(guarded, f"/runs/{run}/ask").text
    assert 'id="file"' in shown
    for name in ("cover", "turn", "mirror", "evidence"):
        assert f'id="{name}"' not in shown
    assert ('id="opacity"' in shown) == (run == "segmentation")
    assert "convscope predict" in shown.partition("<noscript>")[2]
    pixels = page.asker.decoder.fit(file_of((64, 64)), Run(page.served.run(run).folder).classifier().preprocess, "x")
    key = page.asker._keep(pixels)  # as a run of classes keeps an image of this size
    for address in (f"/runs/{run}/asked/{key}.json", f"/runs/{run}/asked/{key}/evidence.json"):
        refused = request(guarded, address)
        assert refused.status == 422
        assert run in refused.json()["error"]
