"""Recorded features with their targets: what a head of any task is trained and measured on."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..datasets.dataset import Dataset
from ..datasets.mask_pack import MaskPack
from ..datasets.masks import Masks
from ..feature_store.store import Features
from ..images.preprocess import Preprocess
from ..models.heads import Fcnn
from ..progress import Progress
from ..randomness import distinct, order, uniforms
from ..recipes import Recipe
from ..tasks.paired import paired_scores
from ..tasks.task import HeadKind, Score, Shape, Task
from ..training.batches import Batch
from ..training.loop import TrainState, make_optimizer, train
from .head import Standard

BLOCK = 16  # images that are scored at a time


@dataclass(frozen=True)
class Recorded:
    """The features of a dataset's images, mirrored copies behind them if there are some, and their targets."""

    task: Task
    dataset: Dataset
    features: Features
    shapes: list[Shape]
    preprocess: Preprocess
    mirrored: bool = False
    pack: MaskPack | None = None

    def inputs(self, rows: np.ndarray) -> Tensor:
        """Float32 (B, D)."""
        return torch.from_numpy(self.features[rows].astype(np.float32, copy=False))

    def targets(self, rows: np.ndarray) -> Tensor:
        """As the task has them; those of a mirrored copy are mirrored."""
        assert self.dataset.targets is not None
        index = rows % len(self.dataset)
        if self.pack is None:
            found = self.task.tensor(self.dataset.targets, index, self.preprocess)
        else:
            found = torch.from_numpy(self.pack[index]).long()
        copies = torch.from_numpy(rows >= len(self.dataset))
        if bool(copies.any()):
            found[copies] = self.task.mirrored(found[copies], self.preprocess.size)
        return found

    def score(self, module: nn.Module, index: np.ndarray, settings: dict[str, Any] | None) -> tuple[Score, dict]:
        """What a head is worth on images, and its settings, found on these where none are given."""
        found = []
        with torch.inference_mode():
            for start in range(0, len(index), BLOCK):
                rows = index[start : start + BLOCK]
                found.append(self.task.tally(module(self.inputs(rows)), self.targets(rows)))
        tallies = np.concatenate(found)
        settings = {**self.task.settings(tallies), **(settings or {})}
        groups = None if self.dataset.groups is None else self.dataset.groups[index]
        assert self.dataset.targets is not None
        return self.task.score(tallies, self.dataset.targets.names, settings, groups), settings


def record_targets(
    task: Task, dataset: Dataset, features: Features, shapes: list[Shape], progress: Progress | None
) -> Recorded:
    """Features with their targets; masks are fitted into the cache once."""
    pack = MaskPack(dataset.targets, dataset.preprocess, progress) if isinstance(dataset.targets, Masks) else None
    mirrored = len(features) > len(dataset)
    return Recorded(task, dataset, features, shapes, dataset.preprocess, mirrored, pack)


@dataclass(frozen=True)
class TaskRung:
    """One head, measured on validation images: its score, and what turns its outputs into answers."""

    name: str
    score: Score
    seconds: float
    parameters: int
    module: nn.Module
    options: dict[str, Any]
    settings: dict[str, Any] = field(default_factory=dict)
    chosen: str = ""
    measured_by: str = "validation"

    def line(self) -> str:
        """The rung in one line."""
        low, value, high = self.score.figure.low, self.score.figure.value, self.score.figure.high
        return (
            f"{self.name:<10}  {value:7.3f} [{low:.3f}, {high:.3f}] of {self.score.figure.n:,} in {self.measured_by}  "
            f"{self.seconds:6.1f} s  {self.parameters:>11,} parameters  {self.chosen}"
        )

    def to_json(self) -> dict[str, Any]:
        """The stable JSON form."""
        figure = self.score.figure
        return {
            "name": self.name,
            "value": figure.value,
            "low": figure.low,
            "high": figure.high,
            "n": figure.n,
            "measured_by": self.measured_by,
            "seconds": self.seconds,
            "parameters": self.parameters,
            "chosen": self.chosen,
        }


def better_head(task: Task, rungs: Sequence[TaskRung]) -> TaskRung:
    """The head with the best figure; of equal ones the first, which is the simpler."""
    best = rungs[0]
    for rung in rungs[1:]:
        best = rung if task.is_better(rung.score.figure.value, best.score.figure.value) else best
    return best


def kept_rung(head: TaskRung, costly: Sequence[TaskRung]) -> TaskRung:
    """The rung to keep: the head, unless a fine-tuning is better beyond chance, image by image or group by group."""
    best = head
    for rung in costly:
        found = paired_scores(rung.score, best.score)
        best = rung if found.sure and found.difference > 0 else best
    return best


def climb(kind: HeadKind, recorded: Recorded, seed: int, progress: Progress | None = None) -> TaskRung:
    """Train a head on the training images and measure it on those for validation."""
    start = time.perf_counter()
    rows = recorded.dataset.parts["train"]
    if kind.solve is not None:
        module, score, settings, chosen = _solved(kind, recorded, rows)
    else:
        module = trained_head(kind, recorded, rows, seed, progress)
        score, settings = recorded.score(module, recorded.dataset.parts["val"], _mean(recorded, rows))
        chosen = f"{kind.epochs} epochs"
    count = sum(p.numel() for p in module.parameters())
    return TaskRung(kind.name, score, time.perf_counter() - start, count, module, dict(kind.options), settings, chosen)


