"""Dropout spreads the load: no single filter is missed as much."""

from __future__ import annotations

from ..claim import Claim
from ..judging import Judgement, greater, together
from ..plan import Plan
from ..results import Results
from .overfitting import DROPOUT, VGG, overfitting_plan


def plan(size: str) -> Plan:
    """With dropout and without."""
    return overfitting_plan(size, VGG, DROPOUT)


def judge(results: Results) -> Judgement:
    """Compare the accuracy lost by silencing the last convolution's filter missed most, without minus with dropout."""
    found = results.accuracy_between({VGG: 1.0, DROPOUT: -1.0}, "test", "silenced")
    quantity = "test accuracy lost by silencing the filter missed most, without dropout minus with"
    return together([greater(quantity, found, least=0.01, unit="accuracy")])


CLAIM = Claim(
    name="dropout-spreads",
    sentence="Reduce reliance on any one convolution or neuron",
    question="With dropout, does silencing the filter of the last convolution that is missed most (on validation "
    "images) cost less test accuracy?",
    expected="holds: dropout works on what the last convolution outputs",
    needs=("shapes",),
    minutes={"small": 2, "medium": 25, "large": 500},
    plans=plan,
    judge=judge,
)
