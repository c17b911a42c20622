"""Small trainings with one mistake each, as a user would write it: what a diagnosis is tested on blindly.

Nothing here knows how the diagnosis works. A ``Fault`` says what it changes in a loop that learns well, and in plain
English what a good tool says about it first. Network, data, optimizer, and size of a batch are drawn by the seed.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convscope.diagnosis.evidence import Observations
from loop_parts import ANY, BARE, DATA, FAMILIES, NORMED, Batch, Block, Loop, data_of, rate_for, run


@dataclass(frozen=True)
class Fault:
    """A mistake: what it changes, what a good tool says first, and the loops in which it can be made."""

    change: Callable[[Loop, random.Random], Loop]
    right: tuple[str, ...]
    families: tuple[str, ...] = ANY
    optimizers: tuple[str, ...] = ("sgd", "adam", "adamw")
    data: tuple[str, ...] = DATA


def without(key: str, seed: int) -> tuple[Loop, random.Random]:
    """The loop in which a fault is made, before it is made, and the draw that goes on from there."""
    fault, draw = PLANTED[key], random.Random(f"{key} {seed}")
    family, optimizer = draw.choice(fault.families), draw.choice(fault.optimizers)
    data, batch_size = data_of(draw.choice(fault.data)), draw.choice((32, 64, 128))
    network = FAMILIES[family](data.classes, draw, 0.0)
    loop = Loop(data, network, optimizer, rate_for(family, optimizer, batch_size), batch_size)
    told = {"patience": draw.choice((1, 20)), "rate_told": draw.random() < 0.5, "held_out": draw.random() < 0.5}
    return replace(loop, **told), draw


def planted(key: str, seed: int) -> Observations:
    """Make the mistake in the loop of this seed, and train."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        loop, draw = without(key, seed)
        return run(PLANTED[key].change(loop, draw))


