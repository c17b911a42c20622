"""What a GPU makes of it: speednet, the lecture's network, features and filter cards, against peers on that card.

Claim: features of lite0 and resnet50 at least 1.0 times the images a second of timm's own way to measure (eager,
channels last, in one batch size, images there already), and speednet at least 1.0 times the same network in eager torch
with Muon as it was published; whole commands are told in seconds. Needs --device cuda to be a measurement; --device cpu
tries the script.

    python bench/gpu.py [--device cuda] [--quick] [--json]
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import os
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from paired import abba, median_ratio, tell
from speednet import Eager, Ours, forever, recipe

import convscope
from convscope.classifying.classifier import Classifier
from convscope.datasets.dataset import assemble
from convscope.datasets.shapes import load_shapes
from convscope.feature_store.engines import FeatureRequest, make_engine
from convscope.machine import describe, matmul_peak, pick_device, pick_precision
from convscope.models.registry import build
from convscope.training.batches import Batches

TARGET = 1.0
BACKBONES = {"lite0": "tf_efficientnet_lite0", "resnet50": "resnet50"}
TRAINED = ("lite0",)  # whose weights are at hand; speed does not depend on them


def waited(device: torch.device, work: Callable[[], Any]) -> float:
    """Seconds of a work, the device's queue among it."""
    synchronise(device)
    start = time.perf_counter()
    work()
    synchronise(device)
    return time.perf_counter() - start


def synchronise(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def features(name: str, device: torch.device, quick: bool) -> dict[str, float]:
    """Images a second of our engine, which uploads uint8 and normalises there, and of timm's loop on the device."""
    size, batch, rounds = (64, 8, 1) if quick else (224, 256, 3)
    timm = importlib.import_module("timm")
    if name in TRAINED:
        classifier = Classifier.pretrained(name)
    else:
        plain = build(name, 1000, size, seed=0)
        own = Classifier.pretrained("lite0")
        classifier = Classifier(plain.eval(), own.class_names, own.preprocess, own.architecture)
    peer = timm.create_model(BACKBONES[name], num_classes=0).eval().to(device, memory_format=torch.channels_last)
    images = np.random.default_rng(0).integers(0, 256, (batch, size, size, 3), np.uint8)
    there = torch.zeros(batch, 3, size, size, device=device).contiguous(memory_format=torch.channels_last)
    engine = make_engine("torch", classifier, FeatureRequest(), device)
    passes = 1 if quick else 10

    def ours() -> float:
        return waited(device, lambda: [engine.run(images) for _ in range(passes)])

    def theirs() -> float:
        with torch.inference_mode():
            return waited(device, lambda: [peer(there) for _ in range(passes)])

    ours(), theirs()
    mine, other = abba(ours, theirs, rounds)
    ratio, low, high = median_ratio(other, mine)
    rate = batch * passes / float(np.median(mine))
    return {
        "ratio": ratio,
        "low": low,
        "high": high,
        "images_per_second": rate,
        "gflop_per_second": rate * engine.gflop,
    }


def speednet(device: torch.device, quick: bool) -> dict[str, float]:
    """Seconds of some steps of speednet, ours as a run drives it, against eager torch."""
    precision = pick_precision("auto", device)
    data = assemble(load_shapes(1_200 if quick else 6_000))
    wanted = recipe(precision)

    def batches() -> Batches:
        return Batches(data, np.arange(len(data)), 64 if quick else 512, 0, wanted.augment, device)

    first = list(itertools.islice(forever(batches()), 8))
    ours, peer = Ours(batches(), wanted, device), Eager(itertools.cycle(first), wanted, batches(), device=device)
    steps, rounds = (1, 1) if quick else (10, 5)

    def block(loop: Ours | Eager) -> float:
        return waited(device, lambda: [loop.step() for _ in range(steps)])

    block(ours), block(peer)
    mine, theirs = abba(lambda: block(ours), lambda: block(peer), rounds)
    ratio, low, high = median_ratio(theirs, mine)
    return {"ratio": ratio, "low": low, "high": high, "step_seconds": float(np.median(mine)) / steps}


def commands(device: str, quick: bool) -> dict[str, float]:
    """Seconds of whole commands on data that are built in."""
    limit = 240 if quick else None
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"CONVSCOPE_RUNS": f"{folder}/runs", "CONVSCOPE_CACHE": f"{folder}/cache"}
        told = {}
        start = time.perf_counter()
        convscope.train("shapes", recipe="lecture-6", device=device, limit=limit, epochs=1 if quick else None, name="l")
        told["train lecture-6"] = time.perf_counter() - start
        start = time.perf_counter()
        convscope.explain("l", layer="conv1", device=device, ablate=0)
        told["explain conv1"] = time.perf_counter() - start
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    parser.add_argument("--quick", action="store_true", help="small: a look, not a measurement")
    parser.add_argument("--device", default="cuda", help="cuda, mps; cpu tries the script")
    options = parser.parse_args()
    device = pick_device(options.device)
    found = {name: features(name, device, options.quick) for name in BACKBONES}
    found["speednet"] = speednet(device, options.quick)
    worst = min(found, key=lambda name: found[name]["ratio"])
    precision = pick_precision("auto", device)
    result = {
        "ratio": found[worst]["ratio"], "low": found[worst]["low"], "high": found[worst]["high"],
        "ours": found[worst]["ratio"], "peer": 1.0, "unit": f"times the peer's rate, of {worst}", "better": "higher",
        "target": TARGET, "parts": found, "seconds": commands(options.device, options.quick),
        "peak_gflop_per_second": {p: matmul_peak(device, p) for p in {"float32", precision}},
        "machine": describe(device),
    }  # fmt: skip
    tell(result, options.json)


if __name__ == "__main__":
    main()
