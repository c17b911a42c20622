"""Networks by the lecture's VGG rules, after Simonyan and Zisserman 2015 (https://arxiv.org/abs/1409.1556).

All convolutions are 3x3 of stride 1 and "same" padding, all max pools 2x2 of stride 2, and after each pool the number
of filters doubles.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from ..errors import UsageError
from .alexnet import HIDDEN, Layers, add_convolution, add_dense, check_options, initialise

MOST_STAGES = 5
LAST_SIDE = 4  # px: a map of this side or less is not pooled again


def vgg(  # noqa: PLR0913 - each is an option that a user sets by name
    num_classes: int,
    image_size: int = 32,
    *,
    width: int = 64,
    depth: int = 8,
    batch_norm: bool = True,
    dropout: float = 0.0,
) -> nn.Sequential:
    """A VGG network: (B, 3, s, s) images of ``image_size`` s pixels to (B, K) logits.

    ``depth`` is the number of convolutions. They stand in stages that each end with a pool, as many as it takes to
    bring the side to 4 pixels or less, and 5 at the most: 3 stages for 32 px (at 32, 16 and 8), 5 for 224. Each stage
    has the same number, and the later ones have one more where it does not come out even: 6 at 32 px is 2, 2, 2 and
    the default 8 is 2, 3, 3. Stage i has ``width`` * 2^(i-1) filters, without VGG's own limit of 512.

    The head is alexnet's with one hidden layer instead of two: flatten, 512 units, one per class. ``dropout`` is the
    probability with which an input of either is turned off. Raises UsageError for a ``depth`` below the stages.
    """
    check_options("vgg", num_classes, image_size, width, dropout)
    plan = stage_depths(depth, image_size)
    layers: Layers = OrderedDict()
    channels = 3
    for stage, convolutions in enumerate(plan, start=1):
        filters = width * 2 ** (stage - 1)
        for place in range(1, convolutions + 1):
            add_convolution(layers, f"{stage}_{place}", (channels, filters, 3), batch_norm)
            channels = filters
        layers[f"pool{stage}"] = nn.MaxPool2d(2, 2)
    layers["flatten"] = nn.Flatten()
    side = image_size >> len(plan)
    add_dense(layers, (channels * side * side, HIDDEN, num_classes), first=len(plan) + 1, dropout=dropout)
    return initialise(nn.Sequential(layers))


def stage_depths(depth: int, image_size: int) -> tuple[int, ...]:
    """Tell how many convolutions each stage has, the first stage first; raises UsageError where one would have none."""
    stages = 0
    while image_size >> stages > LAST_SIDE and stages < MOST_STAGES:
        stages += 1
    if depth < stages:
        raise UsageError(
            f"vgg has {stages} stages for images of {image_size} pixels and needs a depth of at least {stages}, "
            f"one convolution in each, and got {depth}."
        )
    each, more = divmod(depth, stages)
    return tuple(each + (stage >= stages - more) for stage in range(stages))
