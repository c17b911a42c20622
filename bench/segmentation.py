"""Claim: a head on recorded maps of lite0 is at least level with a fine-tuned FPN that is given the same time.

The images of DATA, a folder with masks, are cut into five folds by their content. Each fold is the test part once; of
the rest 15 % validate. With --test and --val there is one fold: images whose path holds these regular expressions
test and validate, and the others train. Ours is `convscope transfer` with nothing recorded before, as a whole:
reading, recording, both heads, with --budget also fine-tuning, the one look at the test images; then each rung is
scored on these too. The peer is segmentation-models-pytorch's FPN with the same encoder and the same weights, all of
it trained (AdamW, one cycle, mirrored images, cross-entropy) on the same images at the same size: for as long as ours
took in all; and with --to-the-end, on the first fold, until it gains nothing for three epochs. All are scored by the
same function, at the masks' own size.

    python bench/segmentation.py DATA [--folds 5] [--test PATTERN --val PATTERN] [--budget MINUTES] [--to-the-end]
"""

from __future__ import annotations

import argparse
import importlib
import os
import re
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import paired
import torch
from torch import nn

from convscope.classifying.classifier import Classifier
from convscope.datasets.dataset import listing
from convscope.datasets.splits import hexadecimal
from convscope.datasets.unsplit import Unsplit
from convscope.evaluation.task_scoring import evaluate_task
from convscope.feature_store.recording import backbone_of
from convscope.progress import Laps
from convscope.tasks.registry import TASKS
from convscope.training.loop import TrainState, make_optimizer, train
from convscope.transfer_learning.fine_tuning import REACHES
from convscope.transfer_learning.options import TransferOptions
from convscope.transfer_learning.recorded_targets import record_targets
from convscope.transfer_learning.task_ladder_command import (
    asked_images,
    classifier_with,
    fitted_backbone,
    transferring_to,
)
from convscope.transfer_learning.task_report import TaskReport
from convscope.transfer_learning.task_tuning import ImageBatches, measured, tuning_recipe

FOLDS = 5
PATIENCE = 3  # epochs without a gain, after which the peer has stopped gaining
MOST_EPOCHS = 40
RATE = 5e-4


class Peer(nn.Module):
    """The peer's network with its logits at the size of the images."""

    def __init__(self, classes: int, weights: dict[str, torch.Tensor]) -> None:
        super().__init__()
        smp = importlib.import_module("segmentation_models_pytorch")  # pip install it: it is for this bench only
        self.network = smp.FPN("tu-tf_efficientnet_lite0", encoder_weights=None, classes=classes)
        own = self.network.encoder.model.state_dict()
        self.network.encoder.model.load_state_dict({name: weights[name] for name in own})

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.network(images)


def parts_of_fold(keys: np.ndarray, fold: int) -> list[str]:
    """The part of each image: every fifth, by the order of keys, tests; of the rest 15 % validate."""
    order = np.argsort(keys, kind="stable")
    place = np.empty(len(keys), int)
    place[order] = np.arange(len(keys))
    rest = {int(i): n for n, i in enumerate(i for i in order if place[i] % FOLDS != fold)}
    return ["test" if place[i] % FOLDS == fold else "val" if rest[i] % 20 < 3 else "train" for i in range(len(keys))]


def parts_by_path(asked: Unsplit, count: int, test: str, val: str) -> list[str]:
    """The part of each image by what its path holds."""
    paths = [asked.origin(i) for i in range(count)]
    return ["test" if re.search(test, p) else "val" if re.search(val, p) else "train" for p in paths]


def ours(data: str, options: TransferOptions, fold: int, by_path: tuple[str, str] | None) -> TaskReport:
    """One transfer as a user asks for it, but for which images test."""
    asked = asked_images(data, options)
    assert asked is not None
    laps = Laps()
    keys = listing(asked).keys
    parts = parts_of_fold(keys, fold) if by_path is None else parts_by_path(asked, len(keys), *by_path)
    asked = replace(asked, given=np.full(len(keys), ""), sides=dict(zip(hexadecimal(keys), parts, strict=True)))
    *_, made = transferring_to(asked, data, options, backbone_of(options), laps)
    assert isinstance(made, TaskReport)
    return made


