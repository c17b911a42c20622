"""The head that cross-validation chooses against the best that its grid holds, on eleven tasks and two backbones.

Claim: the strength of least cross-entropy, and the choice between the head and k nearest neighbours, cost no accuracy
that these tasks can show. For each task the head of every strength is trained on all training images and scored on
test images that had no part in any choice; what the choice loses against the strength that turns out best *there*
(which nobody could know) is an upper bound, given with the interval of a paired bootstrap over the test images.
Beside it: what choosing by accuracy would have lost, and what a grid of half steps would have won.

Reads the data of $CONVSCOPE_DATA (cifar-10-batches-py, flowers12, braintumor2, bccd) and the weights named by
``--resnet18``; a task or a backbone that is not there is left out by name.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import torch
from PIL import Image

from convscope.classifying.classifier import Classifier
from convscope.datasets.dataset import Listing
from convscope.datasets.registry import list_images
from convscope.errors import ConvscopeError
from convscope.feature_store.extraction import extract
from convscope.feature_store.store import FeatureOptions
from convscope.transfer_learning.head import STRENGTHS, Problem, Standard, cross_validate, folds_of, train_head
from convscope.transfer_learning.knn import choose_neighbours, neighbours_head

PAIRS = (("cat", "dog"), ("automobile", "truck"), ("deer", "horse"))
WIDE = (0.1, 0.3, *STRENGTHS, 3e3, 3e4, 1e5)
DRAWS = 4_000
IMAGE_SIZE = 128
CIFAR = 16_000  # images of it, training and test images in their proportion
CELLS = 900  # of each kind at most, so that red cells do not take the whole time
TEST_SHARE = 0.4  # of images that come without test images


# ------------------------------------------------------------------------------------------------------------- tasks


def tasks(root: Path, scratch: Path, quick: bool) -> Iterator[tuple[str, Listing, np.ndarray, np.ndarray]]:
    """Each task: its name, its images, and which are trained and tested on."""
    digits = list_images("digits")
    yield ("digits", digits, *parted(digits, None))
    for name, per_class in (("flowers12", 10), ("flowers12", 60)):
        listing = found(root / name)
        if listing is not None:
            yield (f"{name}, {per_class} a class", listing, *parted(listing, per_class))
    listing = found(root / "braintumor2")
    if listing is not None:
        yield ("braintumor2", listing, *parted(listing, None))
    if (root / "bccd").is_dir():
        listing = list_images(str(cells(root / "bccd", scratch)))
        yield ("bccd cells", listing, *parted(listing, None))
    cifar = found("cifar10", data_root=str(root), limit=CIFAR)
    if cifar is None:
        return
    for per_class in (20, 100) if quick else (20, 100, 500):
        yield (f"cifar10, {per_class} a class", cifar, *parted(cifar, per_class))
    for pair in PAIRS:
        kept = np.isin(cifar.unsplit.labels, [cifar.unsplit.class_names.index(name) for name in pair])
        train, test = parted(cifar, 100)
        yield (f"cifar10, {' or '.join(pair)}, 100 a class", cifar, train[kept[train]], test[kept[test]])


def found(data: str | Path, **options: Any) -> Listing | None:
    """The images, or None, said, where they are not there."""
    try:
        return list_images(str(data), **options)
    except ConvscopeError as error:
        print(f"left out: {error}", file=sys.stderr)
        return None


def parted(listing: Listing, per_class: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Training images (``per_class`` of each, drawn) and test images: those given, else a share, copies together."""
    labels, given = listing.unsplit.labels, listing.unsplit.given
    rng = np.random.default_rng(0)
    test = given == "test"
    if not test.any():
        _, group = np.unique(listing.keys, return_inverse=True)
        test = (rng.random(group.max() + 1) < TEST_SHARE)[group]
    train = np.flatnonzero(~test)
    if per_class is not None:
        train = np.concatenate([rng.permutation(train[labels[train] == k])[:per_class] for k in np.unique(labels)])
    return np.sort(train), np.flatnonzero(test)


