"""What a step costs in one process with two threads, and in two processes of one thread that share its batch.

The lecture's AlexNet and resnet20 in float32 on 32 x 32 images, batches of 128, without augmentation. Seconds are those
of the middle step of a training, start and evaluation left out; of two processes the first one tells them, with its
bytes and seconds in the exchange of gradients, in which the wait for the other process is counted.

Claim: on two cores two processes train the lecture's AlexNet at 0.9 of the rate of one process at least.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from paired import abba, arguments, median_ratio, tell, this_machine

import convscope
from convscope.training.loop import Step

BATCH, FIRST = 128, 4  # images an update, and updates that are not timed
MODELS = ("alexnet", "resnet20")


def seconds_a_step(model: str, processes: int, steps: int, told: dict[str, list[float]]) -> float:
    """The median seconds of an update; ``told`` takes bytes and seconds of its exchange."""
    folder = Path(tempfile.mkdtemp())
    try:
        session = convscope.prepare_training(
            "shapes", name="r", runs=folder, model=model, limit=steps * BATCH * 2, batch_size=BATCH, epochs=1,
            augment="none", precision="float32", convolution="direct", device="cpu", processes=processes,
        )  # fmt: skip
        found: list[float] = []
        exchanged = [(0, 0.0)]
        events = session.events()
        for event in events:
            if isinstance(event, Step):
                found.append(event.seconds["compute"])
                team = session.state.team
                exchanged.append((0, 0.0) if team is None else (team.exchanged, team.seconds))
        bytes_a_step, in_exchange = np.median(np.diff(np.array(exchanged), axis=0)[FIRST:], axis=0)
        told.setdefault("bytes", []).append(float(bytes_a_step))
        told.setdefault("exchange", []).append(float(in_exchange))
        return float(np.median(found[FIRST:]))
    finally:
        shutil.rmtree(folder)


def measured(model: str, steps: int, rounds: int) -> dict[str, Any]:
    """Both ways, in turn."""
    told: dict[str, list[float]] = {}
    two, one = abba(
        lambda: seconds_a_step(model, 2, steps, told), lambda: seconds_a_step(model, 1, steps, {}), rounds, True
    )
    ratio, low, high = median_ratio(one, two)
    exchange = float(np.median(told["exchange"]))
    return {
        "ratio": ratio,
        "low": low,
        "high": high,
        "seconds_of_one": float(np.median(one)),
        "seconds_of_two": float(np.median(two)),
        "bytes_a_step": float(np.median(told["bytes"])),
        "exchange_seconds": exchange,
        "compute_seconds": float(np.median(two)) - exchange,
    }


def main() -> None:
    options = arguments(__doc__)
    os.environ.pop("OMP_NUM_THREADS", None)  # the threads are shared by the processes
    torch.set_num_threads(2)
    steps, rounds = (8, 1) if options.quick else (24, 2)
    found = {model: measured(model, steps, rounds) for model in MODELS}
    told = found["alexnet"]
    result = {
        "ratio": told["ratio"],
        "low": told["low"],
        "high": told["high"],
        "ours": BATCH / told["seconds_of_two"],
        "peer": BATCH / told["seconds_of_one"],
        "unit": "images/s",
        "better": "higher",
        "target": 0.9,
        **found,
        **this_machine(),
    }
    tell(result, options.json)


if __name__ == "__main__":
    main()
