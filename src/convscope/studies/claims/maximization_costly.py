"""Activation maximization is costly: one filter's image takes the time of many predictions."""

from __future__ import annotations

import math
import time

import numpy as np
import torch
from torch import nn

from ...classifying.prediction import logits
from ...datasets.dataset import Dataset
from ...explanation.layers import find_layers
from ...explanation.maximize import maximize
from ...explanation.objectives import neuron
from ...explanation.presets import palette
from ...images.preprocess import to_tensor
from ...machine import device_of
from ..claim import Claim
from ..judging import Judgement, greater, together
from ..plan import WIDTHS, Arm, Measurements, Plan, StudyData, on_cifar
from ..results import Results, seeds_only

NETWORK = "alexnet"
RATES = (0.01, 0.03, 0.1)
FILTERS = 4  # climbed together
MANY = 100  # predictions, to which the time of one filter is compared
TIMES = 3  # of a prediction, whose median counts


def plan(size: str) -> Plan:
    """One network; how well it was trained matters little for the time."""
    arm = Arm(NETWORK, NETWORK, {"width": WIDTHS[size]})
    if size == "small":
        return Plan(StudyData("shapes", 32, train=300, val=100, test=200), (arm,), 100, RATES, measure=measure)
    return on_cifar(size, (arm,), RATES, updates=(500, 4_000), seeds=(1, 2, 3), measure=measure)


def measure(network: nn.Module, data: Dataset, _plan: Dataset) -> Measurements:
    """ "ratio": log2 of the seconds a filter of the last convolution by maximization, over those of a prediction."""
    index = data.subset("train", 200)
    image = data.preprocess.normalise(to_tensor(np.asarray(data.images[index[:1]])).to(device_of(network)))
    layer = find_layers(network, image)[-1]
    goals = [neuron(layer, k) for k in range(FILTERS)]
    colours = palette(np.asarray(data.images[index]))
    start = time.perf_counter()
    maximize(network, goals, data.preprocess, colours)
    a_filter = (time.perf_counter() - start) / FILTERS
    passes = []
    for _ in range(TIMES):
        start = time.perf_counter()
        logits(network, data.images, data.preprocess, index)
        passes.append((time.perf_counter() - start) / len(index))
    return {"ratio": torch.tensor(math.log2(a_filter / float(np.median(passes))), dtype=torch.float64)}


def judge(results: Results) -> Judgement:
    """The seconds of one filter's image over those of a hundred predictions."""
    ratios = [*results.scalar(NETWORK, "ratio").values()]
    found = seeds_only([ratio - math.log2(MANY) for ratio in ratios])
    quantity = f"seconds a filter by maximization, over those of {MANY} predictions"
    times = f"One filter costs as much as {2 ** float(np.mean(ratios)):,.0f} predictions." if ratios else ""
    return together([greater(quantity, found, least=0.5, unit="log2")], [times] if times else [])


CLAIM = Claim(
    name="maximization-costly",
    sentence="Somewhat costly in practice",
    question=f"Does the image that excites one filter most cost more time than {MANY} predictions?",
    expected="holds: hundreds of passes forward and backward",
    needs=("shapes",),
    minutes={"small": 0.5, "medium": 15, "large": 120},
    plans=plan,
    judge=judge,
)
