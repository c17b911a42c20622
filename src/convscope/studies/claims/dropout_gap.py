"""Dropout narrows the gap between training and test (Srivastava et al. 2014, JMLR 15)."""

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
    """The gap without minus that with dropout; the gain in test accuracy is told beside it."""
    gain = results.accuracy({DROPOUT: 1.0, VGG: -1.0})
    return together(
        [greater("gap that dropout closes", results.gap({VGG: 1.0, DROPOUT: -1.0}), least=0.01, unit="accuracy")],
        [f"Test accuracy gains {100 * gain.value:.1f} [{100 * gain.low:.1f}, {100 * gain.high:.1f}] points."],
    )


CLAIM = Claim(
    name="dropout-gap",
    sentence="Two dominant approaches to get better generalization for CNNs: ... Dropout",
    question="Does dropout of a half narrow the gap between training and test accuracy?",
    expected="holds",
    needs=("shapes",),
    minutes={"small": 2, "medium": 25, "large": 500},
    plans=plan,
    judge=judge,
)
