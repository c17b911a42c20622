"""The training loop: a generator that yields a Step after each update. Observers are the body of a ``for``.

There is one loop, for scratch, transfer and study alike. All that it needs to go on after a stop is in TrainState.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from ..kept_memory import keeping_memory
from ..models.fast_convolutions import faster
from ..models.fast_norms import Forwards
from ..models.recomputing import recomputing
from ..models.synced_norms import synced
from ..models.taps import computing_by
from ..randomness import seed_of
from ..recipes import Optimizer, Recipe
from .batches import Batch, Batches, Feed
from .late_losses import Late
from .muon import Muon
from .ranks import Team
from .schedules import SCHEDULES, Schedule
from .sharing import backward_by_parts, settle

RUNAWAY = 50.0  # a loss this many times that of guessing has run away
SGD_OF_MUON = 7.0  # the rate of what Muon leaves to SGD, over Muon's own: docs/log.md
PREPARE_IMAGES = 5000


@dataclass
class TrainState:
    """A training between two updates. ``step`` counts updates in this epoch; the sums are over its images so far.

    ``averaged`` is the network of averaged weights, where the recipe asks for it. ``frozen`` names modules that stay
    in evaluation mode, so that the running statistics of their batch norms do not move. ``team`` are the processes
    that train together, each with this same state between two updates. ``late`` are losses of updates that were made,
    not yet in the sums.
    """

    network: torch.nn.Module
    optimizer: torch.optim.Optimizer
    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    correct: int = 0
    seen: int = 0
    averaged: torch.nn.Module | None = None
    frozen: tuple[str, ...] = ()
    team: Team | None = None
    late: list[Late] = field(default_factory=list)

    def catch_up(self, but: int = 0) -> float | None:
        """Read the losses that are late, all ``but`` so many; returns the last one. Raises Diverged."""
        loss = None
        while len(self.late) > but:
            first = self.late.pop(0)
            loss, right = first.read()
            self.loss_sum += loss * len(first.index)
            self.correct += right
        return loss

    @property
    def best_network(self) -> torch.nn.Module:
        """The network to be validated and kept: the averaged weights where there are any."""
        return self.network if self.averaged is None else self.averaged


@dataclass(frozen=True)
class EpochSummary:
    """An epoch's training figures, over its varied images as they were when they were used."""

    loss: float
    top1: float


@dataclass(frozen=True)
class Step:
    """One update: ``epoch`` and ``step`` count from 1; ``seconds`` by what they were spent on.

    Where losses are read late, ``loss`` is that of the update before, but for the first and an epoch's last.
    """

    epoch: int
    step: int
    steps: int
    summary: EpochSummary | None  # with the last update of an epoch
    loss: float
    lr: float
    images: int
    seconds: dict[str, float] = field(repr=False)


def make_optimizer(
    network: torch.nn.Module, recipe: Optimizer, scales: Mapping[str, float] | None = None
) -> torch.optim.Optimizer:
    """The recipe's optimizer; weight decay on filters and matrices only, not on norms and biases.

    ``scales`` are factors of the rate for parameters by name; a network may define its own, ``rate_scales()``. With
    Muon, filters and matrices but the last are made orthogonal, and the rest moves by SGD at SGD_OF_MUON times the
    rate.
    """
    named = {name: p for name, p in network.named_parameters() if p.requires_grad}
    scales = getattr(network, "rate_scales", dict)() if scales is None else scales
    last = [name for name, p in named.items() if p.ndim > 1][-1:]
    groups: dict[tuple[Any, ...], dict[str, Any]] = {}
    for name, parameter in named.items():
        wide = parameter.ndim > 1
        orthogonal = recipe.name == "muon" and wide and name not in last
        scale = scales.get(name, 1.0) * (SGD_OF_MUON if recipe.name == "muon" and not orthogonal else 1.0)
        group = {"params": [], "weight_decay": recipe.weight_decay if wide else 0.0, "scale": scale}
        if recipe.name == "muon":
            group["orthogonal"] = orthogonal
        groups.setdefault((not wide, scale, orthogonal), group)["params"].append(parameter)
    ordered = [groups[key] for key in sorted(groups)]
    if recipe.name == "muon":
        return Muon(ordered, lr=recipe.lr, momentum=recipe.momentum)
    if recipe.name == "adamw":
        return torch.optim.AdamW(ordered, lr=recipe.lr, betas=(recipe.momentum, 0.999), fused=True)
    return torch.optim.SGD(ordered, lr=recipe.lr, momentum=recipe.momentum, nesterov=recipe.momentum > 0, fused=True)


