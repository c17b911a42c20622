"""Residual networks, and plain twins that differ in nothing but the skips (He et al. 2016, arXiv:1512.03385).

``resnet`` is the lecture's, for large images; ``resnet20`` to ``resnet110`` are the paper's for CIFAR-10. Layers are
named as in the published weights of each kind, so that a state dict of that form loads by name.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import nn

from ..errors import UsageError
from .alexnet import Layers, check_sizes, initialise

Stem = int | Literal["small"]
Shortcut = Literal["projection", "pad"]

BLOCKS_A_STAGE = 3  # of the lecture's network
SMALLEST_SIDE = 8  # px: two halvings leave maps of two places a side
LEAST_FOR_STEM = 24  # px: the stem leaves 6 of 24, and three halvings one


class PadShortcut(nn.Module):
    """The paper's option A: every ``stride``-th place, and zeros for the channels that are new. No parameters."""

    def __init__(self, channels: int, filters: int, stride: int) -> None:
        super().__init__()
        self.subsample = nn.MaxPool2d(1, stride)
        self.before = (filters - channels) // 2
        self.after = filters - channels - self.before

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.pad(self.subsample(x), (0, 0, 0, 0, self.before, self.after))


class Block(nn.Module):
    """Two 3x3 convolutions; unless ``shortcut`` is None, what came in is added before the last ReLU.

    The ReLUs do not work in place: what a filter output before the activation is what gets explained.
    """

    def __init__(self, channels: int, filters: int, stride: int, shortcut: Shortcut | None, batch_norm: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, filters, 3, stride, padding=1, bias=not batch_norm)
        self.bn1 = nn.BatchNorm2d(filters) if batch_norm else nn.Identity()
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(filters, filters, 3, padding=1, bias=not batch_norm)
        self.bn2 = nn.BatchNorm2d(filters) if batch_norm else nn.Identity()
        self.downsample = None if shortcut is None else _shortcut(channels, filters, stride, shortcut, batch_norm)
        self.relu2 = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        if self.downsample is not None:
            out = out + self.downsample(x)
        return self.relu2(out)


def resnet(
    num_classes: int, image_size: int = 32, *, width: int = 64, stem: Stem = 7, batch_norm: bool = True
) -> nn.Sequential:
    """The lecture's residual network: (B, 3, s, s) images of ``image_size`` s pixels to (B, K) logits.

    A stem that leaves a quarter of the side (``stem`` x ``stem`` convolution of stride 2, 3x3 max pool of stride 2),
    3 blocks each of 64, 128, 256 and 512 filters (``width`` times 1, 2, 4, 8), global average pooling and one linear
    layer. The stem "small" is one 3x3 convolution of stride 1 that keeps the side, as images of 32 pixels want it.
    Layers are named as in torchvision's networks. Raises UsageError for what cannot be built.
    """
    if stem != "small" and (not isinstance(stem, int) or stem < 3 or stem % 2 == 0):
        raise UsageError(f"the stem of resnet is 'small' or an odd filter size of 3 or more, and got {stem!r}.")
    check_sizes("resnet", num_classes, image_size, width, SMALLEST_SIDE if stem == "small" else LEAST_FOR_STEM)
    size, stride = (3, 1) if stem == "small" else (stem, 2)
    layers = _stem(width, size, stride, batch_norm)
    if stem != "small":
        layers["maxpool"] = nn.MaxPool2d(3, 2, padding=1)
    depths = (BLOCKS_A_STAGE,) * 4
    return _finish(layers, (width, depths, "projection", batch_norm), num_classes, "fc")


