"""What it costs to compare packed images with their hashes before they are used: an epoch of batches with and without.

Claim: checking a pack costs at most 3 % of reading it as a training does, an epoch of varied and normalised batches,
from a disk that has to be asked for it; and the batches are the same. ``ratio_warm`` is the same with the file in
memory, and ``check_gb_per_second`` how fast the check alone is there.
"""

from __future__ import annotations

import os
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from paired import abba, arguments, median_ratio, tell

from convscope.datasets.dataset import Dataset, assemble
from convscope.datasets.pack import read_pack
from convscope.datasets.unsplit import Unsplit
from convscope.recipes import AUGMENTS
from convscope.training.batches import Batches

IMAGES, SIZE, ROUNDS, TARGET = 2_400, 224, 5, 1.03


def main() -> None:
    options = arguments(__doc__)
    with tempfile.TemporaryDirectory() as cache:
        os.environ["CONVSCOPE_CACHE"] = cache
        data = packed_images()
        (path,) = (Path(cache) / "images").iterdir()
        rounds = 1 if options.quick else ROUNDS
        seen: set[float] = set()
        cold = abba(partial(read, path, data, seen, True, True), partial(read, path, data, seen, False, True), rounds)
        warm = abba(partial(read, path, data, seen, True, False), partial(read, path, data, seen, False, False), rounds)
        assert len(seen) == 1, "the batches differ"
        ratio, low, high = median_ratio(*cold)
        start = time.perf_counter()
        read_pack(path, IMAGES, SIZE)
        check = time.perf_counter() - start
        result = {
            "ratio": ratio,
            "low": low,
            "high": high,
            "ours": float(np.median(cold[0])),
            "peer": float(np.median(cold[1])),
            "unit": f"s for {IMAGES} images of {SIZE} px",
            "better": "lower",
            "target": TARGET,
        }
        result |= {"ratio_warm": list(median_ratio(*warm)), "seconds_warm": float(np.median(warm[1]))}
        result |= {"check_seconds": check, "check_gb_per_second": path.stat().st_size / check / 1e9}
        tell(result, options.json)


def packed_images() -> Dataset:
    """Noise that is larger than the size asked for, and so is fitted into the cache."""
    side = SIZE + 4
    arrays = np.random.default_rng(0).integers(0, 256, (IMAGES, side, side, 3), np.uint8)
    labels = np.arange(IMAGES) % 2
    unsplit = Unsplit("noise", ("a", "b"), labels, np.full(IMAGES, "train"), SIZE, arrays=arrays)
    return assemble(unsplit, image_size=SIZE)


def read(path: Path, data: Dataset, seen: set[float], check: bool, cold: bool) -> float:
    """Seconds of an epoch of batches, after the check if there is one."""
    if cold:
        with path.open("rb") as handle:
            os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    start = time.perf_counter()
    if check:
        assert read_pack(path, IMAGES, SIZE) is not None
    index = np.arange(IMAGES)
    batches = Batches(data, index, 64, 0, AUGMENTS["standard"], torch.device("cpu"))
    total = sum(float(batch.images[:, :, 0, 0].double().sum()) for batch in batches.epoch(0))
    seconds = time.perf_counter() - start
    seen.add(total)
    return seconds


if __name__ == "__main__":
    main()
