"""Augmentation narrows the gap between training and test, and helps."""

from __future__ import annotations

from ..claim import Claim
from ..judging import Judgement, greater, together
from ..plan import Plan
from ..results import Results
from .overfitting import AUGMENTED, VGG, overfitting_plan


def plan(size: str) -> Plan:
    """With augmentation and without."""
    return overfitting_plan(size, VGG, AUGMENTED)


def judge(results: Results) -> Judgement:
    """The gap without minus that with augmentation, and the test accuracy gained."""
    gain = results.accuracy({AUGMENTED: 1.0, VGG: -1.0})
    closed = results.gap({VGG: 1.0, AUGMENTED: -1.0})
    return together(
        [
            greater("gap that augmentation closes", closed, least=0.01, unit="accuracy"),
            greater("test accuracy gained", gain, least=0.01, unit="accuracy"),
        ]
    )


CLAIM = Claim(
    name="augmentation-gap",
    sentence="The benefit is that the model ... can do a pretty good job of generalizing to new images!",
    question="Does augmentation narrow the gap between training and test accuracy, and raise test accuracy?",
    expected="holds: both",
    needs=("shapes",),
    minutes={"small": 2, "medium": 25, "large": 500},
    plans=plan,
    judge=judge,
)
