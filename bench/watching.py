"""What watching every tenth step costs a training: ten steps watched against the same ten unwatched.

Claim: watching costs at most 2 % of a training in the median, and leaves the same weights to the last bit. The cost is
accounted inside the watched run too: what a step that is looked at takes longer than the nine after it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import numpy as np
import torch
from paired import abba, arguments, median_ratio, tell

from convscope.datasets.dataset import assemble
from convscope.datasets.shapes import load_shapes
from convscope.machine import pick_precision
from convscope.models.registry import build
from convscope.recipes import Recipe
from convscope.training.batches import Batches
from convscope.training.loop import Step, TrainState, make_optimizer, train
from convscope.training.watching import EVERY, watching

ROUNDS, BATCH, TARGET = 36, 128, 1.02
NETWORKS = ("resnet20", "alexnet")
CPU = torch.device("cpu")


def main() -> None:
    options = arguments(__doc__)
    data = assemble(load_shapes(3_000))
    found = {}
    for name in NETWORKS[:1] if options.quick else NETWORKS:
        found[name] = measure(name, data, 2 if options.quick else ROUNDS)
    ratio, low, high, ours, peer = found["resnet20"][:5]
    result = {
        "ratio": ratio,
        "low": low,
        "high": high,
        "ours": ours,
        "peer": peer,
        "unit": "s for 10 steps",
        "better": "lower",
        "target": TARGET,
    }
    result |= {"precision": pick_precision("auto", CPU), "batch": BATCH}
    result |= {f"ratio_{name}": list(numbers[:3]) for name, numbers in found.items()}
    result |= {f"accounted_{name}": list(numbers[5:]) for name, numbers in found.items()}
    tell(result, options.json)


def measure(name: str, data, rounds: int) -> tuple[float, ...]:
    """Ratio with its interval, the median seconds of ten steps watched and not, and the ratio accounted inside."""
    recipe = Recipe().with_options(
        {"model": name, "precision": pick_precision("auto", CPU), "epochs": 1_000, "batch_size": BATCH}
    )

    def training() -> tuple[TrainState, Iterator[Step]]:
        network = build(name, 6, 32, seed=0)
        state = TrainState(network, make_optimizer(network, recipe.optimizer))
        batches = Batches(data, data.parts["train"], BATCH, 0, recipe.augment, CPU, recipe.labels)
        return state, train(state, batches, recipe)

    (watched, ours), (plain, peer) = training(), training()
    with ExitStack() as stack:
        watch = stack.enter_context(watching(watched.network))

        blocks: list[list[float]] = []

        def seen(steps: Iterator[Step] = ours) -> float:
            blocks.append(_timed(steps, lambda step: watch.step(step.loss, step.lr)))
            return sum(blocks[-1])

        def unseen(steps: Iterator[Step] = peer) -> float:
            return sum(_timed(steps, lambda step: None))

        seen(), unseen()  # not counted
        times = abba(seen, unseen, rounds)
    looks = len(watch.watched().steps)
    assert looks == 2 * rounds + 1, looks
    pairs = zip(watched.network.state_dict().values(), plain.network.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs), "watching changed a weight"
    middle = [float(torch.tensor(t).median()) for t in times]
    whole = np.array(blocks[1:])  # the first step of a block is looked at
    without = EVERY * np.median(whole[:, 1:], axis=1)
    return (
        *median_ratio(*times),
        middle[0],
        middle[1],
        *median_ratio(without + whole[:, 0] - without / EVERY, without),
    )


def _timed(steps: Iterator[Step], after: Callable[[Step], None]) -> list[float]:
    """Seconds of each of ten steps."""
    seconds = []
    for _ in range(EVERY):
        start = time.perf_counter()
        after(next(steps))
        seconds.append(time.perf_counter() - start)
    return seconds


if __name__ == "__main__":
    main()
