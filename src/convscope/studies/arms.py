"""Trains the arms of a plan: each chooses its rate from the same few with seeds set apart, then trains the rest.

Each training is committed as soon as it is done, under a key of all that decides it. So an interrupted study loses
one training at most, and claims that share an arm share its trainings.
"""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..classifying import metrics
from ..classifying.prediction import logits
from ..datasets.dataset import Dataset
from ..errors import DamagedFile
from ..machine import pick_precision
from ..models.registry import build
from ..randomness import seed_of
from ..recipes import Recipe
from ..schemas import Schema, check_schema
from ..storage import finite, sha256
from ..tensor_files import commit_tensors, read_tensors, tensor_hash
from ..training.batches import Batch, Batches, Feed
from ..training.diverging import Diverged
from ..training.loop import TrainState, make_optimizer, prepare, train
from ..version import __version__
from .plan import Arm, Fit, Plan, words_of
from .results import START, Trained

MEASURED_BY = 2  # raised whenever what is measured here changes its meaning
TRAIN_ASKED = 2_000  # training images that the clean loss and accuracy are measured on
KEPT = ("seed", "rate", "steps", "seconds", "parameters", "diverged")
FIGURES = ("train_loss", "train_accuracy", "val_loss")

# What every arm shares unless the plan says otherwise: no augmentation, no smoothing, so that a loss is the loss.
BASE = {"augment": "none", "label_smoothing": 0.0, "clip": 0.0, "weight_decay": 5e-4}


@dataclass(frozen=True)
class Stretch:
    """Batches for a number of updates, whatever the number of images: one long epoch over the batches' epochs."""

    batches: Batches
    steps: int

    def __len__(self) -> int:
        return self.steps

    @property
    def classes(self) -> int:
        """The number of classes."""
        return self.batches.classes

    @property
    def class_weights(self) -> torch.Tensor:
        """Float32 (K,)."""
        return self.batches.class_weights

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches from number ``start`` on; ``epoch`` is 0, for there is one."""
        each = len(self.batches)
        place = start
        while place < self.steps:
            for batch in islice(self.batches.epoch(place // each, place % each), self.steps - place):
                yield batch
                place += 1


@dataclass(frozen=True)
class Setting:
    """The surroundings of a plan's trainings: the plan's data, where results are kept, and the device."""

    plan: Plan
    dataset: Dataset
    folder: Path
    device: torch.device


@dataclass(frozen=True)
class Training:
    """One training to be made, or read where it was made already; a ``trial`` chooses a rate and is not measured."""

    place: Setting
    arm: Arm
    seed: int
    rate: float | None
    steps: int
    trial: bool = False

    @cached_property
    def data(self) -> Dataset:
        """The arm's images."""
        return self.place.dataset if self.arm.change is None else self.arm.change(self.place.dataset, self.seed)

    @cached_property
    def recipe(self) -> Recipe:
        """One epoch of ``steps`` updates."""
        plan = self.place.plan
        fixed: dict[str, Any] = {"seed": self.seed, "batch_size": plan.batch_size, "epochs": 1, "lr": self.rate}
        fixed["precision"] = pick_precision(plan.precision, self.place.device)
        if not self.data.mirror:
            fixed["flip"] = "none"  # what a level of augmentation adds must not change what an image means
        return Recipe().with_options({**BASE, **plan.recipe, **self.arm.recipe}).with_options(fixed)

    def network(self) -> torch.nn.Module:
        """The arm's network with fresh weights, a function of the seed."""
        classes, size = len(self.data.class_names), self.data.preprocess.size
        if isinstance(self.arm.model, str):
            return build(self.arm.model, classes, size, self.arm.options, seed=seed_of(self.seed))
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed_of(self.seed))
            return self.arm.model(classes, size, **self.arm.options)

    @cached_property
    def key(self) -> str:
        """The SHA-256 of all that decides the result: images, fresh weights, recipe, updates, seed, versions."""
        network = None if self.arm.fit else self.network()
        weights = [] if network is None else [tensor_hash(n, t) for n, t in network.state_dict().items()]
        plan = self.place.plan
        parts: dict[str, Any] = {
            "network": repr(network),
            "weights": sha256("".join(weights).encode()),
            "recipe": self.recipe.to_dict() if self.arm.fit is None else None,
            "fit": words_of(self.arm.fit),
            "data": self.data.fingerprint,
            "plan_data": self.place.dataset.fingerprint,
            "measure": None if self.trial else [words_of(plan.measure), plan.measure_start],
            "steps": self.steps,
            "seed": self.seed,
            "device": self.place.device.type,
            "versions": [MEASURED_BY, __version__, torch.__version__],
        }
        return sha256(json.dumps(parts, sort_keys=True).encode())

    @property
    def path(self) -> Path:
        """The file of its result, once there is one."""
        return self.place.folder / "trainings" / f"{self.key[:40]}.safetensors"

    def result(self) -> Trained:
        """Return the training's result, made now or before. Raises StorageError; a divergence is a result."""
        if self.path.exists():
            with suppress(DamagedFile):  # made again
                return _read(self.path, self.arm.name)
        found = self._train() if self.arm.fit is None else self._fit(self.arm.fit)
        _write(self.path, found)
        return found

    def _train(self) -> Trained:
        start = time.perf_counter()
        network = self.network().to(self.place.device)
        batch_size = self.place.plan.batch_size
        batches = Batches(
            self.data, self.data.subset("train"), batch_size, self.seed, self.recipe.augment, self.place.device
        )
        prepare(network, batches)
        measured = self._measure(network, START) if self.place.plan.measure_start else {}
        state = TrainState(network, make_optimizer(network, self.recipe.optimizer))
        feed: Feed = Stretch(batches, self.steps)
        losses: list[float] = []
        diverged = None
        try:
            losses.extend(step.loss for step in train(state, feed, self.recipe))
        except Diverged as error:
            diverged = str(error)
        found = Trained(self.arm.name, self.seed, self.rate, self.steps, 0.0, torch.tensor(losses), diverged=diverged)
        found = replace(found, parameters=sum(p.numel() for p in network.parameters()))
        if diverged is None:
            data, device = self.data, self.place.device
            found = self._asked(found, lambda index: logits(network, data.images, data.preprocess, index, device))
        if found.diverged is None:
            found = replace(found, measured=measured | self._measure(network, ""))
        return replace(found, seconds=time.perf_counter() - start)

    def _fit(self, fit: Fit) -> Trained:
        start = time.perf_counter()
        fitted = fit(self.data, self.seed)
        found = Trained(self.arm.name, self.seed, None, 0, 0.0, torch.zeros(0), fitted.parameters)
        return replace(self._asked(found, fitted.answer), seconds=time.perf_counter() - start)

    def _asked(self, found: Trained, answer: Callable[[np.ndarray], torch.Tensor]) -> Trained:
        """The figures of what answers; one that gives no numbers has diverged."""
        data, figures = self.data, {}
        for part, limit in (("train", TRAIN_ASKED), ("val", None), ("test", None)):
            index = data.subset(part, limit)
            scores = answer(index)
            if not torch.isfinite(scores).all():
                return replace(found, diverged="the outputs are no longer numbers")
            labels = torch.from_numpy(np.asarray(data.labels)[index])
            figures[part] = (scores.argmax(1) == labels, metrics.cross_entropy(scores, labels))
        return replace(
            found,
            train_loss=figures["train"][1],
            train_accuracy=float(figures["train"][0].double().mean()),
            val_loss=figures["val"][1],
            val=figures["val"][0],
            test=figures["test"][0],
        )

    def _measure(self, network: torch.nn.Module, prefix: str) -> dict[str, torch.Tensor]:
        measure = self.place.plan.measure
        if measure is None or self.trial:
            return {}
        return {prefix + name: value for name, value in measure(network, self.data, self.place.dataset).items()}


