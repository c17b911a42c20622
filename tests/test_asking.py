"""Asking the page about an image: the answer of `predict` to the last bit, refusals with its reasons, changes."""

from __future__ import annotations

import asyncio
import base64
import io
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

pytest.importorskip("starlette")

import convscope
from convscope.classifying.prediction import Prediction
from convscope.datasets.registry import load_dataset
from convscope.errors import DataError, ImageError, UsageError
from convscope.evaluation.knowing import KNOWN
from convscope.images.apart import ApartDecoder
from convscope.images.preprocess import Preprocess
from convscope.page import asking
from convscope.page.application import application
from convscope.page.asking import Asker
from convscope.page.changes import GREY, Change, changed
from convscope.page.routes import Page
from convscope.page.served import Served
from convscope.page.turns import ASKING, READING
from page_client import HOST, answer_to, request

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    convscope.train("digits", runs=folder, name="r", width=4, epochs=1, limit=300)
    return folder


@pytest.fixture(scope="module")
def page(folder: Path) -> Any:
    page = Page(Served(folder))
    yield page
    page.close()


def png(pixels: np.ndarray) -> bytes:
    box = io.BytesIO()
    Image.fromarray(pixels).save(box, "PNG")
    return box.getvalue()


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def post(page: Page, data: bytes, run: str = "r") -> Any:
    headers = [("host", HOST), ("x-convscope-token", page.served.token)]
    return request(application(page, [HOST]), f"/runs/{run}/ask", "POST", headers, [data])


def predicted(folder: Path, data: bytes) -> Prediction | str:
    """What Python answers: the classes, or the reason why not."""
    (answer,) = convscope.predict("r", "-", runs=folder, standard_input=data)
    return answer if isinstance(answer, Prediction) else answer.error


@pytest.mark.parametrize("shape", [(32, 32, 3), (8, 8, 3), (300, 211, 3), (5, 90, 3)])
def test_the_page_answers_what_predict_answers(page: Page, folder: Path, shape: tuple[int, ...]) -> None:
    data = png(noise(1, *shape))
    said, answer = predicted(folder, data), post(page, data).json()
    assert isinstance(said, Prediction)
    assert [(row["label"], row["probability"]) for row in answer["top"]] == list(said.top)


def files() -> list[Path]:
    return sorted(path for path in (SHARED / "data" / "broken").rglob("*") if path.is_file())


@pytest.mark.skipif(not (SHARED / "data" / "broken").is_dir(), reason="no shared data")
def test_every_broken_file_is_answered_or_refused_alike(page: Page, folder: Path) -> None:
    tried = answered = 0
    for path in files():
        data = path.read_bytes()
        if not data or len(data) > 30 << 20:
            continue
        said, answer = predicted(folder, data), post(page, data)
        tried += 1
        if isinstance(said, Prediction):
            answered += 1
            assert answer.status == 200, (path, answer.text)
            assert [(row["label"], row["probability"]) for row in answer.json()["top"]] == list(said.top), path
        else:
            assert answer.status == 422
            assert answer.json()["error"] == f"the image: {said}", path
    assert tried > 10
    assert 0 < answered < tried


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"%PDF-1.4", "format PDF is not allowed"),
        (b"<svg onload=alert(1)>", "format SVG is not allowed"),
        (png(noise(2, 40, 40, 3))[:500], "truncated"),
        (b"GIF89a" + bytes(20), ""),
    ],
)
def test_what_is_no_image_is_refused_with_the_reason(page: Page, data: bytes, reason: str) -> None:
    answer = post(page, data)
    assert answer.status == 422
    assert reason in answer.json()["error"]


def test_an_image_in_its_header_larger_than_allowed_is_refused_undecoded(page: Page) -> None:
    box = io.BytesIO()
    Image.new("1", (30_000, 30_000)).save(box, "PNG")
    assert "too large" in post(page, box.getvalue()).json()["error"]


def test_a_decoder_that_dies_or_hangs_harms_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder, preprocess, data = ApartDecoder(), Preprocess(size=16), png(noise(3, 16, 16, 3))
    try:
        pixels = decoder.fit(data, preprocess, "x")
        assert np.array_equal(pixels, preprocess.fit_image(data))
        assert decoder._process is not None
        decoder._process.kill()
        decoder._process.wait()
        assert np.array_equal(decoder.fit(data, preprocess, "x"), pixels)  # another process
        monkeypatch.setattr("convscope.images.apart.SECONDS", -1.0)
        with pytest.raises(ImageError, match="seconds to decode"):
            decoder.fit(data, preprocess, "x")
        monkeypatch.setattr("convscope.images.apart.SECONDS", 10.0)
        assert np.array_equal(decoder.fit(data, preprocess, "x"), pixels)
    finally:
        decoder.close()


