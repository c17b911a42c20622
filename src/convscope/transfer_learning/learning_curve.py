"""Learning curves: accuracy by images a class, continued by a power law, to say whether more images would help.

The error of a head is taken for a n^-b + c of n images a class (Hestness et al. 2017, arXiv:1712.00409; Viering and
Loog 2021, arXiv:2103.10948). All laws of a grid are weighed by how well they fit what was measured, and the interval is
that of their mixture: a far continuation of a short curve is as uncertain as the laws that fit it disagree.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..errors import UsageError
from ..progress import Progress
from ..randomness import mix

SIZES = (2, 3, 5, 8, 12, 20, 30, 50, 80, 120, 200, 300, 500, 1000)  # images a class
DRAWS = 5  # subsets of each size
MOST_IMAGES = 5_000  # in a subset: heads on more take seconds, not tenths
MOST_HELD_OUT = 2_000
SHARE = 0.8  # of a class's images that the largest subset may take: the rest is asked
LEAST_SIZES = 3
SPREAD = 0.01  # of accuracy, that laws of this form are off by
DECAYS = np.linspace(0.05, 1.5, 30)  # b
AMOUNTS = np.geomspace(1e-3, 4.0, 90)  # a
FLOORS = np.concatenate([[0.0], np.geomspace(1e-3, 0.9, 40)])  # c
CurveRow = tuple[int, float, float, float]  # images, a figure, and its ends


@dataclass(frozen=True)
class CurvePoint:
    """Accuracy, a fraction, of heads trained on ``per_class`` images a class: the mean of ``draws``, each measured on
    about ``n`` images that it was not trained on."""

    per_class: int
    accuracy: float
    draws: tuple[float, ...]
    n: int


@dataclass(frozen=True)
class Range:
    """A value with the ends of its interval at ``level``."""

    value: float
    low: float
    high: float
    level: float


@dataclass(frozen=True)
class LearningCurve:
    """Measured points with every law that may have made them. ``per_class`` are the images there are of each class,
    ``chance`` the error of guessing."""

    points: tuple[CurvePoint, ...]
    per_class: int
    chance: float

    @cached_property
    def _laws(self) -> tuple[np.ndarray, np.ndarray]:
        """Laws (L, 3) as a, b, c, and their weights (L,), which add up to 1."""
        a, b, c = (grid.ravel() for grid in np.meshgrid(AMOUNTS, DECAYS, FLOORS, indexing="ij"))
        fit = np.zeros(len(a))
        for point in self.points:
            expected = np.minimum(a * point.per_class**-b + c, self.chance)
            fit -= 0.5 * ((1 - point.accuracy - expected) / _noise(point)) ** 2
        weight = np.exp(fit - fit.max())
        kept = weight > 1e-9
        return np.stack([a, b, c], 1)[kept], weight[kept] / weight[kept].sum()

    def _errors(self, per_class: float) -> np.ndarray:
        a, b, c = self._laws[0].T
        return np.minimum(a * per_class**-b + c, self.chance)

    def predict(self, per_class: int, level: float = 0.9, held_out: int | None = None) -> Range:
        """The accuracy with so many images a class. ``held_out``: as it would be measured on so many images.

        The images that the curve was measured on are a sample too, which counts in the interval.
        """
        errors, weights = self._errors(per_class), self._laws[1]
        mean = float(errors @ weights)
        sampled = 1 / max(p.n for p in self.points) + (1 / held_out if held_out else 0.0)
        noise = np.sqrt(max(mean, 0.5 / max(p.n for p in self.points)) * (1 - mean) * sampled)
        low, high = _mixture(errors, weights, noise, level)
        return Range(1 - mean, max(0.0, 1 - high), min(1.0, 1 - low), level)

    def twice(self, level: float = 0.9) -> Range:
        """Tell what twice the images would add to the accuracy: 0 or more."""
        gains, weights = self._errors(self.per_class) - self._errors(2 * self.per_class), self._laws[1]
        low, high = _mixture(gains, weights, 0.0, level)
        return Range(float(gains @ weights), low, high, level)

    def sentence(self, whose: str) -> str:
        """What twice the images would add to ``whose`` figure, in points with the interval."""
        gain = self.twice()
        ends = f"[{100 * gain.low:.1f}, {100 * gain.high:.1f}]"
        return f"twice the images would add about {100 * gain.value:.1f} {ends} to {whose}"

    def to_json(self) -> dict[str, Any]:
        """The stable JSON form."""
        there, double, gain = self.predict(self.per_class), self.predict(2 * self.per_class), self.twice()
        points = [
            {"per_class": p.per_class, "accuracy": p.accuracy, "draws": len(p.draws), "n": p.n} for p in self.points
        ]
        return {
            "points": points,
            "per_class": self.per_class,
            "here": there.value,
            "twice": {"value": double.value, "low": double.low, "high": double.high},
            "gain": {"value": gain.value, "low": gain.low, "high": gain.high},
            "level": gain.level,
        }


def curve_rows(curve: LearningCurve) -> tuple[list[CurveRow], list[CurveRow]]:
    """The points of a curve with the range of their draws, and the law continued to twice the images."""
    most = max(p.per_class for p in curve.points)
    sizes = sorted({p.per_class for p in curve.points} | {round(most * f) for f in (1.25, 1.5, 2.0)})
    measured = []
    for p in curve.points:
        low, high = (min(p.draws), max(p.draws)) if p.draws else (p.accuracy, p.accuracy)
        measured.append((p.per_class, p.accuracy, low, high))
    fitted = [(n, *_three(curve.predict(n))) for n in sizes]
    return measured, fitted


def _three(interval: Any) -> tuple[float, float, float]:
    return interval.value, interval.low, interval.high


def _noise(point: CurvePoint) -> float:
    """The standard error of a point: its draws', the sample of images asked, and what the law may be off by."""
    error = min(max(1 - point.accuracy, 0.5 / point.n), 1 - 0.5 / point.n)
    spread = error * (1 - error)
    drawn = float(np.var(point.draws, ddof=1)) if len(point.draws) > 1 else 0.0
    mean = max(drawn, spread / point.n) / len(point.draws)
    return float(np.sqrt(mean + (4 * SPREAD * spread) ** 2))


