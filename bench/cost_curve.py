"""What each work costs as the images become more: packing, an epoch, features, exemplars and the doctor.

Claim: from 1,000 to 45,000 images the time of each is a start-up and so much an image, within 10 %, and its memory is
that of 1,000 images plus what a row of labels and keys costs.

Drawn images are written as JPEG files of 64 x 64, and tables name the first so many. Each work and size is a process of
its own, with caches of its own size: packing begins without any. The line is fitted to relative errors.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from memory import watched
from paired import tell, this_machine
from PIL import Image

SIZES, QUICK = (1_000, 5_000, 15_000, 45_000), (500, 1_000, 2_000)
WORKS = ("pack", "epoch", "features", "exemplars", "doctor")
TARGET = 0.10  # of a time: how far it may lie from the line
SIDE, CLASSES = 64, 10


def write(folder: Path, count: int) -> None:
    """JPEG files of smooth fields with noise, and a table of the first so many for each size."""
    rng, rows = np.random.default_rng(0), []
    (folder / "images").mkdir()
    for i in range(count):
        field = rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)
        image = np.asarray(Image.fromarray(field).resize((SIDE, SIDE), Image.Resampling.BICUBIC), np.int16)
        noisy = (image + rng.integers(-9, 10, image.shape)).clip(0, 255).astype(np.uint8)
        name = f"images/{i:06d}.jpg"
        Image.fromarray(noisy).save(folder / name, quality=88)
        rows.append((name, f"class {i % CLASSES}"))
    for size in (*SIZES, *QUICK):
        if size <= count:
            with open(folder / f"{size}.csv", "w", encoding="utf-8", newline="") as handle:
                csv.writer(handle).writerows([("path", "label"), *rows[:size]])


def child(work: str, table: str) -> None:
    """Do one work and print what it took."""
    import convscope
    from convscope.training.runs import Run

    told: dict[str, Any] = {}
    with watched() as peak:
        start = time.perf_counter()
        if work == "pack":
            convscope.load_dataset(table, image_size=SIDE)
        elif work == "epoch":
            made = convscope.train(table, model="resnet20", epochs=1, image_size=32, name=Path(table).stem, width=8)
            told["inside"] = Run(made.run.folder).timing()[0]["seconds"]
        elif work == "features":
            convscope.features(table, image_size=SIDE, engine="torch")
        elif work == "exemplars":
            convscope.explain(Path(table).stem, layer="layer1.0.conv1", filter=[0], ablate=0, seeds=0)
        else:
            convscope.doctor(table, labels=False)  # of more than 3,000 images it judges no labels unless asked
        told["seconds"] = time.perf_counter() - start
    print(json.dumps({**told, "gb": peak[0] / 1e9}))


def measured(folder: Path, work: str, size: int) -> dict[str, float]:
    """Seconds and memory of one work on one size, in a process of its own."""
    places = {"CONVSCOPE_RUNS": str(folder / "runs"), "CONVSCOPE_CACHE": str(folder / f"cache-{size}")}
    words = [sys.executable, __file__, "--child", work, str(folder / f"{size}.csv")]
    ended = subprocess.run(words, env=os.environ | places, capture_output=True, text=True)
    if ended.returncode:
        raise SystemExit(f"{work} of {size}: {ended.stderr.strip()[-800:]}")
    row = json.loads(ended.stdout.splitlines()[-1])
    print(f"{work}, {size} images: {row['seconds']:.1f} s, {row['gb']:.2f} GB", file=sys.stderr, flush=True)
    return row


def line(sizes: np.ndarray, seconds: np.ndarray) -> tuple[float, float, float]:
    """Start-up, seconds an image, and the largest relative distance from that line."""
    rows = np.stack([1 / seconds, sizes / seconds], axis=1)
    start, each = np.linalg.lstsq(rows, np.ones(len(sizes)), rcond=None)[0]
    return float(start), float(each), float(np.abs((start + each * sizes) / seconds - 1).max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    parser.add_argument("--quick", action="store_true", help="small sizes: a look, not a measurement")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(*options.child)
        return
    sizes = QUICK if options.quick else SIZES
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write(folder, max(sizes))
        found = {work: [measured(folder, work, size) for size in sizes] for work in WORKS}
    fitted, curves = {}, {}
    for work, rows in found.items():
        seconds = np.array([row.get("inside", row["seconds"]) for row in rows])
        start, each, far = line(np.array(sizes, float), seconds)
        gb = [row["gb"] for row in rows]
        growth = (gb[-1] - gb[0]) / (sizes[-1] - sizes[0]) * 1e9
        fitted[work] = {"start": start, "ms_an_image": 1000 * each, "farthest": far, "bytes_an_image": growth}
        curves[work] = {"images": sizes, "seconds": seconds.tolist(), "gb": gb}
    worst = max(fitted, key=lambda work: fitted[work]["farthest"])
    far = fitted[worst]["farthest"]
    result = {
        "ratio": 1 + far, "low": 1.0, "high": 1 + far, "ours": far, "peer": TARGET,
        "unit": f"largest share by which a time lies off its line, of {worst}", "better": "lower",
        "target": 1 + TARGET, "fitted": fitted, "curves": curves, **this_machine(),
    }  # fmt: skip
    tell(result, options.json)


if __name__ == "__main__":
    main()
