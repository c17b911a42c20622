"""What the page says of runs that are no whole training: transfers, networks from elsewhere, with parts lost."""

from __future__ import annotations

import html
import re
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette")

from safetensors.torch import save_file

import convscope
from convscope.classifying.classifier import Classifier
from convscope.explanation.card_store import LAST
from convscope.explanation.layers import Layer
from convscope.models.taps import Tap
from convscope.page.application import application
from convscope.page.command import prepare
from convscope.page.explained import layers_of
from convscope.page.options import ServeOptions
from convscope.page.rendering import moment
from convscope.page.routes import Page
from convscope.page.served import Served
from convscope.page.site import write_site
from convscope.storage import commit_json, read_json
from convscope.training.runs import Run
from page_client import HOST, request

FIGURES = {
    "best": "head",
    "measured_by": "cross-validation",
    "val_top1": 0.75,
    "val_low": 0.5,
    "val_high": 0.875,
    "val_n": 8,
    "test_top1": 0.25,
    "test_low": 0.125,
    "test_high": 0.5,
    "test_n": 4,
    "sentence": "head: 75 %.",
    "rungs": [],
    "left_out": [],
    "notes": [],
    "filters": [{"name": "0", "layer": "conv1", "filters": [2, 0], "shares": [0.5, 0.25], "by_absence": 0.0}],
    "choices": [{"what": "the head's strength, of 7", "by": "images held out in turn", "n": 8}],
}


@pytest.mark.parametrize("layer", ["a" * 200, "blocks:0/conv", "layer1.0.conv1", "a/b"])
def test_a_layer_of_any_name_is_found(layer: str, tmp_path: Path) -> None:
    file = Layer(layer, Tap("conv"), 3, (8, 8), None).file
    folder = tmp_path / "r" / "explain"
    folder.mkdir(parents=True)
    (folder / "index.html").touch()
    row = {"layer": layer, "filters": 3}
    commit_json(folder / LAST, {"layers": [row]})
    commit_json(folder / f"{file}.json", {**row, "cards": [{"filter": k} for k in range(3)]})
    (found,) = layers_of(Served(tmp_path), Run(tmp_path / "r"))
    assert (found["layer"], found["file"], found["only"]) == (layer, file, None)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    run = convscope.train("digits", runs=folder, name="whole", width=4, epochs=1, limit=300).run
    convscope.evaluate(run)
    convscope.explain("whole", runs=folder, count=3, ablate=20, seeds=0, layer=["conv1"])
    return folder


def asking(folder: Path, **more: Any) -> Any:
    guarded = application(Page(Served(folder), **more), [HOST])
    return lambda address: request(guarded, address)


def text_of(markup: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", markup)).split())


def test_a_transfer_shows_what_it_kept_and_links_the_filters_that_were_explained(made: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(made / "whole", run)
    shutil.rmtree(run / "evaluate")
    (run / "explain").rename(tmp_path / "some")
    (run / "explain" / "filters").mkdir(parents=True)
    (tmp_path / "some").rename(run / "explain" / "filters" / "2")
    layer = read_json(run / "explain" / "filters" / "2" / "conv1.json")
    layer["cards"] = [card for card in layer["cards"] if card["filter"] == 2]
    commit_json(run / "explain" / "filters" / "2" / "conv1.json", layer)
    (run / "transfer").mkdir()
    commit_json(run / "transfer" / "transfer.json", FIGURES)
    asked = asking(tmp_path)
    told = text_of(asked("/runs/run").text)
    assert "head, by cross-validation 75.0 % [50.0, 87.5] n = 8" in told
    assert "test images, which chose nothing 25.0 % [12.5, 50.0] n = 4" in told
    assert "the head's strength, of 7" in told
    assert "the epoch that is kept" not in told
    assert "It was not asked about test images yet" not in told
    assert "conv1 1 of 4 filters" in told
    transfer = asked("/runs/run/transfer").text
    assert 'href="/runs/run/conv1/2"' in transfer
    assert 'href="/runs/run/conv1/0"' not in transfer
    for place in ("conv1", "conv1/2"):
        assert 'href="/runs/run/transfer"' in asked(f"/runs/run/{place}").text
    assert "4 filters, of which 1 was explained" in text_of(asked("/runs/run/conv1").text)


def test_a_network_from_elsewhere_has_no_button_that_cannot_work(made: Path, tmp_path: Path) -> None:
    network = Classifier.load(made / "whole" / "classifier.safetensors").network
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, tmp_path / "w.safetensors")
    given: dict[str, Any] = {"mean": (0.5,) * 3, "std": (0.25,) * 3, "classes": [str(n) for n in range(10)]}
    weights = tmp_path / "w.safetensors"
    convscope.adopt("alexnet", width=4, input_size=32, weights=weights, runs=tmp_path, name="other", **given)
    asked = asking(tmp_path)
    for address, command in (("", "evaluate"), ("", "explain"), ("/gradients", "diagnose")):
        found = asked(f"/runs/other{address}").text
        assert f"convscope {command} other DATA" in found
        assert "hx-post" not in found


def test_what_is_lost_is_told_on_its_page_and_leaves_the_site_whole(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "whole", tmp_path / "runs" / "run")
    for path in (tmp_path / "runs" / "run" / "evaluate").glob("*/wrong.*"):
        path.unlink()
    told = "convscope evaluate run looks at them again"
    found = asking(tmp_path / "runs")("/runs/run/mistakes/digits-test")
    assert found.status == 422
    assert told in found.text
    site = write_site(tmp_path / "site", runs=tmp_path / "runs").parent
    assert told in (site / "runs" / "run" / "mistakes" / "digits-test.html").read_text("utf-8")
    assert "conv1" in (site / "runs" / "run.html").read_text("utf-8")
    convscope.evaluate("run", runs=tmp_path / "runs")
    assert asking(tmp_path / "runs")("/runs/run/mistakes/digits-test").status == 200


def test_only_a_page_for_this_machine_says_that_it_is(made: Path, tmp_path: Path) -> None:
    for host, alone in (("127.0.0.1", True), ("0.0.0.0", False)):
        site = prepare([], ServeOptions(runs=made, host=host, port=0))
        assert site.listening is not None
        site.listening.close()
        assert site.page.alone is alone
    assert "on this machine only" in asking(made)("/").text
    assert "on this machine only" not in asking(made, alone=False)("/").text


def test_a_time_is_told_as_the_clock_of_this_machine_shows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "CET-1")
    time.tzset()
    try:
        assert moment("2026-01-31T23:30:00+00:00") == "2026-02-01 00:30"
        assert moment("2026-01-31T23:30:00+00:00", 10) == "2026-02-01"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_card_says_how_many_answers_are_lost_without_the_filter(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "whole", tmp_path / "run")
    path = tmp_path / "run" / "explain" / "conv1.json"
    layer = read_json(path)
    for card, (broken, mended) in zip(layer["cards"], ((3, 1), (0, 2), (1, 1), (0, 0)), strict=True):
        card["usage"] = {**card["usage"], "broken": broken, "mended": mended}
    commit_json(path, layer)
    told = text_of(asking(tmp_path)("/runs/run/conv1").text)
    assert told.count("right without it") == 2
    assert "2 fewer right without it" in told
    assert "2 more right without it" in told