class Probabilities(nn.Module):
    """A network whose forward ends in a softmax."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return torch.softmax(self.network(images), dim=1)


class CutFeatures(nn.Module):
    """A network whose forward cuts the features off from what made them."""

    def __init__(self, network: nn.Sequential) -> None:
        super().__init__()
        self.backbone, self.head = network[:-1], network[-1]

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.backbone(images).detach())


def _with_network(change: Callable[[nn.Module], object]) -> Callable[[Loop, random.Random], Loop]:
    """Change the network before it is trained, in place or for the one returned."""

    def changed(loop: Loop, draw: random.Random) -> Loop:
        return replace(loop, network=change(loop.network) or loop.network)

    return changed


def _with(**fields: object) -> Callable[[Loop, random.Random], Loop]:
    return lambda loop, draw: replace(loop, **fields)


def _scaled(factor: float, network: nn.Module) -> None:
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim > 1:
                parameter.mul_(factor)


def _hidden_biases(value: float, network: nn.Module) -> None:
    *hidden, _ = (m for m in network.modules() if isinstance(getattr(m, "bias", None), nn.Parameter))
    for layer in hidden:
        nn.init.constant_(layer.bias, value)


def _dropped_out(network: nn.Module) -> nn.Module:
    """Dropout after each rectifier, block or stage, and before the head."""
    ends = (nn.ReLU, nn.Sequential, nn.Flatten, Block)
    parts = ((part, nn.Dropout(0.95)) if isinstance(part, ends) else (part,) for part in network)
    return nn.Sequential(*(layer for part in parts for layer in part))


def _detached_logits(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    logits = network(images).detach().requires_grad_()
    return F.cross_entropy(logits, labels)


def _softmax_twice(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(F.softmax(network(images), dim=1), labels)


def _negated(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    return -F.cross_entropy(network(images), labels)


def _another_networks(loop: Loop, draw: random.Random) -> Loop:
    another = deepcopy(loop.network)
    return replace(loop, moved=lambda network: another.parameters())


def _all_alike(loop: Loop, draw: random.Random) -> Loop:
    """One picture for all, or none: every image is black."""
    one = draw.choice((loop.data.images[:1], loop.data.images.amin().expand(1, *loop.data.images.shape[1:])))
    held_out = (one.expand_as(loop.data.held_out[0]).clone(), loop.data.held_out[1])
    return replace(loop, data=replace(loop.data, images=one.expand_as(loop.data.images).clone(), held_out=held_out))


def _nan_pixel(loop: Loop, draw: random.Random) -> Loop:
    """In one of the images that the diagnosis is handed, or in one of the others."""
    images = loop.data.images.clone()
    first = draw.choice((0, 256))
    images[draw.randrange(first, first + 256), draw.randrange(3), draw.randrange(16), draw.randrange(16)] = math.nan
    return replace(loop, data=replace(loop.data, images=images))


def _shuffled(loop: Loop, draw: random.Random) -> Loop:
    mixed = [labels[torch.randperm(len(labels))] for labels in (loop.data.labels, loop.data.held_out[1])]
    data = replace(loop.data, labels=mixed[0], held_out=(loop.data.held_out[0], mixed[1]))
    return replace(loop, data=data, held_out=True)  # without others it could not be told from what was learned by heart


def _shifted_labels(loop: Loop, draw: random.Random) -> Loop:
    return replace(loop, batch=lambda images, labels, step: (images, (labels + 1) % loop.data.classes))


def _late_labels(loop: Loop, draw: random.Random) -> Loop:
    """The loader has read one batch ahead of the labels."""
    read: list[Tensor] = []

    def batch(images: Tensor, labels: Tensor, step: int) -> Batch:
        read.append(labels)
        return images, read[max(0, step - 1)]

    return replace(loop, batch=batch)


def _one_bad_batch(loop: Loop, draw: random.Random) -> Loop:
    at, kind = draw.randrange(100, 150), draw.choice(("noise", "random labels", "labels of another batch"))
    read: list[Tensor] = []

    def batch(images: Tensor, labels: Tensor, step: int) -> Batch:
        read.append(labels)
        if step != at:
            return images, labels
        if kind == "noise":
            return 5 * torch.randn_like(images), labels
        return images, torch.randint_like(labels, loop.data.classes) if kind == "random labels" else read[-2]

    return replace(loop, batch=batch)


def _frozen_convolution(loop: Loop, draw: random.Random) -> Loop:
    def first(network: nn.Module) -> None:
        convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
        draw.choice(convolutions).requires_grad_(False)

    return replace(loop, first=first)


def _huge_steps(loop: Loop, draw: random.Random) -> Loop:
    """A warm-up the wrong way round: it begins where it should never be."""
    times = 500.0 if loop.optimizer == "sgd" else 100.0  # Adam's steps are as long as its rate says, clipped or not
    return replace(loop, clip=1.0, factor=lambda step: times if 5 <= step < 10 else 1.0)


def _too_high(loop: Loop, draw: random.Random) -> Loop:
    return replace(loop, rate=loop.rate * draw.choice((300, 1000)), clip=draw.choice((0.0, 1.0)))


PLANTED: dict[str, Fault] = {
    "softmax-in-function": Fault(
        _with_network(Probabilities),
        ("The network's forward ends in a softmax, and cross-entropy takes a softmax of that: hand it logits.",),
    ),
    "softmax-before-loss": Fault(
        _with(loss=_softmax_twice),
        ("The loss told is not the cross-entropy of these outputs: the loop takes a softmax before cross-entropy.",
         "Or: the loss cannot fall below about ln(K - 1 + e) - 1, as with a softmax taken twice."),
    ),
    "softmax-last-layer": Fault(
        _with_network(lambda network: nn.Sequential(*network, nn.Softmax(dim=1))),
        ("The last layer is a softmax, and cross-entropy takes another: remove it.",),
    ),
    "biases-minus-10": Fault(
        _with_network(partial(_hidden_biases, -10.0)),
        ("The rectifiers' units are dead from the start: the biases are far below zero.",),
    ),
    "biases-minus-2": Fault(
        _with_network(partial(_hidden_biases, -2.0)),
        ("Most of the rectifiers' units are zero from the start, because the biases are below zero.",),
    ),
    "not-zeroed-sgd": Fault(
        _with(zeroed=False),
        ("Gradients of earlier steps are never zeroed and add up.",),
        optimizers=("sgd",),
    ),
    "not-zeroed-adam": Fault(
        _with(zeroed=False),
        ("Gradients of earlier steps are never zeroed and add up.",),
        optimizers=("adam", "adamw"),
    ),
    "optimizer-of-another-network": Fault(
        _another_networks,
        ("No weight moves though all have gradients: the optimizer does not hold this network's parameters.",),
    ),
    "logits-detached": Fault(
        _with(loss=_detached_logits),
        ("No gradient reaches any layer: the outputs are detached before the loss.",),
    ),
    "features-detached": Fault(
        _with_network(CutFeatures),
        ("No gradient reaches the layers before the head: the features are detached there.",),
    ),
    "images-all-alike": Fault(
        _all_alike,
        ("All images are the same, so they say nothing about the label.",),
    ),
    "nan-pixel": Fault(
        _nan_pixel,
        ("A pixel of an image is not a number, where the tool is handed that image.",
         "Else: the loss became NaN suddenly out of a training that went well, so look for a broken image."),
    ),
    "images-times-255": Fault(
        _with(batch=lambda images, labels, step: (images * 255, labels)),
        ("The loop's images are about 255 times as large as the dataset's: they are scaled the wrong way.",),
        families=BARE,
    ),
    "labels-plus-one": Fault(
        _shifted_labels,
        ("The network learns, but another class than the dataset says: the loop's labels are shifted.",),
    ),
    "rate-zero-from-60": Fault(
        _with(factor=lambda step: 1.0 if step < 60 else 0.0),
        ("From step 60 on no weight moves: the schedule sets the rate to zero.",),
    ),
    "rate-jump-at-100": Fault(
        _with(factor=lambda step: 1.0 if step < 100 else 15.0),
        ("It learned until step 100; then the rate rose 15-fold, and the loss with it.",),
        families=("deep",), data=("shapes", "discs"),  # what is shallow or easy to learn recovers
    ),
    "one-bad-batch": Fault(
        _one_bad_batch,
        ("The training is sound but for one step, whose loss sticks out: look at that batch.",),
        families=NORMED, data=("digits", "stripes", "discs"),
    ),
    "labels-shuffled": Fault(
        _shuffled,
        ("The labels have nothing to do with the images.",),
    ),
    "rate-too-high": Fault(
        _too_high,
        ("The rate is far too high.",),
        families=(*BARE, "deep", "vgg", "alexnet"),  # norms right up to the head forgive it
    ),
    "rate-too-low": Fault(
        lambda loop, draw: replace(loop, rate=loop.rate / 1000),
        ("The rate is far too low: the weights hardly move.",),
    ),
    "eval-mode": Fault(
        _with(training=False),
        ("The batch norms use running statistics while training: the network is in eval mode.",),
        families=NORMED,
    ),
    "layer-frozen-by-mistake": Fault(
        _frozen_convolution,
        ("One convolution's weight never moves: it was frozen after the network was built.",),
    ),
    "vanishing-sigmoids": Fault(
        _with(),
        ("The gradient vanishes on its way to the first layers, through many sigmoids.",),
        families=("sigmoids",),
    ),
    "exploding-start": Fault(
        _with_network(partial(_scaled, 6.0)),
        ("Outputs and gradients explode from layer to layer at the start: the first weights are too large.",),
        families=(*BARE, "deep"),
    ),
    "dead-after-rate": Fault(
        _huge_steps,
        ("Rectifiers' units died in a few steps with far too high a rate, at steps 5 to 9.",),
        families=("plain",),
    ),
    "tiny-init": Fault(
        _with_network(partial(_scaled, 0.05)),
        ("Signal and gradient vanish from layer to layer at the start: the first weights are too small.",),
        families=("deep",),
    ),
    "head-left-out": Fault(
        _with(moved=lambda network: network[:-1].parameters()),
        ("The last layer has gradients and never moves: the optimizer was not given its parameters.",),
    ),
    "loss-negated": Fault(
        _with(loss=_negated),
        ("The loss is negative, which cross-entropy cannot be: its sign is wrong, and it is maximised.",),
    ),
    "loss-of-other-batch": Fault(
        _late_labels,
        ("The loss stays at chance though the dataset can be learned: the loop's labels do not fit its images.",),
    ),
    "images-scaled-to-zero": Fault(
        _with(batch=lambda images, labels, step: (images / 255 / 255, labels)),
        ("The loop's images are almost zero, far smaller than the dataset's: they are divided once too often.",),
        families=BARE,
    ),
    "dropout-of-all": Fault(
        _with_network(_dropped_out),
        ("Dropout turns off nearly all units, so nothing gets through: its share is far too high.",),
    ),
}  # fmt: skip

FAULTS: dict[str, Callable[[int], Observations]] = {key: partial(planted, key) for key in PLANTED}
RIGHT: dict[str, tuple[str, ...]] = {key: fault.right for key, fault in PLANTED.items()}
