"""A network of 50 layers on one machine: what a training step takes, with activations kept and computed again.

Counted are the bytes of all tensors that are alive at once, of a step on images of ImageNet's size; torch's device
"meta" makes the same tensors as a processor does, without their numbers (a test compares the two).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn

from ...datasets.dataset import Dataset
from ...models.recomputing import activation_bytes
from ...models.registry import build
from ..claim import Claim
from ..judging import Judgement, greater, together
from ..plan import Arm, Measurements, Plan, StudyData, on_cifar
from ..results import Results, seeds_only

NETWORK = "resnet50"  # torchvision's, of He et al. 2016
CLASSES, SIDE, BATCH = 1000, 224, 32
BOUND = 6 * 10**9  # bytes: what a card of 8 GB leaves to a training, beside a screen
RATES = (0.01,)


def plan(size: str) -> Plan:
    """The network is trained as well, on small images, to see that it learns; its memory depends on no weight."""
    arms = (Arm(NETWORK, NETWORK),)
    if size == "small":
        return Plan(StudyData("shapes", 32, train=300, val=60, test=100), arms, 60, RATES, (1, 2), measure=measure)
    return on_cifar(size, arms, RATES, updates=(300, 4_000), seeds=(1, 2, 3), measure=measure)


def measure(_network: nn.Module, _data: Dataset, _plan: Dataset) -> Measurements:
    """log2 of the bytes of a step over the bound: "kept" as usual, "again" with activations computed again."""
    kept, again = (step_bytes(BATCH, SIDE, save_memory=save) for save in (False, True))
    return {
        name: torch.tensor(math.log2(count / BOUND), dtype=torch.float64)
        for name, count in (("kept", kept), ("again", again))
    }


def step_bytes(batch: int, side: int, *, save_memory: bool, device: str = "meta") -> int:
    """Bytes at the peak of a step in float32: activations, and weights with their gradients and momentum."""
    network = build(NETWORK, CLASSES, side, device=device)
    images = torch.zeros(batch, 3, side, side, device=device)
    weights = sum(p.numel() * p.element_size() for p in network.parameters())
    return activation_bytes(network, images, save_memory) + 3 * weights


def judge(results: Results) -> Judgement:
    """The sentence holds where a step takes more than the bound although activations are computed again."""
    found = {name: [*results.scalar(NETWORK, name).values()] for name in ("kept", "again")}
    quantity = f"memory of a step of {BATCH} images, activations computed again, over {BOUND / 1e9:g} GB"
    told = [
        f"Activations {how}: {BOUND * 2 ** float(np.mean(found[name])) / 1e9:.2f} GB."
        for name, how in (("kept", "kept"), ("again", "computed again"))
        if found[name]
    ]
    losses = [*results.scalar(NETWORK, "train_loss").values()]
    if losses:
        side, guess = results.plan.data.image_size, math.log(results.classes)
        after = f"After {results.plan.steps} updates on images of {side} pixels"
        told.append(f"{after} its training loss is {np.mean(losses):.2f} nats; guessing has {guess:.2f}.")
    return together([greater(quantity, seeds_only(found["again"]), least=0.1, unit="log2")], told)


CLAIM = Claim(
    name="fifty-layers",
    sentence="I can't really train a model with 50 layers!",
    question=f"Does a training step of resnet50 on {BATCH} images of {SIDE} pixels take more than {BOUND / 1e9:g} GB, "
    "with activations computed again?",
    expected="does not hold: a step takes less",
    needs=("shapes",),
    minutes={"small": 1.5, "medium": 20, "large": 300},
    plans=plan,
    judge=judge,
)
