"""Verdicts: an estimate with its 99 % interval, held against a stated margin. Pure functions of numbers.

A verdict is "holds", "does not hold" or "inconclusive". What decides is the interval: over seeds by Student's t, and
for accuracies over seeds and test images at once. An interval that decides nothing says what size would.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..errors import DataError
from ..storage import finite

Limits = tuple[float | None, float | None]
HOLDS, FAILS, OPEN = VERDICTS = ("holds", "does not hold", "inconclusive")
CONFIDENCE = 0.99
MOST_SEEDS = 1_000
MOST_TIMES = 10_000  # as many images; what needs more is not offered


@dataclass(frozen=True)
class Estimate:
    """A mean with its interval: ``seeds`` S rows, ``images`` N columns (0: no images were sampled).

    ``seed_part`` and ``image_part`` are the variances of one seed's mean and of one image's mean; ``noise`` that
    of one answer. The variance of the estimate is seed_part / S + image_part / N - noise / (S N).
    """

    value: float
    low: float
    high: float
    seeds: int
    images: int = 0
    seed_part: float = 0.0
    image_part: float = 0.0
    noise: float = 0.0
    confidence: float = CONFIDENCE

    @property
    def half(self) -> float:
        """Half the width of the interval."""
        return (self.high - self.low) / 2


@dataclass(frozen=True)
class Answer:
    """One question of a claim, answered: the quantity in words, its estimate, the margin in words, the verdict.

    ``unit`` "accuracy" and "share" are shares of 1, told in points and in percent; "log2" a logarithm, told as how many
    times. The quantity holds where the interval lies between the two ``limits``; None is no limit.
    """

    quantity: str
    unit: str
    estimate: Estimate
    wanted: str
    verdict: str
    would_decide: str = ""
    limits: Limits = (None, None)

    def to_json(self) -> dict[str, Any]:
        """The stable JSON form; infinite ends, of a quantity without an interval, are null."""
        numbers = finite(asdict(self.estimate))
        return {
            "quantity": self.quantity,
            "unit": self.unit,
            **numbers,
            "wanted": self.wanted,
            "verdict": self.verdict,
            "would_decide": self.would_decide,
            "limits": list(self.limits),
            "told": self.told(),
        }

    def told(self) -> str:
        """The number with its interval in words."""
        value, low, high = (told(v, self.unit) for v in (self.estimate.value, self.estimate.low, self.estimate.high))
        mark = _MARKS.get(self.unit, self.unit)
        mark = f" {mark}" if mark else ""
        if self.estimate.half == 0:
            return f"{value}{mark} in each of {self.estimate.seeds} seeds" if self.estimate.seeds else f"{value}{mark}"
        return f"{value} [{low}, {high}]{mark}"

    def sentence(self) -> str:
        """The part in words with its numbers."""
        text = f"{self.quantity}: {self.told()}; wanted {self.wanted}: {self.verdict}."
        return f"{text} {self.would_decide}".rstrip()


@dataclass(frozen=True)
class Judgement:
    """The verdict of a claim from its parts; ``notes`` are sentences about what was left out or is beside the point."""

    verdict: str
    parts: tuple[Answer, ...]
    notes: tuple[str, ...] = ()

    def sentence(self) -> str:
        """The verdict in words with its numbers."""
        return " ".join([f"The claim {_VERBS[self.verdict]}.", *(p.sentence() for p in self.parts), *self.notes])


_MARKS = {"accuracy": "points", "share": "%", "log2": "times"}
_VERBS = {HOLDS: "holds", FAILS: "does not hold", OPEN: "is not decided"}


def told(value: float, unit: str) -> str:
    """A number in the unit it is told in: an accuracy in points, a share in percent, a log2 as how many times."""
    return f"{100 * value if unit in ('accuracy', 'share') else 2**value if unit == 'log2' else value:.3g}"


# ------------------------------------------------------------------------------------------------------ intervals


def over_seeds(values_S: Sequence[float] | np.ndarray, *, rounding: float = 0.0) -> Estimate:
    """The mean of values by seed, paired differences say, with Student's t interval (Student 1908).

    ``rounding`` is the standard deviation that reading off a coarse scale adds: equal readings are not taken for equal
    values. One seed has no interval: its ends are infinite. DataError for none, or for a value that is no number.
    """
    values = np.asarray(values_S, float)
    if not values.size or not np.isfinite(values).all():
        raise DataError("an interval over seeds needs at least one value, and finite ones.")
    spread = max(float(values.var(ddof=1)), rounding**2) if len(values) > 1 else math.inf
    return _estimate(float(values.mean()), len(values), (spread, 0.0, 0.0), 0)


def over_seeds_and_images(values_SN: np.ndarray) -> Estimate:
    """The mean of a value by seed and test image, a difference of being right say; both are samples.

    Seeds and images are crossed random effects: the variance of the mean is that of the rows' means over S, plus
    that of the columns' means over N, less the noise that is in both; its degrees of freedom are Satterthwaite's
    (1946, https://doi.org/10.2307/3002019). A bootstrap over both (Owen 2007, https://doi.org/10.1214/07-AOAS122)
    counts the noise twice, and with five seeds knows no t. Where next to no image differs the half width is at
    least -ln(0.005) / N, what none among N can exclude.
    """
    values = np.asarray(values_SN, float)
    if values.ndim != 2 or not values.size or not np.isfinite(values).all():
        raise DataError(f"an interval over seeds and images needs finite values (S, N), not {values.shape}.")
    seeds, images = values.shape
    rows, columns, mean = values.mean(1), values.mean(0), float(values.mean())
    residue = values - rows[:, None] - columns[None, :] + mean
    freedom = (seeds - 1) * (images - 1)
    noise = float((residue**2).sum() / freedom) if freedom else 0.0
    by_row = float(rows.var(ddof=1)) if seeds > 1 else math.inf
    by_column = float(columns.var(ddof=1)) if images > 1 else math.inf
    return _estimate(mean, seeds, (by_row, by_column, noise), images)


def exactly(value: float) -> Estimate:
    """A quantity that is no sample, a number of parameters say."""
    return Estimate(value, value, value, 0)


def _estimate(mean: float, seeds: int, parts: tuple[float, float, float], images: int) -> Estimate:
    half = half_width(seeds, images, parts)
    return Estimate(mean, mean - half, mean + half, seeds, images, *parts)


def half_width(seeds: int, images: int, parts: tuple[float, float, float]) -> float:
    """Half the 99 % interval of a mean over so many seeds and images; ``parts`` are those of an Estimate."""
    from scipy.special import stdtrit  # slow to import

    by_row, by_column, noise = parts
    if seeds < 2:
        return math.inf
    terms = [(by_row / seeds, seeds - 1)]
    if images > 1:
        terms += [(by_column / images, images - 1), (-noise / (seeds * images), (seeds - 1) * (images - 1))]
    sizes = [size for size, _ in terms]
    variance = max(sum(sizes), *map(abs, sizes)) if images > 1 else sizes[0]
    below = sum(size**2 / freedom for size, freedom in terms)
    freedom = max(seeds - 1.0, variance**2 / below) if below > 0 else seeds - 1.0
    least = -math.log((1 - CONFIDENCE) / 2) / images if images else 0.0
    return max(float(stdtrit(freedom, (1 + CONFIDENCE) / 2)) * math.sqrt(variance), least)


# ------------------------------------------------------------------------------------------------------- verdicts


def greater(quantity: str, estimate: Estimate, *, least: float, unit: str = "") -> Answer:
    """The quantity is above 0; it fails where one of ``least``, the smallest that would matter, is excluded."""
    verdict = HOLDS if estimate.low > 0 else FAILS if estimate.high < least else OPEN
    boundary = 0.0 if estimate.value > least / 2 else least
    wanted = f"above {told(0, unit)} ({_margin(least, unit)} would matter)"
    return _part(quantity, unit, estimate, (wanted, verdict), boundary, (0.0, None))


def no_less(quantity: str, estimate: Estimate, *, margin: float, unit: str = "") -> Answer:
    """The quantity is above -margin (a better minus a worse: "does no worse"); it fails where it is surely below."""
    verdict = HOLDS if estimate.low > -margin else FAILS if estimate.high < -margin else OPEN
    return _part(quantity, unit, estimate, (f"above {_margin(-margin, unit)}", verdict), -margin, (-margin, None))


def below(quantity: str, estimate: Estimate, *, limit: float, unit: str = "") -> Answer:
    """The quantity is below the limit; it fails where it is surely above."""
    verdict = HOLDS if estimate.high < limit else FAILS if estimate.low > limit else OPEN
    return _part(quantity, unit, estimate, (f"below {_margin(limit, unit)}", verdict), limit, (None, limit))


def alike(quantity: str, estimate: Estimate, *, margin: float, unit: str = "") -> Answer:
    """The quantity lies within +-margin (Schuirmann 1987, https://doi.org/10.1007/BF01068419)."""
    inside = estimate.low > -margin and estimate.high < margin
    outside = estimate.low > margin or estimate.high < -margin
    verdict = HOLDS if inside else FAILS if outside else OPEN
    boundary = math.copysign(margin, estimate.value)
    return _part(
        quantity, unit, estimate, (f"within {_margin(margin, unit)} of 0", verdict), boundary, (-margin, margin)
    )


def _margin(value: float, unit: str) -> str:
    return f"{told(value, unit)} {_MARKS.get(unit, unit)}".rstrip()


def _part(  # noqa: PLR0913 - the fields of a Answer, and what its verdict was made of
    quantity: str,
    unit: str,
    estimate: Estimate,
    decided: tuple[str, str],
    boundary: float,
    limits: Limits,
) -> Answer:
    wanted, verdict = decided
    would = needed(estimate, boundary) if verdict == OPEN else ""
    return Answer(quantity, unit, estimate, wanted, verdict, would, limits)


def needed(estimate: Estimate, boundary: float) -> str:
    """Say what size would decide, if the value is the truth: how many seeds, or else seeds and test images."""
    distance = abs(estimate.value - boundary)
    parts = (estimate.seed_part, estimate.image_part, estimate.noise)
    if not math.isfinite(parts[0]):
        return "More than one seed would have to be trained to the end."
    # More images make the mean of a seed steadier, and more seeds that of an image: each part without its noise.
    by_image = max(0.0, parts[1] - parts[2] / max(estimate.seeds, 1))
    for times in (1, 3, 10, 30, 100, 1_000, MOST_TIMES) if estimate.images else (1,):
        more = estimate.images * times
        steady = max(0.0, parts[0] - parts[2] / max(estimate.images, 1)) + parts[2] / max(more, 1)
        for seeds in _steps(max(estimate.seeds, 2)):
            if half_width(seeds, more, (steady, by_image + parts[2] / seeds, parts[2])) < distance:
                images = f" and about {more} test images" if times > 1 else ""
                return f"About {seeds} seeds{images} would decide, if the difference is as measured."
    return "It is too close to the margin for any size within reach to decide."


def _steps(start: int) -> list[int]:
    return sorted({start} | {round(start * 1.15**k) for k in range(50) if start * 1.15**k <= MOST_SEEDS})


def together(parts: Sequence[Answer], notes: Sequence[str] = ()) -> Judgement:
    """A claim holds when all its parts do, and does not when one does not."""
    verdicts = {part.verdict for part in parts}
    verdict = FAILS if FAILS in verdicts else OPEN if OPEN in verdicts or not parts else HOLDS
    return Judgement(verdict, tuple(parts), tuple(notes))
