"""Whether a fault is named: planted mistakes and sound trainings, judged by convscope and, beside it, gradsnitch.

gradsnitch 0.1 (MIT) reads loss, gradient norm, rate and update by step, told in the very loops that are watched here,
right before gradients are zeroed again. Trainings are those of tests/faulty_loops.py and tests/sound_loops.py, which
were written by who did not know the rules; the right answers are tests/named_faults.py and THEIRS.

Claim: convscope names the fault first in at least 95 % of the trainings with one, and alarms in at most one of 300
sound ones. ``--seeds``, ``--first`` and ``--sound`` say which; ``--out`` writes a line for each as it is done.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from paired import tell, this_machine
from torch import nn

from convscope.diagnosis.evidence import Observations, collect, frozen_parameters
from convscope.diagnosis.verdict import HEALTHY, judge
from convscope.training.watching import Watch, watching

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import faulty_loops
import loop_parts
import sound_loops
from named_faults import NAMED

TARGET = 0.95

# The rules of gradsnitch that name a mistake; there is none for the others.
THEIRS: dict[str, tuple[str, ...]] = {
    "nan-pixel": ("GS001",),
    "rate-zero-from-60": ("GS010",),
    "rate-jump-at-100": ("GS006",),
    "one-bad-batch": ("GS003",),
    "rate-too-high": ("GS001", "GS002", "GS006", "GS008", "GS009"),
    "rate-too-low": ("GS008",),
    "vanishing-sigmoids": ("GS007",),
    "exploding-start": ("GS002",),
    "dead-after-rate": ("GS006",),
    "tiny-init": ("GS007",),
}


class Told(Watch):
    """A watch that tells another tool what it is told."""

    other: Any = None

    def step(self, loss: float | None = None, lr: float | None = None) -> None:
        rate = {} if lr is None or math.isnan(lr) else {"lr": lr}
        self.other.log(len(self._losses), math.nan if loss is None else loss, **rate)
        super().step(loss, lr)


def both(monitors: list[Any]) -> Callable[..., Any]:
    """``watching`` as the loops call it, with gradsnitch beside it; its monitors are put into the list."""
    import gradsnitch

    @contextmanager
    def watched(network: nn.Module, every: int = 10) -> Iterator[Watch]:
        monitors.append(gradsnitch.watch(network))
        with watching(network, every) as watch:
            watch.__class__ = Told
            assert isinstance(watch, Told)
            watch.other = monitors[-1]
            yield watch

    return watched


def train(make: Callable[[], Observations]) -> dict[str, Any]:
    """Train, then judge by both."""
    import gradsnitch

    monitors: list[Any] = []
    loop_parts.watching = sound_loops.watching = both(monitors)
    began = time.perf_counter()
    seen = make()
    between = time.perf_counter()
    designed = frozenset() if seen.start is None else frozen_parameters(seen.start)
    verdict = judge(collect(replace(seen, designed=designed)))
    row: dict[str, Any] = {
        "said": [f.fault for f in verdict.findings] or [HEALTHY],
        "sentence": [f.sentence for f in verdict.findings][:1],
    }
    row |= {"gradsnitch": [f.code for f in gradsnitch.lint(monitors[-1].df())]}
    row |= {"train_seconds": between - began, "judge_seconds": time.perf_counter() - between}
    row |= {"first_loss": seen.losses[0], "last_loss": seen.losses[-1]} if seen.losses else {}
    return row


def trainings(options: argparse.Namespace) -> Iterator[tuple[str, int, Callable[[], Observations]]]:
    """Fault (or "sound"), seed or number, and the training."""
    for seed in range(options.first, options.first + options.seeds):
        for fault, make in faulty_loops.FAULTS.items():
            if not options.fault or fault in options.fault:
                yield fault, seed, lambda make=make, seed=seed: make(seed)
    for number in range(options.sound_first, options.sound_first + options.sound):
        yield "sound", number, lambda number=number: sound_loops.sound(number)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--sound", type=int, default=300)
    parser.add_argument("--sound-first", type=int, default=0)
    parser.add_argument("--fault", action="append")
    parser.add_argument("--part", default="0/1", help="1/2: the second of every two trainings, for two processes")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.quick:
        options.seeds, options.sound = 1, 10
    torch.set_num_threads(1)
    place, parts = (int(n) for n in options.part.split("/"))
    rows = []
    for number, (fault, seed, make) in enumerate(trainings(options)):
        if number % parts != place:
            continue
        row: dict[str, Any] = {"fault": fault, "seed": seed, **train(make)}
        ours, theirs = NAMED.get(fault, (HEALTHY,)), THEIRS.get(fault, ())
        row["right"] = row["said"][0] in ours
        row["right_in_two"] = any(said in ours for said in row["said"][:2])
        codes = row["gradsnitch"]
        row["gradsnitch_right"] = not codes if fault == "sound" else any(code in theirs for code in codes)
        rows.append(row)
        if options.out:
            with options.out.open("a") as file:
                file.write(json.dumps(row) + "\n")
    planted = [row for row in rows if row["fault"] != "sound"]
    sound = [row for row in rows if row["fault"] == "sound"]
    named = sum(row["right"] for row in planted) / max(1, len(planted))
    result = {
        "ratio": named,
        "low": named,
        "high": named,
        "ours": sum(not row["right"] for row in sound),
        "peer": sum(not row["gradsnitch_right"] for row in sound),
        "unit": "alarms on sound trainings; ratio is the share of faults that convscope names first",
        "better": "higher",
        "target": TARGET,
        "faults": len(planted),
        "sound": len(sound),
        "in_the_first_two": sum(row["right_in_two"] for row in planted),
        "gradsnitch_named": sum(row["gradsnitch_right"] for row in planted),
        **this_machine(),
    }
    tell(result, options.json)


if __name__ == "__main__":
    main()
