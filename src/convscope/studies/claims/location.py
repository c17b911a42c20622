"""Location matters: convolution gains from where pixels are, and loses its gain when they are shuffled."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from torch import nn

from ...models.alexnet import initialise
from ...models.registry import build
from ..claim import Claim
from ..judging import Judgement, greater, together
from ..plan import WIDTHS, Arm, Plan, StudyData, on_cifar
from ..results import Results
from ..study_data import shuffled

RATES = (0.01, 0.03, 0.1)
CONV, DENSE = "convolutional", "fully connected"


def dense(num_classes: int, image_size: int, *, width: int) -> nn.Sequential:
    """Two hidden fully connected layers with batch norm, as many parameters as alexnet of that width has (to 1 %)."""
    with_pixels = 3 * image_size**2
    wanted = sum(p.numel() for p in build("alexnet", num_classes, image_size, {"width": width}, seed=0).parameters())
    units = max(u for u in range(1, 4_096) if with_pixels * u + u * u + (num_classes + 6) * u <= wanted)
    layers: Mapping[str, nn.Module] = {
        "flatten": nn.Flatten(),
        "fc1": nn.Linear(with_pixels, units),
        "norm1": nn.BatchNorm1d(units),
        "relu1": nn.ReLU(),
        "fc2": nn.Linear(units, units),
        "norm2": nn.BatchNorm1d(units),
        "relu2": nn.ReLU(),
        "fc3": nn.Linear(units, num_classes),
    }
    return initialise(nn.Sequential(OrderedDict(layers)))


def plan(size: str) -> Plan:
    """Both networks on the images and on shuffled ones."""
    options = {"width": WIDTHS[size]}
    arms = tuple(
        Arm(name + words, model, options, change=change)
        for words, change in (("", None), (", shuffled", shuffled))
        for name, model in ((CONV, "alexnet"), (DENSE, dense))
    )
    if size == "small":
        return Plan(StudyData("shapes", 16, train=800, val=300, test=1_200), arms, steps=250, rates=RATES)
    return on_cifar(size, arms, RATES)


def judge(results: Results) -> Judgement:
    """The gain of convolution on images, and how much of it shuffling takes away."""
    gain = {CONV: 1.0, DENSE: -1.0}
    lost = gain | {f"{CONV}, shuffled": -1.0, f"{DENSE}, shuffled": 1.0}
    rest = {f"{CONV}, shuffled": 1.0, f"{DENSE}, shuffled": -1.0}
    return together(
        [
            greater("accuracy gained by convolution", results.accuracy(gain), least=0.01, unit="accuracy"),
            greater("of it lost by shuffling", results.accuracy(lost), least=0.01, unit="accuracy"),
        ],
        [f"On shuffled images convolution gains {100 * results.accuracy(rest).value:.1f} points."],
    )


CLAIM = Claim(
    name="location",
    sentence="Location matters! Images are all about spatial context",
    question="Does a convolutional network beat a fully connected one of equal size, and lose that when every "
    "image's pixels are shuffled by one permutation?",
    expected="holds: the gain is there on images and goes with the places",
    needs=("shapes",),
    minutes={"small": 1.5, "medium": 15, "large": 250},
    plans=plan,
    judge=judge,
)
