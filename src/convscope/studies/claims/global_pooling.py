"""Global average pooling costs no accuracy, saves the fully connected layers, and each image rests on few maps.

Lin, Chen and Yan 2014 (arXiv:1312.4400).
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

from ...datasets.dataset import Dataset
from ...explanation.evidence import find_head
from ...images.preprocess import to_tensor
from ...machine import device_of
from ...models.alexnet import Layers, initialise
from ...models.taps import evaluating, reach
from ...models.vgg import vgg
from ..claim import Claim
from ..judging import Judgement, alike, below, exactly, greater, together
from ..plan import WIDTHS, Arm, Measurements, Plan, StudyData, on_cifar
from ..results import Results, seeds_only

DENSE, POOLED = "fully connected head", "global average pooling"
RATES = (0.01, 0.03, 0.1)
MARGIN = 0.02
SHARE = 0.9  # of what speaks for the winning class
FEW = 0.25  # of the maps
ASKED = 256  # test images


def pooled(num_classes: int, image_size: int, *, width: int, depth: int) -> nn.Sequential:
    """A network by the VGG rules that ends in global average pooling and one linear layer; no pool before it."""
    body = vgg(num_classes, image_size, width=width, depth=depth)
    names = [name for name, _ in body.named_children()]
    kept = names[: names.index("flatten") - 1]  # the last stage's max pool too
    layers: Layers = OrderedDict((name, body.get_submodule(name)) for name in kept)
    channels = next(m.out_channels for m in reversed(list(layers.values())) if isinstance(m, nn.Conv2d))
    layers |= {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "linear": nn.Linear(channels, num_classes)}
    return initialise(nn.Sequential(layers))


def measure(network: nn.Module, data: Dataset, _plan: Dataset) -> Measurements:
    """ "few": the share of the last maps that 90 % of what speaks for the winning class rests on; mean over images.

    The logit less its bias is a sum of a term a map; what speaks for it are the terms above 0, the largest taken first.
    "few_of_sum" counts those that reach 90 % of the sum itself: terms below 0 make that small, so that a tenth of the
    maps reaches it with random weights too. Nothing for a network without a pooled linear head.
    """
    index = data.subset("test", ASKED)
    images = data.preprocess.normalise(to_tensor(data.images[index]).to(device_of(network)))
    head = find_head(network, images[:1])
    if head is None:
        return {}
    linear = network.get_submodule(head.linear)
    assert isinstance(linear, nn.Linear)  # find_head says so
    with evaluating(network), torch.no_grad():
        winners = network(images).argmax(1)
        maps = reach(network, images, [head.features])[0].mean((2, 3))
    terms = (maps * linear.weight.detach()[winners]).sort(1, descending=True).values
    return {"few": _reaching(terms, terms.clamp_min(0).sum(1)), "few_of_sum": _reaching(terms, terms.sum(1))}


def _reaching(terms_BC: torch.Tensor, whole_B: torch.Tensor) -> torch.Tensor:
    """The share of the maps whose terms, the largest first, reach SHARE of the whole; all where there is none."""
    maps = terms_BC.shape[1]
    enough = terms_BC.cumsum(1) >= SHARE * whole_B[:, None]
    needed = torch.where((whole_B > 0) & enough.any(1), enough.float().argmax(1) + 1, maps)
    return (needed.double() / maps).mean().cpu()


def plan(size: str) -> Plan:
    """Both heads on one body."""
    options = {"width": WIDTHS[size], "depth": 6}
    arms = (Arm(DENSE, "vgg", options), Arm(POOLED, pooled, options))
    if size == "small":
        return Plan(StudyData("shapes", 32, train=600, val=300, test=1_500), arms, 250, RATES, measure=measure)
    return on_cifar(size, arms, RATES, measure=measure)


def judge(results: Results) -> Judgement:
    """The accuracy within the margin, the parameters saved, and the maps an image rests on."""
    cost = results.accuracy({POOLED: 1.0, DENSE: -1.0})
    dense, pooled_size = (results.trained[arm][0].parameters for arm in (DENSE, POOLED))
    rests = seeds_only([*results.scalar(POOLED, "few").values()])
    return together(
        [
            alike("test accuracy with global pooling minus without", cost, margin=MARGIN, unit="accuracy"),
            greater("parameters saved", exactly(1 - pooled_size / dense), least=0.05, unit="share"),
            below(
                f"maps that {100 * SHARE:.0f} % of what speaks for the winning class rests on",
                rests,
                limit=FEW,
                unit="share",
            ),
        ],
        ["With random weights about as few maps reach it (docs/results.md): that they are few is no work of training."],
    )


CLAIM = Claim(
    name="global-pooling",
    sentence="each image, more or less, corresponds to a few of the feature maps.",
    question="Does global average pooling keep accuracy within 2 points, save parameters, and rest each image on "
    "less than a quarter of the maps?",
    expected="accuracy and parameters hold; how few maps is open",
    needs=("shapes",),
    minutes={"small": 1.5, "medium": 20, "large": 500},
    plans=plan,
    judge=judge,
)
