"""Networks compared on the same images: which is better, by how much, and how sure that is."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..classifying.intervals import Difference, Interval, difference_of, wilson

APART = ("seed", "tiles", "fused")  # in which runs of one group differ: ways to compute are chosen by timing them
ROUNDING = 1e-12  # a spread below it is none


@dataclass(frozen=True)
class Group:
    """Runs of one recipe that differ in their seeds, or one run: ``right`` bool (R, N), R runs on the same N images."""

    name: str
    members: tuple[str, ...]
    right: np.ndarray

    def accuracy(self) -> Interval:
        """The mean accuracy with its interval: over seeds and images together.

        Wilson's of one run, and where all runs have every image right or every image wrong: no spread is no certainty.
        """
        runs, n = self.right.shape
        if runs == 1 or self.right.all() or not self.right.any():
            return wilson(int(self.right[0].sum()), n)
        value, variances, freedoms = float(self.right.mean()), *_spread(self.right.mean(0), [self.right.mean(1)])
        reach = _reach(variances, freedoms)
        return Interval(value, max(0.0, value - reach), min(1.0, value + reach), n, method="t")


def compare_groups(a: Group, b: Group) -> Difference:
    """Is ``a`` better than ``b`` on the same images?

    Of two runs it is McNemar's exact test with Newcombe's interval. Where seeds were repeated, the variance of the
    mean difference is that between seeds of either plus that between images, and t has Satterthwaite's degrees of
    freedom (Welch 1947); a run that stands alone is taken to vary between seeds as the other does. Where nothing
    varies t would be certain: then it is McNemar's test of the first run of each.
    """
    n = a.right.shape[1]
    if len(a.right) == len(b.right) == 1:
        return difference_of((a.name, a.right[0]), (b.name, b.right[0]))
    from scipy.stats import t  # slow to import

    by_image = a.right.mean(0) - b.right.mean(0)
    seeds = [group.right.mean(1) for group in (a, b)]
    variances, freedoms = _spread(by_image, seeds)
    spread = math.sqrt(sum(variances))
    if spread < ROUNDING:
        return difference_of((a.name, a.right[0]), (b.name, b.right[0]))
    value, reach = float(by_image.mean()), _reach(variances, freedoms)
    p = float(2 * t.sf(abs(value) / spread, _freedom(variances, freedoms)))
    return Difference(a.name, b.name, n, value, max(-1.0, value - reach), min(1.0, value + reach), p, "t")


def _spread(by_image: np.ndarray, seeds: Sequence[np.ndarray]) -> tuple[list[float], list[int]]:
    """The variance of a mean between images, and between the seeds of each, with their degrees of freedom.

    One image says nothing of others: then it is the largest that there is.
    """
    n = len(by_image)
    variances, freedoms = [float(by_image.var(ddof=1)) / n if n > 1 else 1.0], [max(1, n - 1)]
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
    """The numbers of the runs that belong together: of one recipe but for what sets them apart. One without a recipe is
    alone."""
    groups: dict[str, list[int]] = {}
    for i, recipe in enumerate(recipes):
        own = {k: v for k, v in recipe.items() if k not in APART} if recipe is not None else {"": names[i]}
        groups.setdefault(json.dumps(own, sort_keys=True, default=str), []).append(i)
    return list(groups.values())


def recipe_difference(a: Mapping[str, Any] | None, b: Mapping[str, Any] | None) -> dict[str, list[Any]] | None:
    """The options that two recipes have otherwise: {option: [a's, b's]}; None where one has none."""
    if a is None or b is None:
        return None
    return {k: [a.get(k), b.get(k)] for k in sorted({*a, *b}) if a.get(k) != b.get(k) and k not in APART}
