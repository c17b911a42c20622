"""Optimizers, schedules, averages, mixing and augmentation: a step, an image or a rate at a time, in float64."""

from __future__ import annotations

import math
from copy import deepcopy
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from convscope.images import augmentation
from convscope.images.augmentation import augment
from convscope.images.mixing import mix as mixed
from convscope.randomness import mix as words
from convscope.randomness import uniforms
from convscope.recipes import OPTIMIZERS, Augment, Labels, Optimizer
from convscope.training.batches import balanced
from convscope.training.loop import SGD_OF_MUON, TrainState, _average, make_optimizer
from convscope.training.schedules import RANGE_DECADES, SCHEDULES, exponential
from slow_images import slow_warp
from slow_steps import newton_schulz
from torture.numbers_compare import Check, Random, apart, drawn, first, of_kind, size

STEP = 3e-5  # of the largest weight that an update gives: three iterations in float32, each with products of its own


def network_of(random: Random) -> nn.Module:
    layers = nn.Conv2d(2, size(random, 1, 6), 3), nn.BatchNorm2d(1), nn.Linear(size(random, 1, 9), size(random, 1, 4))
    return nn.Sequential(*layers)


def updated(name: str, random: Random) -> str:
    """Some updates of a network's parameters by gradients of any size, against the formulas."""
    usual, momentum = OPTIMIZERS[name], float(random.choice([0.0, 0.6, 0.9]))
    recipe = Optimizer(name, lr=usual.lr, momentum=momentum, weight_decay=usual.weight_decay)
    network = network_of(random)
    optimizer = make_optimizer(network, recipe)
    ours = dict(network.named_parameters())
    weights = {key: p.detach().double() for key, p in ours.items()}
    states = {key: (torch.zeros_like(w), torch.zeros_like(w)) for key, w in weights.items()}
    largest = {key: float(w.abs().max()) for key, w in weights.items()}  # on the way: what is near 0 in the end was not
    kind = str(random.choice(["usual", "large", "tiny", "half zeros", "negative", "one large"]))
    for number in range(1, size(random, 1, 3) + 1):
        for group in optimizer.param_groups:
            group["lr"] = recipe.lr * group["scale"]
        for key, p in ours.items():
            p.grad = of_kind(random, kind, *p.shape)
            wide, last = p.ndim > 1, key == "2.weight"
            gradient, decay = p.grad.double(), recipe.weight_decay if p.ndim > 1 else 0.0
            step = FORMULAS[name](weights[key], gradient, states[key], recipe, (wide, last, number, decay))
            weights[key], states[key] = step
            largest[key] = max(largest[key], float(step[0].abs().max()))
        optimizer.step()
    rows = ((p, weights[key], f"{key} after steps of {name}", STEP, largest[key]) for key, p in ours.items())
    return first(*(apart(*row) for row in rows))


State = tuple[Tensor, Tensor]
At = tuple[bool, bool, int, float]  # a matrix or filters, the last of them, which update, and the decay


def sgd(w: Tensor, g: Tensor, state: State, recipe: Optimizer, at: At) -> tuple[Tensor, State]:
    """Nesterov's momentum as Sutskever and others write it, in torch's form; without momentum plain descent."""
    lr = recipe.lr * (SGD_OF_MUON if recipe.name == "muon" else 1)
    g = g + at[3] * w
    buffer = recipe.momentum * state[0] + g
    moved = g + recipe.momentum * buffer if recipe.momentum else g
    return w - lr * moved, (buffer, state[1])


def adamw(w: Tensor, g: Tensor, state: State, recipe: Optimizer, at: At) -> tuple[Tensor, State]:
    """Loshchilov and Hutter's, with Kingma and Ba's corrections."""
    a, b, (_, _, number, decay) = recipe.momentum, 0.999, at
    w = w - recipe.lr * decay * w
    m, v = a * state[0] + (1 - a) * g, b * state[1] + (1 - b) * g * g
    return w - recipe.lr * (m / (1 - a**number)) / ((v / (1 - b**number)).sqrt() + 1e-8), (m, v)


