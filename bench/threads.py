"""What it costs that another process is busy, with threads that wait spinning (torch's default) or asleep (ours).

The lecture's AlexNet in float32, batches of 128, each measurement a process of its own: A B B A, alone and beside a
process that keeps one core busy.

Claim: asleep costs nothing alone (at least 0.97), and is faster beside a busy process.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import Any

import numpy as np
from paired import abba, arguments, median_ratio, tell

from convscope.cli.application import SPINS

BATCH, STEPS = 128, 8
BUSY = "while True: pass"
WORK = "worker"


def work(steps: int) -> float:
    """Images a second of a plain training step, in this process."""
    import torch
    import torch.nn.functional as F

    from convscope.models.registry import build

    network = build("alexnet", 10, 32, seed=0).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    x = torch.randn(BATCH, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    y = torch.arange(BATCH) % 10
    start = 0.0
    for step in range(steps + 2):
        if step == 2:
            start = time.perf_counter()
        optimizer.zero_grad()
        F.cross_entropy(network(x), y).backward()
        optimizer.step()
    return steps * BATCH / (time.perf_counter() - start)


def rate(asleep: bool, busy: bool, steps: int) -> float:
    """Images a second of a worker process, beside a busy one or not."""
    env = {key: value for key, value in os.environ.items() if key not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    other = subprocess.Popen([sys.executable, "-c", BUSY]) if busy else None
    try:
        command = [sys.executable, __file__, WORK, str(steps)]
        env |= {"GOMP_SPINCOUNT": SPINS} if asleep else {}
        return float(subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout)
    finally:
        if other is not None:
            other.kill()
            other.wait()


def main() -> None:
    if sys.argv[1:2] == [WORK]:
        print(work(int(sys.argv[2])))
        return
    options = arguments(__doc__)
    steps, rounds = (3, 1) if options.quick else (STEPS, 2)
    found: dict[str, Any] = {}
    for name, busy in (("alone", False), ("busy", True)):
        asleep, spinning = abba(lambda b=busy: rate(True, b, steps), lambda b=busy: rate(False, b, steps), rounds)
        ratio, low, high = median_ratio(asleep, spinning)
        found[name] = {"ratio": ratio, "low": low, "high": high}
        found[name] |= {"asleep": float(np.median(asleep)), "spinning": float(np.median(spinning))}
    result = {
        "ratio": found["busy"]["ratio"],
        "low": found["busy"]["low"],
        "high": found["busy"]["high"],
        "ours": found["busy"]["asleep"],
        "peer": found["busy"]["spinning"],
        "unit": "images/s",
        "better": "higher",
        "target": 1.0,
        **found,
    }
    tell(result, options.json)


if __name__ == "__main__":
    main()
