"""Intervals: how far a figure that was counted on some images can be believed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import DataError

SURE = 0.05  # the chance of such a difference between equals, below which two are said to differ


@dataclass(frozen=True)
class Interval:
    """A value with the interval that holds the truth with probability ``confidence``; ``n`` images were seen."""

    value: float
    low: float
    high: float
    n: int
    confidence: float = 0.95
    method: str = "wilson"


@dataclass(frozen=True)
class PairedTest:
    """Two classifiers on the same ``n`` images: ``difference`` is the accuracy of a minus that of b."""

    n: int
    a_only: int
    b_only: int
    difference: float
    low: float
    high: float
    p: float


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
        """What the difference says, and that it is at the edge where test and interval say different things."""
        p = f"p = {self.p:.2g}" if self.p >= 0.001 else "p under 0.001"
        sure, apart = self.p < SURE, self.low > 0 or self.high < 0
        edge = "" if sure == apart else f"; this is at the edge: the interval {'leaves out' if apart else 'holds'} 0"
        if not sure:
            return (
                f"{self.a} and {self.b} do not differ ({p}, n = {self.n:,}): "
                f"{100 * self.difference:+.1f} points [{100 * self.low:+.1f}, {100 * self.high:+.1f}]{edge}."
            )
        better, worse = (self.a, self.b) if self.difference > 0 else (self.b, self.a)
        low, high = (self.low, self.high) if self.difference > 0 else (-self.high, -self.low)
        return (
            f"{better} is better than {worse} by {100 * abs(self.difference):.1f} points "
            f"[{100 * low:.1f}, {100 * high:.1f}] ({p}, n = {self.n:,}){edge}."
        )


def wilson(successes: int, n: int) -> Interval:
    """Wilson's score interval of a proportion (Wilson 1927): never outside 0..1, fair for small n and for 0 or n."""
    from scipy.stats import binomtest  # slow to import

    if n < 1:
        raise DataError("no images to evaluate")
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes among {n}")
    ends = binomtest(successes, n).proportion_ci(method="wilson")
    return Interval(successes / n, float(ends.low), float(ends.high), n, method="wilson")


def bootstrap(statistic: Callable[[np.ndarray], float], n: int, seed: int = 0, draws: int = 1000) -> Interval:
    """The percentile interval (Efron 1979) of ``statistic(indices_n)`` over ``draws`` resamples of n images.

    ``statistic`` takes n indices into 0..n-1. The same seed gives the same interval.
    """
    if n < 1:
        raise DataError("no images to evaluate")
    generator = np.random.default_rng(seed)
    values = [statistic(generator.integers(0, n, n)) for _ in range(draws)]
    low, high = np.quantile(values, [0.025, 0.975])
    return Interval(float(statistic(np.arange(n))), float(low), float(high), n, method="bootstrap")


def over_seeds(accuracies: Sequence[float], n: int) -> Interval:
    """The mean accuracy of R trainings that differ in their seeds, on the same ``n`` images.

    Its variance is that between seeds over R, plus p (1 - p) / n of the images, which seeds do not average away; t has
    Satterthwaite's degrees of freedom. A little too wide rather than too narrow: networks of other seeds do not all
    miss the same images. Where all images are right, or none is, it is Wilson's. DataError for fewer than two.
    """
    from scipy.stats import t  # slow to import

    values = np.asarray(accuracies, float)
    if len(values) < 2 or n < 1:
        raise DataError("a spread between seeds needs two trainings or more, on images.")
    mean = float(values.mean())
    seeds, images = float(values.var(ddof=1)) / len(values), mean * (1 - mean) / n
    total = seeds + images
    if not total:
        return wilson(round(mean * n), n)
    freedom = total**2 / (seeds**2 / (len(values) - 1) + images**2 / max(1, n - 1))
    reach = float(t.ppf(0.975, freedom)) * math.sqrt(total)
    return Interval(mean, max(0.0, mean - reach), min(1.0, mean + reach), n, method="t")


def paired_test(correct_a: np.ndarray, correct_b: np.ndarray) -> PairedTest:
    """Is a better than b on the same images? ``correct_a`` and ``correct_b`` are (N,) booleans.

    ``p`` is the exact two-sided McNemar test (McNemar 1947) on the images only one of them gets right. The
    interval of the accuracy difference is Newcombe's for paired proportions (Newcombe 1998, method 10), which stays
    within -1..1 and is fair for few discordant images. The two rest on different arithmetic: very near 0.05 one
    may exclude zero and the other not.
    """
    from scipy.stats import binomtest  # slow to import

    a, b = np.asarray(correct_a).astype(bool), np.asarray(correct_b).astype(bool)
    if a.shape != b.shape or a.ndim != 1:
        raise DataError(f"a paired test needs the same images for both; got shapes {a.shape} and {b.shape}")
    both, a_only, b_only, neither = (int(x.sum()) for x in (a & b, a & ~b, ~a & b, ~a & ~b))
    low, high = _newcombe(both, a_only, b_only, neither)
    p = float(binomtest(a_only, a_only + b_only).pvalue) if a_only + b_only else 1.0
    return PairedTest(len(a), a_only, b_only, (a_only - b_only) / len(a), low, high, p)


def difference_of(a: tuple[str, np.ndarray], b: tuple[str, np.ndarray]) -> Difference:
    """The difference between two classifiers, each with its name and which images it answers right, by paired_test."""
    found = paired_test(a[1], b[1])
    return Difference(a[0], b[0], found.n, found.difference, found.low, found.high, found.p, "mcnemar")


def _newcombe(both: int, a_only: int, b_only: int, neither: int) -> tuple[float, float]:
    n = both + a_only + b_only + neither
    a, b = wilson(both + a_only, n), wilson(both + b_only, n)
    margins = (both + a_only) * (b_only + neither) * (both + b_only) * (a_only + neither)
    cross = both * neither - a_only * b_only
    if cross > 0:  # the continuity correction of method 10
        cross = max(cross - n / 2, 0)
    phi = cross / math.sqrt(margins) if margins else 0.0

    def distance(first: float, second: float) -> float:
        return math.sqrt(max(first * first - 2 * phi * first * second + second * second, 0.0))

    difference = (a_only - b_only) / n
    down = distance(a.value - a.low, b.high - b.value)
    up = distance(a.high - a.value, b.value - b.low)
    return difference - down, difference + up
