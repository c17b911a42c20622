"""Peak anonymous memory of a training step with --save-memory: deep networks, 224 pixels, batch 32, fresh processes.

Claim: under 2.6 GB for resnet50 and under 4 GB for resnet152 (RssAnon: what the process allocated itself, libraries and
all), in float32, with SGD's momentum. Linux only.
"""

from __future__ import annotations

import json
import subprocess
import sys

from memory import watched
from paired import arguments, tell

TARGETS = {"resnet50": 2.6, "resnet152": 4.0}  # GB of 10^9 bytes
SIDE, BATCH, CLASSES, STEPS = 224, 32, 1000, 2


def child(name: str, size: int, steps: int) -> None:
    """Train for some steps while a thread watches; print the peak."""
    with watched() as peak:
        import numpy as np
        import torch

        from convscope.datasets.dataset import assemble
        from convscope.datasets.unsplit import Unsplit
        from convscope.models.registry import build
        from convscope.recipes import Recipe
        from convscope.training.batches import Batches
        from convscope.training.loop import TrainState, make_optimizer, train

        images = np.random.default_rng(0).integers(0, 256, (2 * size, SIDE, SIDE, 3), np.uint8)
        names = tuple(map(str, range(CLASSES)))
        given = np.full(2 * size, "train", "U5")
        unsplit = Unsplit("noise", names, np.arange(2 * size) % CLASSES, given, SIDE, arrays=images)
        data = assemble(unsplit)
        device = torch.device("cpu")
        recipe = Recipe().with_options({"batch_size": size, "precision": "float32", "save_memory": True})
        network = build(name, CLASSES, SIDE, seed=0).to(memory_format=torch.channels_last)
        state = TrainState(network, make_optimizer(network, recipe.optimizer))
        loop = train(state, Batches(data, np.arange(2 * size), size, 0, recipe.augment, device), recipe)
        seconds = [sum(next(loop).seconds.values()) for _ in range(steps)]
    print(json.dumps({"peak": peak[0], "seconds": seconds[-1]}))


def measured(name: str, size: int, steps: int) -> dict[str, float]:
    words = [sys.executable, __file__, "child", name, str(size), str(steps)]
    return json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    if sys.argv[1:2] == ["child"]:
        child(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
        return
    options = arguments(__doc__)
    size, steps = (2, 1) if options.quick else (BATCH, STEPS)
    found = {name: measured(name, size, steps) for name in TARGETS}
    shares = {name: one["peak"] / 1e9 / TARGETS[name] for name, one in found.items()}
    result = {
        "ratio": None,
        "low": min(shares.values()),
        "high": max(shares.values()),
        "ours": max(shares.values()),
        "peer": None,
        "unit": "of the memory that is allowed",
        "better": "lower",
        "target": 1.0,
        **{f"{name}_gb": one["peak"] / 1e9 for name, one in found.items()},
        **{f"{name}_step_seconds": one["seconds"] for name, one in found.items()},
    }
    tell(result, options.json)


if __name__ == "__main__":
    main()