def muon(w: Tensor, g: Tensor, state: State, recipe: Optimizer, at: At) -> tuple[Tensor, State]:
    """Jordan's, with the norm of the weights kept; vectors and the last matrix move by SGD."""
    wide, last, _, _ = at
    if not wide or last:
        return sgd(w, g, state, recipe, at)
    buffer = recipe.momentum * state[0] + g
    moved = (g + recipe.momentum * buffer).reshape(len(w), -1)
    update = newton_schulz(moved, 3) if moved.any() else moved
    rows, columns = update.shape
    moved_w = w - recipe.lr * w.norm() / math.sqrt(min(rows, columns)) * update.reshape(w.shape)
    return moved_w * w.norm() / moved_w.norm(), (buffer, state[1])


FORMULAS = {"sgd": sgd, "adamw": adamw, "muon": muon}


def scheduled(name: str, random: Random) -> str:
    """A schedule, from its sentence: linear up from a 25th, then down to 0 in a line or half a cosine, or not."""
    warmup = float(random.choice([0.0, random.random() * 0.99, 1e-6]))
    for progress in (*random.random(20), 0.0, warmup, math.nextafter(1, 0)):
        left = (progress - warmup) / (1 - warmup)
        falls = {"one-cycle": 1 - left, "cosine": math.cos(math.pi * left / 2) ** 2, "constant": 1.0}
        right = 1 / 25 + 24 / 25 * progress / warmup if progress < warmup else falls[name]
        if flaw := apart(SCHEDULES[name](progress, warmup), right, f"{name} at {progress}", 1e-9, 1.0):
            return flaw
    at = float(random.random())
    return apart(exponential(at, 0.0), math.exp(math.log(10) * RANGE_DECADES * (at - 1)), "a range test's rate", 1e-9)


def averaged(random: Random) -> str:
    """The average of weights after so many updates: the sum of a geometric series that begins slowly."""
    network = network_of(random)
    state = TrainState(network, make_optimizer(network, OPTIMIZERS["sgd"]), averaged=deepcopy(network))
    right, decay = [p.detach().double() for p in network.parameters()], float(random.uniform(0.5, 0.999))
    for number in range(size(random, 1, 12)):
        with torch.no_grad():
            for p in network.parameters():
                p.copy_(of_kind(random, "usual", *p.shape))
        _average(state, decay, number)
        share = min(decay, (1 + number) / (10 + number))
        right = [
            share * a + (1 - share) * p.detach().double() for a, p in zip(right, network.parameters(), strict=True)
        ]
    assert state.averaged is not None
    return first(
        *(apart(a, b, "an average of weights") for a, b in zip(state.averaged.parameters(), right, strict=True))
    )


def weighed(random: Random) -> str:
    """Weights of classes: each class has the same say, and their mean over images is 1."""
    classes = size(random, 1, 6)
    labels = random.integers(0, classes, size(random, 1, 50))
    present = len(np.unique(labels))
    right = [len(labels) / present / n if (n := int((labels == k).sum())) else 0.0 for k in range(classes)]
    return apart(balanced(labels, classes), right, "weights of classes")


def mixing(random: Random) -> str:
    """Mixup is a weighted sum, cutmix copies a rectangle, and the own label's share is that of its pixels."""
    n, height, width = size(random, 1, 6), size(random, 1, 9), size(random, 1, 9)
    alphas = [(0.4, 0.0), (0.0, 1.0), (1.0, 0.5), (1e-3, 0.0), (0.0, 1e-3)][size(random, 0, 4)]
    own, other = drawn(random, n, 3, height, width), drawn(random, n, 3, height, width)
    keys, seed, epoch = words(size(random, 0, 9999), np.arange(n)), size(random, 0, 99), size(random, 0, 99)
    found, share = mixed(own, other, Labels(*alphas), seed, epoch, keys)
    ones, again = mixed(torch.ones_like(own), torch.zeros_like(own), Labels(*alphas), seed, epoch, keys)
    if not torch.equal(share, again) or not 0 <= float(share.min()) <= float(share.max()) <= 1:
        return f"shares are {share.tolist()} and {again.tolist()}"
    weight = ones.double()
    right = own.double() * weight + other.double() * (1 - weight)
    terms = float(torch.maximum(own.abs(), other.abs()).max())
    flaw = first(
        apart(found, right, "a mixed image", scale=terms),
        apart(share, weight.mean((1, 2, 3)), "the own label's share"),
    )
    for image in (1 - ones[:, 0]) if alphas[0] == 0 else ():
        rows, columns = image.any(1).nonzero().flatten(), image.any(0).nonzero().flatten()
        whole = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] if len(rows) else image.new_ones(1)
        flaw = flaw or ("" if set(image.unique().tolist()) <= {0.0, 1.0} and whole.all() else "a cut is no rectangle")
    return flaw


