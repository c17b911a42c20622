"""Numbers: every layer, loss, figure, explainer, optimizer and schedule against a slow, obvious version in float64.

Each entry of NUMBERS draws shapes and values (usual, large, tiny, denormal, constant, negative, far from 0), computes
both, and tells a flaw in a sentence. They agree to 1e-5 of the largest magnitude unless an entry says otherwise; by
torture.numbers_compare that is the largest of the right answer, or of the terms that it is the sum of.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from torture import (
    numbers_explainers,
    numbers_functions,
    numbers_jacobians,
    numbers_layers,
    numbers_losses,
    numbers_metrics,
    numbers_networks,
    numbers_tasks,
    numbers_threads,
    numbers_training,
)
from torture.attempts import Attempt
from torture.numbers_compare import Check

NUMBERS: dict[str, Check] = {
    **numbers_functions.ENTRIES,
    **numbers_layers.ENTRIES,
    **numbers_networks.ENTRIES,
    **numbers_losses.ENTRIES,
    **numbers_metrics.ENTRIES,
    **numbers_tasks.ENTRIES,
    **numbers_explainers.ENTRIES,
    **numbers_jacobians.ENTRIES,
    **numbers_training.ENTRIES,
    **numbers_threads.ENTRIES,
}


def flaw_of(name: str, seed: int, number: int) -> str:
    """What a check says to draws of its own; what it raises, or warns of, is a flaw too."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return NUMBERS[name](np.random.default_rng([seed, number]))
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def attack(seed: int, count: int, folder: Path) -> Iterator[Attempt]:
    """All entries in an order of the seed's, then all again with other draws, until there are ``count`` attempts."""
    names = np.random.default_rng([seed]).permutation(sorted(NUMBERS))
    for number in range(count):
        name = str(names[number % len(names)])
        yield Attempt(f"{name}, draws {seed}/{number}", name.split()[0].rstrip(","), flaw_of(name, seed, number))
