"""Shared by the claims on overfitting: one network by the VGG rules on few images, alone, with dropout, and with
augmentation. What is measured is the same for all, so that the claims share their trainings."""

from __future__ import annotations

import numpy as np
import torch

from ...classifying.prediction import logits
from ...datasets.dataset import Dataset
from ...explanation.ablation import ablate
from ...explanation.layers import Layer, find_layers
from ...images.augmentation import augment
from ...images.preprocess import to_tensor
from ...machine import device_of
from ...models.taps import tapping
from ...recipes import Augment
from ..plan import WIDTHS, Arm, Measurements, Plan, StudyData, on_cifar

RATES = (0.01, 0.03, 0.1)
VGG, DROPOUT, AUGMENTED = "vgg", "with dropout", "with augmentation"
VARIED = {"augment": "standard", "rotate": 10.0}
SEEDS = tuple(range(11, 21))  # so many since seeds 1 to 5 left the claims on dropout open; none of those
ABLATED = 500  # validation images that each filter is silenced on
# Small changes of a test image, each drawn once; the augmentation has them all but for their size.
CHANGES = {
    "shift": Augment("shift", amounts={"translate": 0.125}),
    "flip": Augment("flip", flip="random"),
    "zoom": Augment("zoom", amounts={"zoom": 0.25}),
    "rotation": Augment("rotation", amounts={"rotate": 20.0}),
}


def overfitting_plan(size: str, *names: str) -> Plan:
    """The named arms; few images at sizes small and medium, so that there is something to overfit."""
    options = {"width": WIDTHS[size], "depth": 6}
    arms = {
        VGG: Arm(VGG, "vgg", options),
        DROPOUT: Arm(DROPOUT, "vgg", {**options, "dropout": 0.5}),
        AUGMENTED: Arm(AUGMENTED, "vgg", options, VARIED),
    }
    wanted = tuple(arms[name] for name in names)
    if size == "small":
        return Plan(StudyData("shapes", 32, train=150, val=300, test=1_000), wanted, 250, RATES, SEEDS, measure=measure)
    return on_cifar(size, wanted, RATES, updates=(1_500, 8_000), train=5_000, measure=measure)


def measure(network: torch.nn.Module, data: Dataset, _plan: Dataset) -> Measurements:
    """Right or not on changed test images, the accuracy they lose, and right or not without the filter missed most.

    "shift", "flip", "zoom", "rotation" and "silenced" bool (N,); "drop" float32 (N,): right as it is minus the mean of
    the first four. Which filter of the last convolution is missed most the validation images say.
    """
    index = data.subset("test")
    labels = torch.from_numpy(data.labels[index])
    plain = to_tensor(data.images[index])
    found: Measurements = {}
    for name, change in CHANGES.items():
        changed = augment(plain, change, 0, 0, data.keys[index]).permute(0, 2, 3, 1).contiguous().numpy()
        found[name] = logits(network, changed, data.preprocess).argmax(1) == labels
    right = logits(network, data.images, data.preprocess, index).argmax(1) == labels
    found["drop"] = right.float() - torch.stack([found[name].float() for name in CHANGES]).mean(0)
    layer, worst = _missed_most(network, data)

    def silent(_: int, outputs: torch.Tensor) -> torch.Tensor:
        outputs = outputs.clone()
        outputs[:, worst] = 0
        return outputs

    with tapping(network, [layer.tap], silent):
        found["silenced"] = logits(network, data.images, data.preprocess, index).argmax(1) == labels
    return found


def _missed_most(network: torch.nn.Module, data: Dataset) -> tuple[Layer, int]:
    """The last convolution, and its filter whose silence makes the largest share of validation images wrong."""
    index = data.subset("val", ABLATED)
    image = data.preprocess.normalise(to_tensor(np.asarray(data.images[index[:1]])).to(device_of(network)))
    layer = find_layers(network, image)[-1]
    lost = ablate(network, data.images, data.labels, data.preprocess, layer, index).accuracy_lost
    return layer, int(lost.argmax())
