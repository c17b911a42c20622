"""Convolutions with fewer multiplications against torch's own (oneDNN's direct ones), float32, pass by pass.

The shapes are those of alexnet, vgg, speednet and resnet20 on 32-pixel images; the passes are forward, gradient of the
input, gradient of the filters; one process, A B B A, the same memory for both. By default both sides are held down to
what a plain laptop has (AVX2, no matrix unit), and the same is measured once more with all that this processor offers.

Claim: what `convscope train` chooses here is at least 1.6 times as fast in the geometric mean over shapes and passes,
and nothing is chosen that is slower than torch's. Results agree to 1e-4 of the largest value.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from paired import PLAIN, abba, median_ratio, tell

from convscope.convolution import winograd
from convscope.convolution.minimal_filtering import Filtering
from convscope.convolution.timing import Shape, fastest_tiles
from convscope.kept_memory import keeping_memory
from convscope.machine import describe, matmul_peak
from convscope.models.fast_convolutions import shapes_of
from convscope.models.registry import build

TARGET, BATCH, NEAR = 1.6, 64, 1e-4
NETWORKS = ("alexnet", "vgg", "speednet", "resnet20")
PASSES = ("forward", "input gradient", "filter gradient")
LAST = torch.channels_last


def shapes() -> dict[Shape, list[str]]:
    """Each shape once, with the networks that have it."""
    found: dict[Shape, list[str]] = {}
    for name in NETWORKS:
        for shape in shapes_of(build(name, 10, 32, seed=0), 32).values():
            found.setdefault(shape, [])
            if name not in found[shape]:
                found[shape].append(name)
    return found


def passes(shape: Shape) -> list[tuple[Callable[[], Any], Callable[[Filtering], Any]]]:
    """Of each pass what torch does, and what a filtering does."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(BATCH, shape.channels, shape.height, shape.width, generator=draw).contiguous(memory_format=LAST)
    w = torch.randn(shape.filters, shape.channels, shape.filter_size, shape.filter_size, generator=draw)
    w = w.contiguous(memory_format=LAST)
    dy = torch.randn(BATCH, shape.filters, *shape.outputs, generator=draw).contiguous(memory_format=LAST)
    pad, one = shape.padding, (1, 1)

    def backward(which: int) -> Callable[[], Any]:
        mask = (which == 0, which == 1, False)
        return lambda: torch.ops.aten.convolution_backward(dy, x, w, None, one, pad, one, False, (0, 0), 1, mask)[which]

    return [
        (lambda: F.conv2d(x, w, padding=pad), lambda way: winograd.convolve(x, w, way, pad)[0]),
        (backward(0), lambda way: winograd.input_gradient(dy, w, way, pad)[0]),
        (backward(1), lambda way: winograd.filter_gradient(x, dy, way, pad)),
    ]


def seconds(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def measured(quick: bool) -> dict[str, Any]:
    """All shapes and passes in this process, as it is held down."""
    rounds = 1 if quick else 3
    with torch.no_grad(), keeping_memory():
        found = shapes()
        tiles = fastest_tiles(found)
        rows = [row for shape in found for row in of_shape(shape, tiles[shape], found[shape], rounds)]
    chosen = [row for row in rows if row["tile"]]
    ratios = np.array([row["ratio"] for row in rows])
    draws = np.random.default_rng(0).choice(np.log(ratios), (10_000, len(ratios)))
    low, high = np.exp(np.percentile(draws.mean(1), [2.5, 97.5]))
    direct = sum(row["gflop"] for row in rows) / sum(row["direct_ms"] / 1e3 for row in rows)
    return {
        "ratio": float(np.exp(np.log(ratios).mean())),
        "low": float(low),
        "high": float(high),
        "chosen_passes": len(chosen),
        "passes": len(rows),
        "slowest_chosen": min((row["ratio"] for row in chosen), default=None),
        "of_the_chosen": float(np.exp(np.mean([np.log(row["ratio"]) for row in chosen]))) if chosen else None,
        "all_together": sum(row["direct_ms"] for row in rows) / sum(row["ours_ms"] for row in rows),
        "sgemm_gflop_per_second": matmul_peak(torch.device("cpu"), "float32"),
        "direct_gflop_per_second": direct,
        "machine": describe(torch.device("cpu")),
        "rows": rows,
    }


def of_shape(shape: Shape, tiles: tuple[int, ...], names: list[str], rounds: int) -> list[dict[str, Any]]:
    """A row a pass; where torch's way was chosen the ratio is 1 and nothing is timed but that."""
    height, width = shape.outputs
    gflop = 2e-9 * BATCH * shape.channels * shape.filters * shape.filter_size**2 * height * width
    rows = []
    for name, tile, (direct, ours) in zip(PASSES, tiles, passes(shape), strict=True):
        row = {"networks": names, "shape": [shape.channels, shape.filters, shape.filter_size, height], "pass": name}
        if tile:
            way = Filtering(tile, shape.filter_size)
            a, b = direct(), ours(way)
            error = float((a - b).abs().max() / a.abs().max())
            assert error < NEAR, (shape, name, error)
            mine, theirs = abba(lambda w=way, f=ours: seconds(lambda: f(w)), lambda f=direct: seconds(f), rounds, True)
            ratio, _, _ = median_ratio(theirs, mine)
            row |= {
                "error": error,
                "direct_ms": 1e3 * np.median(theirs),
                "ours_ms": 1e3 * np.median(mine),
                "ratio": ratio,
            }
        else:
            direct()
            spent = 1e3 * min(seconds(direct) for _ in range(2))
            row |= {"direct_ms": spent, "ours_ms": spent, "ratio": 1.0}
        rows.append({**row, "tile": tile, "gflop": gflop})
    return rows


def held_down(quick: bool) -> dict[str, Any]:
    """The same in a process of its own, in which every library was told that there is only AVX2."""
    command = [sys.executable, __file__, "--json", "--as-it-is", *(["--quick"] if quick else [])]
    done = subprocess.run(command, env={**os.environ, **PLAIN}, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    parser.add_argument("--quick", action="store_true", help="fewer rounds: a look, not a measurement")
    parser.add_argument("--as-it-is", action="store_true", help="this processor with all it has, and nothing else")
    options = parser.parse_args()
    everything = measured(options.quick)
    if options.as_it_is:
        print(json.dumps(everything))
        return
    found = held_down(options.quick)
    rows = found["rows"]
    result = {
        "ratio": found.pop("ratio"),
        "low": found.pop("low"),
        "high": found.pop("high"),
        "ours": sum(row["ours_ms"] for row in found["rows"]),
        "peer": sum(row["direct_ms"] for row in found["rows"]),
        "unit": "ms, all passes of all shapes together",
        "better": "higher",
        "target": TARGET,
        **found,
        "with_all": everything,
    }
    if options.json:
        print(json.dumps(result))
        return
    for row in rows:
        names, (channels, filters, size, height) = ", ".join(row["networks"]), row["shape"]
        print(
            f"{channels:>4} to {filters:<4} {size}x{size} at {height:<3} {row['pass']:<16} {row['direct_ms']:8.1f} ms  "
            f"{row['ratio']:5.2f} times by tiles of {row['tile']}  {names}"
        )
    tell({key: value for key, value in result.items() if key not in ("rows", "with_all")}, False)


if __name__ == "__main__":
    main()
