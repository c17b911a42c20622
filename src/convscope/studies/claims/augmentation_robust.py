"""Augmentation makes a network robust to small changes of an image."""

from __future__ import annotations

from ..claim import Claim
from ..judging import Judgement, greater, together
from ..plan import Plan
from ..results import Results
from .overfitting import AUGMENTED, CHANGES, VGG, overfitting_plan


def plan(size: str) -> Plan:
    """With augmentation and without."""
    return overfitting_plan(size, VGG, AUGMENTED)


def judge(results: Results) -> Judgement:
    """The accuracy lost to a change, the mean of four kinds, without minus with augmentation; each kind beside it."""
    found = results.accuracy({VGG: 1.0, AUGMENTED: -1.0}, "drop")
    kinds = ", ".join(f"{kind} {_lost(results, VGG, kind)} to {_lost(results, AUGMENTED, kind)}" for kind in CHANGES)
    return together(
        [greater("accuracy lost to a small change, less", found, least=0.01, unit="accuracy")],
        [f"Points lost without and with augmentation: {kinds}."],
    )


def _lost(results: Results, arm: str, kind: str) -> str:
    plain, changed = results.accuracy({arm: 1.0}), results.accuracy({arm: 1.0}, kind)
    return f"{100 * (plain.value - changed.value):.1f}"


CLAIM = Claim(
    name="augmentation-robust",
    sentence="The benefit is that the model becomes quite robust to small changes in images",
    question="Does a network trained with augmentation lose less accuracy to a shift, flip, zoom or rotation?",
    expected="holds",
    needs=("shapes",),
    minutes={"small": 2, "medium": 25, "large": 500},
    plans=plan,
    judge=judge,
)
