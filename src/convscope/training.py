"""The training loop: a generator that yields a Step after each update. Observers are the body of a ``for``.

There is one loop, for scratch, transfer and study alike. All that it needs to go on after a stop is in TrainState.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from .batches import Batch, Batches
from .errors import DivergedError
from .randomness import seed_of
from .recipes import Optimizer, Recipe
from .schedules import SCHEDULES

RUNAWAY = 50.0  # a loss this many times that of guessing has run away


@dataclass
class TrainState:
    """A training between two updates. ``step`` counts updates in this epoch; the sums are over its pictures so far."""

    network: torch.nn.Module
    optimizer: torch.optim.Optimizer
    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    correct: int = 0
    seen: int = 0


@dataclass(frozen=True)
class EpochSummary:
    """An epoch's training figures, over its varied pictures as they were when they were used."""

    loss: float
    top1: float


@dataclass(frozen=True)
class Step:
    """One update: ``epoch`` and ``step`` count from 1; ``seconds`` by what they were spent on."""

    epoch: int
    step: int
    steps: int
    summary: EpochSummary | None  # with the last update of an epoch
    loss: float
    lr: float
    pictures: int
    seconds: dict[str, float] = field(repr=False)


class Diverged(DivergedError):
    """The loss is not a number, or ran away: at which step, rate, and on which pictures (indices of the dataset)."""

    def __init__(self, epoch: int, step: int, lr: float, loss: float, index: np.ndarray) -> None:
        self.epoch, self.step, self.lr, self.loss, self.index = epoch, step, lr, loss, index
        super().__init__(f"the loss became {loss:.4g} at epoch {epoch}, step {step}, learning rate {lr:.4g}")


def make_optimizer(network: torch.nn.Module, recipe: Optimizer) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum or AdamW; weight decay on filters and matrices only, not on norms and biases."""
    parameters = [p for p in network.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if recipe.name == "adamw":
        return torch.optim.AdamW(groups, lr=recipe.lr, betas=(recipe.momentum, 0.999), fused=True)
    return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=recipe.momentum > 0, fused=True)


def train(state: TrainState, batches: Batches, recipe: Recipe) -> Iterator[Step]:
    """Go on from ``state`` to the recipe's last epoch, yielding after each update; stop by leaving the loop.

    ``recipe.loop.precision`` must be resolved. Raises Diverged. The caller's random generators are left alone.
    """
    steps = len(batches)
    forward = torch.compile(state.network) if recipe.loop.compile else state.network
    while state.epoch < recipe.loop.epochs:
        start = time.perf_counter()
        for batch in batches.epoch(state.epoch, state.step):
            ready = time.perf_counter()
            lr = _set_rate(state, recipe, steps)
            loss = _update(state, forward, batch, recipe)
            if not loss <= RUNAWAY * math.log(max(len(batches.dataset.class_names), 2)):
                raise Diverged(state.epoch + 1, state.step + 1, lr, loss, batch.index)
            seconds = {"data": ready - start, "compute": time.perf_counter() - ready}
            yield Step(*_advance(state, steps), loss, lr, len(batch.index), seconds)
            start = time.perf_counter()


def _set_rate(state: TrainState, recipe: Recipe, steps: int) -> float:
    progress = (state.epoch * steps + state.step) / (recipe.loop.epochs * steps)
    lr = recipe.optimizer.lr * SCHEDULES[recipe.optimizer.schedule](progress, recipe.optimizer.warmup)
    for group in state.optimizer.param_groups:
        group["lr"] = lr
    return lr


def _update(state: TrainState, forward: Callable[[torch.Tensor], torch.Tensor], batch: Batch, recipe: Recipe) -> float:
    """One forward, backward and optimizer step; returns the batch's mean loss."""
    state.network.train()
    half = recipe.loop.precision == "bfloat16"
    # Dropout draws from torch's own generator: seeding it by the step makes the draw a function of where it is.
    with torch.random.fork_rng(devices=[batch.images.device] if batch.images.is_cuda else []):
        torch.manual_seed(seed_of(recipe.loop.seed, state.epoch, state.step))
        with torch.autocast(batch.images.device.type, torch.bfloat16, enabled=half):
            logits_BK = forward(batch.images)
        logits_BK = logits_BK.float()
        loss = F.cross_entropy(logits_BK, batch.labels, label_smoothing=recipe.optimizer.label_smoothing)
        state.optimizer.zero_grad()
        loss.backward()
    if recipe.optimizer.clip:
        torch.nn.utils.clip_grad_norm_(state.network.parameters(), recipe.optimizer.clip)
    value = loss.item()
    if math.isfinite(value):
        state.optimizer.step()
        state.loss_sum += value * len(batch.index)
        state.correct += int((logits_BK.detach().argmax(1) == batch.labels).sum())
        state.seen += len(batch.index)
    return value


def _advance(state: TrainState, steps: int) -> tuple[int, int, int, EpochSummary | None]:
    """Count the update; with the last one of an epoch the state is already that of the next epoch's start."""
    epoch, step, summary = state.epoch + 1, state.step + 1, None
    state.step += 1
    if state.step == steps:
        summary = EpochSummary(state.loss_sum / state.seen, state.correct / state.seen)
        state.epoch, state.step = epoch, 0
        state.loss_sum, state.correct, state.seen = 0.0, 0, 0
    return epoch, step, steps, summary


def flops_per_picture(network: torch.nn.Module, image_size: int) -> float:
    """Floating-point operations of one training step, forward and backward, per picture; on a copy, in float32."""
    copy = deepcopy(network).cpu().train()
    pictures = torch.zeros(2, 3, image_size, image_size)
    with FlopCounterMode(display=False) as counter:
        copy(pictures).sum().backward()
    return counter.get_total_flops() / 2
