"""Estimates made before a training begins, on copies: a learning rate, the speed, the memory of a step.

Networks, their running statistics and the caller's random generators are left exactly as they were.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
import time
from copy import deepcopy
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch

from ..classifying.prediction import BATCH, logits
from ..errors import MemoryExhausted, UsageError
from ..machine import memory_of_machine
from ..models.fitting_weights import unbuilt
from ..models.recomputing import activation_bytes
from ..models.registry import MODELS
from ..models.taps import observe
from ..randomness import order
from ..recipes import OPTIMIZERS, Recipe
from .batches import Batches
from .diverging import Diverged
from .loop import TrainState, make_optimizer, train
from .schedules import exponential

RANGE_UPDATES = 100
RANGE_TOP = 100.0  # times the optimizer's usual rate: more than most networks bear
RANGE_STOP = 2.0  # a smoothed loss this many times the best is over the edge
RANGE_SMOOTHING = 0.9
BACK_OFF = {"muon": 3.0}  # the rate is taken so far below that of the lowest loss; 1 elsewhere: docs/log.md
SPEED_UPDATES = 6  # timed, after two that are not
MEMORY_IMAGES = 8  # in the pass that is measured
FEW_PARAMETERS = 50_000_000  # of a network that fits everywhere


@dataclass(frozen=True)
class RateRange:
    """A learning-rate range test: ``losses`` (U,), smoothed, at growing ``rates`` (U,), and the ``chosen`` rate."""

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    chosen: float


def rate_range(network: torch.nn.Module, batches: Batches, recipe: Recipe) -> RateRange:
    """Train a copy of ``network`` for up to 100 updates at rates that grow by equal factors, until the loss explodes.

    After Smith 2017 (arXiv:1506.01186). The rate chosen is that of the lowest smoothed loss, with Muon a third of it.
    UsageError where the loss never fell.
    """
    top = OPTIMIZERS[recipe.optimizer.name].lr * RANGE_TOP
    batches, epochs = _updates(batches, RANGE_UPDATES)
    wanted = recipe.with_options({"lr": top, "epochs": epochs, "ema": 0.0, "compile": False})
    state = _copy(network, wanted)
    rates, losses, mean = [], [], 0.0
    try:
        for count, step in enumerate(islice(train(state, batches, wanted, exponential), RANGE_UPDATES), start=1):
            mean = RANGE_SMOOTHING * mean + (1 - RANGE_SMOOTHING) * step.loss
            rates.append(step.lr)
            losses.append(mean / (1 - RANGE_SMOOTHING**count))
            if losses[-1] > RANGE_STOP * min(losses):
                break
    except Diverged:
        pass
    best = int(np.argmin(losses)) if losses else 0
    if best == 0:
        raise UsageError(f"no learning rate up to {top:g} lowers the loss; give --lr yourself, or look at the data.")
    chosen = float(f"{rates[best] / BACK_OFF.get(recipe.optimizer.name, 1.0):.2g}")
    return RateRange(tuple(rates), tuple(losses), chosen)


def epoch_seconds(network: torch.nn.Module, batches: Batches, recipe: Recipe, validation: int) -> float:
    """Seconds that an epoch takes here and now: some updates of a copy are timed, and one batch of validation."""
    short, epochs = _updates(batches, SPEED_UPDATES + 2)
    wanted = recipe.with_options({"epochs": epochs, "compile": False})
    state = _copy(network, wanted)
    steps = list(islice(train(state, short, wanted), SPEED_UPDATES + 2))[2:]
    update = statistics.median(sum(step.seconds.values()) for step in steps) if steps else math.nan
    index = batches.index[:BATCH]
    start = time.perf_counter()
    logits(state.network, batches.dataset.images, batches.dataset.preprocess, index, batches.device)
    an_image = (time.perf_counter() - start) / len(index)
    return update * len(batches) + an_image * validation


def step_bytes(network: torch.nn.Module, recipe: Recipe, image_size: int) -> tuple[int, int, int]:
    """Bytes that a training step needs: for the weights; for each image's activations; the same, when recomputed.

    For the weights: themselves, their gradients and what the optimizer (and an average) keeps of each.
    """
    copy = deepcopy(network).cpu().train()
    images = torch.zeros(MEMORY_IMAGES, 3, image_size, image_size)
    half = recipe.loop.precision == "bfloat16"
    an_image = [activation_bytes(copy, images, save, half) // MEMORY_IMAGES for save in (False, True)]
    return weight_bytes(network, recipe), an_image[0], an_image[1]


def fit_memory(network: torch.nn.Module, recipe: Recipe, image_size: int, budget: float) -> Recipe:
    """The recipe, with ``save_memory`` where a step does not fit in ``budget`` (10^9 bytes) without.

    Raises MemoryExhausted, with the batch size that would fit, where it does not fit even then.
    """
    assert recipe.loop.batch_size is not None
    fixed, plain, saved = step_bytes(network, recipe, image_size)
    batch = recipe.loop.batch_size
    if not recipe.loop.save_memory and fixed + batch * plain <= budget * 1e9:
        return recipe
    if fixed + batch * saved <= budget * 1e9:
        return recipe.with_options({"save_memory": True})
    fitting = int((budget * 1e9 - fixed) // saved)
    way = f"a --batch-size of {fitting} fits" if fitting >= 2 else f"{fixed / 1e9:.2g} GB are for the weights alone"
    raise MemoryExhausted(
        f"a step of {recipe.model.name} with {batch} images needs {(fixed + batch * saved) / 1e9:.2g} GB even when "
        f"activations are computed again, and --memory allows {budget:g} GB: {way}."
    )


def check_memory(recipe: Recipe, classes: int, image_size: int, images: int) -> None:
    """Refuse what this machine cannot hold, before it is built: MemoryExhausted, with what would fit.

    Counted are weights, with what the optimizer keeps of them, and unless they are computed again the outputs of layers
    with weights: the least that a step needs. Networks of ours with few parameters are let through unseen, and so is
    all where the machine does not say its memory. ``images`` are those that there are to train on. UsageError for one
    of absurdly many layers.
    """
    there = memory_of_machine()
    if recipe.model.name not in MODELS or there is None:
        return
    network = unbuilt(recipe.model.name, classes, image_size, recipe.model.options())
    if sum(p.numel() for p in network.parameters()) < FEW_PARAMETERS:
        return
    batch = math.ceil(min(recipe.loop.batch_size or 1, images) / recipe.parts.accumulate)
    fixed = weight_bytes(network, recipe)
    an_image = 0 if recipe.loop.save_memory else _output_bytes(network, image_size)
    an_image //= 2 if recipe.loop.precision == "bfloat16" else 1
    if fixed + batch * an_image <= there:
        return
    fitting = int((there - fixed) // an_image) if an_image else 0
    way = f"--batch-size {fitting}, --accumulate or --save-memory" if fitting >= 2 else "a smaller --depth or --width"
    raise MemoryExhausted(
        f"a step of {recipe.model.name} with {batch} images needs at least {(fixed + batch * an_image) / 1e9:.3g} GB, "
        f"and this machine has {there / 1e9:.3g}: try {way}."
    )


def weight_bytes(network: torch.nn.Module, recipe: Recipe) -> int:
    """Bytes of the weights, their gradients and what the optimizer (and an average) keeps of each."""
    kept = {"sgd": 1 if recipe.optimizer.momentum else 0, "adamw": 2, "muon": 1}[recipe.optimizer.name]
    return sum(p.numel() * p.element_size() for p in network.parameters()) * (2 + kept + (recipe.loop.ema > 0))


def _output_bytes(network: torch.nn.Module, image_size: int) -> int:
    """Bytes that the modules with weights of their own output for an image, of a network on the meta device."""
    found: list[int] = []

    def note(_name: str, module: torch.nn.Module, _inputs: tuple[Any, ...], output: Any) -> None:
        if module._parameters:
            found.append(output.nbytes)

    with observe(network, note, leaves_only=True):
        network(torch.zeros(2, 3, image_size, image_size, device="meta"))
    return sum(found) // 2


def _copy(network: torch.nn.Module, recipe: Recipe) -> TrainState:
    copy = deepcopy(network)
    return TrainState(copy, make_optimizer(copy, recipe.optimizer))


def _updates(batches: Batches, count: int) -> tuple[Batches, int]:
    """Batches of the same size with about ``count`` updates, and in how many epochs: fewer images, or several."""
    if len(batches) <= count:
        return batches, math.ceil(count / len(batches))
    shuffled = batches.index[order(batches.seed, -1, batches.dataset.keys[batches.index])]
    return dataclasses.replace(batches, index=shuffled[: count * batches.batch_size]), 1
