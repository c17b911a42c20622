"""Dropout spreads the load: no single filter is missed as much."""

from __future__ import annotations

from ..claim import Claim, Plan
from ..judging import Judgement, greater, together
from ..results import Results
from .overfitting import DROPOUT, VGG, overfitting_plan


def plan(size: str) -> Plan:
    """With dropout and without."""
    return overfitting_plan(size, VGG, DROPOUT)


def judge(results: Results) -> Judgement:
    """The most that silencing one filter of the last convolution loses, without minus with dropout."""
    found = results.difference(VGG, DROPOUT, "most_lost")
    return together([greater("largest loss from silencing one filter, less", found, least=0.01, unit="accuracy")])


CLAIM = Claim(
    name="dropout-spreads",
    sentence="Reduce reliance on any one convolution or neuron",
    question="With dropout, is the largest loss of accuracy from silencing one filter of the last convolution smaller?",
    expected="holds: dropout works on what the last convolution puts out",
    needs=("shapes",),
    minutes={"small": 2, "medium": 25, "large": 500},
    plans=plan,
    judge=judge,
)
