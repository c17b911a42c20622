"""A folder as large as ImageNet, and thousands of classes: seconds and memory of fresh processes.

1,280,000 files in 1,000 folders (hard links of tiny images) are listed and split without being read, their contents
then hashed, and listed once more; 21,000 classes of two tiny images are split, trained on for an epoch, evaluated and
reported.

Claim: listing and split under 300 seconds and under 2 GB (RssAnon, libraries and all); 1,000 and 21,000 classes train,
evaluate and report under 2 GB. Linux only.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from memory import watched
from paired import arguments, tell

FOLDERS, FILES = 1000, 1280  # and files in each
MANY, FEW = 21_000, 1000  # classes
SECONDS, GIGABYTES = 300.0, 2.0


def make_folder(root: Path, folders: int, files: int) -> None:
    """Hard links of one image a folder, each 1 x 1."""
    for k in range(folders):
        place = root / f"n{k:08}"
        place.mkdir(parents=True)
        first = place / f"{place.name}_0.ppm"
        first.write_bytes(b"P6 1 1 255 " + k.to_bytes(3, "big"))
        for i in range(1, files):
            os.link(first, place / f"{place.name}_{i}.ppm")


def make_table(root: Path, classes: int, each: int) -> None:
    """Images of 4 x 4 noise, all different."""
    import numpy as np

    random, rows = np.random.default_rng(0), ["path,label"]
    root.mkdir(parents=True)
    for k in range(classes):
        for i in range(each):
            (root / f"{k}-{i}.ppm").write_bytes(b"P6 4 4 255 " + random.bytes(48))
            rows.append(f"{k}-{i}.ppm,class {k:05}")
    (root / "table.csv").write_text("\n".join(rows))


def child_listing(root: str) -> dict[str, float]:
    """List and split, hash, and list again."""
    from convscope.datasets.asked import find_asked
    from convscope.datasets.dataset import listing
    from convscope.datasets.options import DatasetOptions
    from convscope.datasets.registry import find_images
    from convscope.images.preprocess import Preprocess

    start = time.perf_counter()
    find_asked(root, DatasetOptions(), None, None)
    unsplit = find_images(root, DatasetOptions())
    found = listing(unsplit, unread=True)
    data = found.dataset(None, Preprocess(64))
    listed = time.perf_counter() - start
    assert found.provisional == (len(found) >= 100_000)
    assert sum(map(len, data.parts.values())) == len(found)
    start = time.perf_counter()
    listing(unsplit)
    hashed = time.perf_counter() - start
    start = time.perf_counter()
    listing(unsplit)
    return {"listing": listed, "hashing": hashed, "second_look": time.perf_counter() - start}


def child_classes(table: str) -> dict[str, float]:
    """Train for an epoch, evaluate and report."""
    import convscope

    start = time.perf_counter()
    options = {"model": "alexnet", "width": 8, "image_size": 16, "augment": "none", "batch_size": 256, "epochs": 1}
    run = convscope.train(table, **options)
    trained = time.perf_counter() - start
    start = time.perf_counter()
    convscope.evaluate(run.summary["run"])
    largest = max(
        p.stat().st_size for p in Path(run.summary["run"]).rglob("*") if p.suffix in (".html", ".png", ".json")
    )
    return {"training": trained, "evaluating": time.perf_counter() - start, "largest_report_bytes": largest}


def child(kind: str, path: str) -> None:
    with watched() as peak:
        told = {"listing": child_listing, "classes": child_classes}[kind](path)
    print(json.dumps(told | {"gigabytes": peak[0] / 1e9}))


def measured(kind: str, path: Path, place: Path) -> dict[str, float]:
    environment = os.environ | {"CONVSCOPE_CACHE": str(place / "cache"), "CONVSCOPE_RUNS": str(place / "runs")}
    words = [sys.executable, __file__, "child", kind, str(path)]
    done = subprocess.run(words, check=True, capture_output=True, text=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    if sys.argv[1:2] == ["child"]:
        child(*sys.argv[2:4])
        return
    options = arguments(__doc__)
    folders, files, many, few = (20, 50, 300, 100) if options.quick else (FOLDERS, FILES, MANY, FEW)
    place = Path(tempfile.mkdtemp(prefix="listings-", dir=os.environ.get("CONVSCOPE_CACHE")))
    try:
        make_folder(place / "folder", folders, files)
        large = measured("listing", place / "folder", place)
        found = {}
        for name, classes, each in (("many", many, 2), ("few", few, 8)):
            make_table(place / name, classes, each)
            found[name] = measured("classes", place / name / "table.csv", place)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    shares = [large["listing"] / SECONDS, *(one["gigabytes"] / GIGABYTES for one in (large, *found.values()))]
    result = {
        "ratio": None,
        "low": min(shares),
        "high": max(shares),
        "ours": max(shares),
        "peer": None,
        "unit": "of the time and memory that is allowed",
        "better": "lower",
        "target": 1.0,
        "files": folders * files,
        **{f"folder_{key}": value for key, value in large.items()},
        **{f"{name}_classes_{key}": value for name, one in found.items() for key, value in one.items()},
    }
    tell(result, options.json)


if __name__ == "__main__":
    main()
