"""A deep network overfits: it is better on what it was trained on than on what it was not."""

from __future__ import annotations

from ..claim import Claim
from ..judging import Judgement, greater, together
from ..plan import Plan
from ..results import Results
from .overfitting import VGG, overfitting_plan


def plan(size: str) -> Plan:
    """One arm."""
    return overfitting_plan(size, VGG)


def judge(results: Results) -> Judgement:
    """The gap of accuracy between training and test images."""
    quantity = "accuracy on training images minus that on test images"
    return together([greater(quantity, results.gap({VGG: 1.0}), least=0.02, unit="accuracy")])


CLAIM = Claim(
    name="vgg-overfits",
    sentence="The problem is that our networks are quickly overfitting to the data",
    question="Is a network by the VGG rules better on its training images than on test images?",
    expected="holds: by many points",
    needs=("shapes",),
    minutes={"small": 1, "medium": 15, "large": 250},
    plans=plan,
    judge=judge,
)
