"""Gradients vanish in deep plain networks without batch norm, and what batch norm and the start change about it.

He et al. 2016 (arXiv:1512.03385) say that plain networks with batch norm have healthy gradients and degrade all the
same; He et al. 2015 (arXiv:1502.01852) that a start of the right size keeps them alive without it.
"""

from __future__ import annotations

from copy import deepcopy
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ...datasets.dataset import Dataset
from ...diagnosis.gradients import ready
from ...images.preprocess import to_tensor
from ...machine import device_of
from ...models.registry import build
from ..claim import Claim
from ..judging import Judgement, below, no_less, together
from ..plan import Arm, Measurements, Plan, StudyData, on_cifar
from ..results import Results, seeds_only

LAYERS = 56
PLAIN, HE, NORM = "torch's own start", "He's start", "batch norm"
RATES = (0.01, 0.03, 0.1)
IMAGES = 64
ENDS = 8  # convolutions that are averaged at either end
TINY = 1e-30
BY_PLACE = ("gradient over weight", "convolution, from the image to the top")
WANTED = 1.0  # decades, a tenfold smaller gradient: less is not called vanishing


def usual_start(num_classes: int, image_size: int, *, width: int) -> nn.Module:
    """plain56 without batch norm, its weights drawn as torch draws them unless told otherwise."""
    network = build(f"plain{LAYERS}", num_classes, image_size, {"width": width, "batch_norm": False})
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.reset_parameters()
    return network


def measure(network: nn.Module, data: Dataset, _plan: Dataset) -> Measurements:
    """ "relative" (L,): RMS of the gradient over that of the weights, by convolution from the image to the top.

    "decades": log10 of its mean (of logarithms) over the first ENDS convolutions to that over the last ENDS. Batch norm
    works on the batch, as in training.
    """
    index = data.subset("train", IMAGES)
    images = data.preprocess.normalise(to_tensor(np.asarray(data.images[index])).to(device_of(network)))
    labels = torch.from_numpy(data.labels[index]).to(images.device)
    copy = ready(deepcopy(network))
    weights = [m.weight for m in copy.modules() if isinstance(m, nn.Conv2d)]
    gradients = torch.autograd.grad(F.cross_entropy(copy(images), labels), weights)
    sizes = zip(gradients, weights, strict=True)
    relative = torch.stack([g.double().norm() / w.detach().double().norm().clamp(min=TINY) for g, w in sizes])
    logs = relative.clamp(min=TINY).log10()
    return {"relative": relative.float().cpu(), "decades": (logs[:ENDS].mean() - logs[-ENDS:].mean()).cpu()}


def plan(size: str) -> Plan:
    """Three ways to start 56 layers; trained for a little, as the question is what happens early."""
    width = 8 if size == "small" else 16
    arms = (
        Arm(PLAIN, partial(usual_start, width=width)),
        Arm(HE, f"plain{LAYERS}", {"width": width, "batch_norm": False}),
        Arm(NORM, f"plain{LAYERS}", {"width": width, "batch_norm": True}),
    )
    both = {"measure": measure, "measure_start": True, "by_place": BY_PLACE}
    if size == "small":
        return Plan(StudyData("shapes", 16, train=600, val=200, test=400), arms, 80, RATES, **both)
    return on_cifar(size, arms, RATES, updates=(200, 10_000), **both)


def judge(results: Results) -> Judgement:
    """At the start, where nothing has been chosen yet; after training beside it."""
    found = {arm: results.scalar(arm, "start decades") for arm in (PLAIN, NORM)}
    gone, healthy = (seeds_only([*found[arm].values()]) for arm in (PLAIN, NORM))
    return together(
        [
            below("gradients at the first over the last, no batch norm", gone, limit=-WANTED, unit="decades"),
            no_less("gradients at the first over the last, batch norm", healthy, margin=WANTED, unit="decades"),
        ],
        [_beside(results, "start decades", "At the start"), _beside(results, "decades", "After training")],
    )


def _beside(results: Results, name: str, when: str) -> str:
    values = {arm.name: [*results.scalar(arm.name, name).values()] for arm in results.plan.arms}
    said = [f"{arm} {np.mean(v):+.1f}" for arm, v in values.items() if v]
    return f"{when}, decades from the last convolutions to the first: {', '.join(said)}."


CLAIM = Claim(
    name="vanishing-gradients",
    sentence="Deep CNNs tend to have problems with vanishing gradients",
    question="In 56 plain layers, are gradients over weights more than ten times smaller at the first convolutions "
    "than at the last, and with batch norm not?",
    expected="holds with torch's own start; He's start keeps them alive without batch norm, and the network still "
    "hardly trains",
    needs=("shapes",),
    minutes={"small": 1.5, "medium": 20, "large": 900},
    plans=plan,
    judge=judge,
)
