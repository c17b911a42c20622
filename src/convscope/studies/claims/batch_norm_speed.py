"""Batch norm speeds up training and bears a higher rate (Ioffe and Szegedy 2015, arXiv:1502.03167)."""

from __future__ import annotations

import math

from ..claim import Claim
from ..judging import Judgement, greater, over_seeds, together
from ..plan import WIDTHS, Arm, Plan, StudyData, on_cifar
from ..results import Results

RATES = (0.01, 0.04, 0.16)
SEEDS = tuple(range(11, 19))  # none of those that a first, unjudged run showed the spread of
LADDER = (0.04, 0.16, 0.64)  # rates to bear: from the middle one up to four times the highest
ROUNDING = math.log2(LADDER[1] / LADDER[0]) / math.sqrt(6)  # of the difference of two rungs, each read to one
WITH, WITHOUT = "with batch norm", "without batch norm"


def plan(size: str) -> Plan:
    """Two networks by the VGG rules, at the rate each chooses, and both at each rate of the ladder."""
    shape = {"width": WIDTHS[size], "depth": 6}
    arms = []
    for name, on in ((WITH, True), (WITHOUT, False)):
        arms.append(Arm(name, "vgg", {**shape, "batch_norm": on}))
        arms += [Arm(_at(name, rate), "vgg", {**shape, "batch_norm": on}, rates=(rate,)) for rate in LADDER]
    if size == "small":
        return Plan(StudyData("shapes", 16, train=1_000, val=300, test=1_000), tuple(arms), 300, RATES, SEEDS)
    return on_cifar(size, tuple(arms), RATES, updates=(600, 8_000))


def _at(name: str, rate: float) -> str:
    return f"{name}, rate {rate}"


def judge(results: Results) -> Judgement:
    """Sooner at the rate each chooses; and the highest rate of the ladder that each bears, by seed.

    A rate is borne where training accuracy comes more than half way from guessing to 1; where none of the ladder is,
    the lowest rate to choose from counts.
    """
    sooner = results.sooner(WITH, WITHOUT)
    borne = [_borne(results, name) for name in (WITH, WITHOUT)]
    both = sorted(borne[0].keys() & borne[1].keys())
    bears = over_seeds([math.log2(borne[0][seed] / borne[1][seed]) for seed in both], rounding=ROUNDING)
    return together(
        [
            greater("updates to an equal training loss, without over with", sooner, least=0.1, unit="log2"),
            greater("highest rate that is borne, with over without", bears, least=1.0, unit="log2"),
        ]
    )


def _borne(results: Results, name: str) -> dict[int, float]:
    """The highest rate by seed, of the seeds that were trained at every rate."""
    halfway = (1 + 1 / results.classes) / 2
    found: dict[int, list[float]] = {}
    for rate in LADDER:
        for t in results.trained[_at(name, rate)]:
            well = t.diverged is None and t.train_accuracy > halfway
            found.setdefault(t.seed, []).append(rate if well else RATES[0])
    return {seed: max(rates) for seed, rates in found.items() if len(rates) == len(LADDER)}


CLAIM = Claim(
    name="batch-norm-speed",
    sentence="A solution that works ... is to use batch normalization",
    question="Does a network with batch norm reach an equal training loss in fewer updates, and bear a higher rate?",
    expected="holds: both",
    needs=("shapes",),
    minutes={"small": 2, "medium": 35, "large": 1_400},
    plans=plan,
    judge=judge,
)
