"""The lecture's ResNet about matches VGG on small images; with a stem for small images it does better."""

from __future__ import annotations

from ..claim import Claim
from ..judging import Judgement, alike, greater, together
from ..plan import WIDTHS, Arm, Plan, StudyData, on_cifar
from ..results import Results

VGG, RESNET, SMALL_STEM = "vgg", "the lecture's resnet", "resnet with a small stem"
RATES = (0.02, 0.06, 0.18)
MARGIN = 0.03


def plan(size: str) -> Plan:
    """Three networks at one width."""
    width = WIDTHS[size]
    arms = (
        Arm(VGG, "vgg", {"width": width, "depth": 8}),
        Arm(RESNET, "resnet", {"width": width}),
        Arm(SMALL_STEM, "resnet", {"width": width, "stem": "small"}),
    )
    if size == "small":
        return Plan(StudyData("shapes", 32, train=600, val=300, test=1_200), arms, steps=150, rates=RATES)
    return on_cifar(size, arms, RATES, seeds=(1, 2, 3), recipe={"augment": "light"})


def judge(results: Results) -> Judgement:
    """Test accuracy: within the margin of VGG's, and gained by a stem that keeps the side."""
    match = results.accuracy({RESNET: 1.0, VGG: -1.0})
    stem = results.accuracy({SMALL_STEM: 1.0, RESNET: -1.0})
    return together(
        [
            alike("test accuracy of the lecture's resnet minus that of vgg", match, margin=MARGIN, unit="accuracy"),
            greater("test accuracy gained by the small stem", stem, least=0.01, unit="accuracy"),
        ]
    )


CLAIM = Claim(
    name="resnet-vgg",
    sentence="This architecture, more or less, match the performance of VGG without ResNets. Any guess as to why?",
    question="Is the lecture's ResNet within 3 points of VGG on small images, and better with a stem that keeps the "
    "side?",
    expected="holds on CIFAR-10: the stem leaves 8 x 8 of 32 x 32 before the first block",
    needs=("shapes",),
    minutes={"small": 2.5, "medium": 35, "large": 1_900},
    plans=plan,
    judge=judge,
)
