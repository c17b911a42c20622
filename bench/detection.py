"""Claim: a head on recorded maps of lite0 finds boxes at least nearly as well as an SSDLite given the same time.

Ours is `convscope transfer DATA` with nothing recorded before, as a whole: reading, recording, the head, with --budget
also fine-tuning, the one look at the test images. The peer is torchvision's SSDLite (Howard et al. 2019; Liu et al.
2016) with its own head, anchors, losses and extra layers, on the same backbone with the same weights: all of it
trained (AdamW, one cycle, mirrored images, with --crops also the random crops of its own recipe) on the same images for
as long as ours took in all; and with --to-the-end until it gains nothing on the validation images for three looks. All
are scored by the same function, in the pixels of the images.

    python bench/detection.py DATA [--image-size 512] [--budget MINUTES] [--crops] [--to-the-end]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import OrderedDict
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import paired
import timm
import torch
from torch import nn
from torchvision import tv_tensors
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.ssd import SSD
from torchvision.models.detection.ssdlite import SSDLiteHead, _extra_block
from torchvision.transforms import v2

from convscope import transfer
from convscope.classifying.classifier import Classifier
from convscope.datasets.boxes import Boxes
from convscope.datasets.dataset import Dataset, Undecoded, decoded
from convscope.evaluation.task_scoring import true_boxes
from convscope.models.pixel_network import load_backbone, map_info
from convscope.tasks.average_precision import score, settings
from convscope.tasks.detection import objects
from convscope.tasks.matching import FoundBoxes, matched
from convscope.transfer_learning.task_report import TaskReport

SIZE, BATCH, RATE = 320, 8, 1e-3  # px of SSDLite
PATIENCE, LOOK, MOST_EPOCHS = 3, 5, 200  # looks without a gain; epochs from one look to the next; epochs at most
IN_SQUARE: dict[str, Any] = {"format": "XYXY", "canvas_size": (SIZE, SIZE)}
EXTRA = (512, 256, 256, 128)  # channels of the maps behind the backbone's, as torchvision has them


class Maps(nn.Module):
    """The backbone's maps at strides 16 and 32, and SSDLite's four behind them."""

    def __init__(self, weights: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self.body = timm.create_model("tf_efficientnet_lite0", pretrained=False, features_only=True, out_indices=(3, 4))
        load_backbone(self.body, weights)
        norm = partial(nn.BatchNorm2d, eps=0.001, momentum=0.03)
        self.channels = [*map_info(self.body).channels(), *EXTRA]
        self.extra = nn.ModuleList(_extra_block(a, b, norm) for a, b in zip(self.channels[1:], EXTRA, strict=False))

    def forward(self, images: torch.Tensor) -> OrderedDict[str, torch.Tensor]:
        maps = list(self.body(images))
        for block in self.extra:
            maps.append(block(maps[-1]))
        return OrderedDict((str(n), one) for n, one in enumerate(maps))


def make_peer(classes: int) -> SSD:
    torch.manual_seed(0)
    backbone = Maps(Classifier.pretrained("lite0").network.state_dict())
    anchors = DefaultBoxGenerator([[2, 3] for _ in range(6)], min_ratio=0.2, max_ratio=0.95)
    norm = partial(nn.BatchNorm2d, eps=0.001, momentum=0.03)
    head = SSDLiteHead(backbone.channels, anchors.num_anchors_per_location(), classes + 1, norm)
    own = Classifier.pretrained("lite0").preprocess
    return SSD(
        backbone, anchors, (SIZE, SIZE), classes + 1, image_mean=list(own.mean), image_std=list(own.std), head=head,
        score_thresh=0.001, nms_thresh=0.55, detections_per_img=300, topk_candidates=300,
    )  # fmt: skip


def batches(dataset: Dataset, epoch: int, crops: bool) -> Any:
    """Batches of images float32 (3, S, S), 0 to 1, and what is in them."""
    boxes, rows = dataset.targets, np.random.default_rng(epoch).permutation(dataset.parts["train"])
    assert isinstance(boxes, Boxes)
    torch.manual_seed(epoch)
    cropped = [v2.RandomIoUCrop(), v2.SanitizeBoundingBoxes()] if crops else []
    change = v2.Compose([*cropped, v2.RandomHorizontalFlip()])
    for chosen in np.array_split(rows, max(1, len(rows) // BATCH)):
        images, told = [], []
        for i in chosen.tolist():
            pixels = torch.from_numpy(np.asarray(dataset.images[i]).copy()).permute(2, 0, 1)
            corners = torch.from_numpy(boxes.fitted(i, dataset.preprocess)).float()
            of_image = tv_tensors.BoundingBoxes(corners, **IN_SQUARE)
            row = {"boxes": of_image, "labels": torch.from_numpy(boxes.boxes[i].labels) + 1}
            image, row = change(tv_tensors.Image(pixels), row)
            images.append(image.as_subclass(torch.Tensor).float() / 255)
            told.append({"boxes": row["boxes"].as_subclass(torch.Tensor), "labels": row["labels"]})
        yield images, told


def worth(network: SSD, dataset: Dataset, part: str, threshold: float | None = None) -> dict[str, Any]:
    """The figures of the peer on a part of the images."""
    boxes, found = dataset.targets, []
    assert isinstance(boxes, Boxes)
    network.eval()
    with torch.inference_mode():
        for i in dataset.parts[part].tolist():
            image = torch.from_numpy(np.asarray(dataset.images[i]).copy()).permute(2, 0, 1).float() / 255
            (answer,) = network([image])
            corners = answer["boxes"].double().numpy()
            own = boxes.boxes[i]
            scale = np.array([*own.size, *own.size]) / dataset.preprocess.size  # images are squashed for the peer
            row = FoundBoxes(corners * scale, answer["labels"].numpy() - 1, answer["scores"].double().numpy())
            found.append(matched(row, true_boxes(own), len(boxes.names)))
    matches = objects(found)
    chosen = settings(matches) if threshold is None else {"threshold": threshold}
    return dict(score(matches, boxes.names, chosen).figures)


def peer(dataset: Dataset, epochs: int, crops: bool, validated: bool) -> dict[str, Any]:
    """The peer trained for so many epochs; if it is ``validated``, until it gains nothing more."""
    assert dataset.targets is not None
    network = make_peer(len(dataset.targets.names))
    optimizer = torch.optim.AdamW(network.parameters(), RATE, weight_decay=0.05)
    steps = max(1, len(dataset.parts["train"]) // BATCH)
    plan = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=epochs * steps + 1, pct_start=0.1)
    begun, best, kept, waited, ran = time.perf_counter(), -1.0, None, 0, 0
    for epoch in range(epochs):
        network.train()
        for images, told in batches(dataset, epoch, crops):
            losses = network(images, told)
            optimizer.zero_grad()
            torch.stack(list(losses.values())).sum().backward()
            nn.utils.clip_grad_norm_(network.parameters(), 10.0)
            optimizer.step()
            plan.step()
        ran = epoch + 1
        if not validated or ran % LOOK:
            continue
        value = worth(network, dataset, "val")["ap50"]
        print(f"peer, epoch {ran}: {value:.4f} on validation images", file=sys.stderr, flush=True)
        waited = 0 if value > best else waited + 1
        if value > best:
            best, kept = value, {n: t.clone() for n, t in network.state_dict().items()}
        if waited >= PATIENCE:
            break
    spent = time.perf_counter() - begun
    if kept is not None:
        network.load_state_dict(kept)
    found = worth(network, dataset, "test")
    return {"ap50": found["ap50"], "ap": found["ap"], "epochs": ran, "seconds": spent, "classes": of_classes(found)}


def of_classes(figures: dict[str, Any]) -> dict[str, float]:
    return {row["name"]: row["ap50"] for row in figures["classes"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", help="a folder with boxes and a test part")
    parser.add_argument("--image-size", type=int, help="pixels of ours, a multiple of 32")
    parser.add_argument("--budget", type=float, help="minutes of fine-tuning for ours")
    parser.add_argument("--crops", action="store_true", help="the peer's own random crops too")
    parser.add_argument("--to-the-end", action="store_true", help="also the peer until it stops gaining")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CONVSCOPE_CACHE"] = str(Path(folder) / "cache")
        begun = time.perf_counter()
        made = transfer(options.data, runs=Path(folder) / "runs", image_size=options.image_size, budget=options.budget)
        seconds = time.perf_counter() - begun
        assert isinstance(made, TaskReport)
        assert made.test is not None
        ours = dict(made.test.score.figures)
        row: dict[str, Any] = {"seconds": seconds, "kept": made.best.name, "spent": dict(made.spent)}
        told = ("ap50_low", "ap50_high", "ap", "ap_low", "ap_high", "n", "boxes", "threshold")
        row |= {key: ours[key] for key in told}
        row |= {"classes": of_classes(ours), "rungs": [rung.to_json() for rung in made.rungs]}
        print(row, file=sys.stderr, flush=True)
        dataset = squashed(made)
        an_epoch = peer(dataset, 1, options.crops, False)["seconds"]
        theirs = peer(dataset, max(1, round(seconds / an_epoch)), options.crops, False)
        print(theirs, file=sys.stderr, flush=True)
        if options.to_the_end:
            row["until_it_stops"] = peer(dataset, MOST_EPOCHS, options.crops, True)
    ratio = ours["ap50"] / theirs["ap50"]
    result = {
        "ratio": ratio, "low": ours["ap50_low"] / theirs["ap50"], "high": ours["ap50_high"] / theirs["ap50"],
        "ours": ours["ap50"], "peer": theirs["ap50"], "unit": "AP50 on test images", "better": "higher", "target": 0.95,
    }  # fmt: skip
    paired.tell({**result, **row, "same_time": theirs, **paired.this_machine()}, options.json)


def squashed(made: TaskReport) -> Dataset:
    """The images as SSDLite takes them, a square without borders, in memory."""
    images = made.dataset.images
    assert isinstance(images, Undecoded)
    return decoded(images.listed, replace(made.dataset.preprocess, size=SIZE, fit="squash"), False)


if __name__ == "__main__":
    main()