@pytest.mark.parametrize("address", ["asked/k.json?turn=1", "asked/k/evidence", "asked/k/evidence.json"])
def test_changes_of_a_slider_take_no_turn_of_a_page(page: Page, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on = threading.Semaphore(0), threading.Event()

    def slow(*_given: Any) -> Any:
        begun.release()
        assert go_on.wait(60)
        raise UsageError("it went on")

    monkeypatch.setattr(page.asker, "answer", slow)
    monkeypatch.setattr(page.asker, "evidence", slow)

    async def asked() -> tuple[int, list[str]]:
        guarded = application(page, [HOST])
        changes = [asyncio.ensure_future(answer_to(guarded, f"/runs/r/{address}")) for _ in range(READING + ASKING)]
        try:
            for _ in range(ASKING):
                assert await asyncio.to_thread(begun.acquire, timeout=30)
            shown = await asyncio.wait_for(answer_to(guarded, "/runs/r.json"), 30)
        finally:
            go_on.set()
        return shown.status, [(await change).text for change in changes]

    status, told = asyncio.run(asked())
    assert status == 200
    assert len(told) == READING + ASKING
    assert all("it went on" in text for text in told)


def test_an_image_is_asked_again_by_its_key_and_forgotten_in_time(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    first = post(page, png(noise(4, 32, 32, 3))).json()
    address = f"/runs/r/asked/{first['key']}.json"
    guarded = application(page, [HOST])
    again = request(guarded, address)
    assert again.json() == first
    covered = request(guarded, f"{address}?cover=0.5&x=0.25&y=0.25").json()
    pixels = np.frombuffer(base64.b64decode(covered["pixels"]), np.uint8).reshape(32, 32, 3)
    assert (pixels[:16, :16] == GREY).all()
    assert covered["top"] != first["top"]
    assert request(guarded, f"{address}?turn=much").status == 422
    assert request(guarded, "/runs/r/asked/zebra.json").status == 422
    monkeypatch.setattr(asking, "KEPT_BYTES", 4000)
    post(page, png(noise(5, 32, 32, 3)))
    assert "not kept any more" in request(guarded, address).json()["error"]


def test_the_evidence_adds_up_as_explain_has_it(page: Page, folder: Path) -> None:
    answer = post(page, png(noise(6, 32, 32, 3))).json()
    found = request(application(page, [HOST]), f"/runs/r/asked/{answer['key']}/evidence.json").json()
    assert found["target"] == answer["top"][0]["label"]
    assert found["against"] == answer["top"][1]["label"]
    margins = [abs(row["margin"]) for row in found["filters"]]
    assert margins == sorted(margins, reverse=True)
    assert request(application(page, [HOST]), f"/runs/r/asked/{answer['key']}/evidence").status == 200


def test_none_of_these_is_said_once_it_is_known_what_is_familiar(folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(folder, tmp_path / "runs")
    (folder / "r" / KNOWN).unlink(missing_ok=True)
    page = Page(Served(folder))
    data = png(noise(7, 32, 32, 3))
    assert post(page, data).json()["none_of_these"] is None
    path = tmp_path / "x.png"
    path.write_bytes(data)
    (said,) = convscope.predict("r", path, runs=folder, coverage=0.95)
    found = post(page, data).json()["none_of_these"]
    assert isinstance(said, Prediction)
    assert said.familiar is not None
    assert (found["familiarity"], found["refused"]) == (said.familiar.familiarity, said.refused)
    page.close()


def test_the_nearest_training_images_are_shown(page: Page, folder: Path, tmp_path: Path) -> None:
    data = load_dataset("digits", limit=300)
    one = int(data.subset("train")[7])
    path = tmp_path / "seven.png"
    path.write_bytes(png(data.images[one]))
    (folder / "r" / "known.safetensors").unlink(missing_ok=True)
    key = post(page, path.read_bytes()).json()["key"]
    guarded = application(page, [HOST])
    assert "/jobs/know/r" in request(guarded, f"/runs/r/asked/{key}/evidence").text
    convscope.predict("r", path, runs=folder, coverage=0.95)
    key = post(page, path.read_bytes()).json()["key"]
    near = request(guarded, f"/runs/r/asked/{key}/evidence.json").json()["nearest"]
    assert near[0]["origin"] == data.origins(one)
    assert near[0]["cosine"] == pytest.approx(1, abs=1e-3)
    places = {data.origins(i): i for i in range(len(data))}
    for row in near:
        with Image.open(io.BytesIO(base64.b64decode(row["uri"].partition(",")[2]))) as shown:
            assert np.array_equal(np.asarray(shown), data.images[places[row["origin"]]])
        assert row["label"] == data.class_names[data.labels[places[row["origin"]]]]
    text = request(guarded, f"/runs/r/asked/{key}/evidence").text
    assert all(row["uri"] in text for row in near)
    assert f"distance {1 - near[1]['cosine']:.3f}" in text


def test_without_its_data_they_are_named(page: Page, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*given: Any) -> Any:
        raise DataError("moved away")

    monkeypatch.setattr(page.data, "of", gone)
    pixels = load_dataset("digits", limit=300).images[3]
    convscope.predict("r", Image.fromarray(pixels), runs=folder, coverage=0.95)
    key = post(page, png(pixels)).json()["key"]
    near = page.asker.evidence("r", key)["nearest"]
    assert [row["uri"] for row in near] == [None] * 3
    assert all(row["origin"] and row["label"] for row in near)


def test_a_run_without_a_classifier_says_so(page: Page, folder: Path) -> None:
    (folder / "begun").mkdir(exist_ok=True)
    (folder / "begun" / "recipe.json").write_bytes((folder / "r" / "recipe.json").read_bytes())
    answer = post(page, png(noise(8, 32, 32, 3)), "begun")
    assert answer.status == 422
    assert "first epoch is not over" in answer.json()["error"]


def test_classifiers_are_read_again_when_their_file_is_another(page: Page, folder: Path) -> None:
    asker = Asker(page.served, page.data)
    first = asker._open("r")
    assert asker._open("r") is first
    path = folder / "r" / "classifier.safetensors"
    stamp = time.time_ns() + 10**9
    import os

    os.utime(path, ns=(stamp, stamp))
    assert asker._open("r") is not first


@given(seed=st.integers(0, 1000), right=st.integers(-8, 8), down=st.integers(-8, 8))
def test_whole_pixels_move_as_they_are(seed: int, right: int, down: int) -> None:
    pixels = noise(seed, 16, 16, 3)
    moved = changed(pixels, Change(right=right / 16, down=down / 16))
    inside = moved[max(0, down) : 16 + min(0, down), max(0, right) : 16 + min(0, right)]
    wanted = pixels[max(0, -down) : 16 - max(0, down), max(0, -right) : 16 - max(0, right)]
    # Pillow fills what it would have to guess along the border that comes in.
    assert np.array_equal(inside[1:-1, 1:-1], wanted[1:-1, 1:-1])


def test_changes_do_what_they_are_called() -> None:
    pixels = noise(9, 16, 16, 3)
    assert changed(pixels, Change()) is pixels
    inner = np.s_[1:-1, 1:-1]
    assert np.array_equal(changed(pixels, Change(mirror=1))[inner], pixels[:, ::-1][inner])
    for turn, wanted in ((90, np.rot90(pixels)), (180, pixels[::-1, ::-1])):  # against the clock
        turned = changed(pixels, Change(turn=turn)).astype(int)
        assert np.abs(turned - wanted)[inner].max() <= 1
    covered = changed(pixels, Change(cover=0.5, x=0.0, y=0.0))
    assert (covered[:4, :4] == GREY).all()
    assert np.array_equal(covered[4:], pixels[4:])
    dot = np.zeros((15, 15, 3), np.uint8)
    dot[6:9, 6:9] = 255
    assert changed(dot, Change(zoom=2)).sum() > 3 * dot.sum()


@pytest.mark.parametrize("said", [{"turn": "x"}, {"zoom": ""}, {"cover": "nan"}, {"right": "1e"}])
def test_a_change_that_is_no_number_is_refused(said: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="must be a number"):
        Change.of(said)


def test_a_change_is_kept_within_bounds() -> None:
    assert Change.of({"zoom": "1e9", "turn": "-1000", "cover": "7"}) == Change(zoom=5.0, turn=-180.0, cover=1.0)
    assert Change.of({"zebra": "1"}) == Change()
