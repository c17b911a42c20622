"""A claim whose networks train in milliseconds, for the tests of what runs and tells claims."""

from __future__ import annotations

from torch import nn

from convscope.studies.claim import Claim
from convscope.studies.judging import Judgement, greater, together
from convscope.studies.plan import Arm, Plan, StudyData
from convscope.studies.results import Results

TASK = StudyData("shapes", 16, train=48, val=24, test=48)
MINUTES = {"small": 1, "medium": 2, "large": 3}


def narrow(num_classes: int, image_size: int, *, width: int = 2) -> nn.Module:
    """A network that trains in milliseconds."""
    pool = nn.AdaptiveAvgPool2d(2)
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.ReLU(), pool, nn.Flatten(), nn.Linear(4 * width, num_classes))


def wider_is_better(results: Results) -> Judgement:
    found = results.accuracy({"wide": 1.0, "narrow": -1.0})
    return together([greater("accuracy gained by width", found, least=0.01, unit="accuracy")])


ARMS = (Arm("narrow", narrow), Arm("wide", narrow, {"width": 4}))
PLAN = Plan(TASK, ARMS, steps=6, rates=(0.01, 0.1), seeds=(1, 2, 3), batch_size=16, trial_seeds=(0,))
CLAIM = Claim("toy", "Wide is better.", "Is it?", "holds", ("shapes",), MINUTES, lambda size: PLAN, wider_is_better)