def cells(root: Path, scratch: Path) -> Path:
    """The blood cells of bccd cut out of their images, as a table with the data set's own parts."""
    test = set((root / "ImageSets/Main/test.txt").read_text().split())
    counts: dict[str, int] = {}
    table = scratch / "cells.csv"
    with open(table, "w", newline="") as handle:
        rows = csv.writer(handle)
        rows.writerow(["path", "label", "split"])
        for place in sorted((root / "Annotations").glob("*.xml")):
            image = None
            for number, box in enumerate(ElementTree.parse(place).iter("object")):
                kind = box.findtext("name", "")
                left, top, right, bottom = (
                    int(box.findtext(f"bndbox/{e}", "0")) for e in ("xmin", "ymin", "xmax", "ymax")
                )
                if right - left < 8 or bottom - top < 8 or counts.get(kind, 0) >= CELLS:
                    continue
                image = image or Image.open(root / "JPEGImages" / f"{place.stem}.jpg").convert("RGB")
                counts[kind] = counts.get(kind, 0) + 1
                name = f"{place.stem}-{number}.png"
                image.crop((left, top, right, bottom)).save(scratch / name)
                rows.writerow([name, kind, "test" if place.stem in test else "train"])
    return table


# ---------------------------------------------------------------------------------------------------------- measured


def measured(listing: Listing, backbone: Classifier, train: np.ndarray, test: np.ndarray) -> dict[str, Any]:
    """What the head's choice costs on one task: fractions of the test images."""
    index = np.concatenate([train, test])
    recorded = extract(listing, backbone, FeatureOptions(), torch.device("cpu"), progress(listing.unsplit.name))
    values = torch.from_numpy(recorded.features[index].astype(np.float32))
    known, labels = np.unique(listing.unsplit.labels[index], return_inverse=True)
    x, y = values[: len(train)], torch.from_numpy(labels[: len(train)])
    asked, truth = values[len(train) :], labels[len(train) :]
    keys = listing.keys[train]

    def right(strength: float) -> np.ndarray:
        """Which test images the head of one strength, trained on all training images, knows."""
        head = train_head(x, y, len(known), keys, strengths=[strength / len(x)], folds=0)
        return (asked @ head.weight.T + head.bias).argmax(1).numpy() == truth

    knew = {s: right(s) for s in WIDE}
    fold = torch.from_numpy(folds_of(keys, y.numpy(), 5))
    problem = Problem(Standard.of(x)(x), y, len(known), torch.ones(len(y)))
    path, _ = cross_validate(problem, fold, [s / len(x) for s in WIDE], worse=math.inf)
    by_loss = {s: p.loss for s, p in zip(sorted(WIDE), path, strict=True)}
    by_top1 = {s: p.top1.value for s, p in zip(sorted(WIDE), path, strict=True)}
    chosen = min(STRENGTHS, key=lambda s: by_loss[s])
    by_accuracy = max(STRENGTHS, key=lambda s: (by_top1[s], -s))
    widest = min(WIDE, key=lambda s: by_loss[s])
    best = max(STRENGTHS, key=lambda s: knew[s].mean())
    near = choose_neighbours(x, y, fold, len(known))
    voted = neighbours_head(x, y, len(known), near.neighbours)(asked).argmax(1).numpy() == truth
    near_top1 = float((near.logits.argmax(1) == y).float().mean())
    kept = voted if near_top1 > by_top1[chosen] else knew[chosen]
    return {
        "train": len(train),
        "test": len(test),
        "classes": len(known),
        "chosen": chosen,
        "best": best,
        "top1": float(knew[chosen].mean()),
        "lost": lost(knew[best], knew[chosen]),
        "lost_by_accuracy": lost(knew[best], knew[by_accuracy]),
        "wider_grid_adds": lost(knew[widest], knew[chosen]),
        "wider_grid_chooses": widest,
        "knn_top1": float(voted.mean()),
        "kept": "k-NN" if near_top1 > by_top1[chosen] else "head",
        "lost_by_keeping": lost(voted if voted.mean() > knew[chosen].mean() else knew[chosen], kept),
        "by_strength": {f"{s:g}": [by_loss[s], by_top1[s], float(knew[s].mean())] for s in sorted(WIDE)},
    }


