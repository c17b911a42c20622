"""Two sets of five trainings of one recipe, set against each other as `compare` sets recipes: are equals called equal?

A try trains a small AlexNet on the digits ten times, and five times more at a rate that is too low. No seed is used
twice. The peer is what people do with one run of each: McNemar's test on the first run of either set.

Claim: of 20 tries at least 18 find no difference between equals (at the limit of 5 % one is expected to), and more than
half find the recipe that is worse. The ratio is of equals called equal, with Wilson's interval of ours over the peer's.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from paired import arguments, tell, this_machine

import convscope
from convscope.classifying.intervals import SURE, wilson
from convscope.datasets.registry import load_dataset
from convscope.evaluation.comparing import Group, compare_groups
from convscope.evaluation.scoring import evaluate
from convscope.training.runs import find_run

TRIES, QUICK = 20, 2
SEEDS = 5
TARGET = 0.9
WORSE_TARGET = 0.5
FIRST = 1000  # seed of the first try, whose rates were chosen with others
RECIPE: dict[str, Any] = {"model": "alexnet", "width": 4, "epochs": 2, "image_size": 16, "batch_size": 64}
RECIPE |= {"lr": 0.03, "augment": "none", "precision": "float32", "convolution": "direct", "device": "cpu"}
WORSE = {"lr": 0.015}


def trained(runs: Path, name: str, seed: int, **other: Any) -> Group:
    """Five trainings from ``seed`` on, and which test images each has right."""
    convscope.train_repeatedly("digits", runs=runs, name=name, seed=seed, seeds=SEEDS, **RECIPE | other)
    members = tuple(f"{name}-seed-{s}" for s in range(seed, seed + SEEDS))
    rows = []
    for member in members:
        classifier = find_run(member, runs).classifier()
        found = evaluate(classifier, load_dataset("digits", preprocess=classifier.preprocess), "test", None)
        rows.append((found.logits.argmax(1) == found.labels).numpy())
    return Group(name, members, np.stack(rows))


def one_try(runs: Path, number: int) -> dict[str, Any]:
    """A try: the accuracies of all runs, and what each comparison says."""
    start, seed = time.perf_counter(), FIRST + 3 * SEEDS * number
    a, b = (trained(runs, f"{name}{number}", seed + i * SEEDS) for i, name in enumerate("ab"))
    worse = trained(runs, f"worse{number}", seed + 2 * SEEDS, **WORSE)
    alone = compare_groups(*(Group(g.name, g.members[:1], g.right[:1]) for g in (a, b)))
    row: dict[str, Any] = {"try": number, "seeds": [seed, seed + SEEDS, seed + 2 * SEEDS], "n": a.right.shape[1]}
    row |= {name: g.right.mean(1).tolist() for name, g in (("a", a), ("b", b), ("worse", worse))}
    for name, said in (("equal", compare_groups(a, b)), ("lesser", compare_groups(a, worse)), ("alone", alone)):
        row[name] = {key: getattr(said, key) for key in ("difference", "low", "high", "p")}
    return row | {"seconds": time.perf_counter() - start}


def main() -> None:
    options = arguments(__doc__)
    tries = QUICK if options.quick else TRIES
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(tries):
            rows.append(one_try(Path(folder), number))
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    equal = wilson(sum(row["equal"]["p"] >= SURE for row in rows), tries)
    peer = sum(row["alone"]["p"] >= SURE for row in rows) / tries
    found = wilson(sum(row["lesser"]["p"] < SURE and row["lesser"]["difference"] > 0 for row in rows), tries)
    result = {
        "ratio": equal.value / peer if peer else None,
        "low": equal.low / peer if peer else None,
        "high": equal.high / peer if peer else None,
        "ours": equal.value,
        "peer": peer,
        "unit": f"share of {tries} tries in which two equal recipes are not said to differ",
        "better": "higher",
        "target": TARGET,
        "ours_interval": [equal.low, equal.high],
        "worse_found": vars(found),
        "worse_target": WORSE_TARGET,
        "tries": rows,
        **this_machine(),
    }
    tell(result, options.json)


if __name__ == "__main__":
    main()
