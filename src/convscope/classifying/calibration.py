"""How far probabilities can be believed, and the one number that mends them: the temperature of the logits.

A network's logits divided by a temperature, fitted on validation images, keep every answer and change how sure it is
(Guo and others 2017, arXiv:1706.04599).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import log_softmax

from .intervals import Interval, bootstrap
from .metrics import Array, Calibration, calibration, checked

BINS = 15
COLDEST, HOTTEST = 0.02, 50.0  # temperatures that are tried


@dataclass(frozen=True)
class Calibrated:
    """Calibration errors on the same images before and after division by ``temperature``, and how much it lowers them.

    ``fitted_on`` counts the validation images. Errors are fractions, with 95 % bootstrap intervals over images;
    ``reliability`` has the bins after division.
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
    logits = logits.astype(np.float64)
    if (logits.argmax(axis=1) == labels).all():
        return None

    def loss(log_temperature: float) -> float:
        likely = log_softmax(logits / math.exp(log_temperature), axis=1)
        return -float(likely[np.arange(len(labels)), labels].mean())

    ends = (math.log(COLDEST), math.log(HOTTEST))
    found = float(minimize_scalar(loss, bounds=ends, method="bounded", options={"xatol": 1e-4}).x)
    return math.exp(found) if ends[0] + 0.01 < found < ends[1] - 0.01 else None


def calibrate(logits_NK: Array, labels_N: Array, temperature: float, fitted_on: int, seed: int = 0) -> Calibrated:
    """The calibration error of logits, and of logits / ``temperature``, on the same images. DataError as metrics'."""
    logits, labels = checked(logits_NK, labels_N)
    right = logits.argmax(axis=1) == labels
    plain, cooled = (_gaps(logits.astype(np.float64) / t, right) for t in (1.0, temperature))
    count = len(labels)

    def error(gaps: tuple[np.ndarray, np.ndarray], index: np.ndarray) -> float:
        place, gap = gaps
        return float(np.abs(np.bincount(place[index], gap[index], BINS)).sum()) / len(index)

    return Calibrated(
        temperature,
        fitted_on,
        bootstrap(lambda index: error(plain, index), count, seed),
        bootstrap(lambda index: error(cooled, index), count, seed),
        bootstrap(lambda index: error(plain, index) - error(cooled, index), count, seed),
        calibration(logits.astype(np.float64) / temperature, labels, BINS),
    )


def _gaps(logits_NK: np.ndarray, right_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The bin of each image's confidence, and how far being right (1) or not (0) is from that confidence."""
    confidence = np.exp(log_softmax(logits_NK, axis=1).max(axis=1))
    place = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
    return place, right_N - confidence
