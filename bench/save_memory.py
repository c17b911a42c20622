"""Activation memory of a training step with --save-memory, against without: resnet110, batch 128, 32 x 32 pixels.

Memory is the peak of the bytes that torch holds for activations in one forward and backward pass, counted tensor by
tensor; beside it the resident memory (RssAnon) that fresh processes grow by, as they are and with an allocator that
gives back what is freed (MALLOC_MMAP_THRESHOLD_ of glibc). Gradients are asserted equal to 1e-6, and the time of a step
is measured in one process, A B B A.

Claim: at most 0.4 of the activation memory, at no more than 1.4 times the time of a step.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from copy import deepcopy

import numpy as np
import torch
import torch.nn.functional as F
from memory import rss_anon, watched
from paired import abba, arguments, median_ratio, tell

from convscope.models.recomputing import activation_bytes, recomputing
from convscope.models.registry import build

NAME, BATCH, TARGET, SLOWER = "resnet110", 128, 0.4, 1.4


def batch(size: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(size, 3, 32, 32, generator=generator).contiguous(memory_format=torch.channels_last)
    return images, torch.randint(10, (size,), generator=generator)


def network() -> torch.nn.Module:
    return build(NAME, 10, 32, seed=0).to(memory_format=torch.channels_last).train()


def step(net: torch.nn.Module, data: tuple[torch.Tensor, torch.Tensor], save: bool) -> float:
    start = time.perf_counter()
    net.zero_grad()
    with recomputing(net, save):
        out = net(data[0])
    F.cross_entropy(out, data[1]).backward()
    return time.perf_counter() - start


def child(save: bool, size: int) -> None:
    """Train two steps while a thread watches; print by how much the process grew."""
    net, data = network(), batch(size)
    step(net, batch(2), save)  # libraries loaded, gradients there
    before = rss_anon()
    with watched() as peak:
        step(net, data, save)
    print(json.dumps(peak[0] - before))


def grown(save: bool, size: int, returning: bool = False) -> float:
    environment = os.environ | ({"MALLOC_MMAP_THRESHOLD_": "1000000"} if returning else {})
    words = [sys.executable, __file__, "child", str(int(save)), str(size)]
    done = subprocess.run(words, check=True, capture_output=True, text=True, env=environment)
    return json.loads(done.stdout) / 1e9


def assert_equal_gradients(data: tuple[torch.Tensor, torch.Tensor]) -> None:
    plain, saving = network(), network()
    step(plain, data, False)
    step(saving, data, True)
    for a, b in zip(plain.parameters(), saving.parameters(), strict=True):
        assert a.grad is not None
        assert b.grad is not None
        assert (a.grad - b.grad).norm() <= 1e-6 * a.grad.norm()


def main() -> None:
    if sys.argv[1:2] == ["child"]:
        child(sys.argv[2] == "1", int(sys.argv[3]))
        return
    options = arguments(__doc__)
    rounds, size = (1, 8) if options.quick else (5, BATCH)
    data = batch(size)
    assert_equal_gradients(data)
    plain, saving = (activation_bytes(deepcopy(network()), data[0], save) / 1e9 for save in (False, True))
    net = network()
    step(net, data, True)
    ours, peer = abba(lambda: step(net, data, True), lambda: step(net, data, False), rounds)
    slower, low, high = median_ratio(ours, peer)
    result = {
        "ratio": saving / plain,
        "low": saving / plain,
        "high": saving / plain,
        "ours": saving,
        "peer": plain,
        "unit": "GB",
        "better": "lower",
        "target": TARGET,
        "step_target": SLOWER,
        "step_ratio": slower,
        "step_ratio_low": low,
        "step_ratio_high": high,
        "step_seconds": float(np.median(ours)),
        "resident_ours": grown(True, size),
        "resident_peer": grown(False, size),
        "resident_ours_returning": grown(True, size, returning=True),
        "resident_peer_returning": grown(False, size, returning=True),
        "pairs": len(ours),
    }
    tell(result, options.json)


if __name__ == "__main__":
    main()
