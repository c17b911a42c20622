"""Recorded feature maps take more memory than the images they are of; the vector that a head is given does not."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn

from ...datasets.dataset import Dataset
from ...explanation.layers import find_layers
from ...images.preprocess import to_tensor
from ...machine import device_of
from ...models.heads import head_place
from ...models.taps import Tap, evaluating, reach
from ..claim import Claim
from ..judging import Judgement, greater, together
from ..plan import WIDTHS, Arm, Measurements, Plan, StudyData, on_cifar
from ..results import Results, seeds_only

NETWORK = "resnet20"
RATES = (0.01, 0.03, 0.1)


def plan(size: str) -> Plan:
    """One network: what it records does not depend on how well it was trained."""
    arm = Arm(NETWORK, NETWORK, {"width": WIDTHS[size]})
    if size == "small":
        return Plan(StudyData("shapes", 32, train=150, val=60, test=100), (arm,), 40, RATES, (1, 2), measure=measure)
    return on_cifar(size, (arm,), RATES, updates=(200, 1_000), seeds=(1, 2, 3), measure=measure)


def measure(network: nn.Module, data: Dataset, _plan: Dataset) -> Measurements:
    """log2 of bytes an image in float32 over those of its pixels: "maps" of the last convolution, "vector" of the head.

    "first" is that of the first convolution.
    """
    image = data.preprocess.normalise(to_tensor(np.asarray(data.images[:1])).to(device_of(network)))
    layers = find_layers(network, image)
    taps = [layers[0].tap, layers[-1].tap, Tap(head_place(network)[0], at_input=True)]
    with evaluating(network), torch.no_grad():
        found = reach(network, image, taps)
    pixels = data.images[0].nbytes
    names = ("first", "maps", "vector")
    return {
        name: torch.tensor(math.log2(4 * tensor.numel() / pixels), dtype=torch.float64)
        for name, tensor in zip(names, found, strict=True)
    }


def judge(results: Results) -> Judgement:
    """The maps of the last step over the image itself; the first layer's and the vector beside it."""
    found = seeds_only([*results.scalar(NETWORK, "maps").values()])
    told = [
        f"{words}: {2 ** float(np.mean([*values.values()])):.2g} times the bytes of the pixels."
        for words, values in (
            ("Maps of the first convolution", results.scalar(NETWORK, "first")),
            ("The vector that the head is given", results.scalar(NETWORK, "vector")),
        )
        if values
    ]
    quantity = "bytes of the last feature maps over those of the image"
    return together([greater(quantity, found, least=0.5, unit="log2")], told)


CLAIM = Claim(
    name="features-memory",
    sentence="This is still very memory intensive. ... we do have to compute the feature maps for all of the images!",
    question="Recorded in float32, are the last feature maps of an image larger than the image?",
    expected="holds for maps; the vector behind global average pooling takes less than the image",
    needs=("shapes",),
    minutes={"small": 0.4, "medium": 5, "large": 30},
    plans=plan,
    judge=judge,
)
