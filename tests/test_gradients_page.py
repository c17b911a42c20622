"""The gradients of a watched training by steps: the page shows what was seen, whether or not it was diagnosed."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette")

import convscope
from convscope.page.application import application
from convscope.page.routes import Page
from convscope.page.served import Served
from convscope.page.watched_view import BY_STEPS, COLUMNS
from convscope.training.session import WATCHED
from convscope.training.watched import Watched
from page_client import HOST, request


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    options: dict[str, Any] = {"width": 4, "limit": 300, "epochs": 8, "convolution": "direct", "runs": folder}
    convscope.train("digits", name="watched", watch=True, **options)
    convscope.train("digits", name="unseen", **{**options, "epochs": 1})
    convscope.diagnose("unseen", runs=folder, images=16)
    return folder


@pytest.fixture
def asked(folder: Path) -> Any:
    guarded = application(Page(Served(folder)), [HOST])
    return lambda address: request(guarded, address)


def test_what_was_watched_is_shown_layer_by_layer(folder: Path, asked: Any) -> None:
    seen, shown = Watched.load(folder / "watched" / WATCHED), asked("/runs/watched/gradients.json").json()
    assert shown["found"] is None
    assert shown["steps"] == [int(step) + 1 for step in seen.steps]
    assert (shown["every"], tuple(shown["quantities"])) == (seen.every, BY_STEPS)
    for quantity in BY_STEPS:
        names, values = seen.of(quantity)
        rows = shown["quantities"][quantity]["layers"]
        assert [row["layer"] for row in rows] == list(names)
        for place, row in enumerate(rows):
            wanted = [v if math.isfinite(v) else None for v in values[:, place].tolist()]
            assert row["values"] == pytest.approx(wanted)


def test_the_table_needs_no_script(asked: Any) -> None:
    shown, text = asked("/runs/watched/gradients.json").json(), asked("/runs/watched/gradients").text
    assert len(shown["columns"]) <= COLUMNS
    assert (shown["columns"][0], shown["columns"][-1]) == (0, len(shown["steps"]) - 1)
    rows = sum(len(found["layers"]) for found in shown["quantities"].values())
    assert text.count("<tr><td><bdi>") == rows
    assert "gradients.js" in text
    assert "uPlot" in text


def test_long_trainings_are_thinned(asked: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = asked("/runs/watched/gradients.json").json()
    monkeypatch.setattr("convscope.page.watched_view.MOST_LOOKS", 2)
    shown = asked("/runs/watched/gradients.json").json()
    every = -(-len(whole["steps"]) // 2)
    assert every > 1
    assert shown["steps"] == whole["steps"][::every]
    row = shown["quantities"]["gradient"]["layers"][0]["values"]
    assert row == whole["quantities"]["gradient"]["layers"][0]["values"][::every]


def test_what_nobody_watched_or_is_damaged_is_said(folder: Path, asked: Any) -> None:
    text = asked("/runs/unseen/gradients").text
    assert "train DATA --watch" in text
    assert "by-steps" not in text
    path = folder / "watched" / WATCHED
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    try:
        answer = asked("/runs/watched/gradients")
    finally:
        path.write_bytes(whole)
    assert answer.status == 200
    assert "watched.safetensors" in answer.text
