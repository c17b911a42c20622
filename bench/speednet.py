"""Training speednet: ours against the same network in eager channels-last torch.

The peer: float32, channels last, Muon as it is published (each iteration multiplies the whole matrix), fed with
batches of ours that were made before. Ours: what `convscope train --size medium` does here. The same weights, batches,
rates and number of steps, one process, A B B A. The time of an epoch is that of its steps: both have as many.

Claim: at least 1.5 times the images a second in float32 without a matrix unit (--plain), 1.2 with all there is.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from paired import abba, arguments, median_ratio, tell, this_machine

from convscope.datasets.dataset import Dataset, assemble
from convscope.datasets.shapes import load_shapes
from convscope.machine import pick_precision
from convscope.models.fast_convolutions import fastest_layers
from convscope.models.registry import build
from convscope.named_recipes import find_recipe
from convscope.recipes import Recipe
from convscope.training.batches import Batch, Batches
from convscope.training.loop import TrainState, make_optimizer, prepare, train
from convscope.training.muon import COEFFICIENTS, ITERATIONS, Muon

BATCH, IMAGES, TARGET, TARGET_PLAIN = 512, 6_000, 1.2, 1.5
CPU = torch.device("cpu")


class PublishedMuon(Muon):
    """Muon with the iteration as its authors wrote it down; the rest is ours, as is what is not a filter."""

    @torch.no_grad()
    def step(self, closure=None) -> None:  # pyrefly: ignore[bad-override]
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                if not group["orthogonal"]:
                    self._update(weight, weight.grad, group)
                    continue
                buffer = self.state[weight].setdefault("momentum_buffer", torch.zeros_like(weight))
                buffer.mul_(group["momentum"]).add_(weight.grad)
                moved = weight.grad.add(buffer, alpha=group["momentum"]).reshape(len(weight), -1)
                norm = weight.norm()
                size = group["lr"] * norm / min(moved.shape) ** 0.5
                weight.sub_(newton_schulz(moved).reshape(weight.shape) * size)
                weight.mul_(norm / weight.norm())


def newton_schulz(x: torch.Tensor) -> torch.Tensor:
    a, b, c = COEFFICIENTS
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    x = x / x.norm()
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if tall else x


class Eager:
    """The peer's loop."""

    def __init__(
        self,
        batches: Iterator[Batch],
        wanted: Recipe,
        source: Batches,
        published: bool = True,
        device: torch.device = CPU,
    ) -> None:
        self.network = build("speednet", 6, 32, seed=0).to(device).to(memory_format=torch.channels_last)
        prepare(self.network, source)
        self.optimizer = make_optimizer(self.network, wanted.optimizer)
        if published:
            groups = self.optimizer.param_groups
            self.optimizer = PublishedMuon(groups, wanted.optimizer.lr, wanted.optimizer.momentum)
        for group in self.optimizer.param_groups:
            group["lr"] = wanted.optimizer.lr * group["scale"]
        self.batches, self.smoothing = batches, wanted.optimizer.label_smoothing

    def step(self) -> float:
        batch = next(self.batches)
        self.optimizer.zero_grad()
        loss = F.cross_entropy(self.network(batch.images), batch.labels, label_smoothing=self.smoothing)
        loss.backward()
        self.optimizer.step()
        return loss.item()


class Ours:
    """Our loop, as a run drives it; it never reaches the end of its epochs here."""

    def __init__(self, batches: Batches, wanted: Recipe, device: torch.device = CPU) -> None:
        if wanted.loop.precision == "float32" and device == CPU:
            wanted = wanted.with_options(fastest_layers(build("speednet", 6, 32), 32))
        network = build("speednet", 6, 32, seed=0).to(device).to(memory_format=torch.channels_last)
        prepare(network, batches)
        self.state = TrainState(network, make_optimizer(network, wanted.optimizer))
        self.steps = train(self.state, batches, wanted, late=device != CPU)

    def step(self) -> float:
        return next(self.steps).loss


def recipe(precision: str) -> Recipe:
    options = {"precision": precision, "batch_size": BATCH, "epochs": 10_000, "schedule": "constant"}
    return find_recipe("speed-medium").recipe.with_options(options)


def new_batches(data: Dataset) -> Batches:
    return Batches(data, np.arange(len(data)), BATCH, 0, recipe("float32").augment, CPU)


def forever(batches: Batches) -> Iterator[Batch]:
    return (batch for epoch in itertools.count() for batch in batches.epoch(epoch))


def assert_equal_results(data: Dataset, precision: str) -> None:
    """The first losses of both loops agree; later they part by rounding, as any two trainings do."""
    wanted = recipe(precision)
    ours, peer = Ours(new_batches(data), wanted), Eager(forever(new_batches(data)), wanted, new_batches(data))
    for tolerance in (1e-4, 1e-3, 1e-2):
        mine, theirs = ours.step(), peer.step()
        tolerance = tolerance if precision == "float32" else 0.05
        assert abs(mine - theirs) < tolerance * theirs, (precision, mine, theirs)


def run(loop: Eager | Ours, steps: int) -> float:
    start = time.perf_counter()
    for _ in range(steps):
        loop.step()
    return time.perf_counter() - start


def main() -> None:
    options = arguments(__doc__)
    rounds, steps = (1, 1) if options.quick else (5, 3)
    data = assemble(load_shapes(IMAGES))
    precision = pick_precision("auto", CPU)
    for kind in {"float32", precision}:
        assert_equal_results(data, kind)
    first = list(itertools.islice(new_batches(data).epoch(0), 8))  # made before the clock runs, which favours the peer
    peer = Eager(itertools.cycle(first), recipe(precision), new_batches(data))
    loops = {kind: Ours(new_batches(data), recipe(kind)) for kind in {precision, "float32"}}
    for loop in (peer, *loops.values()):
        run(loop, 1)
    mine, theirs = abba(lambda: run(loops[precision], steps), lambda: run(peer, steps), rounds)
    ratio, low, high = median_ratio(theirs, mine)
    in_float32 = ratio, low, high
    if precision != "float32":
        slower, peers = abba(lambda: run(loops["float32"], steps), lambda: run(peer, steps), max(1, rounds // 2))
        in_float32 = median_ratio(peers, slower)
    result = {
        "ratio": ratio,
        "low": low,
        "high": high,
        "ours": steps * BATCH / float(np.median(mine)),
        "peer": steps * BATCH / float(np.median(theirs)),
        "unit": "images/s",
        "better": "higher",
        "target": TARGET_PLAIN if options.plain else TARGET,
        "precision": precision,
        "ratio_float32": in_float32[0],
        "ratio_float32_low": in_float32[1],
        "ratio_float32_high": in_float32[2],
        "pairs": len(mine),
        **this_machine(),
    }
    tell(result, options.json)


if __name__ == "__main__":
    main()
