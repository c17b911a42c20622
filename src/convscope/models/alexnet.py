"""The AlexNet-like network of the lecture's table, and the pieces that the VGG network shares with it.

Three stages of convolution, batch norm, ReLU and 2x2 max pooling, then three fully connected layers. After Krizhevsky,
Sutskever and Hinton 2012 (https://doi.org/10.1145/3065386), with the sizes of the lecture.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from ..errors import UsageError

SMALLEST_SIDE = 8  # three halvings leave one pixel
HIDDEN = 512  # units of a hidden fully connected layer
FILTER_SIZES = (7, 5, 3)

Layers = OrderedDict[str, nn.Module]


def alexnet(
    num_classes: int, image_size: int = 32, *, width: int = 64, batch_norm: bool = True, dropout: float = 0.0
) -> nn.Sequential:
    """The lecture's network: (B, 3, s, s) images of ``image_size`` s pixels to (B, K) logits.

    ``conv1`` 7x7 with ``width`` filters, ``conv2`` 5x5 with twice and ``conv3`` 3x3 with four times as many, each of
    stride 1 and "same" padding, each followed by batch norm (Ioffe and Szegedy 2015, arXiv:1502.03167), ReLU and a 2x2
    max pool; then ``fc4`` and ``fc5`` of 512 units and ``fc6`` of one per class. ``dropout`` is the probability with
    which a unit of ``fc4`` and ``fc5`` is turned off.

    The lecture's table says that flattening leaves 1024 inputs; 256 x 4 x 4 is 4096, and 4096 is what is built.
    Raises UsageError for an image, width or probability that cannot be built.
    """
    check_options("alexnet", num_classes, image_size, width, dropout)
    layers: Layers = OrderedDict()
    channels = 3
    for stage, filter_size in enumerate(FILTER_SIZES, start=1):
        filters = width * 2 ** (stage - 1)
        add_convolution(layers, str(stage), (channels, filters, filter_size), batch_norm)
        layers[f"pool{stage}"] = nn.MaxPool2d(2, 2)
        channels = filters
    layers["flatten"] = nn.Flatten()
    side = image_size >> len(FILTER_SIZES)
    add_dense(layers, (channels * side * side, HIDDEN), first=4, dropout=0.0)
    add_dense(layers, (HIDDEN, HIDDEN, num_classes), first=5, dropout=dropout)
    return initialise(nn.Sequential(layers))


def check_options(name: str, num_classes: int, image_size: int, width: int, dropout: float) -> None:
    """Raise UsageError, in one sentence with the numbers, for what neither ``alexnet`` nor ``vgg`` can be built of."""
    check_sizes(name, num_classes, image_size, width, SMALLEST_SIDE)
    if not 0 <= dropout < 1:
        raise UsageError(f"the dropout of {name} is a probability from 0 to below 1, and got {dropout}.")


def check_sizes(name: str, num_classes: int, image_size: int, width: int, smallest_side: int) -> None:
    """Raise UsageError, in one sentence with the numbers, for an image, a number of classes or a width too small."""
    if image_size < smallest_side:
        raise UsageError(f"{name} needs images of at least {smallest_side} pixels a side, and got {image_size}.")
    if num_classes < 1 or width < 1:
        raise UsageError(f"{name} needs at least 1 class and a width of at least 1, and got {num_classes} and {width}.")


def add_convolution(layers: Layers, suffix: str, shape: tuple[int, int, int], batch_norm: bool) -> None:
    """Add ``conv``, ``norm`` and ``relu`` with this suffix; ``shape`` is (channels, filters, filter size).

    The batch norm's own shift makes a bias before it idle, so the convolution has one only without batch norm. The ReLU
    does not work in place: what a filter output before the activation is what gets explained.
    """
    channels, filters, size = shape
    layers[f"conv{suffix}"] = nn.Conv2d(channels, filters, size, padding=size // 2, bias=not batch_norm)
    if batch_norm:
        layers[f"norm{suffix}"] = nn.BatchNorm2d(filters)
    layers[f"relu{suffix}"] = nn.ReLU()


def add_dense(layers: Layers, sizes: Sequence[int], *, first: int, dropout: float) -> None:
    """Add fully connected layers ``fc{first}``, ... between these sizes.

    Each stands after a dropout of its own number, if there is any, and after a ReLU if it follows another of them.
    """
    for number, (inputs, outputs) in enumerate(pairwise(sizes), start=first):
        if f"fc{number - 1}" in layers:
            layers[f"relu{number - 1}"] = nn.ReLU()
        if dropout > 0:
            layers[f"drop{number}"] = nn.Dropout(dropout)
        layers[f"fc{number}"] = nn.Linear(inputs, outputs)


def initialise(network: nn.Sequential) -> nn.Sequential:
    """Draw the weights after He et al. 2015 (arXiv:1502.01852), with zero biases; returns the network.

    "fan_in" keeps the size of the signal from layer to layer, which is what a network without batch norm needs: by
    fan_out, conv1 (147 inputs, 64 x 49 outputs a pixel) would shrink an image's variance 21-fold. The last layer has
    no ReLU after it, and so a gain of 1 instead of the square root of 2.
    """
    weighted = [module for module in network.modules() if isinstance(module, (nn.Conv2d, nn.Linear))]
    for module in weighted:
        follows = "linear" if module is weighted[-1] else "relu"
        nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity=follows)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    return network
