"""Deeper plain networks are worse in training."""

from __future__ import annotations

from functools import partial

from ..claim import Claim
from ..judging import Judgement, greater, together
from ..results import Results
from .depth import LEAST, QUANTITY, depth_plan


def judge(results: Results) -> Judgement:
    """The clean training loss after the last update, paired by seed."""
    found = results.difference("plain-56", "plain-20", "train_loss")
    return together([greater(QUANTITY, found, least=LEAST, unit="nats")])


CLAIM = Claim(
    name="depth-plain",
    sentence="In fact, there is common phenomenon that really deep CNNs actually perform worse than shallow CNNs",
    question="Is the training loss of a plain network of 56 layers higher than that of one of 20, at equal updates?",
    expected="holds: the deeper network is worse in training, so it is not overfitting",
    needs=("shapes",),
    minutes={"small": 1.5, "medium": 25, "large": 750},
    plans=partial(depth_plan, "plain", seeds=(1, 2, 3, 4, 5)),
    judge=judge,
)
