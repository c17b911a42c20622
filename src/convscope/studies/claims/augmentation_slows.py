"""Augmentation slows training, by update: the loss falls more slowly on images that keep changing."""

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
    """Updates to an equal training loss, each network's on the images it is trained on."""
    slower = results.sooner(VGG, AUGMENTED)
    return together(
        [greater("updates to an equal training loss, with over without", slower, least=0.1, unit="log2")],
        [f"The seconds of {results.plan.steps} updates: {_seconds(results)}."],
    )


def _seconds(results: Results) -> str:
    return ", ".join(f"{arm.name} {_mean(results, arm.name):.1f}" for arm in results.plan.arms)


def _mean(results: Results, arm: str) -> float:
    seconds = [t.seconds for t in results.trained[arm]]
    return sum(seconds) / len(seconds)


CLAIM = Claim(
    name="augmentation-slows",
    sentence="Data Augmentation slows down the training procedure! ... More iterations needed to get to the minimum",
    question="Does a network need more updates to an equal training loss when its images are varied?",
    expected="holds",
    needs=("shapes",),
    minutes={"small": 2, "medium": 25, "large": 500},
    plans=plan,
    judge=judge,
)
