"""What the doctor finds of boxes that were taken out of a folder, and of boxes that were given another class.

Claim: with 5 % of the boxes of BCCD removed, the removed ones are ranked above what else a head finds where no box is,
and where none was, with an area under the curve of 0.9; with 5 % given another class, these are ranked above all other
boxes with an area of 0.9.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from paired import tell, this_machine
from sklearn.metrics import roc_auc_score

from convscope.datasets.asked import find_asked
from convscope.datasets.boxes import Boxes, ImageBoxes
from convscope.datasets.dataset import Listing
from convscope.datasets.options import DatasetOptions
from convscope.datasets.packing import digests
from convscope.feature_store.options import BackboneOptions
from convscope.feature_store.recording import backbone_of
from convscope.inspection.copy_findings import find_copies
from convscope.inspection.survey import survey
from convscope.inspection.wrong_boxes import BoxCheck, check_boxes, record_boxes
from convscope.tasks.matching import overlap

SHARE, TARGET, FOUND = 0.05, 0.9, 0.5
DRAWS = 500  # of the bootstrap


def removed(one: ImageBoxes, chosen: np.ndarray, _: np.ndarray) -> ImageBoxes:
    """Without the chosen boxes."""
    return ImageBoxes(one.size, one.corners[~chosen], one.labels[~chosen], one.crowd[~chosen])


def renamed(one: ImageBoxes, chosen: np.ndarray, labels: np.ndarray) -> ImageBoxes:
    """With another class for the chosen boxes."""
    return replace(one, labels=np.where(chosen, labels, one.labels))


Change = Callable[[ImageBoxes, np.ndarray, np.ndarray], ImageBoxes]


def planted(boxes: Boxes, change: Change, random: np.random.Generator) -> tuple[Boxes, list[np.ndarray]]:
    """The boxes with a share of them changed, and which those are, image by image."""
    chosen = [random.random(len(one)) < SHARE for one in boxes.boxes]
    others = [(one.labels + random.integers(1, len(boxes.names), len(one))) % len(boxes.names) for one in boxes.boxes]
    made = tuple(change(*three) for three in zip(boxes.boxes, chosen, others, strict=True))
    return replace(boxes, boxes=made), chosen


def area(truth: np.ndarray, score: np.ndarray) -> dict[str, float]:
    """The area under the curve with the ends of its 95 % bootstrap interval."""
    draw = np.random.default_rng(0)
    index = (draw.integers(0, len(truth), len(truth)) for _ in range(DRAWS))
    low, high = np.quantile([roc_auc_score(truth[i], score[i]) for i in index], [0.025, 0.975])
    return {"area": float(roc_auc_score(truth, score)), "low": float(low), "high": float(high)}


def of_missing(check: BoxCheck, boxes: Boxes, chosen: list[np.ndarray]) -> dict[str, Any]:
    """The area under the curve of removed boxes among all that was found where none is, by score."""
    alone, told = check.alone, check.missing
    lost, known = np.zeros(len(alone.image), bool), np.zeros(len(alone.image), bool)
    taken: set[tuple[int, int]] = set()
    for n, (i, corners) in enumerate(zip(alone.image.tolist(), alone.corners, strict=True)):
        one = boxes.boxes[i]
        overlaps = overlap(corners[None], one.corners, np.zeros(len(one), bool))[0]
        best = int(overlaps.argmax()) if len(overlaps) else -1
        known[n] = best >= 0 and overlaps[best] >= FOUND
        lost[n] = known[n] and bool(chosen[i][best])
        taken |= {(i, best)} if lost[n] else set()
    asked = lost | ~known  # what lies on a box that was there all along is neither
    return {
        **area(lost[asked], alone.score[asked]),
        "removed": int(sum(one.sum() for one in chosen)), "removed_and_found": len(taken),
        "candidates": int(asked.sum()), "told": len(told), "told_and_removed": int(lost[told].sum()),
    }  # fmt: skip


def of_classes(check: BoxCheck, chosen: list[np.ndarray]) -> dict[str, Any]:
    """The area under the curve of changed boxes among all, by the margin; those without a place rank last."""
    drawn, wrong = check.drawn, np.concatenate(chosen)
    begins = np.concatenate([[0], np.cumsum([len(one) for one in chosen])])
    margin = np.full(len(wrong), -1.0)
    place = begins[drawn.image] + drawn.box
    margin[place] = np.nan_to_num(drawn.margin, nan=-1.0)
    told = place[check.wrong]
    return {
        **area(wrong, margin), "boxes": len(wrong), "changed": int(wrong.sum()),
        "judged": int(np.isfinite(drawn.margin).sum()), "told": len(told), "told_and_changed": int(wrong[told].sum()),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", help="a folder with boxes, such as BCCD")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int, help="so many images only, for a first look")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    found = find_asked(asked.data, DatasetOptions(bad_images="skip"), "detection", None)
    assert found is not None
    found = found if asked.limit is None else found.take(np.arange(len(found.labels))[: asked.limit])
    boxes, hashed, every = found.targets, digests(found), np.arange(len(found.labels))
    assert isinstance(boxes, Boxes)
    groups = find_copies(survey(found)).numbered(len(every))
    backbone = backbone_of(BackboneOptions())
    row: dict[str, Any] = {"data": Path(asked.data).name, "images": len(every), "share": SHARE, "seed": asked.seed}
    for name, change in (("missing", removed), ("class", renamed)):
        start = time.perf_counter()
        made, chosen = planted(boxes, change, np.random.default_rng(asked.seed))
        recorded = record_boxes(Listing(replace(found, targets=made), hashed), backbone, torch.device("cpu"))
        check = check_boxes(recorded, groups, every)
        row[name] = of_missing(check, boxes, chosen) if name == "missing" else of_classes(check, chosen)
        row[name]["seconds"] = round(time.perf_counter() - start, 1)
        print(f"{name}: {json.dumps(row[name])}", file=sys.stderr, flush=True)
    worse = min((row["missing"], row["class"]), key=lambda one: one["area"])
    result = {
        "ratio": worse["area"], "low": worse["low"], "high": worse["high"], "ours": 1, "peer": 0,
        "unit": "the lower of two areas under the curve: of removed boxes, and of boxes of another class",
        "better": "higher", "target": TARGET, **row, **this_machine(),
    }  # fmt: skip
    tell(result, asked.json)
    sys.exit(0 if worse["area"] >= TARGET else 1)


if __name__ == "__main__":
    main()
