"""A pretrained extractor beats training from scratch, at 5, 20 and 60 images a class."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import torch

from ...classifying.classifier import Classifier
from ...datasets.dataset import Dataset, listing
from ...datasets.unsplit import Unsplit
from ...feature_store.extraction import extract
from ...feature_store.store import FeatureOptions
from ...recipes import Recipe
from ...transfer_learning.head import train_head
from ..claim import Claim
from ..judging import Judgement, greater, together
from ..plan import WIDTHS, Arm, Fitted, Plan, StudyData
from ..results import Results
from ..study_data import some_a_class

BACKBONE = "lite0"
SIDES = {"small": 64, "medium": 128, "large": 128}  # pixels that images are enlarged to for the backbone
COUNTS = (5, 20, 60)
RATES = (0.01, 0.03, 0.1)


def head_on_features(data: Dataset, seed: int, *, backbone: str, side: int, copies: int = 0) -> Fitted:
    """A linear head on the backbone's features, its strength chosen by cross-validation over the training images.

    With ``copies`` it is trained on as many light variations of each training image too, which are not scored.
    """
    (found,) = _recorded(data, index := np.unique(np.concatenate([*data.parts.values()])), backbone, side)
    features = torch.zeros(len(data), found.shape[1])
    features[torch.from_numpy(index)] = found
    train = data.subset("train")
    shown = features[torch.from_numpy(train)]
    if copies:
        shown = _recorded(data, train, backbone, side, copies, seed).flatten(0, 1)
    labels, keys = np.tile(data.labels[train], 1 + copies), np.tile(data.keys[train], 1 + copies)
    head = train_head(shown, torch.from_numpy(labels), len(data.class_names), keys, scored=len(train))

    def answer(index: np.ndarray) -> torch.Tensor:
        return features[torch.from_numpy(index)] @ head.weight.T + head.bias

    return Fitted(answer, head.weight.numel() + head.bias.numel())


def _recorded(  # noqa: PLR0913 - what is recorded, by what, and how it is varied
    data: Dataset, index: np.ndarray, backbone: str, side: int, copies: int = 0, seed: int = 0
) -> torch.Tensor:
    """(1 + copies, M, C), the images as they are first: recorded once in the feature store, found there afterwards."""
    classifier = Classifier.pretrained(backbone)
    preprocess = replace(classifier.preprocess, size=side)
    classifier = replace(
        classifier, preprocess=preprocess, architecture=replace(classifier.architecture, image_size=side)
    )
    given = np.full(len(index), "train", "U5")
    images = np.asarray(data.images[index])
    box = Unsplit(data.name, data.class_names, data.labels[index], given, side, arrays=images)
    options = FeatureOptions(engine="torch")
    if copies:
        varied = Recipe().with_options({"augment": "light"} if data.mirror else {"augment": "light", "flip": "none"})
        options = FeatureOptions(engine="torch", copies=copies, augment=varied.augment, seed=seed)
    found = extract(listing(box), classifier, options, torch.device("cpu")).features.array()
    return torch.from_numpy(np.array(found, np.float32).reshape(1 + copies, len(index), -1))


def plan(size: str) -> Plan:
    """Both ways at each number of images; others are drawn for each seed, the same for both."""
    width = WIDTHS[size]
    arms, fit = [], partial(head_on_features, backbone=BACKBONE, side=SIDES[size])
    for count in COUNTS:
        some = partial(some_a_class, count=count)
        arms.append(Arm(_scratch(count), "alexnet", {"width": width}, change=some))
        arms.append(Arm(_head(count), "alexnet", {"width": width}, change=some, fit=fit))
    shared = {"augment": "light"}
    if size == "small":
        images = StudyData("digits", 32, train=700, val=200, test=600)
        return Plan(images, tuple(arms), 200, RATES, recipe=shared)
    test = 2_000 if size == "medium" else None
    images = StudyData("cifar10", 32, train=10_000, val=1_000, test=test)
    return Plan(images, tuple(arms), 1_000, RATES, recipe=shared, batch_size=64, precision="auto", trial_share=0.3)


def _scratch(count: int) -> str:
    return f"scratch, {count} a class"


def _head(count: int) -> str:
    return f"{BACKBONE} and a head, {count} a class"


def judge(results: Results) -> Judgement:
    """Test accuracy at each number of images."""
    parts = []
    for count in COUNTS:
        found = results.accuracy({_head(count): 1.0, _scratch(count): -1.0})
        quantity = f"test accuracy gained by {BACKBONE} at {count} a class"
        parts.append(greater(quantity, found, least=0.01, unit="accuracy"))
    unlike = "Scanned digits are not like the images of ImageNet; size medium asks photographs."
    return together(parts, [unlike] if results.plan.data.data == "digits" else [])


CLAIM = Claim(
    name="pretrained-beats-scratch",
    sentence="It is almost always a waste of time to not use a pre-trained extractor!",
    question="Does a linear head on lite0's features beat the same images trained from scratch, at 5, 20 and 60 a "
    "class?",
    expected="holds at 5 and 20; at 60 it depends on how like ImageNet the images are",
    needs=("digits",),
    minutes={"small": 1.5, "medium": 20, "large": 40},
    plans=plan,
    judge=judge,
)
