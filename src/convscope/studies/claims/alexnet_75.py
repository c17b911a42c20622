"""The lecture's AlexNet reaches about 75 % on CIFAR-10."""

from __future__ import annotations

import numpy as np

from ..claim import Claim
from ..judging import Estimate, Judgement, no_less, over_seeds_and_images, together
from ..plan import Arm, Plan, on_cifar
from ..results import Results

SAID = 0.75
MARGIN = 0.02
RATES = (0.02, 0.06, 0.2)


def plan(size: str) -> Plan | None:
    """One arm on CIFAR-10; no other images can decide it."""
    if size == "small":
        return None
    shared = {"augment": "light", "weight_decay": 1e-3}
    return on_cifar(size, (Arm("alexnet"),), RATES, updates=(2_500, 7_000), seeds=(1, 2, 3), recipe=shared)


def judge(results: Results) -> Judgement:
    """Validation accuracy, which is what the lecture gives, less 75 %."""
    return together([no_less("validation accuracy less 75 %", _above(results), margin=MARGIN, unit="accuracy")])


def _above(results: Results) -> Estimate:
    rows = [t.val.double().numpy() - SAID for (t,) in results.whole("alexnet")]
    return over_seeds_and_images(np.stack(rows)) if rows else results.accuracy({"alexnet": 1.0})


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
