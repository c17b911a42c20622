"""What a training pays for being steerable: twenty updates under the control channel against the same twenty without.

Claim: a training that can be paused, stepped and looked into takes at most 1 % longer while nobody does so, and ends
with the same weights to the last bit. The network is small and its updates short, so that the channel weighs most.
"""

from __future__ import annotations

import os
import queue
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from paired import abba, arguments, median_ratio, tell

from convscope.training.command import prepare_training
from convscope.training.loop import Step
from convscope.training.session import Session
from convscope.training.stepped import Inbox, Stepped, read_commands
from convscope.training.stepped_command import Telling

ROUNDS, UPDATES, TARGET = 30, 20, 1.01
BATCH = 64


def main() -> None:
    options = arguments(__doc__)
    rounds = 4 if options.quick else ROUNDS
    with tempfile.TemporaryDirectory() as folder:
        ours, peer = prepared(folder, "ours"), prepared(folder, "peer")
        page, steered = steerable(ours)
        plain = peer.events()
        busy: dict[str, list[float]] = {"ours": [], "peer": []}
        seconds(steered, busy["ours"]), seconds(plain, busy["peer"])  # not counted
        times = abba(
            lambda: seconds(steered, busy["ours"]), lambda: seconds(plain, busy["peer"]), rounds, same_memory=True
        )
        pairs = zip(ours.state.network.state_dict().values(), peer.state.network.state_dict().values(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs), "the control channel changed a weight"
        page.communicate()
    processor = [torch.tensor(busy[name][1:], dtype=torch.float64).numpy() for name in ("ours", "peer")]
    ratio, low, high = median_ratio(*times)
    middle = [float(torch.tensor(t).median()) for t in times]
    result = {
        "ratio": ratio,
        "low": low,
        "high": high,
        "ours": middle[0],
        "peer": middle[1],
        "unit": f"s for {UPDATES} updates",
        "better": "lower",
        "target": TARGET,
    }
    result |= {"updates": UPDATES * (2 * rounds + 1), "batch": BATCH}
    result |= {"processor_ratio": list(median_ratio(*processor))}
    tell(result, options.json)


def prepared(folder: str, name: str) -> Session:
    """A training of digits with a narrow network, longer than the bench lasts."""
    return prepare_training(
        "digits", runs=Path(folder), name=name, width=8, epochs=1_000, batch_size=BATCH, convolution="direct"
    )


def steerable(session: Session) -> tuple[subprocess.Popen[bytes], Iterator[Step | dict[str, Any]]]:
    """The same through pipes, as the page has it: another process reads what it tells, and says nothing."""
    page = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert page.stdin is not None
    inbox: Inbox = queue.SimpleQueue()
    silent, _ = os.pipe()
    threading.Thread(target=read_commands, args=(silent, inbox), daemon=True).start()
    return page, Stepped(session, inbox, Telling(page.stdin.fileno(), inbox)).events()


def seconds(events: Iterator[Step | dict[str, Any]], busy: list[float]) -> float:
    """Seconds of twenty updates, with the end of an epoch where one falls among them; ``busy``: of the processor."""
    start, processor = time.perf_counter(), time.process_time()
    for _ in range(UPDATES):
        while isinstance(next(events), dict):
            pass
    busy.append(time.process_time() - processor)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
