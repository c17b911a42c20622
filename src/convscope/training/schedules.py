"""Learning-rate schedules: progress in [0, 1) -> a factor of the peak rate. Pure functions, so resuming needs no state.

``SCHEDULES`` is the table; every entry takes the progress of the run (updates done / updates planned) and the share of
it spent warming up, and gives a factor in [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Callable


def _warm(progress: float, warmup: float) -> float:
    """The linear warm-up to 1 over the first ``warmup`` of the run, from a 25th of the peak."""
    return 0.04 + 0.96 * progress / warmup


def one_cycle(progress: float, warmup: float) -> float:
    """Linear up, then linear down to zero (Smith 2018, arXiv:1803.09820, in the form of Page 2018)."""
    if progress < warmup:
        return _warm(progress, warmup)
    return (1.0 - progress) / (1.0 - warmup)


def cosine(progress: float, warmup: float) -> float:
    """Linear up, then half a cosine down to zero (Loshchilov and Hutter 2017, arXiv:1608.03983)."""
    if progress < warmup:
        return _warm(progress, warmup)
    return 0.5 * (1.0 + math.cos(math.pi * (progress - warmup) / (1.0 - warmup)))


def constant(progress: float, warmup: float) -> float:
    """Linear up, then the peak rate to the end."""
    return _warm(progress, warmup) if progress < warmup else 1.0


Schedule = Callable[[float, float], float]

SCHEDULES: dict[str, Schedule] = {
    "one-cycle": one_cycle,
    "cosine": cosine,
    "constant": constant,
}

RANGE_DECADES = 3.0


def exponential(progress: float, warmup: float) -> float:
    """From a thousandth of the peak up to it by equal factors: for range tests, so not in the table.

    Smith 2017 (arXiv:1506.01186). ``warmup`` changes nothing.
    """
    return 10.0 ** (RANGE_DECADES * (progress - 1.0))
