"""Peak anonymous memory of a training: the lecture's AlexNet, 50,000 images of 32 x 32, batch 512, fresh processes.

Claim: under 2 GB (RssAnon: what the process allocated itself, without mapped files). Linux only.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from paired import arguments, tell

TARGET = 2.0  # GB of 10^9 bytes
STEPS, BATCH, IMAGES = 30, 512, 50_000


def rss_anon() -> int:
    """Bytes of anonymous memory that this process holds now."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    raise OSError("RssAnon is not told here")


@contextmanager
def watched() -> Iterator[list[int]]:
    """A with-block during which a thread watches: a list of one number, the largest so far."""
    peak, running = [rss_anon()], [True]

    def watch() -> None:
        while running[0]:
            peak[0] = max(peak[0], rss_anon())
            time.sleep(0.01)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        running[0] = False
        watcher.join()


def child(steps: int) -> None:
    """Train for some steps while a thread watches; print the peak."""
    with watched() as peak:
        precision = train_some(steps)
    print(json.dumps({"peak": peak[0], "precision": precision}))


def train_some(steps: int) -> str:
    """Train for some steps; returns the precision."""
    import numpy as np
    import torch

    from convscope.datasets.dataset import assemble
    from convscope.datasets.unsplit import Unsplit
    from convscope.machine import pick_precision
    from convscope.models.registry import build
    from convscope.recipes import Recipe
    from convscope.training.batches import Batches
    from convscope.training.loop import TrainState, make_optimizer, train

    images = np.random.default_rng(0).integers(0, 256, (IMAGES, 32, 32, 3), np.uint8)
    names = tuple("0123456789")
    unsplit = Unsplit("noise", names, np.arange(IMAGES) % 10, np.full(IMAGES, "", "U5"), 32, arrays=images)
    del images
    data = assemble(unsplit)
    device = torch.device("cpu")
    recipe = Recipe().with_options({"precision": pick_precision("auto", device), "batch_size": BATCH})
    network = build("alexnet", 10, 32, seed=0).to(memory_format=torch.channels_last)
    state = TrainState(network, make_optimizer(network, recipe.optimizer))
    loop = train(state, Batches(data, data.subset("train"), BATCH, 0, recipe.augment, device), recipe)
    for _ in range(steps):
        next(loop)
    return recipe.loop.precision


def main() -> None:
    if sys.argv[1:2] == ["child"]:
        child(int(sys.argv[2]))
        return
    options = arguments(__doc__)
    runs = []
    for _ in range(1 if options.quick else 3):
        out = subprocess.run(
            [sys.executable, __file__, "child", str(STEPS)], check=True, capture_output=True, text=True
        )
        runs.append(json.loads(out.stdout))
    peaks = [r["peak"] / 1e9 for r in runs]
    result = {
        "ratio": None,
        "low": min(peaks),
        "high": max(peaks),
        "ours": max(peaks),
        "peer": None,
        "unit": "GB",
        "better": "lower",
        "target": TARGET,
        "precision": runs[0]["precision"],
    }
    tell(result, options.json)


if __name__ == "__main__":
    main()
