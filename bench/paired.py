"""Paired timing in one process: blocks in the order A B B A, the median of the paired ratios with a bootstrap interval.

A machine's speed drifts from minute to minute; a ratio of neighbours does not.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any

import numpy as np


def abba(ours: Callable[[], float], peer: Callable[[], float], rounds: int) -> tuple[np.ndarray, np.ndarray]:
    """Seconds, as the blocks return them, over rounds of peer, ours, ours, peer: two arrays (2 * rounds,)."""
    times: dict[str, list[float]] = {"ours": [], "peer": []}
    for _ in range(rounds):
        for name, block in (("peer", peer), ("ours", ours), ("ours", ours), ("peer", peer)):
            times[name].append(block())
    return np.array(times["ours"]), np.array(times["peer"])


def median_ratio(top: np.ndarray, bottom: np.ndarray) -> tuple[float, float, float]:
    """Median of top / bottom, pair by pair, with its 95 % bootstrap interval."""
    ratios = top / bottom
    draws = np.random.default_rng(0).choice(ratios, (10_000, len(ratios)))
    low, high = np.percentile(np.median(draws, axis=1), [2.5, 97.5])
    return float(np.median(ratios)), float(low), float(high)


def arguments(description: str | None) -> argparse.Namespace:
    """``--json`` for every bench, ``--quick`` for a first look."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    parser.add_argument("--quick", action="store_true", help="fewer rounds: a look, not a measurement")
    return parser.parse_args()


def tell(result: dict[str, Any], as_json: bool) -> None:
    """Print a result: the keys of docs/json.md, then what else was measured."""
    if as_json:
        print(json.dumps(result))
        return
    for key, value in result.items():
        print(f"{key}: {value:.4g}" if isinstance(value, float) else f"{key}: {value}")
