"""Small trainings that are sound, each written in another way: what a diagnosis must find no fault with."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convscope.diagnosis.evidence import Observations
from convscope.training.watching import watching
from loop_parts import ANY, DATA, FAMILIES, NORMED, OPTIMIZERS, SIDE, Data, batches, data_of, observed, rate_for

SOUND = 300  # trainings, by number from 0

SCHEDULES: dict[str, Callable[[float], float]] = {  # of the part of the training that is done
    "constant": lambda done: 1.0,
    "warm-up": lambda done: min(1.0, 0.05 + done / 0.2),
    "one-cycle": lambda done: 0.1 + 0.9 * done / 0.3 if done < 0.3 else math.cos((done - 0.3) / 1.4 * math.pi),
    "cosine": lambda done: 0.5 + 0.5 * math.cos(done * math.pi),
    "step decay": lambda done: 1.0 if done < 0.6 else 0.1 if done < 0.85 else 0.01,
}


@dataclass(frozen=True)
class Sound:
    """How a sound training is written."""

    number: int
    data: str
    family: str
    optimizer: str
    schedule: str
    batch_size: int
    updates: int
    dropout: float = 0.0
    augmented: bool = False
    aim: str = "labels"  # or "smoothed" labels, or "mixed" images
    clip: float = 0.0  # the largest norm of a gradient; 0 for none
    backwards: int = 1  # backward passes an update
    told_each: bool = False  # the watch is told of every backward pass, and not of the updates alone
    transfer: str = ""  # or "head": only that is trained; or "stages": the first half of a trained network is frozen
    two: bool = False  # an optimizer for the head, and one for the rest
    zeroed: str = "before"  # the backward pass, or "after" the step
    to_none: bool = True
    rate_told: bool = True


def plan(number: int) -> Sound:
    """The sound training of this number: family, optimizer and schedule in turn, the rest drawn."""
    draw = random.Random(number)
    turn = (tuple(ANY)[number % 6], ("sgd", "adam", draw.choice(("adamw", "rmsprop")))[number // 6 % 3])
    batch_size = draw.choice((4, 16, 64, 256))
    kind = draw.choice(("", "", "", "backwards", "backwards", "transfer", "two"))
    backwards = draw.choice((2, 3, 4, 5)) if kind == "backwards" else 1
    told_each = backwards in (2, 3) and draw.random() < 0.8
    if kind == "backwards":
        batch_size = min(batch_size, 16)
    elif kind == "transfer":
        batch_size = max(batch_size, 16)
    updates = {4: 250, 16: 200, 64: 150, 256: 90}[batch_size] // (2 if backwards > 1 else 1)
    if told_each:
        updates = 250 // backwards
    easy = ("stripes", "discs") if batch_size == 4 or told_each else DATA
    bare = turn[0] not in NORMED
    return Sound(
        number, draw.choice(easy), *turn, tuple(SCHEDULES)[number // 18 % 5], batch_size, updates,
        dropout=draw.choice((0.0, 0.0, 0.1, 0.1 if bare else 0.3)) if batch_size > 4 else 0.0,
        augmented=draw.random() < 0.4,
        aim=draw.choice(("labels", "labels", "smoothed", "mixed")) if batch_size > 4 else "labels",
        clip=1.0 if bare and turn[1] == "sgd" else draw.choice((0.0, 0.0, 1.0, 5.0)),
        backwards=backwards,
        told_each=told_each,
        transfer=draw.choice(("head", "stages")) if kind == "transfer" else "",
        two=kind == "two",
        zeroed=draw.choice(("before", "after")),
        to_none=draw.random() < 0.7,
        rate_told=draw.random() < 0.7,
    )  # fmt: skip


def _changed(images: Tensor, mirrored: bool) -> Tensor:
    """A batch moved by up to two pixels, and half of it in the mirror where a class stays what it is."""
    across, down = (int(n) for n in torch.randint(-2, 3, (2,)))
    moved = F.pad(images, (2, 2, 2, 2))[:, :, 2 + down : 2 + down + SIDE, 2 + across : 2 + across + SIDE]
    turned = torch.rand(len(images), 1, 1, 1) < 0.5 * mirrored
    return torch.where(turned, moved.flip(3), moved)


def _loss(s: Sound, network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    if s.aim != "mixed":
        return F.cross_entropy(network(images), labels, label_smoothing=0.1 if s.aim == "smoothed" else 0.0)
    other, share = torch.randperm(len(labels)), float(torch.rand(())) * 0.3
    logits = network((1 - share) * images + share * images[other])
    return (1 - share) * F.cross_entropy(logits, labels) + share * F.cross_entropy(logits, labels[other])


def _transferred(s: Sound, network: nn.Sequential) -> None:
    """Train it on another dataset, give it a fresh head, and freeze what is to stay, with its norms at rest."""
    data = data_of("shapes" if s.data != "shapes" else "stripes")
    head = network[-1]
    assert isinstance(head, nn.Linear)
    network[-1] = nn.Linear(head.in_features, data.classes)
    optimizer = torch.optim.Adam(network.parameters(), lr=rate_for(s.family, "adam", 32))
    for _, (images, labels) in zip(range(100), batches(data, 32), strict=False):
        optimizer.zero_grad()
        F.cross_entropy(network(images), labels).backward()
        optimizer.step()
    optimizer.zero_grad()
    network[-1] = head
    kept = network[:-1] if s.transfer == "head" else network[: len(network) // 2]
    kept.requires_grad_(False).eval()


def _optimizers(s: Sound, network: nn.Sequential) -> list[torch.optim.Optimizer]:
    rate = rate_for(s.family, s.optimizer, s.batch_size * s.backwards)
    if s.optimizer != "sgd":
        rate *= 4 if s.transfer == "head" else 1
    elif s.family not in NORMED:
        rate *= 2  # its gradients are clipped
    if s.two:
        head = OPTIMIZERS["adam"](network[-1].parameters(), lr=rate_for(s.family, "adam", s.batch_size))
        return [OPTIMIZERS[s.optimizer](network[:-1].parameters(), lr=rate), head]
    return [OPTIMIZERS[s.optimizer]([p for p in network.parameters() if p.requires_grad], lr=rate)]


def _update(s: Sound, network: nn.Module, optimizers: list[torch.optim.Optimizer]) -> None:
    if s.clip:
        nn.utils.clip_grad_norm_(network.parameters(), s.clip)
    for optimizer in optimizers:
        optimizer.step()
        if s.zeroed == "after":
            optimizer.zero_grad(set_to_none=s.to_none)


def _train(s: Sound, network: nn.Sequential, data: Data) -> Observations:
    start, losses = deepcopy(network), []
    optimizers = _optimizers(s, network)
    factor = SCHEDULES[s.schedule]
    schedules = [torch.optim.lr_scheduler.LambdaLR(o, lambda update: factor(update / s.updates)) for o in optimizers]
    loader = batches(data, s.batch_size)
    with watching(network, 10) as watch:
        for _ in range(s.updates):
            rate = optimizers[0].param_groups[0]["lr"] if s.rate_told else math.nan
            if s.zeroed == "before":
                for optimizer in optimizers:
                    optimizer.zero_grad(set_to_none=s.to_none)
            parts: list[float] = []
            while len(parts) < s.backwards:
                images, labels = next(loader)
                loss = _loss(s, network, _changed(images, data.mirrored) if s.augmented else images, labels)
                (loss / s.backwards).backward()
                parts.append(loss.item())
                if len(parts) == s.backwards:
                    _update(s, network, optimizers)
                if s.told_each or len(parts) == s.backwards:
                    losses.append(parts[-1] if s.told_each else sum(parts) / len(parts))
                    watch.step(losses[-1], rate)
            for schedule in schedules:
                schedule.step()
    return observed(data, network, start, watch.watched(), (losses, s.batch_size, s.number % 2 == 0))


def sound(number: int) -> Observations:
    """Run the sound training of this number, 0 to SOUND - 1."""
    s = plan(number)
    data = data_of(s.data)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(number)
        network = FAMILIES[s.family](data.classes, random.Random(number), s.dropout)
        if s.transfer:
            _transferred(s, network)
        return _train(s, network, data)
