"""Paired timing in one process: blocks in the order A B B A, the median of the paired ratios with a bootstrap interval.

A machine's speed drifts from minute to minute; a ratio of neighbours does not.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch

from convscope.cli.application import SPINS
from convscope.kept_memory import usual_memory
from convscope.machine import describe, matmul_peak

PLAIN = {  # what each library calls a processor that has AVX2 and nothing above it
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "NUMBA_CPU_NAME": "haswell",
}


def abba(
    ours: Callable[[], float], peer: Callable[[], float], rounds: int, same_memory: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Seconds, as the blocks return them, over rounds of peer, ours, ours, peer: two arrays (2 * rounds,).

    The peer's memory is the system's, as it is without us, also while a training of ours that keeps its own is waiting;
    with ``same_memory`` it is what ours is, for kernels.
    """
    times: dict[str, list[float]] = {"ours": [], "peer": []}
    for _ in range(rounds):
        for name, block in (("peer", peer), ("ours", ours), ("ours", ours), ("peer", peer)):
            with usual_memory() if name == "peer" and not same_memory else nullcontext():
                times[name].append(block())
    return np.array(times["ours"]), np.array(times["peer"])


def median_ratio(top: np.ndarray, bottom: np.ndarray) -> tuple[float, float, float]:
    """Median of top / bottom, pair by pair, with its 95 % bootstrap interval."""
    ratios = top / bottom
    draws = np.random.default_rng(0).choice(ratios, (10_000, len(ratios)))
    low, high = np.percentile(np.median(draws, axis=1), [2.5, 97.5])
    return float(np.median(ratios)), float(low), float(high)


def arguments(description: str | None) -> argparse.Namespace:
    """``--json`` for every bench, ``--quick`` for a first look, ``--plain`` to hold both sides down to AVX2.

    Threads wait asleep, as those of the command line do. Both must stand in the environment before torch is loaded, so
    the process begins again with them.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    parser.add_argument("--quick", action="store_true", help="fewer rounds: a look, not a measurement")
    parser.add_argument("--plain", action="store_true", help="both sides as on a processor with AVX2, no more")
    options = parser.parse_args()
    wanted = {"GOMP_SPINCOUNT": SPINS} | (PLAIN if options.plain else {})
    if any(key not in os.environ for key in wanted):
        os.execve(sys.executable, [sys.executable, *sys.argv], wanted | dict(os.environ))
    return options


def this_machine() -> dict[str, Any]:
    """The processor, what is used of it, and the rate of its matrix products in this process."""
    rate = matmul_peak(torch.device("cpu"), "float32")
    return {"machine": describe(torch.device("cpu")), "sgemm_gflop_per_second": rate}


def tell(result: dict[str, Any], as_json: bool) -> None:
    """Print a result: the keys of docs/json.md, then what else was measured."""
    if as_json:
        print(json.dumps(result))
        return
    for key, value in result.items():
        print(f"{key}: {value:.4g}" if isinstance(value, float) else f"{key}: {value}")
