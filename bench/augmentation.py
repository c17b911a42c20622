"""What augmentation costs a training step, accounted inside one run: seconds in it over seconds of all the rest.

Claim: standard augmentation costs at most 3 % of a step.
"""

from __future__ import annotations

import time

import numpy as np
import torch
from paired import arguments, tell

from convscope.datasets.dataset import assemble
from convscope.datasets.shapes import load_shapes
from convscope.images import augmentation as augment_module
from convscope.machine import pick_precision
from convscope.models.registry import build
from convscope.recipes import AUGMENTS, Recipe
from convscope.training import batches as batches_module
from convscope.training.loop import TrainState, make_optimizer, train

STEPS, BATCH, TARGET = 240, 128, 0.03
CPU = torch.device("cpu")


def main() -> None:
    options = arguments(__doc__)
    steps = 20 if options.quick else STEPS
    data = assemble(load_shapes(6_000))
    recipe = Recipe().with_options(
        {"precision": pick_precision("auto", CPU), "epochs": 1_000, "batch_size": BATCH, "augment": "standard"}
    )
    spent: list[float] = []

    def timed(*args):
        start = time.perf_counter()
        try:
            return augment_module.augment(*args)
        finally:
            spent.append(time.perf_counter() - start)

    setattr(batches_module, "augment", timed)  # noqa: B010 - to the type checker this is an assignment of another type
    network = build("alexnet", 6, 32, seed=0).to(memory_format=torch.channels_last)
    state = TrainState(network, make_optimizer(network, recipe.optimizer))
    index = np.arange(len(data))
    loop = train(state, batches_module.Batches(data, index, BATCH, 0, AUGMENTS["standard"], CPU), recipe)
    for _ in range(5):
        next(loop)
    spent.clear()
    whole = []
    for _ in range(steps):
        start = time.perf_counter()
        next(loop)
        whole.append(time.perf_counter() - start)
    inside, total = np.array(spent), np.array(whole)
    shares = inside / (total - inside)
    draws = np.random.default_rng(0).integers(len(shares), size=(2_000, len(shares)))
    bounds = np.percentile([inside[d].sum() / (total[d] - inside[d]).sum() for d in draws], [2.5, 97.5])
    result = {
        "ratio": float(inside.sum() / (total - inside).sum()),
        "low": float(bounds[0]),
        "high": float(bounds[1]),
        "ours": float(1e6 * inside.sum() / steps / BATCH),
        "peer": None,
        "unit": "microseconds an image; ratio: seconds in augmentation / seconds of the rest",
        "better": "lower",
        "target": TARGET,
        "precision": recipe.loop.precision,
        "steps": steps,
    }
    tell(result, options.json)


if __name__ == "__main__":
    main()