AMOUNTS = {"translate": 0.9, "zoom": 2.0, "rotate": 180.0, "brightness": 0.9, "contrast": 0.9, "cutout": 0.9}


def varied(operation: str, random: Random) -> str:
    """One operation of augmentation with a flip, an image and a pixel at a time; within a level of brightness."""
    height, width, n = size(random, 1, 12), size(random, 1, 12), size(random, 1, 3)
    amount = float(random.random()) * AMOUNTS.get(operation, 0)
    flip = str(random.choice(["none", "random", "alternating"])) if operation != "flip" else "random"
    recipe = Augment(flip=flip, amounts={operation: amount} if operation in AMOUNTS else {})
    seed, epoch, keys = size(random, 0, 99), size(random, 0, 99), words(size(random, 0, 9999), np.arange(n))
    y, x = np.mgrid[:height, :width]
    waves = [127 + 100 * np.sin(x / (4 + c) + i) * np.cos(y / (5 + c)) for i in range(n) for c in range(3)]
    images = np.rint(np.array(waves)).astype(np.uint8).reshape(n, 3, height, width)
    given = torch.from_numpy(images).contiguous(memory_format=torch.channels_last)
    found = augment(given, recipe, seed, epoch, keys).numpy()
    u, flips = uniforms(seed, epoch, keys, augmentation.SLOTS), augmentation._flips(flip, seed, epoch, keys)
    for i in range(n):
        right = slow_warp(images[i], recipe, u[i], bool(flips[i]))
        right = LIGHTS.get(operation, lambda image, *_: image)(right, amount, u[i])
        most = 1 if operation in ("zoom", "rotate", "brightness", "contrast") else 0
        off = np.abs(found[i] - right).max()
        if off > most:
            return f"{operation} by {amount} is off by {off} levels in an image of {height} x {width}"
    return ""


def brighter(image: np.ndarray, amount: float, u: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(image + 255 * amount * (2 * u[augmentation.BRIGHTNESS] - 1)), 0, 255)


def contrasted(image: np.ndarray, amount: float, u: np.ndarray) -> np.ndarray:
    return np.clip(np.rint((image - 128) * (1 + amount * (2 * u[augmentation.CONTRAST] - 1)) + 128), 0, 255)


def covered(image: np.ndarray, amount: float, u: np.ndarray) -> np.ndarray:
    image = image.copy()
    sides = [round(amount * n) for n in image.shape[1:]]
    slots = augmentation.CUT_Y, augmentation.CUT_X
    top, left = (int(u[slot] * (n - s + 1)) for slot, n, s in zip(slots, image.shape[1:], sides, strict=True))
    image[:, top : top + sides[0], left : left + sides[1]] = 128
    return image


LIGHTS = {"brightness": brighter, "contrast": contrasted, "cutout": covered}

ENTRIES: dict[str, Check] = {
    **{f"optimizer {name}": partial(updated, name) for name in FORMULAS},
    **{f"schedule {name}": partial(scheduled, name) for name in ("one-cycle", "cosine", "constant")},
    **{f"augmentation {name}": partial(varied, name) for name in (*AMOUNTS, "flip")},
    "training, averaged weights": averaged,
    "training, weights of classes": weighed,
    "training, mixing": mixing,
}
