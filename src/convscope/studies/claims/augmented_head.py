"""Augmentation for a head on recorded features: the features of varied copies are recorded and trained on as well."""

from __future__ import annotations

from functools import partial

from ..claim import Claim
from ..judging import Judgement, greater, together
from ..plan import WIDTHS, Arm, Plan, StudyData
from ..results import Results
from ..study_data import some_a_class
from .pretrained_beats_scratch import BACKBONE, SIDES, head_on_features

PLAIN, VARIED = "head on the images", "head on the images and varied copies"
COPIES = 4
COUNT = 10  # training images a class, others for each seed
RATES = (0.01,)  # no arm is trained by steps


def plan(size: str) -> Plan:
    """The same head on the same images, with copies of them and without."""
    some, options = partial(some_a_class, count=COUNT), {"width": WIDTHS[size]}
    arms = tuple(
        Arm(name, "alexnet", options, change=some, fit=partial(head_on_features, **_where(size), copies=copies))
        for name, copies in ((PLAIN, 0), (VARIED, COPIES))
    )
    if size == "small":
        return Plan(StudyData("digits", 32, train=300, val=100, test=600), arms, 0, RATES)
    images = StudyData("cifar10", 32, train=2_000, val=500, test=2_000 if size == "medium" else None)
    return Plan(images, arms, 0, RATES)


def _where(size: str) -> dict[str, str | int]:
    return {"backbone": BACKBONE, "side": SIDES[size]}


def judge(results: Results) -> Judgement:
    """Test accuracy gained by the copies."""
    found = results.accuracy({VARIED: 1.0, PLAIN: -1.0})
    quantity = f"test accuracy gained by {COPIES} varied copies of each image"
    return together([greater(quantity, found, least=0.01, unit="accuracy")])


CLAIM = Claim(
    name="augmented-head",
    sentence="Augmenting your data can help with the training. ... It will eek out a little more performance!",
    question=f"Is a head on lite0's features better when it is trained on {COPIES} varied copies of each image as "
    f"well, at {COUNT} images a class?",
    expected="holds with few images: copies are all the variety there is",
    needs=("digits",),
    minutes={"small": 1, "medium": 8, "large": 15},
    plans=plan,
    judge=judge,
)
