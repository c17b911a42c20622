"""Every command on another device gives what it gives on the CPU: on a pretended one always, on a real one if there."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import pretend_device

NET = """
from torch import nn

def tiny(classes: int = 2, image_size: int = 32) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.MaxPool2d(4), nn.Dropout(0.1),
        nn.Conv2d(8, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(12, classes),
    )
"""
TRAIN = "train images --model net.py:tiny --image-size 32 --batch-size 8 --seed 3"
COMMANDS = {
    "train": f"{TRAIN} --epochs 2 --name r --json",
    "train with muon": f"{TRAIN} --epochs 1 --optimizer muon --ema 0.9 --mixup 0.4 --clip 1 --name m --json",
    "train with adamw": f"{TRAIN} --epochs 1 --optimizer adamw --save-memory --label-smoothing 0.1 --name w --json",
    "train on": f"{TRAIN} --epochs 2 --name r --resume --json",
    "evaluate": "evaluate r --part all --views flip-shift --model net.py:tiny --json",
    "predict": "predict r images --model net.py:tiny --json",
    "explain": "explain r --layer 5 --filter 0 --filter 1 --model net.py:tiny --json",
    "explain an image": "explain r --image images/red/0.png --method grad-cam --method integrated-gradients "
    "--model net.py:tiny --json",
    "diagnose": "diagnose r --model net.py:tiny --json",
    "localize": "localize r images --model net.py:tiny --json",
    "compare": "compare r m --model net.py:tiny --json",
    "similar": "similar r images/red/1.png --model net.py:tiny --json",
    "features": "features images --image-size 64 --engine torch --json",
    "transfer": "transfer images --image-size 64 --engine torch --name t --json",
    "doctor": "doctor images --json",
}
CLOSE = {"transfer": 2e-3}  # relative; a head's search stops where it is near enough
ELSEWHERE = re.compile(r"second|folder|read_from|device|engine|flop|peak|memory")  # keys of what is another there


def images(folder: Path) -> None:
    """Two classes of noise, in red and green, 16 images each."""
    rng = np.random.default_rng(0)
    for channel, name in enumerate(("red", "green")):
        (folder / "images" / name).mkdir(parents=True)
        for i in range(16):
            pixels = rng.integers(0, 120, (40, 40, 3), dtype=np.uint8)
            pixels[:, :, channel] += np.uint8(rng.integers(0, 60))
            Image.fromarray(pixels).save(folder / "images" / name / f"{i}.png")
    (folder / "net.py").write_text(NET, encoding="utf-8")


def answers(folder: Path, device: str) -> dict[str, dict[str, Any]]:
    """What each command answers on a device, all in one process."""
    folder.mkdir()
    images(folder)
    asked = "".join(json.dumps(words.split()) + "\n" for words in COMMANDS.values())
    places = {"CONVSCOPE_RUNS": "runs", "CONVSCOPE_CACHE": "cache", "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(
        [sys.executable, pretend_device.__file__, device],
        input=asked, cwd=folder, env=os.environ | places, capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-2000:]
    return dict(zip(COMMANDS, map(json.loads, ended.stdout.splitlines()), strict=True))


@pytest.fixture(scope="module")
def on_the_cpu(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    return answers(tmp_path_factory.mktemp("devices") / "cpu", "cpu")


@pytest.fixture(scope="module")
def on_another(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    return answers(tmp_path_factory.mktemp("devices") / "pretend", pretend_device.NAME)


@pytest.fixture(scope="module")
def on_a_gpu(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    device = torch.accelerator.current_accelerator(check_available=True)
    if device is None:
        pytest.skip("there is no GPU")
    return answers(tmp_path_factory.mktemp("devices") / "gpu", device.type)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_pretended_device_gives_what_the_cpu_gives(
    name: str, on_the_cpu: dict[str, dict[str, Any]], on_another: dict[str, dict[str, Any]]
) -> None:
    check(on_the_cpu[name], on_another[name], CLOSE.get(name, 1e-5))


@pytest.mark.gpu
@pytest.mark.parametrize("name", COMMANDS)
def test_a_gpu_gives_what_the_cpu_gives(
    name: str, on_the_cpu: dict[str, dict[str, Any]], on_a_gpu: dict[str, dict[str, Any]]
) -> None:
    check(on_the_cpu[name], on_a_gpu[name], 2e-2)


def check(here: dict[str, Any], there: dict[str, Any], tolerance: float) -> None:
    """Both ended well, and their last line of JSON says the same but for what the machine is."""
    assert (here["code"], there["code"]) == (0, 0), (here["err"][-600:], there["err"][-600:])
    wrong = differences(json.loads(here["out"].splitlines()[-1]), json.loads(there["out"].splitlines()[-1]), tolerance)
    assert not wrong, wrong[:8]


def differences(here: Any, there: Any, tolerance: float, at: str = "") -> list[str]:
    """Where two JSON values differ: numbers by more than a share of the larger; times and places are not compared."""
    if isinstance(here, dict) and isinstance(there, dict) and here.keys() == there.keys():
        rows = [(f"{at}.{key}", here[key], there[key]) for key in here if not ELSEWHERE.search(key)]
    elif isinstance(here, list) and isinstance(there, list) and len(here) == len(there):
        rows = [(f"{at}[{i}]", one, other) for i, (one, other) in enumerate(zip(here, there, strict=True))]
    elif isinstance(here, float) and isinstance(there, (int, float)):
        return [] if math.isclose(here, there, rel_tol=tolerance, abs_tol=tolerance) else [f"{at}: {here} {there}"]
    else:
        return [] if here == there else [f"{at}: {here!r} {there!r}"]
    return [wrong for place, one, other in rows for wrong in differences(one, other, tolerance, place)]


def test_the_pretended_device_refuses_what_a_gpu_refuses() -> None:
    told = subprocess.run(
        [sys.executable, "-c", REFUSED], capture_output=True, text=True, cwd=Path(pretend_device.__file__).parent
    )
    assert told.stdout.split() == ["mixed", "numpy", "weights", "counted", "equal"], told.stderr[-800:]


@pytest.mark.parametrize(
    "options",
    ["{}", "{'optimizer': 'muon', 'mixup': 0.4, 'ema': 0.9, 'clip': 1.0}", "{'optimizer': 'adamw', 'accumulate': 2}"],
)
def test_a_device_waits_for_nothing_but_a_loss_that_is_late(options: str) -> None:
    told = subprocess.run(
        [sys.executable, "-c", WAITING.replace("OPTIONS", options)],
        capture_output=True, text=True, cwd=Path(pretend_device.__file__).parent,
    )  # fmt: skip
    assert told.stdout.split() == ["12", "12"], told.stdout + told.stderr[-800:]


WAITING = """
import numpy as np, pretend_device, torch
pretend_device.set_up()
from convscope.datasets.dataset import assemble
from convscope.datasets.shapes import load_shapes
from convscope.models.registry import build
from convscope.recipes import Recipe
from convscope.training.batches import Batches
from convscope.training.loop import TrainState, make_optimizer, train

data, device = assemble(load_shapes(120)), torch.device("pretend")
given = {"epochs": 1, "batch_size": 10, "precision": "float32", **OPTIONS}
recipe = Recipe().with_options(given)
network = build("alexnet", 6, 32, seed=0).to(device)
state = TrainState(network, make_optimizer(network, recipe.optimizer))
batches = Batches(data, np.arange(120), 10, 0, recipe.augment, device, recipe.labels)
pretend_device.waits.clear()
print(sum(1 for _ in train(state, batches, recipe, late=True)), sum(pretend_device.waits.values()))
"""
REFUSED = """
import torch, pretend_device
pretend_device.set_up()
there, here = torch.ones(3, device="pretend"), torch.ones(3)
try: there + here
except RuntimeError: print("mixed")
try: there.numpy()
except (RuntimeError, TypeError): print("numpy")
try: torch.nn.Linear(3, 2)(there)
except RuntimeError: print("weights")
if float(there.sum()) == 3 and pretend_device.waits["aten::_local_scalar_dense"] == 1: print("counted")
if torch.equal((there * 2 + torch.arange(3, device="pretend")).cpu(), torch.tensor([2.0, 3.0, 4.0])): print("equal")
"""
