"""On 1, 2 and 3 threads: the same bits where that is so, and near where sums are shared otherwise.

The same bits: norms with what stands beside them, highest values, forward and backward passes of minimal filtering but
the filters' gradient (a sum over tiles, of a part in each thread), augmentation, figures (which no thread computes),
and all that is asked again on as many threads. Near, by SHARED: training steps, logits and Jacobians.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from convscope.classifying import metrics
from convscope.classifying.prediction import logits
from convscope.convolution.normalised import Row, normalise
from convscope.convolution.passes import Passes, convolve
from convscope.convolution.peaks import peaks
from convscope.diagnosis.chain import find_chain
from convscope.diagnosis.jacobian import jacobians
from convscope.images.augmentation import augment
from convscope.images.preprocess import Preprocess
from convscope.models.fast_convolutions import convolving, every_layer
from convscope.models.registry import build
from convscope.randomness import mix
from convscope.recipes import AUGMENTS, OPTIMIZERS
from convscope.tasks.registry import TASKS
from convscope.training.loop import make_optimizer
from torture.numbers_compare import LAST, Check, Random, apart, first, lively, size, threads, unequal, usual
from torture.numbers_functions import FILTERINGS
from torture.numbers_jacobians import network_of

COUNTS = (1, 2, 3)
SHARED = 1e-4  # of the largest: sums in another order, through all layers of a network


def on_threads(work: Callable[[], list[Any]]) -> list[list[Any]]:
    """What work gives on each number of threads, and on the last of them again."""
    found = []
    for count in (*COUNTS, COUNTS[-1]):
        with threads(count):
            found.append(work())
    return found


def same_bits(work: Callable[[], list[Any]], what: str) -> str:
    found = on_threads(work)
    return first(*(unequal(found[0], other, f"{what} on one thread and on several") for other in found[1:]))


def near(work: Callable[[], list[Any]], what: str, allowed: float = SHARED) -> str:
    """Near on any number of threads, and the same bits on as many."""
    found = on_threads(work)
    flaws = [
        apart(b, a.double() if isinstance(a, Tensor) else a, f"{what} on several threads", allowed)
        for other in found[1:]
        for a, b in zip(found[0], other, strict=True)
    ]
    return first(unequal(found[-2], found[-1], f"{what} twice on {COUNTS[-1]} threads"), *flaws)


def row(random: Random) -> str:
    """Large enough to be shared among threads."""
    shape = size(random, 4, 6), 24, 2 * size(random, 24, 32), 64
    x, weight, bias = usual(random, *shape).contiguous(memory_format=LAST), usual(random, 24), usual(random, 24)
    kind = Row(False, size(random, 0, 2), bool(random.integers(2)))
    dz = usual(random, shape[0], 24, *(side // (2 if kind.after else 1) for side in shape[2:]))

    def work() -> list[Tensor]:
        given = [t.detach().clone(memory_format=torch.preserve_format).requires_grad_() for t in (x, weight, bias)]
        out = normalise(*given, 1e-5, kind)
        return [out, *torch.autograd.grad(out, given, dz), *peaks(x)]

    return same_bits(work, f"{kind} and the peaks of maps")


def convolution(random: Random) -> str:
    way, side = FILTERINGS[size(random, 0, len(FILTERINGS) - 1)], size(random, 16, 40)
    x = usual(random, size(random, 4, 8), 16, side, side).contiguous(memory_format=LAST)
    w = usual(random, 16, 16, way.filter_size, way.filter_size)
    dy = usual(random, *F.conv2d(x, w, padding=1).shape)

    def work(filters: bool) -> list[Tensor]:
        given = x.clone(memory_format=torch.preserve_format).requires_grad_(), w.clone().requires_grad_()
        out = convolve(*given, None, (1, 1), Passes(way, way, way))
        of_images, of_filters = torch.autograd.grad(out, given, dy)
        return [of_filters] if filters else [out, of_images]

    return first(
        same_bits(lambda: work(False), f"{way} and its gradient of the images"),
        near(lambda: work(True), f"{way}'s gradient of the filters", 5e-5),
    )


def extraction(random: Random) -> str:
    """Logits of images in batches."""
    network = lively(
        build(str(random.choice(["alexnet", "resnet20", "speednet"])), 4, 16, {"width": 8}, seed=0), random
    )
    network = network.eval().to(memory_format=LAST)
    images = random.integers(0, 256, (size(random, 5, 30), 16, 16, 3), np.uint8)
    return near(lambda: [logits(network, images, Preprocess(16))], "logits", 1e-5)


def training(random: Random) -> str:
    """Two updates by every faster layer."""
    first_network = build("speednet", 4, 16, {"width": 8}, seed=size(random, 0, 99)).to(memory_format=LAST).train()
    options, name = every_layer(first_network, 16), str(random.choice(list(OPTIMIZERS)))
    tiles = {layer: sides for layer, *sides in options["tiles"]}
    images, labels = usual(random, 12, 3, 16, 16).contiguous(memory_format=LAST), torch.arange(12) % 4

    def work() -> list[Tensor]:
        network = deepcopy(first_network)
        optimizer = make_optimizer(network, OPTIMIZERS[name])
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * group["scale"]
        for _ in range(2):
            optimizer.zero_grad()
            with convolving(network, tiles, options["fused"]):
                loss = F.cross_entropy(network(images), labels)
                loss.backward()
            optimizer.step()
        return [loss.detach(), *(p.detach() for p in network.parameters())]

    # AdamW divides by a gradient's own size, which may be nothing but last bits.
    return near(work, f"two updates by {name}", 5e-3 if name == "adamw" else SHARED)


def stretches(random: Random) -> str:
    network, images = network_of(random)
    network, images = network.double(), images.double()
    chain = find_chain(network, images)

    def work() -> list[float]:
        found = jacobians(network, chain, images, vectors=2)
        return [found.factors[0].whole.norm, found.end_to_end.norm, found.end_to_end.frobenius]

    return near(work, "Jacobians", 1e-6)


def figures(random: Random) -> str:
    scores, labels = usual(random, 50, 5).numpy(), random.integers(0, 5, 50)
    outputs, masks = usual(random, 4, 3, 9, 9), torch.from_numpy(random.integers(0, 3, (4, 9, 9)))

    def work() -> list[Any]:
        told = metrics.evaluate(scores, labels, list("abcde")).to_json()
        task = TASKS["segmentation"]
        found = task.score(task.tally(outputs, masks), ("a", "b", "c"), {}, None).figures
        return [np.frombuffer(repr((told, sorted(found.items()))).encode(), np.uint8)]

    return same_bits(work, "figures")


def variations(random: Random) -> str:
    images = torch.from_numpy(random.integers(0, 256, (20, 3, 24, 24), np.uint8)).contiguous(memory_format=LAST)
    keys, level = (
        mix(size(random, 0, 999), np.arange(20)),
        str(random.choice([name for name in AUGMENTS if name != "none"])),
    )
    return same_bits(lambda: [augment(images, AUGMENTS[level], 1, 2, keys)], f"the augmentation {level}")


ENTRIES: dict[str, Check] = {
    "threads, a row and peaks": row,
    "threads, convolution": convolution,
    "threads, extraction": extraction,
    "threads, training": training,
    "threads, Jacobians": stretches,
    "threads, figures": figures,
    "threads, augmentation": variations,
}
