"""Small trainings with a fault planted in them, and healthy ones: what the verdict's rules are tested on."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convscope.datasets.dataset import Dataset
from convscope.datasets.registry import load_dataset
from convscope.diagnosis.evidence import Observations, frozen_parameters
from convscope.images.preprocess import to_tensor
from convscope.models.registry import build
from convscope.training.watching import Watch, watching

SIDE = 16  # px


@dataclass(frozen=True)
class Loop:
    """What a loop does: the images and labels that it makes of a batch at a step, its loss, and its optimizer."""

    images: Callable[[Tensor, int], Tensor] = lambda images, step: images
    labels: Callable[[Tensor, int], Tensor] = lambda labels, step: labels
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy
    rate: Callable[[int], float] = lambda step: 1.0  # times the rate
    zeroed: bool = True
    another: bool = False  # the optimizer is another network's
    adam: bool = False


@dataclass(frozen=True)
class Training:
    """A small training: ``rate`` is a good one for the network; ``spoil`` changes it before the first step."""

    network: Callable[[int], nn.Module]
    data: str
    rate: float
    steps: int = 150
    batch_size: int = 64
    momentum: float = 0.9
    warmup: float = 0.0  # share of the steps in which the rate rises
    clip: float = 0.0  # the largest norm of a gradient; 0 for none
    seed: int = 0
    labels: str = "true"
    training_mode: bool = True
    spoil: Callable[[nn.Module], None] = lambda network: None
    loop: Loop = field(default_factory=lambda: Loop())


def images_of(data: str) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
    """Training images, their labels, and held-out ones, normalised."""
    found: Dataset = load_dataset(data, image_size=SIDE)
    parts = []
    for part in ("train", "val"):
        index = found.subset(part)
        images = found.preprocess.normalise(to_tensor(np.asarray(found.images[index])))
        parts.append((images, torch.from_numpy(found.labels[index])))
    return (*parts[0], parts[1])


_CACHE: dict[str, tuple[Tensor, Tensor, tuple[Tensor, Tensor]]] = {}


def train(t: Training) -> Observations:
    """Run it, watched, in a plain loop of torch."""
    if t.data not in _CACHE:
        _CACHE[t.data] = images_of(t.data)
    inputs, labels, held_out = _CACHE[t.data]
    generator = torch.Generator().manual_seed(t.seed)
    if t.labels == "shuffled":
        labels = labels[torch.randperm(len(labels), generator=generator)]
    network = t.network(t.seed)
    designed = frozen_parameters(network)
    t.spoil(network)
    start = deepcopy(network)
    network.train(t.training_mode)
    with watching(network, 10) as watch:
        losses = run(t, network, (inputs, labels), generator, watch)
    classes = int(labels.max()) + 1
    diverged = not np.isfinite(losses[-1])
    kept = [x for x in losses if np.isfinite(x)]
    known = (network, inputs[:256], labels[:256], classes, start, watch.watched(), held_out, kept, t.batch_size)
    return Observations(*known, diverged, designed=designed)


def run(
    t: Training, network: nn.Module, data: tuple[Tensor, Tensor], generator: torch.Generator, watch: Watch
) -> list[float]:
    """The loop; returns the losses, the last of which may be no number."""
    inputs, labels = data
    trained = t.network(t.seed) if t.loop.another else network
    moving = [p for p in trained.parameters() if p.requires_grad]
    kind = torch.optim.Adam if t.loop.adam else partial(torch.optim.SGD, momentum=t.momentum)
    optimizer = kind(moving, lr=t.rate)
    losses: list[float] = []
    while len(losses) < t.steps:
        for chosen in torch.randperm(len(labels), generator=generator).split(t.batch_size):
            step = len(losses)
            if step == t.steps or len(chosen) < t.batch_size:
                break
            for group in optimizer.param_groups:
                group["lr"] = t.rate * min(1.0, 1.2 - step / t.steps) * t.loop.rate(step)
                group["lr"] *= min(1.0, (step + 1) / max(1.0, t.warmup * t.steps))
            logits = network(t.loop.images(inputs[chosen], step))
            loss = t.loop.loss(logits, t.loop.labels(labels[chosen], step))
            if t.loop.zeroed:
                optimizer.zero_grad()
            loss.backward()
            if t.clip:
                nn.utils.clip_grad_norm_(moving, t.clip)
            optimizer.step()
            losses.append(float(loss.detach()))
            watch.step(losses[-1])
            if not np.isfinite(losses[-1]):
                return losses
    return losses


def net(name: str, classes: int, **options: object) -> Callable[[int], nn.Module]:
    """One of convscope's networks by name, its weights from the seed."""
    return lambda seed: build(name, classes, SIDE, options, seed=seed)


