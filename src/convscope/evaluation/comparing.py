"""Networks compared on the same images: which is better, by how much, and how sure that is."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..classifying.intervals import Interval, paired_test, wilson

SURE = 0.05  # the chance of such a difference between equals, below which two are said to differ
APART = ("seed",)  # options in which runs of one group differ


@dataclass(frozen=True)
class Group:
    """Runs of one recipe that differ in their seeds, or one run: ``right`` bool (R, N), R runs on the same N images."""

    name: str
    members: tuple[str, ...]
    right: np.ndarray

    def accuracy(self) -> Interval:
        """The mean accuracy with its interval: Wilson's of one run, else over seeds and images together."""
        runs, n = self.right.shape
        if runs == 1:
            return wilson(int(self.right.sum()), n)
        value, variances, freedoms = float(self.right.mean()), *_spread(self.right.mean(0), [self.right.mean(1)])
        reach = _reach(variances, freedoms)
        return Interval(value, max(0.0, value - reach), min(1.0, value + reach), n, method="t")


@dataclass(frozen=True)
class Difference:
    """The accuracy of ``a`` minus that of ``b`` on the same ``n`` images, its interval, and the test it rests on."""

    a: str
    b: str
    n: int
    difference: float
    low: float
    high: float
    p: float
    method: str

    def sentence(self) -> str:
        """What the difference says."""
        if self.p >= SURE:
            return (
                f"{self.a} and {self.b} do not differ (p = {_rounded(self.p)}, n = {self.n:,}): "
                f"{100 * self.difference:+.1f} points [{100 * self.low:+.1f}, {100 * self.high:+.1f}]."
            )
        better, worse = (self.a, self.b) if self.difference > 0 else (self.b, self.a)
        low, high = (self.low, self.high) if self.difference > 0 else (-self.high, -self.low)
        return (
            f"{better} is better than {worse} by {100 * abs(self.difference):.1f} points "
            f"[{100 * low:.1f}, {100 * high:.1f}] (p = {_rounded(self.p)}, n = {self.n:,})."
        )


def _rounded(p: float) -> str:
    return f"{p:.2g}" if p >= 0.001 else "under 0.001"


def compare_groups(a: Group, b: Group) -> Difference:
    """Is ``a`` better than ``b`` on the same images?

    Of two runs it is McNemar's exact test with Newcombe's interval. Where seeds were repeated, the variance of the
    mean difference is that between seeds of either plus that between images, and t has Satterthwaite's degrees of
    freedom (Welch 1947); a run that stands alone is taken to vary between seeds as the other does.
    """
    n = a.right.shape[1]
    if len(a.right) == len(b.right) == 1:
        found = paired_test(a.right[0], b.right[0])
        return Difference(a.name, b.name, n, found.difference, found.low, found.high, found.p, "mcnemar")
    from scipy.stats import t  # slow to import

    by_image = a.right.mean(0) - b.right.mean(0)
    seeds = [group.right.mean(1) for group in (a, b)]
    variances, freedoms = _spread(by_image, seeds)
    value, reach = float(by_image.mean()), _reach(variances, freedoms)
    spread = math.sqrt(sum(variances))
    p = float(2 * t.sf(abs(value) / spread, _freedom(variances, freedoms))) if spread else float(value == 0)
    return Difference(a.name, b.name, n, value, max(-1.0, value - reach), min(1.0, value + reach), p, "t")


def _spread(by_image: np.ndarray, seeds: Sequence[np.ndarray]) -> tuple[list[float], list[int]]:
    """The variance of a mean between images, and between the seeds of each, with their degrees of freedom."""
    n = len(by_image)
    variances, freedoms = [float(by_image.var(ddof=1)) / n if n > 1 else 0.0], [max(1, n - 1)]
    known = [float(s.var(ddof=1)) for s in seeds if len(s) > 1]
    for accuracies in seeds:
        alone = len(accuracies) == 1
        variances.append((float(np.mean(known)) if alone else float(accuracies.var(ddof=1))) / len(accuracies))
        freedoms.append(max(1, (max(map(len, seeds)) if alone else len(accuracies)) - 1))
    return variances, freedoms


def _freedom(variances: Sequence[float], freedoms: Sequence[int]) -> float:
    parts = sum(v * v / f for v, f in zip(variances, freedoms, strict=True))
    return sum(variances) ** 2 / parts if parts else float(max(freedoms))


def _reach(variances: Sequence[float], freedoms: Sequence[int]) -> float:
    """Half of the 95 % interval."""
    from scipy.stats import t

    return float(t.ppf(0.975, _freedom(variances, freedoms))) * math.sqrt(sum(variances))


def grouped(names: Sequence[str], recipes: Sequence[Mapping[str, Any] | None]) -> list[list[int]]:
    """The numbers of the runs that belong together: of one recipe but for the seed. One without a recipe is alone."""
    groups: dict[str, list[int]] = {}
    for i, recipe in enumerate(recipes):
        own = {k: v for k, v in recipe.items() if k not in APART} if recipe is not None else {"": names[i]}
        groups.setdefault(json.dumps(own, sort_keys=True, default=str), []).append(i)
    return list(groups.values())


def recipe_difference(a: Mapping[str, Any] | None, b: Mapping[str, Any] | None) -> dict[str, list[Any]]:
    """The options that two recipes have otherwise: {option: [a's, b's]}; empty where one has none."""
    if a is None or b is None:
        return {}
    return {k: [a.get(k), b.get(k)] for k in sorted({*a, *b}) if a.get(k) != b.get(k) and k not in APART}
