"""What small trainings are made of, sound ones and ones with a mistake: datasets, networks, optimizers, good rates."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from functools import cache, partial
from itertools import islice

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convscope.datasets.registry import load_dataset
from convscope.diagnosis.evidence import Observations
from convscope.images.preprocess import to_tensor
from convscope.models.registry import build
from convscope.training.watching import watching

SIDE = 16  # px
DRAWN = 1_200  # images of each dataset that is drawn here; every sixth one is held out
SEEN = 256  # images that a diagnosis is handed


@dataclass(frozen=True)
class Data:
    """Normalised images float32 (N, 3, s, s) with labels int64 (N,), others that are held out, and K classes."""

    images: Tensor
    labels: Tensor
    held_out: tuple[Tensor, Tensor]
    classes: int
    mirrored: bool  # whether an image keeps its class in the mirror


def _stripes(draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """Stripes of any width, colour and place under noise; the class is one of six directions."""
    labels = torch.randint(6, (DRAWN,), generator=draw)
    angle, width, place = (u[:, None, None] for u in (labels * math.pi / 6, *torch.rand(2, DRAWN, generator=draw)))
    y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    wave = torch.sin((x * angle.cos() + y * angle.sin()) * (0.8 + 0.8 * width) + 2 * math.pi * place)
    colour = 0.3 + 0.7 * torch.rand(DRAWN, 3, 1, 1, generator=draw)
    return wave[:, None] * colour + 0.4 * torch.randn(DRAWN, 3, SIDE, SIDE, generator=draw), labels


def _discs(draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """A disc somewhere on a noisy ground; the class is its colour, one of five."""
    colours = torch.tensor([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 1, 1]])
    labels = torch.randint(len(colours), (DRAWN,), generator=draw)
    across, down, radius = (u[:, None, None] for u in torch.rand(3, DRAWN, generator=draw))
    y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    inside = (x - 4 - 8 * across) ** 2 + (y - 4 - 8 * down) ** 2 < (2.5 + 2 * radius) ** 2
    ground = 0.4 * torch.randn(DRAWN, 3, SIDE, SIDE, generator=draw)
    return ground + inside[:, None] * colours[labels][:, :, None, None], labels


OWN = {"stripes": _stripes, "discs": _discs}
DATA = ("digits", "shapes", "stripes", "discs")
MIRRORED = ("shapes", "discs")


@cache
def data_of(name: str) -> Data:
    """A dataset by its name in DATA."""
    if name in OWN:
        images, labels = OWN[name](torch.Generator().manual_seed(11))
        images = (images - images.mean((0, 2, 3), keepdim=True)) / images.std((0, 2, 3), keepdim=True)
        held = torch.arange(DRAWN) % 6 == 0
        parts = [(images[~held], labels[~held]), (images[held], labels[held])]
    else:
        found, parts = load_dataset(name, image_size=SIDE), []
        for index in (found.subset("train"), found.subset("val")):
            images = found.preprocess.normalise(to_tensor(np.asarray(found.images[index])))
            parts.append((images, torch.from_numpy(found.labels[index])))
    return Data(*parts[0], parts[1], int(parts[0][1].max()) + 1, name in MIRRORED)


def batches(data: Data, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches without end, shuffled anew in every pass; what is left over at the end of one is dropped."""
    while True:
        for chosen in torch.randperm(len(data.labels)).split(size):
            if len(chosen) == size:
                yield data.images[chosen], data.labels[chosen]