def stack(depth: int, width: int, classes: int, activation: type[nn.Module], norm: bool = False) -> Callable:
    """A plain stack of 3x3 convolutions with torch's own initialisation (for sigmoids) or He's (for ReLUs)."""

    def made(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        layers: list[nn.Module] = []
        channels = 3
        for place in range(depth):
            conv = nn.Conv2d(channels, width, 3, padding=1, bias=not norm)
            if activation is nn.ReLU:
                nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
            layers += [conv, *([nn.BatchNorm2d(width)] if norm else []), activation()]
            if place == depth // 2:
                layers.append(nn.MaxPool2d(2))
            channels = width
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * width, classes))

    return made


def scaled(factor: float) -> Callable[[nn.Module], None]:
    """Multiply every weight of a layer."""

    def spoil(network: nn.Module) -> None:
        with torch.no_grad():
            for parameter in network.parameters():
                if parameter.ndim > 1:
                    parameter.mul_(factor)

    return spoil


def freeze(place: int) -> Callable[[nn.Module], None]:
    """Leave the weight of the layer at this place out of the training."""

    def spoil(network: nn.Module) -> None:
        wide = [p for p in network.parameters() if p.ndim > 1]
        wide[place % len(wide)].requires_grad_(False)

    return spoil


# Two families that share no network: thresholds were set on the first, and are tested on the second.
Family = dict[str, list[Training]]

DIGITS, SHAPES = 10, 6


def family(which: str) -> Family:
    """The faults, each with the trainings that have it, and the healthy ones; "set" or "test"."""
    first = which == "set"
    data, classes = ("digits", DIGITS) if first else ("shapes", SHAPES)
    width = 12 if first else 16
    sound = stack(8 if first else 6, width, classes, nn.ReLU)
    sigmoid = stack(10 if first else 8, width, classes, nn.Sigmoid)
    normed = net("plain20", classes, width=6) if first else stack(7, width, classes, nn.ReLU, norm=True)
    good = net("alexnet", classes, width=8) if first else net("vgg", classes, width=8, depth=5)
    base = Training(sound, data, 0.02)
    return {
        "vanishing": [replace(base, network=sigmoid, rate=0.05), replace(base, spoil=scaled(0.1))],
        "exploding": [replace(base, spoil=scaled(6.0))],
        "dead-units": [replace(base, rate=1.5, clip=1.0)],
        "frozen": [replace(base, network=good, rate=0.05, spoil=freeze(1))],
        "norm-mode": [replace(base, network=normed, rate=0.02, training_mode=False)],
        "labels": [replace(base, network=good, rate=0.05, labels="shuffled")],
        "rate-too-low": [replace(base, network=good, rate=5e-5)],
        "rate-too-high": [replace(base, network=good, rate=50.0)],
        "healthy": _healthy(first),
    }


