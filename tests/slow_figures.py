"""Figures as their formulas have them, in plain Python: the slow twins of what is printed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from statistics import NormalDist

import numpy as np
from scipy.special import softmax

from convscope.classifying.calibration import BINS


def by_formula(right: int, n: int) -> tuple[float, float]:
    """Wilson's interval as he wrote it."""
    z = NormalDist().inv_cdf(0.975)
    p = right / n
    middle, reach = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (middle - reach) / (1 + z * z / n), (middle + reach) / (1 + z * z / n)


def by_coins(a_only: int, b_only: int) -> float:
    """The two-sided p of so many heads and tails, all in whole numbers."""
    n = a_only + b_only
    tail = sum(math.comb(n, k) for k in range(min(a_only, b_only) + 1))
    return float(min(Fraction(1), Fraction(2 * tail, 2**n)))


def gaps_of(logits: np.ndarray, labels: np.ndarray) -> list[tuple[int, float]]:
    """The bin of each image, and whether it is right less how sure it is."""
    found = []
    for row, label in zip(logits, labels, strict=True):
        chance = max(softmax(row))
        place = next(m for m in range(BINS) if chance <= (m + 1) / BINS or m == BINS - 1)
        found.append((place, float(int(np.argmax(row)) == label) - chance))
    return found


def bin_means(gaps: list[tuple[int, float]], index: Iterator[int]) -> list[float]:
    means = [0.0] * BINS
    for i in index:
        means[gaps[i][0]] += gaps[i][1] / len(gaps)
    return means