def prepare(network: torch.nn.Module, batches: Batches) -> None:
    """Before step 0: a network that defines ``prepare(images_BCHW)`` is shown training images, normalised."""
    show: Callable[[torch.Tensor], None] | None = getattr(network, "prepare", None)
    if show is not None:
        show(batches.some(PREPARE_IMAGES))


Objective = Callable[[torch.Tensor, Batch], torch.Tensor]  # outputs and their batch: a number to make small
Weight = Callable[[Batch], torch.Tensor]  # what that number counts beside those of other parts of the batch


def train(  # noqa: PLR0913 - what is trained, on what, how, and by what it is judged
    state: TrainState,
    batches: Feed,
    recipe: Recipe,
    schedule: Schedule | None = None,
    keep_memory: bool = True,
    objective: Objective | None = None,
    late: bool = False,
) -> Iterator[Step]:
    """Go on from ``state`` to the recipe's last epoch, yielding after each update; stop by leaving the loop.

    The ``objective`` is the cross-entropy of labels that the recipe describes, unless another is given.

    ``recipe.loop.precision`` must be resolved; a ``schedule`` of one's own is for range tests. Raises Diverged. The
    caller's random generators are left alone. Memory is kept from step to step, unless it is to be saved. Losses that
    are read ``late`` make no device wait; whoever saves the state in between calls its ``catch_up`` first.
    """
    with keeping_memory(keep_memory and not recipe.loop.save_memory):
        weights_K = batches.class_weights if recipe.labels.balance else None
        usual = partial(_of_labels, recipe, weights_K), partial(weight_of, weights_K=weights_K)
        chosen = schedule or SCHEDULES[recipe.optimizer.schedule]
        yield from _steps(state, batches, recipe, chosen, usual if objective is None else (objective, _count), late)


def _of_labels(recipe: Recipe, weights_K: torch.Tensor | None, logits_BK: torch.Tensor, batch: Batch) -> torch.Tensor:
    return loss_of(logits_BK, batch, recipe.optimizer.label_smoothing, weights_K)


def _steps(  # noqa: PLR0913 - as train
    state: TrainState,
    batches: Feed,
    recipe: Recipe,
    schedule: Schedule,
    objective: tuple[Objective, Weight],
    late: bool,
) -> Iterator[Step]:
    steps, limit = len(batches), RUNAWAY * math.log(max(batches.classes, 2))
    told: float | None = None
    forward = torch.compile(state.network) if recipe.loop.compile else state.network
    fast = faster(state.network, recipe.convolution.by_layer, recipe.convolution.fused)
    if state.team is not None and recipe.parts.sync_batch_norm:
        fast |= synced(state.network, state.team.gathered)
    if recipe.loop.ema and state.averaged is None:
        state.averaged = deepcopy(state.network)
    while state.epoch < recipe.loop.epochs:
        start = time.perf_counter()
        for batch in batches.epoch(state.epoch, state.step):
            ready = time.perf_counter()
            lr = _set_rate(state, recipe, steps, schedule)
            values = _update(state, forward, fast, batch, recipe, objective, late)
            if state.averaged is not None:
                _average(state, recipe.loop.ema, state.epoch * steps + state.step)
            state.late.append(Late.sent(values, state.epoch + 1, state.step + 1, lr, batch.whole_index, limit))
            waits = late and told is not None and state.step + 1 < steps
            loss = state.catch_up(1 if waits else 0)
            told = told if loss is None else loss
            assert told is not None
            seconds = {"data": ready - start, "compute": time.perf_counter() - ready}
            yield Step(*_advance(state, steps), told, lr, len(batch.whole_index), seconds)
            start = time.perf_counter()


def _set_rate(state: TrainState, recipe: Recipe, steps: int, schedule: Schedule) -> float:
    progress = (state.epoch * steps + state.step) / (recipe.loop.epochs * steps)
    lr = recipe.optimizer.lr * schedule(progress, recipe.optimizer.warmup)
    for group in state.optimizer.param_groups:
        group["lr"] = lr * group["scale"]
    return lr


