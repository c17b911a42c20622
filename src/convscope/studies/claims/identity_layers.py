"""A shallow network with identity layers added does as well; the same depth from scratch does not.

So what hurts a deep plain network is optimization: the construction of He et al. 2016 (arXiv:1512.03385), section 1.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial

import torch
from torch import nn

from ...models.alexnet import Layers, add_convolution, initialise
from ..claim import Arm, Claim, Plan, Task
from ..judging import Judgement, greater, no_less, together
from ..results import Results

SHALLOW, ADDED, SCRATCH = "shallow", "with identity layers", "as deep from scratch"
RATES = (0.01, 0.03, 0.1)
STAGES = 3
EXTRA = 8  # identity layers a stage
MARGIN = 0.05  # nats of training loss that do not matter
LEAST = 0.02


def tower(num_classes: int, image_size: int, *, width: int, extra: int = 0, identity: bool = False) -> nn.Sequential:
    """Three stages of two 3x3 convolutions and ``extra`` more, a pool behind each, then a linear layer.

    There is no batch norm, so that a convolution whose centre weights are an identity, after a ReLU and before one,
    changes nothing at all: with ``identity`` the extra ones begin so, and the rest has the shallow network's weights.
    """
    layers: Layers = OrderedDict()
    channels = 3
    for stage in range(1, STAGES + 1):
        filters = width * 2 ** (stage - 1)
        for place in range(1, 3):
            add_convolution(layers, f"{stage}_{place}", (channels, filters, 3), batch_norm=False)
            channels = filters
        if stage < STAGES:
            layers[f"pool{stage}"] = nn.MaxPool2d(2, 2)
    layers |= {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "linear": nn.Linear(channels, num_classes)}
    shallow = initialise(nn.Sequential(layers))
    return _deeper(shallow, extra, identity) if extra else shallow


def _deeper(shallow: nn.Sequential, extra: int, identity: bool) -> nn.Sequential:
    layers: Layers = OrderedDict()
    for name, module in shallow.named_children():
        layers[name] = module
        if name.startswith("relu") and name.endswith("_2"):
            filters = getattr(shallow, name.replace("relu", "conv")).out_channels
            for place in range(3, 3 + extra):
                add_convolution(layers, f"{name[4:-2]}_{place}", (filters, filters, 3), batch_norm=False)
    deep = nn.Sequential(layers)
    added = [deep.get_submodule(name) for name in layers if name.startswith("conv") and int(name.split("_")[1]) > 2]
    with torch.no_grad():
        for module in added:
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if identity:
                nn.init.dirac_(module.weight)
            nn.init.zeros_(module.bias)
    return deep


def plan(size: str) -> Plan:
    """Three arms of one width."""
    width = 8 if size == "small" else 16
    deep = partial(tower, width=width, extra=EXTRA, identity=False)
    added = partial(tower, width=width, extra=EXTRA, identity=True)
    arms = (Arm(SHALLOW, partial(tower, width=width)), Arm(ADDED, added), Arm(SCRATCH, deep))
    if size == "small":
        return Plan(Task("shapes", 16, train=1_000, val=300, test=1_000), arms, steps=250, rates=RATES)
    steps, batch = (2_000, 64) if size == "medium" else (15_000, 128)
    return Plan(Task("cifar10", 32), arms, steps, RATES, (1, 2, 3), batch, trial_share=0.2)


def judge(results: Results) -> Judgement:
    """The clean training loss after the last update."""
    as_well = results.difference(SHALLOW, ADDED, "train_loss")
    worse = results.difference(SCRATCH, ADDED, "train_loss")
    quantity = "training loss of the shallow network minus that with identity layers"
    return together(
        [
            no_less(quantity, as_well, margin=MARGIN, unit="nats"),
            greater("training loss of that depth from scratch, more", worse, least=LEAST, unit="nats"),
        ]
    )


CLAIM = Claim(
    name="identity-layers",
    sentence="A shallow network with a new layer should, at worst, do as well as the shallow model! The problem is one "
    "of optimization.",
    question="Does a shallow network with identity layers added train as well as without them, and does the same depth "
    "from scratch not?",
    expected="holds: both",
    needs=("shapes",),
    minutes={"small": 2, "medium": 60, "large": 500},
    plans=plan,
    judge=judge,
)
