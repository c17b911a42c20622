"""The lecture's AlexNet reaches about 75 % on CIFAR-10."""

from __future__ import annotations

import numpy as np

from ..claim import Arm, Claim, Plan, Task
from ..judging import Estimate, Judgement, no_less, over_seeds_and_pictures, together
from ..results import Results

SAID = 0.75
MARGIN = 0.02


def plan(size: str) -> Plan | None:
    """One arm on CIFAR-10; no other pictures can decide it."""
    if size == "small":
        return None
    steps = 1_400 if size == "medium" else 7_000
    shared = {"augment": "light", "weight_decay": 1e-3}
    rates = (0.02, 0.06, 0.2)
    arms = (Arm("alexnet"),)
    return Plan(
        Task("cifar10", 32), arms, steps, rates, (1, 2, 3), 128, recipe=shared, precision="auto", trial_share=0.3
    )


def judge(results: Results) -> Judgement:
    """Validation accuracy, which is what the lecture gives, less 75 %."""
    return together([no_less("validation accuracy less 75 %", _above(results), margin=MARGIN, unit="accuracy")])


def _above(results: Results) -> Estimate:
    rows = [t.val.double().numpy() - SAID for (t,) in results.whole("alexnet")]
    return over_seeds_and_pictures(np.stack(rows)) if rows else results.accuracy({"alexnet": 1.0})


CLAIM = Claim(
    name="alexnet-75",
    sentence="AlexNet gets us to around 75% in validation accuracy!",
    question="Does the lecture's AlexNet reach 75 % validation accuracy on CIFAR-10, less 2 points?",
    expected="holds: and more with augmentation",
    needs=("cifar10",),
    minutes={"small": 0, "medium": 15, "large": 60},
    plans=plan,
    judge=judge,
)