def _update(  # noqa: PLR0913 - all that an update depends on
    state: TrainState,
    forward: Callable[[torch.Tensor], torch.Tensor],
    fast: Forwards,
    batch: Batch,
    recipe: Recipe,
    objective: tuple[Objective, Weight],
    late: bool,
) -> torch.Tensor:
    """One forward, backward and optimizer step; returns the batch's mean loss and how many were right (2,).

    No step is made by a loss that is no number, unless losses are read late.
    """
    state.network.train()
    for name in state.frozen:
        state.network.get_submodule(name).eval()
    half, tally = recipe.loop.precision == "bfloat16", None

    def outputs_of(images: torch.Tensor) -> torch.Tensor:
        with (
            torch.autocast(images.device.type, torch.bfloat16, enabled=half),
            recomputing(state.network, recipe.loop.save_memory),
        ):
            return forward(images)

    # Dropout draws from torch's own generator: seeding it by the step makes the draw a function of where it is.
    with (
        torch.random.fork_rng(devices=[batch.images.device] if batch.images.is_cuda else []),
        computing_by(fast),
    ):
        torch.manual_seed(_draws(state, recipe))
        if state.team is None and recipe.parts.accumulate == 1:
            outputs = outputs_of(batch.images).float()
            loss = objective[0](outputs, batch)
            state.optimizer.zero_grad()
            loss.backward()
        else:
            state.optimizer.zero_grad()
            tally = backward_by_parts(batch, recipe.parts.accumulate, outputs_of, *objective)
            tally = settle(state.network, tally, state.team)
            loss = tally.loss / tally.weight
    if recipe.optimizer.clip:
        torch.nn.utils.clip_grad_norm_(state.network.parameters(), recipe.optimizer.clip)
    right = loss.new_zeros(())
    if tally is not None:
        right = tally.correct
    elif batch.labels.ndim == 1:  # of what has no class a share cannot be right
        right = (outputs.detach().argmax(1) == batch.main_labels).sum()
    values = torch.stack([loss.detach().float(), right.float()])
    if late or math.isfinite(values[0].item()):
        state.optimizer.step()
    state.seen += len(batch.whole_index)
    return values


def _draws(state: TrainState, recipe: Recipe) -> int:
    """The seed of what an update draws: processes draw each for its own share."""
    rank = 0 if state.team is None else state.team.rank
    return seed_of(recipe.loop.seed, state.epoch, state.step, *([rank] if rank else []))


def weight_of(batch: Batch, weights_K: torch.Tensor | None) -> torch.Tensor:
    """By what ``loss_of`` divides the sum over a batch: its images, or the weights of their classes."""
    if weights_K is None:
        return _count(batch)
    if batch.others is None or batch.share is None:
        return weights_K[batch.labels].sum()
    return (batch.share * weights_K[batch.labels] + (1 - batch.share) * weights_K[batch.others]).sum()


def _count(batch: Batch) -> torch.Tensor:
    return torch.tensor(float(len(batch.images)), device=batch.images.device)


def loss_of(
    logits_BK: torch.Tensor, batch: Batch, label_smoothing: float, weights_K: torch.Tensor | None = None
) -> torch.Tensor:
    """Mean cross-entropy of a batch, in nats; of a mixed image the sum of that of both labels by their shares.

    With weights of the classes it is a weighted mean, as torch's is.
    """
    if batch.others is None or batch.share is None:
        return F.cross_entropy(logits_BK, batch.labels, weights_K, label_smoothing=label_smoothing)
    total, weight = logits_BK.new_zeros(()), logits_BK.new_zeros(())
    for labels_B, share_B in ((batch.labels, batch.share), (batch.others, 1 - batch.share)):
        each = F.cross_entropy(logits_BK, labels_B, weights_K, reduction="none", label_smoothing=label_smoothing)
        total = total + (share_B * each).sum()
        weight = weight + (share_B if weights_K is None else share_B * weights_K[labels_B]).sum()
    return total / weight


@torch.no_grad()
def _average(state: TrainState, decay: float, updates: int) -> None:
    """Move the averaged weights and running statistics; the decay grows to its value over the first updates."""
    assert state.averaged is not None
    decay = min(decay, (1 + updates) / (10 + updates))
    for average, now in zip(state.averaged.state_dict().values(), state.network.state_dict().values(), strict=True):
        if average.is_floating_point():
            average.lerp_(now, 1 - decay)
        else:
            average.copy_(now)


def _advance(state: TrainState, steps: int) -> tuple[int, int, int, EpochSummary | None]:
    """Count the update; with the last one of an epoch the state is already that of the next epoch's start."""
    epoch, step, summary = state.epoch + 1, state.step + 1, None
    state.step += 1
    if state.step == steps:
        summary = EpochSummary(state.loss_sum / state.seen, state.correct / state.seen)
        state.epoch, state.step = epoch, 0
        state.loss_sum, state.correct, state.seen = 0.0, 0, 0
    return epoch, step, steps, summary


def flops_per_image(network: torch.nn.Module, image_size: int) -> float:
    """Floating-point operations of one training step, forward and backward, per image; on a copy, in float32."""
    copy = deepcopy(network).cpu().train()
    images = torch.zeros(2, 3, image_size, image_size)
    with FlopCounterMode(display=False) as counter:
        copy(images).sum().backward()
    return counter.get_total_flops() / 2
