"""A shallow network with identity layers added does as well; the same depth from scratch does not.

So what hurts a deep plain network is optimization: the construction of He et al. 2016 (arXiv:1512.03385), section 1.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial

import numpy as np
import torch
from torch import nn

from ...classifying.metrics import cross_entropy
from ...classifying.prediction import logits
from ...datasets.dataset import Dataset
from ...machine import device_of
from ...models.alexnet import Layers, add_convolution, initialise
from ..arms import TRAIN_ASKED
from ..claim import Claim
from ..judging import Judgement, greater, no_less, together
from ..plan import Arm, Measurements, Plan, StudyData, on_cifar
from ..results import Results, seeds_only

SHALLOW, BEGUN, SCRATCH = "shallow", "as deep, begun as identity", "as deep from scratch"
RATES = (0.003, 0.01, 0.03)
SEEDS = (11, 12, 13, 14, 15)  # none of those that a first, unjudged run was looked at with
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


def measure(network: nn.Module, data: Dataset, _plan: Dataset) -> Measurements:
    """ "added": the training loss of a shallow network once identity layers are put in. Nothing of a deep one."""
    if not isinstance(network, nn.Sequential) or "conv1_3" in dict(network.named_children()):
        return {}
    index = data.subset("train", TRAIN_ASKED)
    with torch.random.fork_rng(devices=[]):
        deep = _deeper(network, EXTRA, identity=True)
    scores = logits(deep, data.images, data.preprocess, index, device_of(network))
    return {"added": torch.tensor(cross_entropy(scores, np.asarray(data.labels)[index]))}


def _deeper(shallow: nn.Sequential, extra: int, identity: bool) -> nn.Sequential:
    layers: Layers = OrderedDict()
    for name, module in shallow.named_children():
        layers[name] = module
        if name.startswith("relu") and name.endswith("_2"):
            filters = getattr(shallow, name.replace("relu", "conv")).out_channels
            for place in range(3, 3 + extra):
                add_convolution(layers, f"{name[4:-2]}_{place}", (filters, filters, 3), batch_norm=False)
    deep = nn.Sequential(layers)
    had = {name for name, _ in shallow.named_children()}
    with torch.no_grad():
        for name, module in layers.items():
            if name not in had and isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if identity:
                    nn.init.dirac_(module.weight)
                assert module.bias is not None  # there is no batch norm behind it
                nn.init.zeros_(module.bias)
    return deep


def plan(size: str) -> Plan:
    """Three arms of one width."""
    width = 8 if size == "small" else 16
    deep = partial(tower, width=width, extra=EXTRA, identity=False)
    begun = partial(tower, width=width, extra=EXTRA, identity=True)
    arms = (Arm(SHALLOW, partial(tower, width=width)), Arm(SCRATCH, deep), Arm(BEGUN, begun))
    if size == "small":
        return Plan(StudyData("shapes", 16, train=1_000, val=300, test=1_000), arms, 250, RATES, SEEDS, measure=measure)
    return on_cifar(size, arms, RATES, updates=(1_000, 15_000), measure=measure)


def judge(results: Results) -> Judgement:
    """The clean training loss after the last update; what is begun as identity and trained on is told beside it."""
    added = [(t.train_loss, float(t.measured["added"])) for (t,) in results.whole(SHALLOW)]
    as_well = seeds_only([before - after for before, after in added])
    rows = [scratch.train_loss - float(t.measured["added"]) for t, scratch in results.whole(SHALLOW, SCRATCH)]
    worse = seeds_only(rows)
    begun = results.difference(BEGUN, SHALLOW, "train_loss")
    quantity = "training loss of the trained shallow network minus that once identity layers are put in"
    return together(
        [
            no_less(quantity, as_well, margin=MARGIN, unit="nats"),
            greater("training loss of that depth from scratch, more", worse, least=LEAST, unit="nats"),
        ],
        [
            "Trained for as long from identity layers on, the deep network ends "
            f"{begun.value:+.2g} [{begun.low:.2g}, {begun.high:.2g}] nats from the shallow one."
        ],
    )


CLAIM = Claim(
    name="identity-layers",
    sentence="a shallow network with a new layer should, at worst, do as well as the shallow model! ... The "
    "problem is one of optimization rather than theoretical!",
    question="Is the training loss of a trained shallow network the same with identity layers put in, and that of the "
    "same depth from scratch higher?",
    expected="holds: the first by construction, the second since depth is hard to train",
    needs=("shapes",),
    minutes={"small": 2, "medium": 25, "large": 500},
    plans=plan,
    judge=judge,
)
