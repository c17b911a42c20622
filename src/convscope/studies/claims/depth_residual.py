"""Deeper residual networks are not worse in training."""

from __future__ import annotations

from functools import partial

from ..claim import Claim
from ..judging import Judgement, no_less, together
from ..results import Results
from .depth import MARGIN, depth_plan

SEEDS = tuple(range(11, 25))  # so many since seeds 1 to 5 left it open; none of those


def judge(results: Results) -> Judgement:
    """The clean training loss after the last update, paired by seed."""
    found = results.difference("resnet-20", "resnet-56", "train_loss")
    return together([no_less("training loss of 20 layers minus that of 56", found, margin=MARGIN, unit="nats")])


CLAIM = Claim(
    name="depth-residual",
    sentence="With enough little parts, we're able to complete the mapping!",
    question="With residual blocks, is the training loss of 56 layers no higher than that of 20, at equal updates?",
    expected="holds: with skips the deeper network trains as well",
    needs=("shapes",),
    minutes={"small": 3, "medium": 25, "large": 750},
    plans=partial(depth_plan, "resnet", seeds=SEEDS),
    judge=judge,
)