def mistakes() -> dict[str, Training]:
    """Mistakes of loops that set the thresholds of their rules; others test them: see faulty_loops.py."""
    stacked = Training(stack(5, 12, DIGITS, nn.ReLU), "digits", 0.03)
    normed = Training(stack(4, 12, DIGITS, nn.ReLU, norm=True), "digits", 0.05)
    noise = torch.Generator().manual_seed(5)

    def loop(**changes: object) -> Loop:
        return Loop(**changes)  # type: ignore[arg-type]

    def one_pixel(images: Tensor, step: int) -> Tensor:
        images = images.clone()
        images[3, 0, 2, 2] = torch.nan if step == 40 else images[3, 0, 2, 2]
        return images

    def one_batch(labels: Tensor, step: int) -> Tensor:
        return torch.randint(0, DIGITS, labels.shape, generator=noise) if step == 110 else labels

    last = replace(stacked, network=lambda seed: nn.Sequential(stacked.network(seed), nn.Softmax(1)))
    return {
        "nan-pixel": replace(normed, loop=loop(images=one_pixel)),
        "images-alike": replace(stacked, loop=loop(images=lambda images, step: images[:1].expand_as(images).clone())),
        "images-times-255": replace(normed, loop=loop(images=lambda images, step: 255 * images)),
        "images-scaled-to-zero": replace(stacked, loop=loop(images=lambda images, step: images / 255**2)),
        "labels-plus-one": replace(normed, loop=loop(labels=lambda labels, step: (labels + 1) % DIGITS)),
        "softmax-last": last,
        "softmax-before-loss": replace(normed, loop=loop(loss=lambda x, y: F.cross_entropy(x.softmax(1), y))),
        "loss-negated": replace(normed, rate=0.002, loop=loop(loss=lambda x, y: -F.cross_entropy(x, y))),
        "logits-detached": replace(
            stacked, loop=loop(loss=lambda x, y: F.cross_entropy(x.detach().requires_grad_(), y))
        ),
        "features-detached": replace(stacked, network=lambda seed: Detached(stacked.network(seed))),
        "optimizer-of-another": replace(stacked, loop=loop(another=True)),
        "not-zeroed": replace(normed, loop=loop(zeroed=False)),
        "not-zeroed, Adam": replace(normed, rate=1e-3, loop=loop(zeroed=False, adam=True)),
        "rate-zero": replace(normed, loop=loop(rate=lambda step: float(step < 70))),
        "rate-jump": replace(stacked, loop=loop(rate=lambda step: 20.0 if step >= 90 else 1.0)),
        "one-bad-batch": replace(normed, loop=loop(labels=one_batch)),
        "biases-minus-5": replace(stacked, spoil=biased(-5.0)),
    }


class Detached(nn.Module):
    """A stack of layers whose head is given features without their history."""

    def __init__(self, layers: nn.Sequential) -> None:
        super().__init__()
        self.features, self.head = layers[:-1], layers[-1]

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).detach())


def biased(value: float) -> Callable[[nn.Module], None]:
    """Set every bias."""

    def spoil(network: nn.Module) -> None:
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                if name.endswith("bias"):
                    parameter.fill_(value)

    return spoil


def _healthy(first: bool) -> list[Training]:
    if first:
        return [
            Training(net("alexnet", DIGITS, width=8), "digits", 0.05),
            Training(net("plain20", DIGITS, width=6), "digits", 0.05),
            Training(net("alexnet", SHAPES, width=8), "shapes", 0.05, steps=250),
            Training(stack(8, 12, DIGITS, nn.ReLU), "digits", 0.02, steps=250),
            Training(net("resnet20", DIGITS, width=6), "digits", 0.05),
        ]
    return [
        Training(net("vgg", DIGITS, width=8, depth=5), "digits", 0.05),
        Training(net("resnet", DIGITS, width=4, stem="small"), "digits", 0.05),
        Training(net("vgg", SHAPES, width=8, depth=5), "shapes", 0.05, steps=250),
        Training(stack(5, 16, DIGITS, nn.ReLU, norm=True), "digits", 0.05),
        Training(stack(5, 16, DIGITS, nn.ReLU), "digits", 0.02, steps=250),
        Training(net("speednet", DIGITS, width=8), "digits", 0.02),
    ]
