"""Two 3x3 convolutions see what one 5x5 sees, with fewer parameters, and do no worse (arXiv:1409.1556, section 2.3)."""

from __future__ import annotations

from collections import OrderedDict
from functools import partial

import torch
from torch import nn

from ...datasets.dataset import Dataset
from ...explanation.layers import find_layers
from ...images.preprocess import to_tensor
from ...machine import device_of
from ...models.alexnet import Layers, add_convolution, add_dense, initialise
from ..claim import Claim
from ..judging import Judgement, alike, exactly, greater, no_less, together
from ..plan import WIDTHS, Arm, Measurements, Plan, StudyData, on_cifar
from ..results import NOTHING, Results

ONE, TWO = "one 5x5", "two 3x3"
STAGES = 3
HIDDEN = 128
MARGIN = 0.02
RATES = (0.01, 0.03, 0.1)


def stages(num_classes: int, image_size: int, *, width: int, twice: bool) -> nn.Sequential:
    """Three stages, each of one 5x5 convolution or of two 3x3, a 2x2 pool behind; then two fully connected layers.

    The first of two has as many filters as come in (in stage 1 as many as go out), as VGG's have.
    """
    layers: Layers = OrderedDict()
    channels = 3
    for stage in range(1, STAGES + 1):
        filters = width * 2 ** (stage - 1)
        if twice:
            between = filters if stage == 1 else channels
            add_convolution(layers, f"{stage}_1", (channels, between, 3), batch_norm=True)
            add_convolution(layers, f"{stage}_2", (between, filters, 3), batch_norm=True)
        else:
            add_convolution(layers, f"{stage}_1", (channels, filters, 5), batch_norm=True)
        layers[f"pool{stage}"] = nn.MaxPool2d(2, 2)
        channels = filters
    layers["flatten"] = nn.Flatten()
    add_dense(layers, (channels * (image_size >> STAGES) ** 2, HIDDEN, num_classes), first=STAGES + 1, dropout=0.0)
    return initialise(nn.Sequential(layers))


def measure(network: nn.Module, data: Dataset, _plan: Dataset) -> Measurements:
    """The side of what a place of the last convolution sees, in pixels, and the convolutions' parameters."""
    image = data.preprocess.normalise(to_tensor(data.images[data.subset("test", 6)[:1]]).to(device_of(network)))
    field = find_layers(network, image)[-1].field
    weights = sum(m.weight.numel() for m in network.modules() if isinstance(m, nn.Conv2d))
    side = float(field.size[0]) if field is not None else float("nan")
    return {"sees": torch.tensor(side), "weights": torch.tensor(float(weights))}


def plan(size: str) -> Plan:
    """Both networks."""
    width = WIDTHS[size]
    arms = tuple(Arm(name, partial(stages, width=width, twice=name == TWO)) for name in (ONE, TWO))
    if size == "small":
        return Plan(StudyData("shapes", 32, train=600, val=300, test=2_000), arms, 250, RATES, measure=measure)
    return on_cifar(size, arms, RATES, measure=measure)


def judge(results: Results) -> Judgement:
    """Fields and parameters are exact; the accuracy is paired by seed and image."""
    sees = saved = NOTHING
    if pairs := results.whole(ONE, TWO):  # the same for every seed
        one, two = ({name: float(t.measured[name]) for name in ("sees", "weights")} for t in pairs[0])
        sees, saved = exactly(two["sees"] - one["sees"]), exactly(1 - two["weights"] / one["weights"])
    found = results.accuracy({TWO: 1.0, ONE: -1.0})
    return together(
        [
            alike("difference of what a place sees", sees, margin=0.5, unit="pixels"),
            greater("weights of filters saved", saved, least=0.05, unit="share"),
            no_less("test accuracy of two 3x3 minus that of one 5x5", found, margin=MARGIN, unit="accuracy"),
        ]
    )


CLAIM = Claim(
    name="two-3x3",
    sentence="All convolutions are same 3x3 convolutions with stride 1",
    question="Do two 3x3 convolutions in the place of each 5x5 see as much, with fewer weights, and do no worse?",
    expected="holds",
    needs=("shapes",),
    minutes={"small": 1.5, "medium": 25, "large": 500},
    plans=plan,
    judge=judge,
)
