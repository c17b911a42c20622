"""How far probabilities can be believed, and the one number that mends them: the temperature of the logits.

A network's logits divided by a temperature, fitted on validation images, keep every answer and change how sure it is
(Guo and others 2017, arXiv:1706.04599).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import log_softmax

from .intervals import Interval, wilson
from .metrics import Array, Calibration, calibration, checked, confidences, slices

BINS = 15
COLDEST, HOTTEST = 0.02, 50.0  # temperatures that are tried
DRAWS = 1000  # resamples of the images
SURE_OF_SIGN = 3.0  # standard errors from 0, beyond which chance has not chosen the sign of a bin's gap


@dataclass(frozen=True)
class Calibrated:
    """Calibration errors on the same images before and after division by ``temperature``, and how much it lowers them.

    ``fitted_on`` counts the validation images. Errors are fractions, with 95 % intervals over images, as ``calibrate``
    has them; ``reliability`` has the bins after division.
    """

    temperature: float
    fitted_on: int
    before: Interval
    after: Interval
    lowered: Interval
    reliability: Calibration


def fit_temperature(logits_NK: Array, labels_N: Array) -> float | None:
    """The temperature at which the cross-entropy of logits / temperature is least. DataError as metrics raise it.

    None where none is: the colder the better if all answers are right, the hotter if they are no better than chance.
    """
    from scipy.optimize import minimize_scalar  # slow to import

    logits, labels = checked(logits_NK, labels_N)
    if (logits.argmax(axis=1) == labels).all():
        return None

    def loss(log_temperature: float) -> float:
        heat = math.exp(log_temperature)
        parts = []
        for rows in slices(logits):
            likely = log_softmax(logits[rows].astype(np.float64) / heat, axis=1)
            parts.append(np.take_along_axis(likely, labels[rows, None], axis=1)[:, 0])
        return -float(np.concatenate(parts).mean())

    ends = (math.log(COLDEST), math.log(HOTTEST))
    found = float(minimize_scalar(loss, bounds=ends, method="bounded", options={"xatol": 1e-4}).x)
    return math.exp(found) if ends[0] + 0.01 < found < ends[1] - 0.01 else None


@dataclass(frozen=True)
class _Drawn:
    """A calibration error, and how far off it may be by D resamples (D,): ``along`` the gaps, and at ``most``."""

    error: float
    along: np.ndarray
    most: np.ndarray


def calibrate(logits_NK: Array, labels_N: Array, temperature: float, fitted_on: int, seed: int = 0) -> Calibrated:
    """The calibration error of logits, and of logits / ``temperature``, on the same images. DataError as metrics'.

    The error of a sample exceeds that of all images, since chance adds to the distance in each bin, and a resample
    exceeds it twice: the middle 95 % of resamples may lie beside the truth. So the lower end of an interval takes off
    all that chance may have added, the whole deviation of each bin whose gap may be of either sign. The upper end
    needs the deviation along the gaps only, since a distance is convex.
    """
    logits, labels = checked(logits_NK, labels_N)
    right = logits.argmax(axis=1) == labels
    before, after = _resampled([_gaps(confidences(logits, temperature=t), right) for t in (1.0, temperature)], seed)
    unseen, n = _unseen(right), len(labels)

    def ends(value: float, over: np.ndarray, under: np.ndarray, least: float, unseen: float) -> Interval:
        low = max(least, value - max(0.0, float(np.quantile(over, 0.975))) - unseen)
        high = min(1.0, value - min(0.0, float(np.quantile(under, 0.025))) + unseen)
        return Interval(value, low, high, n, method="bootstrap")

    return Calibrated(
        temperature,
        fitted_on,
        ends(before.error, before.most, before.along, 0.0, unseen),
        ends(after.error, after.most, after.along, 0.0, unseen),
        ends(before.error - after.error, before.most - after.along, before.along - after.most, -1.0, 2 * unseen),
        calibration(logits, labels, BINS, temperature),
    )


def _resampled(binned: list[tuple[np.ndarray, np.ndarray]], seed: int) -> list[_Drawn]:
    """The errors of the same images binned in several ways, all by the same resamples."""
    n, generator = len(binned[0][0]), np.random.default_rng(seed)
    drawn = np.empty((len(binned), DRAWS, BINS))
    for draw in range(DRAWS):
        index = generator.integers(0, n, n)
        for way, (place, gap) in enumerate(binned):
            drawn[way, draw] = np.bincount(place[index], gap[index], BINS) / n
    found = []
    for (place, gap), rows in zip(binned, drawn, strict=True):
        gaps = np.bincount(place, gap, BINS) / n
        off = rows - gaps
        along = np.sign(gaps) * off
        most = np.where(np.abs(gaps) > SURE_OF_SIGN * off.std(axis=0), along, np.abs(off))
        found.append(_Drawn(float(np.abs(gaps).sum()), along.sum(axis=1), most.sum(axis=1)))
    return found


def _unseen(right_N: np.ndarray) -> float:
    """How far the accuracy may be from that of these images where all are right or none is; else resamples tell."""
    if not (right_N.all() or not right_N.any()):
        return 0.0
    found = wilson(int(right_N.sum()), len(right_N))
    return found.high - found.low


def _gaps(confidence: np.ndarray, right_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The bin of each image's confidence, and how far being right (1) or not (0) is from that confidence."""
    place = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
    return place, right_N - confidence
