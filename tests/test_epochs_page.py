"""The page of kept epochs: what it shows is what the library found, and a new run goes on from any of them."""

from __future__ import annotations

import base64
import io
import re
import time
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("starlette")

import convscope
from convscope.canvas.signed import ABOVE, BELOW, signed_png
from convscope.datasets.registry import load_dataset
from convscope.page.application import application
from convscope.page.routes import Page
from convscope.page.served import Served
from convscope.storage import file_hash
from convscope.training.kept_epochs import classifier_at
from convscope.training.looking import choose_probes
from convscope.training.runs import Run
from convscope.training.then_and_now import then_and_now
from page_client import HOST, Answer, request


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("runs")
    options: dict[str, Any] = {"width": 4, "limit": 300, "epochs": 4, "convolution": "direct"}
    convscope.train("digits", runs=folder, name="kept", keep_epochs=2, **options)
    convscope.train("digits", runs=folder, name="usual", **options)
    convscope.explain("kept", runs=folder, count=3, ablate=20, seeds=0, layer=["conv2"])
    page = Page(Served(folder))
    yield page
    page.close()


@pytest.fixture(scope="module")
def asked(page: Page) -> Any:
    guarded = application(page, [HOST])

    def ask(address: str, method: str = "GET", token: bool = False) -> Answer:
        headers = [("host", HOST), *([("x-convscope-token", page.served.token)] if token else [])]
        return request(guarded, address, method, headers)

    return ask


def pixels(uri: str) -> np.ndarray:
    with Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as image:
        return np.asarray(image)


def test_the_twin_holds_what_the_library_finds(page: Page, asked: Any) -> None:
    shown = asked("/runs/kept/epochs.json?then=2&now=4&layer=conv2&image=5").json()
    run = Run(page.served.folder / "kept")
    probes = choose_probes(load_dataset("digits", limit=300), torch.device("cpu"))
    found = then_and_now(classifier_at(run, 2), classifier_at(run, 4), "conv2", probes)
    assert (shown["then"], shown["now"], shown["layer"], shown["image"], shown["of"]) == (2, 4, "conv2", 5, found.of)
    assert tuple(row["filter"] for row in shown["filters"]) == found.filters
    assert [row["moved"] for row in shown["filters"]] == pytest.approx(list(found.moved), rel=1e-5)
    assert [probe["label"] for probe in shown["probes"]] == [probes.classes[int(k)] for k in probes.labels]
    assert [probe["now"]["label"] for probe in shown["probes"]] == [name for name, _ in found.answers_now]
    for place, row in enumerate(shown["filters"]):
        drawn = pixels(row["then"])
        assert drawn.shape == (*found.then.shape[2:], 4)
        strong = np.abs(found.then[place, 5]) > 40
        above = np.all(drawn[..., :3] == ABOVE, axis=-1)
        assert np.array_equal(above[strong], found.then[place, 5][strong] > 0)
    assert np.array_equal(pixels(shown["probes"][2]["uri"]), probes.pixels[2])


def test_a_map_is_drawn_by_sign_and_strength() -> None:
    drawn = pixels("," + base64.b64encode(signed_png(np.array([[0, 127, -127, 32]], np.int8))).decode())
    assert drawn[0, 0, 3] == 0
    assert drawn[0, 1].tolist() == [*ABOVE, 255]
    assert drawn[0, 2].tolist() == [*BELOW, 255]
    assert drawn[0, 3].tolist() == [*ABOVE, round(255 * (32 / 127) ** 0.5)]


@pytest.mark.parametrize(
    ("query", "then", "now"),
    [
        ("", 0, 4),
        ("?then=3", 2, 4),
        ("?then=99&now=0", 4, 0),
        ("?then=-1&now=x", 0, 4),
        (f"?then={'9' * 30}", 0, 4),
        ("?image=77", 0, 4),
    ],
)
def test_a_slider_between_two_kept_epochs_means_the_nearer_one(asked: Any, query: str, then: int, now: int) -> None:
    shown = asked(f"/runs/kept/epochs.json{query}").json()
    assert shown["epochs"] == sorted({0, 2, 4, *shown["epochs"]})
    if 3 not in shown["epochs"]:
        assert (shown["then"], shown["now"]) == (then, now)


def test_a_browser_without_scripts_reads_it_all(asked: Any) -> None:
    text = asked("/runs/kept/epochs?then=2").text
    links = re.findall(r'href="(/runs/kept/epochs\?[^"]+)"', text)
    assert {re.search(r"then=(\d+)", link)[1] for link in links} >= {"0", "2", "4"}
    assert all(asked(link.replace("&amp;", "&")).status == 200 for link in links)
    assert text.count('class="pixels map"') == 2 * len(asked("/runs/kept/epochs.json").json()["filters"])
    assert "after epoch 2" in text
    assert asked("/runs/kept/epochs?layer=conv9").status == 404
    assert asked("/runs/kept/epochs?layer=norm1").status == 422


def test_a_run_that_kept_one_epoch_says_how_to_keep_more(asked: Any) -> None:
    assert "--keep-epochs 1" in asked("/runs/usual/epochs").text
    assert len(asked("/runs/usual/epochs.json").json()["epochs"]) == 1
    assert "/runs/kept/epochs?layer=conv2" in asked("/runs/kept/conv2").text


def test_a_look_takes_less_than_a_third_of_a_second(asked: Any) -> None:
    asked("/runs/kept/epochs")
    seconds = [asked(f"/runs/kept/epochs.json?then={then}").json()["seconds"] for then in (0, 2, 0, 2, 0)]
    assert min(seconds) < 0.3


def test_a_new_run_goes_on_from_a_kept_epoch(page: Page, asked: Any) -> None:
    folder = page.served.folder / "kept"
    before = {path: file_hash(path) for path in sorted(folder.rglob("*")) if path.is_file()}
    address = "/train?run=kept&epoch=2&epochs=1"
    assert asked(address, "POST").status == 403
    assert asked("/train?run=kept&epoch=9", "POST", True).status == 404
    assert asked("/train?run=none&epoch=2", "POST", True).status == 404
    assert asked("/train?run=kept", "POST", True).status == 404
    assert asked("/train?run=kept&epoch=2&epochs=0", "POST", True).status == 422
    made = asked(address, "POST", True)
    assert made.status == 200, made.text
    name = made.json()["name"]
    assert name == "kept-from-2-1"
    until = time.monotonic() + 60
    while (said := asked(f"/train/{name}.json").json())["state"] not in ("finished", "failed", "stopped"):
        assert time.monotonic() < until, said
        time.sleep(0.1)
    assert said["state"] == "finished", said
    assert Run(page.served.folder / name).description()["continued"]["epoch"] == 2
    assert len(asked(f"/runs/{name}/epochs.json").json()["epochs"]) == 2
    assert {path: file_hash(path) for path in sorted(folder.rglob("*")) if path.is_file()} == before