def small(backbone: Classifier) -> Classifier:
    """The backbone at the image size of this bench: most tasks have images far smaller than 224 pixels."""
    return replace(backbone, preprocess=replace(backbone.preprocess, size=IMAGE_SIZE))


def lost(other: np.ndarray, ours: np.ndarray) -> list[float]:
    """Accuracy of the other less ours, with the 95 % interval of a paired bootstrap over images."""
    gaps = other.astype(float) - ours
    draws = np.random.default_rng(0).integers(0, len(gaps), (DRAWS, len(gaps)), dtype=np.int32)
    low, high = np.percentile(gaps[draws].mean(1), [2.5, 97.5])
    return [float(gaps.mean()), float(low), float(high)]


def progress(what: str) -> Any:
    """A line on standard error now and then."""
    last = [time.monotonic()]

    def say(_: str, done: int, total: int) -> None:
        if time.monotonic() - last[0] > 8:
            last[0] = time.monotonic()
            print(f"{what}: {done:,} of {total:,}", file=sys.stderr)

    return say


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    parser.add_argument("--quick", action="store_true", help="without the largest task")
    parser.add_argument("--resnet18", help="a safetensors file of resnet18's ImageNet weights")
    options = parser.parse_args()
    root = Path(os.environ.get("CONVSCOPE_DATA", "data"))
    backbones = {"lite0": small(Classifier.pretrained("lite0"))}
    if options.resnet18:
        backbones["resnet18"] = small(Classifier.pretrained("resnet18", Path(options.resnet18)))
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        for task, listing, train, test in tasks(root, Path(scratch), options.quick):
            for name, backbone in backbones.items():
                row = {"task": task, "backbone": name, **measured(listing, backbone, train, test)}
                rows.append(row)
                if not options.json:
                    print(line(row), flush=True)
    mean = {
        key: float(np.mean([row[key][0] for row in rows]))
        for key in rows[0]
        if key.startswith(("lost", "wider_grid_adds"))
    }
    spread = np.random.default_rng(0).choice([row["lost"][0] for row in rows], (DRAWS, len(rows))).mean(1)
    result = {
        "ratio": mean["lost"],
        "low": float(np.percentile(spread, 2.5)),
        "high": float(np.percentile(spread, 97.5)),
        "ours": float(np.mean([row["top1"] for row in rows])),
        "peer": float(np.mean([row["top1"] + row["lost"][0] for row in rows])),
        "unit": "accuracy, mean over tasks; the ratio is the difference",
        "better": "lower",
        "target": 0.01,
        "means": mean,
        "tasks": rows,
    }
    if options.json:
        print(json.dumps(result))
    else:
        print("means: " + ", ".join(f"{key.replace('_', ' ')} {100 * value:.2f} points" for key, value in mean.items()))


def line(row: dict[str, Any]) -> str:
    """One task in a line."""
    gap, low, high = (100 * v for v in row["lost"])
    return (
        f"{row['task']:<40} {row['backbone']:<9} {row['train']:>6,} / {row['test']:<6,} C {row['chosen']:g}/N (best "
        f"{row['best']:g}) {100 * row['top1']:5.1f} %  lost {gap:4.1f} [{low:.1f}, {high:.1f}]  by accuracy "
        f"{100 * row['lost_by_accuracy'][0]:4.1f}  wider grid {100 * row['wider_grid_adds'][0]:+4.1f}  k-NN "
        f"{100 * row['knn_top1']:5.1f} %, kept {row['kept']}, lost {100 * row['lost_by_keeping'][0]:.1f}"
    )


if __name__ == "__main__":
    main()
