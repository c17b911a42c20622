"""Shared by the claims on depth: the paper's networks of 20 and of 56 layers, compared by their training loss.

He et al. 2016 (arXiv:1512.03385), figures 1 and 6.
"""

from __future__ import annotations

from ..plan import Arm, Plan, StudyData, on_cifar

SMALL = StudyData("shapes", 16, train=1_000, val=300, test=1_000)
RATES = (0.02, 0.06, 0.18)
LEAST = 0.02  # nats of training loss that would matter
MARGIN = 0.05  # nats of training loss that do not
QUANTITY = "training loss of 56 layers minus that of 20"


def depth_plan(kind: str, size: str, seeds: tuple[int, ...]) -> Plan:
    """``kind`` is "plain" or "resnet"; ``seeds`` are those of size small."""
    options = {"width": 8} if size == "small" else {}
    arms = tuple(Arm(f"{kind}-{layers}", f"{kind}{layers}", options) for layers in (20, 56))
    if size == "small":
        return Plan(SMALL, arms, 200, RATES, seeds)
    shared = {} if size == "medium" else {"augment": "light"}
    return on_cifar(size, arms, RATES, updates=(1_000, 20_000), seeds=(1, 2, 3), recipe=shared)
