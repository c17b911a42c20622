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

# Those that compile loops, which costs a minute where they are not kept yet.
COMPILED = (
    *("function _", "function, ", "model ", "explainer, exemplars", "layer, a row", "layer, a step", "layer, peaks"),
    *("threads, a row", "threads, convolution", "threads, training"),
)


def flaw_of(name: str, seed: int, number: int) -> str:
    """What a check says to draws of its own; what it raises, or warns of, is a flaw too."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return NUMBERS[name](np.random.default_rng([seed, number]))
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def in_order(seed: int) -> list[str]:
    """The entries in an order of the seed's, but those that compile loops behind the others."""
    names = np.random.default_rng([seed]).permutation(sorted(NUMBERS)).tolist()
    return sorted(names, key=lambda name: name.startswith(COMPILED))


def attack(seed: int, count: int, folder: Path) -> Iterator[Attempt]:
    """All entries, then all again with other draws, until there are ``count`` attempts."""
    names = in_order(seed)
    for number in range(count):
        name = names[number % len(names)]
        yield Attempt(f"{name}, draws {seed}/{number}", name.split()[0].rstrip(","), flaw_of(name, seed, number))
