"""Average precision with its interval from 1,000 bootstrap samples, against one evaluation by each library of COCO.

Claim: in the time of one evaluation by pycocotools, which a bootstrap with it would repeat a thousand times, ours is
done. Each begins with the same boxes in memory, 500 images with 20 true and 100 found boxes of 5 classes; the figures
are seen to be equal to 1e-6. faster-coco-eval, which is in C++, is timed beside. One thread.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import torch
from paired import abba, arguments, median_ratio, tell, this_machine

from convscope.tasks.average_precision import score, settings

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from random_boxes import Image, as_coco, coco_evaluator, matches_of, random_image

TARGET = 1.0
CLASSES, TRUE, FOUND = 5, 20, 100
NAMES = tuple(f"class {k}" for k in range(CLASSES))
FIGURES = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")


def ours(images: list[Image]) -> tuple[float, list[float]]:
    """Seconds to match the boxes and make the score with all its intervals, and its figures."""
    start = time.perf_counter()
    matches = matches_of(images, CLASSES)
    made = score(matches, NAMES, settings(matches))
    return time.perf_counter() - start, [made.figures[name] for name in FIGURES]


def library(name: str, images: list[Image]) -> tuple[float, list[float]]:
    """Seconds of one evaluation by a library, from boxes in COCO's form, and its figures."""
    there, given = as_coco(images, CLASSES)
    start = time.perf_counter()
    made = coco_evaluator(name, there, given)
    return time.perf_counter() - start, [float(value) for value in made.stats[: len(FIGURES)]]


def main() -> None:
    options = arguments(__doc__)
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    images = [random_image(rng, TRUE, FOUND, CLASSES) for _ in range(50 if options.quick else 500)]
    found = [ours(images)[1], *(library(name, images)[1] for name in ("pycocotools", "faster_coco_eval"))]
    gap = max(float(np.abs(np.subtract(found[0], other)).max()) for other in found[1:])
    assert gap < 1e-6, f"the figures differ by {gap}"
    rounds = 1 if options.quick else 3
    mine, slow = abba(lambda: ours(images)[0], lambda: library("pycocotools", images)[0], rounds)
    again, fast = abba(lambda: ours(images)[0], lambda: library("faster_coco_eval", images)[0], rounds)
    ratio, low, high = median_ratio(mine, slow)
    result = {
        "ratio": ratio,
        "low": low,
        "high": high,
        "ours": float(np.median(mine)),
        "peer": float(np.median(slow)),
        "unit": "s, ours with 1,000 samples, the peer's without any",
        "better": "lower",
        "target": TARGET,
        "images": len(images),
        "faster_coco_eval": float(np.median(fast)),
        "faster_coco_eval_ratio": list(median_ratio(again, fast)),
        "largest_gap": gap,
        **this_machine(),
    }
    tell(result, options.json)


if __name__ == "__main__":
    main()
