"""The results of trained arms: one record a training, and all of a plan's by arm and seed, paired for a judge."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from .judging import Estimate, over_seeds, over_seeds_and_images
from .plan import Plan

START = "start "  # before the name of what was measured before the first update
CURVE_POINTS = 60
LISTED = 200  # numbers of a measured vector that are shown one by one
RUNNING = 20  # updates that a training loss is averaged over


@dataclass(frozen=True)
class Trained:
    """One training of an arm. ``losses`` float32 (steps,); ``val`` and ``test`` bool, right or not by image.

    Of a training that ``diverged`` (in words) there are the losses before that, nothing else. ``train_loss`` (nats) and
    ``train_accuracy`` are of training images as they are, after the last update; ``measured`` what the plan asks for.
    """

    arm: str
    seed: int
    rate: float | None
    steps: int
    seconds: float
    losses: torch.Tensor
    parameters: int = 0
    train_loss: float = float("nan")
    train_accuracy: float = float("nan")
    val_loss: float = float("nan")
    val: torch.Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.bool))
    test: torch.Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.bool))
    measured: Mapping[str, torch.Tensor] = field(default_factory=dict)
    diverged: str | None = None

    @property
    def val_accuracy(self) -> float:
        """The share of validation images that are right; 0 where it diverged."""
        return float(self.val.double().mean()) if len(self.val) else 0.0

    @property
    def test_accuracy(self) -> float:
        """The share of test images that are right; 0 where it diverged."""
        return float(self.test.double().mean()) if len(self.test) else 0.0

    def to_json(self) -> dict[str, Any]:
        """The figures of the training; those that a divergence left open are null."""
        gone = self.diverged is not None
        return {
            "seed": self.seed,
            "rate": self.rate,
            "diverged": self.diverged,
            "train_loss": None if gone else self.train_loss,
            "train_accuracy": None if gone else self.train_accuracy,
            "val_loss": None if gone else self.val_loss,
            "val_accuracy": None if gone else self.val_accuracy,
            "test_accuracy": None if gone else self.test_accuracy,
            "seconds": self.seconds,
        }


@dataclass(frozen=True)
class Results:
    """All judged trainings of a plan by arm, and the trials that chose each arm's rate. ``classes`` of the data K."""

    plan: Plan
    trained: Mapping[str, tuple[Trained, ...]]
    trials: Mapping[str, tuple[Trained, ...]]
    classes: int

    def whole(self, *arms: str) -> list[tuple[Trained, ...]]:
        """For each seed that none of these arms diverged or is missing with: their trainings."""
        by_seed = [{t.seed: t for t in self.trained.get(arm, ()) if t.diverged is None} for arm in arms]
        return [tuple(d[s] for d in by_seed) for s in self.plan.seeds if all(s in d for d in by_seed)]

    def lost(self) -> tuple[str, ...]:
        """Sentences about seeds that diverged or were not trained."""
        notes = []
        for arm in self.plan.arms:
            there = self.trained.get(arm.name, ())
            gone, missing = sum(t.diverged is not None for t in there), len(self.plan.seeds) - len(there)
            if gone:
                notes.append(
                    f"{arm.name}: {gone} of {len(there)} trainings diverged; no mean holds a figure of theirs."
                )
            if missing:
                notes.append(f"{arm.name}: {missing} of {len(self.plan.seeds)} trainings were not made: interrupted.")
        return tuple(notes)

    def edges(self) -> tuple[str, ...]:
        """A sentence on the arms that chose the lowest or highest rate: another beyond it may suit them better."""
        at_edge = []
        for arm in self.plan.arms:
            rates = [t.rate for t in self.trials.get(arm.name, ()) if t.rate is not None]
            chosen = {t.rate for t in self.trained.get(arm.name, ())}
            if rates and chosen & {min(rates), max(rates)}:
                at_edge.append(f"{arm.name} ({'lowest' if chosen & {min(rates)} else 'highest'})")
        return (f"At the edge of the rates to choose from: {', '.join(at_edge)}.",) if at_edge else ()

    def scalar(self, arm: str, name: str) -> dict[int, float]:
        """A figure by seed: a field of Trained, or a measured scalar."""
        return {t.seed: _scalar(t, name) for (t,) in self.whole(arm)}

    def difference(self, a: str, b: str, name: str) -> Estimate:
        """The mean over seeds of a figure of ``a`` minus that of ``b``."""
        return seeds_only([_scalar(x, name) - _scalar(y, name) for x, y in self.whole(a, b)])

    def accuracy(self, weights: Mapping[str, float], name: str = "test") -> Estimate:
        """A weighted sum of the arms' accuracies over the test images, {"a": 1, "b": -1} say.

        ``name`` is "test", or a measured bool (N,).
        """
        return self._weighted(weights, lambda t: _right(t, name))

    def accuracy_between(self, weights: Mapping[str, float], name: str, other: str) -> Estimate:
        """As ``accuracy`` of ``name``, less that of ``other``, on the same images."""
        return self._weighted(weights, lambda t: _right(t, name) - _right(t, other))

    def gap(self, weights: Mapping[str, float]) -> Estimate:
        """A weighted sum of the arms' gaps: accuracy on training images minus that on test images."""
        return self._weighted(weights, lambda t: t.train_accuracy - _right(t, "test"))

    def _weighted(self, weights: Mapping[str, float], figure: Callable[[Trained], np.ndarray]) -> Estimate:
        """Sum a figure by image over the arms, for each seed that is whole."""
        pairs = [zip(weights.values(), trainings, strict=True) for trainings in self.whole(*weights)]
        return seeds_and_images([sum(weight * figure(t) for weight, t in of_seed) for of_seed in pairs])

    def sooner(self, fast: str, slow: str) -> Estimate:
        """The updates that ``slow`` needs over those of ``fast``: the mean log2 of the ratio, over seeds.

        Both are asked when their running training loss first reaches the higher of the two last ones.
        """
        values = []
        for a, b in self.whole(fast, slow):
            one, other = running(a.losses), running(b.losses)
            target = max(float(one[-1]), float(other[-1]))
            updates = [1 + int(np.argmax(losses <= target)) for losses in (one, other)]
            values.append(math.log2(updates[1] / updates[0]))
        return seeds_only(values)

    def measured(self, arm: str) -> dict[str, float | list[float]]:
        """Average an arm's measurements over seeds: of right-or-not and long vectors the mean, else each."""
        trainings = [t for (t,) in self.whole(arm)]
        found: dict[str, float | list[float]] = {}
        for name in sorted(trainings[0].measured) if trainings else ():
            values = [t.measured[name].double() for t in trainings]
            alike = all(v.shape == values[0].shape for v in values)
            if alike and values[0].numel() <= LISTED and trainings[0].measured[name].is_floating_point():
                found[name] = torch.stack(values).mean(0).tolist()
            else:
                found[name] = float(torch.stack([v.mean() for v in values]).mean())
        return found

    def curve(self, arm: str) -> list[dict[str, float]]:
        """The training loss, mean over seeds and over stretches of updates: {"step", "loss"}."""
        losses = [t.losses.double().numpy() for (t,) in self.whole(arm) if len(t.losses)]
        if not losses:
            return []
        mean = np.mean(losses, axis=0)
        pieces = np.array_split(np.arange(len(mean)), min(CURVE_POINTS, len(mean)))
        return [{"step": int(p[-1]) + 1, "loss": float(mean[p].mean())} for p in pieces]


def running(losses_T: torch.Tensor) -> np.ndarray:
    """The mean of the last RUNNING losses at each update, of fewer at the start: float64 (T,)."""
    sums = np.concatenate([[0.0], np.cumsum(losses_T.double().numpy())])
    ends = np.arange(1, len(sums))
    starts = np.maximum(0, ends - RUNNING)
    return (sums[ends] - sums[starts]) / (ends - starts)


def _scalar(trained: Trained, name: str) -> float:
    return float(trained.measured[name]) if name in trained.measured else float(getattr(trained, name))


def _right(trained: Trained, name: str) -> np.ndarray:
    found = trained.test if name == "test" else trained.measured[name]
    return found.double().numpy()


NOTHING = Estimate(0.0, -np.inf, np.inf, 0, 0, np.inf)  # where no pair of trainings is whole


def seeds_only(values: Sequence[float]) -> Estimate:
    """Over the seeds that are whole; NOTHING where none is."""
    return over_seeds(values) if values else NOTHING


def seeds_and_images(rows: Sequence[Any]) -> Estimate:
    """Over the seeds that are whole, a row of images each; NOTHING where none is."""
    return over_seeds_and_images(np.stack(rows)) if rows else NOTHING
