"""A deeper network of small filters beats the lecture's AlexNet."""

from __future__ import annotations

from ..claim import Claim
from ..judging import Judgement, greater, together
from ..plan import WIDTHS, Arm, Plan, StudyData, on_cifar
from ..results import Results

RATES = (0.01, 0.03, 0.1)
QUANTITY = "test accuracy of VGG minus that of AlexNet"


def plan(size: str) -> Plan:
    """Both networks at one width."""
    width = WIDTHS[size]
    arms = (Arm("alexnet", "alexnet", {"width": width}), Arm("vgg", "vgg", {"width": width, "depth": 6}))
    if size == "small":
        return Plan(StudyData("shapes", 32, train=400, val=300, test=1_500), arms, steps=250, rates=RATES)
    return on_cifar(size, arms, RATES, updates=(1_500, 8_000), recipe={"augment": "light"})


def judge(results: Results) -> Judgement:
    """Test accuracy, paired by seed and image."""
    found = results.accuracy({"vgg": 1.0, "alexnet": -1.0})
    return together([greater(QUANTITY, found, least=0.01, unit="accuracy")])


CLAIM = Claim(
    name="vgg-beats-alexnet",
    sentence="We can improve this by using a deeper architecture",
    question="Is the test accuracy of six 3x3 convolutions above that of AlexNet's three, at equal width and updates?",
    expected="holds: by a little",
    needs=("shapes",),
    minutes={"small": 1, "medium": 15, "large": 350},
    plans=plan,
    judge=judge,
)