def trials(place: Setting, arm: Arm) -> list[Training]:
    """The trainings that choose an arm's rate; none where there is nothing to choose."""
    rates = place.plan.rates if arm.rates is None else arm.rates
    if arm.fit is not None or len(rates) == 1:
        return []
    steps = max(1, round(place.plan.trial_share * place.plan.steps))
    return [Training(place, arm, seed, rate, steps, trial=True) for seed in place.plan.trial_seeds for rate in rates]


def judged(place: Setting, arm: Arm, tried: tuple[Trained, ...]) -> list[Training]:
    """The trainings that are judged, one a seed, at the rate that validated best in the trials."""
    rates = place.plan.rates if arm.rates is None else arm.rates
    rate = None if arm.fit is not None else chosen(tried) if tried else rates[0]
    return [Training(place, arm, seed, rate, place.plan.steps) for seed in place.plan.seeds]


def chosen(tried: tuple[Trained, ...]) -> float:
    """The rate of the best validation accuracy, and of the least loss among equals, each the mean over the trials.

    A rate that a trial diverged at is not chosen; the least, if none is left.
    """
    by_rate: dict[float, list[Trained]] = {}
    for trained in tried:
        if trained.rate is not None:
            by_rate.setdefault(trained.rate, []).append(trained)
    good = {rate: several for rate, several in by_rate.items() if all(t.diverged is None for t in several)}

    def standing(rate: float) -> tuple[float, float]:
        several = good[rate]
        return statistics.fmean(t.val_accuracy for t in several), -statistics.fmean(t.val_loss for t in several)

    return max(good, key=standing) if good else min(by_rate)


def _write(path: Path, found: Trained) -> None:
    tensors = {"losses": found.losses, "val": found.val, "test": found.test}
    tensors |= {f"measured/{name}": value for name, value in found.measured.items()}
    meta: dict[str, Any] = {"arm": found.arm} | {name: getattr(found, name) for name in KEPT}
    commit_tensors(path, tensors, meta | finite({name: getattr(found, name) for name in FIGURES}))


class _Kept(Schema):
    """What a training's file says beside its tensors: KEPT and FIGURES."""

    seed: int
    rate: float | None
    steps: int
    seconds: float
    parameters: int
    diverged: str | None
    train_loss: float | None
    train_accuracy: float | None
    val_loss: float | None


def _read(path: Path, arm: str) -> Trained:
    """A training as it was written, by another claim perhaps, whose arm had another name."""
    tensors, said = read_tensors(path)
    meta = vars(check_schema(_Kept, said, path, "a training of a study"))
    if not {"losses", "val", "test"} <= set(tensors) or any(tensors[n].dim() != 1 for n in ("losses", "val", "test")):
        raise DamagedFile(f"{path} is not a training of a study: its tensors are not those of one.")
    figures: dict[str, Any] = {name: math.nan if meta[name] is None else meta[name] for name in FIGURES}
    measured = {name.removeprefix("measured/"): t for name, t in tensors.items() if name.startswith("measured/")}
    parts: dict[str, Any] = {name: tensors[name] for name in ("losses", "val", "test")}
    return Trained(arm=arm, **parts, measured=measured, **figures, **{name: meta[name] for name in KEPT})
