"""A dry run: a few steps on made-up images, and what follows from them by arithmetic that is known on paper."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import convscope
from convscope import cli
from convscope.errors import UsageError
from convscope.named_recipes import RECIPES
from convscope.recipes import Recipe
from convscope.training.dry_run import IMAGENET, DryRun, Hardware, dry_run
from convscope.training.options import TrainOptions

TINY = ["--model", "alexnet", "--width", "4", "--image-size", "16", "--batch-size", "16"]


def planned(**changes: object) -> DryRun:
    """Batches of 100 at 0.5 s, 10 GFLOP an image, at half of a peak of 4 TFLOP/s; 1,000 and 200 images, 3 epochs."""
    recipe = Recipe().with_options({"epochs": 3, "batch_size": 100, "image_size": 256})
    counts = {"train": 1000, "val": 200, "test": 0}
    known = {"recipe": recipe, "counts": counts, "classes": 7, "machine": "it", "step": 0.5, "evaluating": 0.01}
    known |= {"packing": 0.002, "gflop_an_image": 10.0, "peak": 4000.0, "fixed": 1_000_000, "an_image": 50_000_000}
    return DryRun(**(known | changes))  # pyrefly: ignore


def test_what_is_projected_is_arithmetic() -> None:
    said = planned().summary()
    assert planned().steps == 30
    assert said["hours"] * 3600 == pytest.approx(30 * 0.5 + 3 * 200 * 0.01)
    assert (said["images_per_second"], said["gflop_per_second"], said["percent_of_peak"]) == (200, 2000, 50)
    assert said["packed_bytes"] == 1200 * 256 * 256 * 3
    assert said["packing_hours"] * 3600 == pytest.approx(2.4)
    assert said["step_bytes"] == 1_000_000 + 100 * 50_000_000
    assert said["hardware_hours"] is said["cost"] is None


def test_a_share_above_the_peak_is_told() -> None:
    told = "the peak was measured while other work ran, so shares of it are too large."
    assert told not in planned().lines()
    assert told in planned(step=0.1).lines()
    assert planned(step=0.1).summary()["percent_of_peak"] > 100


def test_other_hardware_is_bound_by_its_products_or_its_memory() -> None:
    computing = planned(hardware=Hardware(20.0, 1e6), price=7200.0)
    assert computing.step_elsewhere() == pytest.approx(100 * 10 / (20_000 * 0.5))
    assert computing.summary()["cost"] == pytest.approx(2 * (30 * 0.1 + 600 * 0.01 * 0.2))
    moving = planned(hardware=Hardware(1e6, 100.0))
    assert moving.step_elsewhere() == pytest.approx((3 * 100 * 50_000_000 + 2_000_000) / 1e11)
    assert planned(step=0.1, hardware=Hardware(20.0, 1e6)).step_elsewhere() == pytest.approx(0.05)  # no share above 1
    assert planned(price=3600.0).summary()["cost"] == pytest.approx(21.0)
    assert any("7,200" in line or "cost" in line for line in computing.lines())


@pytest.mark.parametrize("text", ["989", "989,", "a,b", "0,1", "-1,2", "1,inf", "nan,1", "1,2,3", ""])
def test_hardware_is_two_positive_numbers(text: str) -> None:
    with pytest.raises(UsageError, match="TFLOP/s and GB/s"):
        Hardware.parse(text)


def ask(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = cli.run(["train", *words])
    out, err = capsys.readouterr()
    return code, out, err


def test_imagenet_needs_no_image(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [IMAGENET, *TINY, "--epochs", "2", "--dry-run", "2", "--hardware", "989,3350", "--price-per-hour", "2.5"]
    code, out, _ = ask(capsys, *words, "--json", "--runs", str(tmp_path / "runs"))
    said = json.loads(out)
    assert code == 0
    assert said["images"] == {"train": 1_281_167, "val": 50_000, "test": 0}
    assert (said["classes"], said["image_size"], said["epochs"], said["batch_size"]) == (1000, 16, 2, 16)
    assert 0 < said["hardware_hours"] < said["hours"]
    assert said["cost"] == pytest.approx(2.5 * said["hardware_hours"])
    assert not (tmp_path / "runs").exists()
    code, out, _ = ask(capsys, *words)
    assert code == 0
    assert "160,146 steps" in out


def test_a_folder_is_counted_and_not_packed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CONVSCOPE_CACHE", str(tmp_path / "cache"))
    for seed in range(60):
        path = tmp_path / "images" / ("cat", "dog")[seed % 2] / f"{seed}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 4, 3), seed, np.uint8)).save(path)
    code, out, _ = ask(capsys, str(tmp_path / "images"), *TINY, "--dry-run", "1", "--json")
    assert code == 0
    assert sum(json.loads(out)["images"].values()) == 60
    assert not (tmp_path / "cache" / "images").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--dry-run", "0"], "from 1, not 0"),
        (["--dry-run", "1", "--price-per-hour", "-1"], "-1 is no price"),
        (["--dry-run", "1", "--hardware", "fast"], "'fast' is not TFLOP/s"),
        (["--hardware", "1,1"], "is for a --dry-run"),
        (["--price-per-hour", "1"], "is for a --dry-run"),
    ],
)
def test_what_does_not_fit_is_refused(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = ask(capsys, IMAGENET, *TINY, *words)
    assert code == 2
    assert told in err


@pytest.mark.parametrize("name", [name for name, named in RECIPES.items() if "ImageNet" in named.claim])
def test_a_published_claim_says_so(name: str) -> None:
    named = RECIPES[name]
    assert "PUBLISHED by" in named.claim
    assert "not measured by us" in named.claim
    assert named.log is named.measured is None


def test_batches_are_those_of_the_training_and_a_stream_packs_nothing(shapes_folder: Path) -> None:
    options = TrainOptions(epochs=1, image_size=16, model="resnet20")
    found = dry_run(str(shapes_folder), options, 1)
    trained = convscope.prepare_training(shapes_folder, epochs=1, image_size=16, model="resnet20")
    assert found.recipe.loop.batch_size == trained.recipe.loop.batch_size == 16
    streamed = dry_run(str(shapes_folder), replace(options, stream=True), 1)
    assert streamed.summary()["packed_bytes"] == 0
    assert any(line.startswith("disk: nothing is packed") for line in streamed.lines())
