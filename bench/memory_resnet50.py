"""Peak anonymous memory of one training step: torchvision's resnet50, 224 pixels, batch 16, fresh processes.

Claim: under 6 GB (RssAnon: what the process allocated itself, without mapped files), activations kept. Linux only.
"""

from __future__ import annotations

import json
import subprocess
import sys

from memory import watched
from paired import arguments, tell

TARGET = 6.0  # GB of 10^9 bytes
SIDE, BATCH, STEPS = 224, 16, 2


def child(save_memory: bool, size: int) -> None:
    """Train for some steps while a thread watches; print the peak."""
    with watched() as peak:
        import numpy as np
        import torch

        from convscope.datasets.dataset import assemble
        from convscope.datasets.unsplit import Unsplit
        from convscope.machine import pick_precision
        from convscope.models.registry import build
        from convscope.recipes import Recipe
        from convscope.training.batches import Batches
        from convscope.training.loop import TrainState, make_optimizer, train

        count = 4 * size
        images = np.random.default_rng(0).integers(0, 256, (count, SIDE, SIDE, 3), np.uint8)
        unsplit = Unsplit("noise", ("a", "b"), np.arange(count) % 2, np.full(count, "", "U5"), SIDE, arrays=images)
        data = assemble(unsplit)
        device = torch.device("cpu")
        options = {"precision": pick_precision("auto", device), "batch_size": size, "save_memory": save_memory}
        recipe = Recipe().with_options(options)
        network = build("torchvision:resnet50", 2, SIDE, seed=0).to(memory_format=torch.channels_last)
        state = TrainState(network, make_optimizer(network, recipe.optimizer))
        loop = train(state, Batches(data, np.arange(count), size, 0, recipe.augment, device), recipe)
        seconds = [sum(next(loop).seconds.values()) for _ in range(STEPS)]
    print(json.dumps({"peak": peak[0], "precision": recipe.loop.precision, "seconds": seconds[-1]}))


def peak_of(save_memory: bool, size: int) -> dict[str, float]:
    words = [sys.executable, __file__, "child", str(int(save_memory)), str(size)]
    return json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    if sys.argv[1:2] == ["child"]:
        child(sys.argv[2] == "1", int(sys.argv[3]))
        return
    options = arguments(__doc__)
    size = 2 if options.quick else BATCH
    runs = [peak_of(False, size) for _ in range(1 if options.quick else 3)]
    saving = peak_of(True, size)
    peaks = [run["peak"] / 1e9 for run in runs]
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
        "with_save_memory": saving["peak"] / 1e9,
        "step_seconds": runs[-1]["seconds"],
        "step_seconds_with_save_memory": saving["seconds"],
    }
    tell(result, options.json)


if __name__ == "__main__":
    main()