def cifar_resnet(  # noqa: PLR0913 - each but the first is an option that a user sets by name
    layers: int,
    num_classes: int,
    image_size: int = 32,
    *,
    width: int = 16,
    shortcut: Shortcut = "pad",
    batch_norm: bool = True,
) -> nn.Sequential:
    """The paper's network of ``layers`` = 6 n + 2 layers for CIFAR-10: (B, 3, s, s) images to (B, K) logits.

    A 3x3 convolution, n blocks each of ``width`` times 1, 2 and 4 filters at the whole, half and quarter of the side,
    global average pooling and one linear layer. ``shortcut``, where a skip changes size: "pad" is the paper's option A
    (every other place, zero channels, no parameters), "projection" its option B (a 1x1 convolution). Layers are named
    as in the weights usually published for these networks. Raises UsageError for what cannot be built.
    """
    if shortcut not in get_args(Shortcut):
        raise UsageError(f"the shortcut of resnet{layers} is 'pad' or 'projection', and got {shortcut!r}.")
    return _cifar(layers, (num_classes, image_size), width, shortcut, batch_norm)


def cifar_plain(
    layers: int, num_classes: int, image_size: int = 32, *, width: int = 16, batch_norm: bool = True
) -> nn.Sequential:
    """The twin of ``cifar_resnet`` without skips: the same layers, names, shapes and fresh weights."""
    return _cifar(layers, (num_classes, image_size), width, None, batch_norm)


def _cifar(
    layers: int, sizes: tuple[int, int], width: int, shortcut: Shortcut | None, batch_norm: bool
) -> nn.Sequential:
    name = f"{'plain' if shortcut is None else 'resnet'}{layers}"
    num_classes, image_size = sizes
    if layers < 8 or layers % 6 != 2:
        raise UsageError(f"{name} has 6 n + 2 layers for n blocks a stage (8, 14, 20, ...), and got {layers}.")
    check_sizes(name, num_classes, image_size, width, SMALLEST_SIDE)
    depths = ((layers - 2) // 6,) * 3
    return _finish(_stem(width, 3, 1, batch_norm), (width, depths, shortcut, batch_norm), num_classes, "linear")


def _stem(width: int, size: int, stride: int, batch_norm: bool) -> Layers:
    layers: Layers = OrderedDict()
    layers["conv1"] = nn.Conv2d(3, width, size, stride, padding=size // 2, bias=not batch_norm)
    if batch_norm:
        layers["bn1"] = nn.BatchNorm2d(width)
    layers["relu1"] = nn.ReLU()
    return layers


def _shortcut(channels: int, filters: int, stride: int, kind: Shortcut, batch_norm: bool) -> nn.Module:
    if (channels, stride) == (filters, 1):
        return nn.Identity()
    if kind == "pad":
        return PadShortcut(channels, filters, stride)
    projection = nn.Conv2d(channels, filters, 1, stride, bias=not batch_norm)
    return nn.Sequential(projection, nn.BatchNorm2d(filters)) if batch_norm else nn.Sequential(projection)


def _finish(
    layers: Layers, plan: tuple[int, tuple[int, ...], Shortcut | None, bool], num_classes: int, head: str
) -> nn.Sequential:
    """Add the stages, each with twice the filters and half the side of the one before, the pool and the head."""
    width, depths, shortcut, batch_norm = plan
    channels = width
    for stage, depth in enumerate(depths):
        filters = width * 2**stage
        blocks = []
        for place in range(depth):
            stride = 2 if stage > 0 and place == 0 else 1
            blocks.append(Block(channels, filters, stride, shortcut, batch_norm))
            channels = filters
        layers[f"layer{stage + 1}"] = nn.Sequential(*blocks)
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers[head] = nn.Linear(channels, num_classes)
    network = initialise(nn.Sequential(layers))
    if shortcut is not None and not batch_norm:
        _tame(network)
    return network


def _tame(network: nn.Module) -> None:
    """Without batch norm each sum would double the signal's variance: shrink what n blocks add so that it grows by e.

    After Hanin and Rolnick 2018 (arXiv:1803.01719): the scales of the branches are what must not add up.
    """
    blocks = [module for module in network.modules() if isinstance(module, Block)]
    with torch.no_grad():
        for block in blocks:
            block.conv2.weight /= math.sqrt(len(blocks))