def peer(made: TaskReport, epochs: int, validated: bool) -> dict[str, Any]:
    """The peer on the same images for so many epochs; if it is ``validated`` after each, until it stops gaining."""
    start, task, dataset = made.classifier, TASKS["segmentation"], made.dataset
    torch.manual_seed(0)
    network = Peer(len(start.class_names), Classifier.pretrained("lite0").network.state_dict())
    recorded = record_targets(task, dataset, made.extraction.features, [], None)
    held = replace(dataset, images=np.asarray(dataset.images[:]))
    recipe = tuning_recipe("full", epochs, 0).with_options({"lr": RATE})
    state = TrainState(network, make_optimizer(network, recipe.optimizer))
    batches = ImageBatches(held, recorded, held.parts["train"], 0)
    begun, best, kept, waited, epoch = time.perf_counter(), -1.0, None, 0, 0
    for step in train(state, batches, recipe, objective=lambda out, batch: task.loss(out, batch.labels)):
        epoch = step.epoch
        if step.summary is None or not validated:
            continue
        value = measured(replace(start, network=network), recorded, held)[0].figure.value
        waited = 0 if value > best else waited + 1
        if value > best:
            best, kept = value, {n: t.clone() for n, t in network.state_dict().items()}
        if waited >= PATIENCE:
            break
    spent = time.perf_counter() - begun
    if kept is not None:
        network.load_state_dict(kept)
    figure = evaluate_task(replace(start, network=network.eval()), dataset, "test").score.figure
    return {"iou": figure.value, "epochs": epoch, "seconds": spent}


def row_of(folder: Path, fold: int, options: argparse.Namespace) -> dict[str, Any]:
    """One fold: ours with an empty cache, each rung on the same test images, and the peer."""
    os.environ["CONVSCOPE_CACHE"] = str(folder / f"cache{fold}")
    by_path = None if options.test is None else (options.test, options.val)
    asked = TransferOptions(runs=folder / "runs", image_size=options.image_size, budget=options.budget)
    begun = time.perf_counter()
    made = ours(options.data, asked, fold, by_path)
    seconds = time.perf_counter() - begun
    assert made.test is not None
    parts = {f"n_{part}": len(index) for part, index in made.dataset.parts.items()}
    row: dict[str, Any] = {"fold": fold, **parts, "iou": made.test.score.figure.value, "kept": made.best.name}
    row |= {"low": made.test.score.figure.low, "high": made.test.score.figure.high}
    row |= {"seconds": seconds, "spent": dict(made.spent), "rungs": on_test(made, asked)}
    print(row, file=sys.stderr, flush=True)
    an_epoch = peer(made, 1, False)["seconds"]  # its rate falls to nothing by the last epoch, so their number is chosen
    row["same_time"] = peer(made, max(1, round(seconds / an_epoch)), False)
    print(row, file=sys.stderr, flush=True)
    if options.to_the_end and fold == 0:
        row["until_it_stops"] = peer(made, MOST_EPOCHS, True)
    print(row, file=sys.stderr, flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", help="a folder with masks")
    parser.add_argument("--folds", type=int, default=FOLDS, help="so many of the five")
    parser.add_argument("--to-the-end", action="store_true", help="on the first fold the peer until it stops gaining")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    parser.add_argument("--image-size", type=int, default=256, help="pixels, a multiple of 32")
    parser.add_argument("--budget", type=float, help="minutes of fine-tuning for ours")
    parser.add_argument("--test", help="images whose path holds this test; then there is one fold")
    parser.add_argument("--val", help="images whose path holds this, and not the other, validate")
    options = parser.parse_args()
    if (options.test is None) != (options.val is None):
        parser.error("--test and --val come together")
    with tempfile.TemporaryDirectory() as folder:
        folds = range(1 if options.test else options.folds)
        rows = [row_of(Path(folder), fold, options) for fold in folds]
    mine, theirs = np.array([row["iou"] for row in rows]), np.array([row["same_time"]["iou"] for row in rows])
    ratio, low, high = paired.median_ratio(mine, theirs)
    result = {
        "ratio": ratio,
        "low": low,
        "high": high,
        "ours": float(mine.mean()),
        "peer": float(theirs.mean()),
        "unit": "intersection over union, mean of folds",
        "better": "higher",
        "target": 1.0,
    }
    paired.tell({**result, "folds": rows, **paired.this_machine()}, options.json)


def on_test(made: TaskReport, options: TransferOptions) -> dict[str, float]:
    """The figure of each rung on the test images."""
    task, found = TASKS["segmentation"], {}
    backbone = fitted_backbone(backbone_of(options), options, task)
    for rung in made.rungs:
        if rung.name in REACHES:
            classifier = replace(made.classifier, network=rung.module.eval())
        else:
            classifier = classifier_with(backbone, rung, task, made.classifier.class_names)
        found[rung.name] = evaluate_task(classifier, made.dataset, "test").score.figure.value
    return found


if __name__ == "__main__":
    main()