def _mixture(values: np.ndarray, weights: np.ndarray, noise: float, level: float) -> tuple[float, float]:
    """The ends of the middle ``level`` of weighted values, each blurred by normal noise."""
    from scipy.optimize import brentq  # slow to import
    from scipy.special import ndtr

    shares = (1 - level) / 2, (1 + level) / 2
    if noise:
        around = values.min() - 9 * noise, values.max() + 9 * noise

        def missing(end: float, share: float) -> float:
            return float(weights @ ndtr((end - values) / noise)) - share

        low, high = np.array([brentq(missing, *around, args=(share,)) for share in shares], float).tolist()
        return low, high
    order = np.argsort(values, kind="stable")
    ends = np.searchsorted(np.cumsum(weights[order]), shares).clip(max=len(order) - 1)
    return float(values[order[ends[0]]]), float(values[order[ends[1]]])


def nested_subsets(labels_N: np.ndarray, keys_N: np.ndarray, sizes: Sequence[int], seed: int) -> list[np.ndarray]:
    """For each size the indices of so many images a class, the smaller within the larger; chosen by content.

    Copies of an image (equal keys) count as one and stay together; a class with fewer gives all it has.
    """
    rank = mix(keys_N, seed, 0x6375727665)
    place = np.empty(len(labels_N), np.int64)
    for label in np.unique(labels_N):
        mine = np.flatnonzero(labels_N == label)
        place[mine] = np.unique(rank[mine], return_inverse=True)[1]
    return [np.flatnonzero(place < size) for size in sizes]


def measure_curve(  # noqa: PLR0913 - what is trained on, and three options
    labels_N: np.ndarray,
    keys_N: np.ndarray,
    guess: Callable[[np.ndarray, np.ndarray], np.ndarray],
    seed: int = 0,
    folds: tuple[float, float] | None = None,
    progress: Progress | None = None,
) -> LearningCurve:
    """Train on DRAWS subsets of each size and ask the images left out.

    ``guess(train, held_out)`` takes indices and returns the labels that a head trained on the first gives the second.
    ``folds``, where cross-validation has been done already: the share of the images that its heads were trained on,
    and their accuracy over all. It is the point nearest to what there is, and costs nothing.
    UsageError where a class has too few images for three sizes.
    """
    counts = np.bincount(labels_N)
    counts = counts[counts > 0]
    usual = int(np.median(counts))
    most = min(SHARE * usual, MOST_IMAGES / len(counts))
    sizes = sorted({s for s in SIZES if s <= most} | {int(most)} - {0, 1})
    if len(sizes) < LEAST_SIZES:
        raise UsageError(f"a class has about {usual} images, and a learning curve needs 7: there is none.")
    found: dict[int, list[tuple[int, int]]] = {size: [] for size in sizes}
    done = 0  # in images a class, for twice as many take twice as long
    for draw in range(DRAWS):
        for size, train in zip(sizes, nested_subsets(labels_N, keys_N, sizes, mix_seed(seed, draw)), strict=True):
            if progress:
                progress("learning curve", done, DRAWS * sum(sizes))
            done += size
            rest = np.setdiff1d(np.arange(len(labels_N)), train)
            rest = rest[~np.isin(keys_N[rest], keys_N[train])]
            asked = rest[np.argsort(mix(keys_N[rest], seed, draw), kind="stable")[:MOST_HELD_OUT]]
            if len(asked) and len(np.unique(labels_N[train])) > 1:
                right = int((guess(train, asked) == labels_N[asked]).sum())
                found[size].append((right, len(asked)))
    points = [_point(size, draws) for size, draws in found.items() if draws]
    if folds is not None:
        points = [p for p in points if p.per_class < folds[0] * usual]
        points.append(CurvePoint(round(folds[0] * usual), folds[1], (folds[1],), len(labels_N)))
    return LearningCurve(tuple(points), usual, 1 - 1 / len(counts))


def _point(size: int, draws: list[tuple[int, int]]) -> CurvePoint:
    """A class's images are asked alike often, so the mean is over images."""
    shares = tuple(right / n for right, n in draws)
    return CurvePoint(size, float(np.mean(shares)), shares, min(n for _, n in draws))


def mix_seed(seed: int, draw: int) -> int:
    """The seed of a draw."""
    return int(mix(seed, draw) >> np.uint64(1))