def _mean(recorded: Recorded, rows: np.ndarray) -> dict[str, Any]:
    """The mean of numbers to train on, with which an answer is compared."""
    return {"mean": float(recorded.targets(rows).double().mean())} if recorded.task.scaled else {}


def _solved(kind: HeadKind, recorded: Recorded, rows: np.ndarray) -> tuple[nn.Module, Score, dict[str, Any], str]:
    """The best of the strengths on the validation images."""
    assert kind.solve is not None
    inputs, targets, best = recorded.inputs(rows), recorded.targets(rows), None
    for strength in kind.strengths:
        module = kind.solve(inputs, targets, strength).eval()
        score, settings = recorded.score(module, recorded.dataset.parts["val"], _mean(recorded, rows))
        if best is None or recorded.task.is_better(score.figure.value, best[1].figure.value):
            best = (module, score, settings, f"C = {strength:.2g}")
    assert best is not None
    return best


# ------------------------------------------------------------------------------------------------- the training loop


@dataclass(frozen=True)
class TargetBatches:
    """Batches of recorded features with their targets, in the order that a training of images would have.

    Where there are mirrored copies, an image or its copy is taken, as seed, epoch and image say.
    """

    recorded: Recorded
    rows: np.ndarray
    batch_size: int
    seed: int
    standard: Standard | None = None
    scale: tuple[float, float] = (0.0, 1.0)

    def __len__(self) -> int:
        return max(1, len(self.rows) // self.batch_size)

    @property
    def classes(self) -> int:
        """Number of classes."""
        assert self.recorded.dataset.targets is not None
        return len(self.recorded.dataset.targets.names)

    @cached_property
    def class_weights(self) -> Tensor:
        """Of every class the same."""
        return torch.ones(self.classes)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of one epoch from number ``start`` on."""
        keys = distinct(self.recorded.dataset.keys[self.rows])
        shuffled = order(self.seed, epoch, keys)
        copies = uniforms(self.seed, epoch, keys, 1)[:, 0] < 0.5
        count = len(self.recorded.dataset)
        for chosen in np.array_split(shuffled, len(self))[start:]:
            rows = self.rows[chosen]
            if self.recorded.mirrored:
                rows = rows + count * copies[chosen]
            inputs, targets = self.recorded.inputs(rows), self.recorded.targets(rows)
            if self.standard is not None:
                inputs = self.standard(inputs)
            mean, deviation = self.scale
            yield Batch(inputs, (targets - mean) / deviation if self.recorded.task.scaled else targets, rows)


def trained_head(
    kind: HeadKind, recorded: Recorded, rows: np.ndarray, seed: int, progress: Progress | None
) -> nn.Module:
    """A head trained by the one loop: AdamW, one cycle. Of vectors, standardising is folded into its first layer."""
    options = {"optimizer": "adamw", "lr": kind.rate, "weight_decay": 0.01, "batch_size": kind.batch, "warmup": 0.1}
    recipe = Recipe().with_options({**options, "epochs": kind.epochs, "seed": seed, "precision": "float32"})
    assert recorded.dataset.targets is not None
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        network = kind.make(recorded.shapes, len(recorded.dataset.targets.names))
    standard = None if recorded.task.strides else Standard.of(recorded.inputs(rows))
    scale = target_scale(recorded, rows)
    batches = TargetBatches(recorded, rows, kind.batch, seed, standard, scale)
    state = TrainState(network, make_optimizer(network, recipe.optimizer))
    loss = recorded.task.loss
    for step in train(state, batches, recipe, objective=lambda outputs, batch: loss(outputs, batch.labels)):
        if progress:
            done = (step.epoch - 1) * step.steps + step.step
            progress(f"{kind.name} head", done, recipe.loop.epochs * step.steps)
    if standard is not None:
        _unscale(network, standard, scale)
    return network.eval()


def target_scale(recorded: Recorded, rows: np.ndarray) -> tuple[float, float]:
    """Mean and deviation of the targets to train on; 0 and 1 where they are no numbers."""
    if not recorded.task.scaled:
        return 0.0, 1.0
    values = recorded.targets(rows).double()
    return float(values.mean()), max(float(values.std(unbiased=False)), 1e-12)


def _unscale(network: nn.Module, standard: Standard, scale: tuple[float, float]) -> None:
    """Fold the scales of features and targets into the first and the last layer."""
    layers = [m for m in network.modules() if isinstance(m, nn.Linear)]
    weight, bias = standard.undone(layers[0].weight.detach(), layers[0].bias.detach())
    layers[0].load_state_dict({"weight": weight, "bias": bias})
    mean, deviation = scale
    last = layers[-1]
    last.load_state_dict({"weight": last.weight.detach() * deviation, "bias": last.bias.detach() * deviation + mean})


def head_of(module: nn.Module) -> nn.Module:
    """The head itself, of one that takes maps in one row too."""
    inner = getattr(module, "head", None)
    return inner if isinstance(inner, nn.Module) and not isinstance(module, Fcnn) else module