class Block(nn.Module):
    """Two convolutions that the input also goes around; its rectifiers are calls and not layers, as many write it."""

    def __init__(self, channels: int, filters: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, filters, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(filters)
        self.conv2 = nn.Conv2d(filters, filters, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(filters)
        self.skip = nn.Identity() if stride == 1 else nn.Conv2d(channels, filters, 1, stride, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        hidden = F.relu(self.norm1(self.conv1(images)))
        return F.relu(self.skip(images) + self.norm2(self.conv2(hidden)))


def _dropout(share: float) -> list[nn.Module]:
    return [nn.Dropout(share)] if share else []


def _residual(classes: int, draw: random.Random, dropout: float) -> nn.Sequential:
    width = draw.choice((8, 10, 12))
    layers = [nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    layers += [Block(width, width, 1), Block(width, 2 * width, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, *_dropout(dropout), nn.Linear(2 * width, classes))


def _stack(
    classes: int,
    draw: random.Random,
    dropout: float,
    depths: tuple[int, ...] = (4, 5, 6),
    layer: Callable[[int], list[nn.Module]] = lambda width: [nn.ReLU()],
) -> nn.Sequential:
    """3x3 convolutions, ``layer`` after each, begun as He et al. say; below sigmoids as torch does by itself."""
    width, depth = draw.choice((8, 10, 12)), draw.choice(depths)
    layers: list[nn.Module] = []
    for place in range(depth):
        conv = nn.Conv2d(width if place else 3, width, 3, padding=1)
        after = layer(width)
        if isinstance(after[-1], nn.ReLU):
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        layers += [conv, *after]
        if place in (1, 3):
            layers += [nn.MaxPool2d(2), *_dropout(dropout / 2)]
    layers += [nn.AdaptiveAvgPool2d(2), nn.Flatten(), *_dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear(4 * width, classes))


def _named(name: str, classes: int, draw: random.Random, dropout: float, **options: object) -> nn.Sequential:
    """One of convscope's; with a dropout before its last layer where it has no option for one."""
    if name in ("vgg", "alexnet"):
        options["dropout"] = dropout
    network = build(name, classes, SIDE, {"width": draw.choice((6, 8)), **options}, seed=draw.randrange(1000))
    assert isinstance(network, nn.Sequential)
    if "dropout" in options or not dropout:
        return network
    return nn.Sequential(*network[:-1], nn.Dropout(dropout), network[-1])


Family = Callable[[int, random.Random, float], nn.Sequential]

FAMILIES: dict[str, Family] = {
    "plain": _stack,
    "normed": partial(_stack, layer=lambda width: [nn.BatchNorm2d(width), nn.ReLU()]),
    "residual": _residual,
    "vgg": partial(_named, "vgg", depth=5),
    "alexnet": partial(_named, "alexnet"),
    "resnet20": partial(_named, "resnet20", width=6),
    # For faults that a norm would hide, or that take depth.
    "bare-vgg": partial(_named, "vgg", depth=4, batch_norm=False),
    "deep": partial(_stack, depths=(8, 9, 10)),
    "sigmoids": partial(_stack, depths=(8, 10, 12), layer=lambda width: [nn.Sigmoid()]),
}
BARE = ("plain", "bare-vgg")
NORMED = ("normed", "residual", "vgg", "alexnet", "resnet20")
ANY = ("plain", *NORMED)

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": partial(torch.optim.SGD, momentum=0.9),
    "adam": torch.optim.Adam,
    "adamw": partial(torch.optim.AdamW, weight_decay=0.01),
    "rmsprop": torch.optim.RMSprop,
}
RATES = {"sgd": 0.03, "adam": 3e-3, "adamw": 3e-3, "rmsprop": 1e-3}  # for 64 images a step, and networks with norms


def rate_for(family: str, optimizer: str, images: int) -> float:
    """A good rate for so many images a step."""
    share = min(1.0, images / 64) ** 0.5
    if family not in NORMED:
        share *= 0.3 if optimizer == "sgd" else 0.5
    return RATES[optimizer] * share


def observed(
    data: Data, network: nn.Module, start: nn.Module, watched: object, told: tuple[list[float], int, bool]
) -> Observations:
    """What is handed to the diagnosis; ``told``: the losses, the images a batch, whether others are held out."""
    losses, batch_size, held_out = told
    return Observations(
        network=network,
        images=data.images[:SEEN],
        labels=data.labels[:SEEN],
        classes=data.classes,
        start=start,
        watched=watched,
        held_out=data.held_out if held_out else None,
        losses=[loss for loss in losses if math.isfinite(loss)],
        batch_size=batch_size,
        diverged=not all(math.isfinite(loss) for loss in losses),
    )


Batch = tuple[Tensor, Tensor]
Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]


def _usual_loss(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(network(images), labels)


@dataclass(frozen=True)
class Loop:
    """A training in a plain loop of torch, sound as it stands; each field is a place for a mistake."""

    data: Data
    network: nn.Module
    optimizer: str
    rate: float
    batch_size: int
    steps: int = 200
    moved: Callable[[nn.Module], Iterable[nn.Parameter]] = nn.Module.parameters  # what the optimizer is given
    first: Callable[[nn.Module], object] = lambda network: None  # done after the network is built, before the steps
    batch: Callable[[Tensor, Tensor, int], Batch] = lambda images, labels, step: (images, labels)
    loss: Loss = _usual_loss
    factor: Callable[[int], float] = lambda step: 1.0  # of the rate, in each step
    zeroed: bool = True
    training: bool = True
    clip: float = 0.0  # the largest norm of a gradient; 0 for none
    patience: int = 1  # losses that are not finite, after which the loop ends
    rate_told: bool = True
    held_out: bool = True


def run(loop: Loop) -> Observations:
    """Train, watched from before the first step."""
    network, losses = loop.network.train(loop.training), []
    start = deepcopy(network)
    loop.first(network)
    optimizer = OPTIMIZERS[loop.optimizer](list(loop.moved(network)), lr=loop.rate)
    with watching(network, 10) as watch:
        for step, handed in enumerate(islice(batches(loop.data, loop.batch_size), loop.steps)):
            rate = loop.rate * loop.factor(step)
            for group in optimizer.param_groups:
                group["lr"] = rate
            if loop.zeroed:
                optimizer.zero_grad()
            loss = loop.loss(network, *loop.batch(*handed, step))
            loss.backward()
            if loop.clip:
                nn.utils.clip_grad_norm_(network.parameters(), loop.clip)
            optimizer.step()
            losses.append(loss.item())
            watch.step(losses[-1], rate if loop.rate_told else math.nan)
            if sum(not math.isfinite(told) for told in losses) == loop.patience:
                break
    return observed(loop.data, network, start, watch.watched(), (losses, loop.batch_size, loop.held_out))
