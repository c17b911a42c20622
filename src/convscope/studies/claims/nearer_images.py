"""Features transfer the better, the nearer images are to those that the extractor was trained on.

How near they are is measured: the batch norms of lite0 know mean and variance of each channel over ImageNet, and the
distance of images is the divergence of theirs from these, as images are made up to fit them in Yin et al. 2020
(arXiv:1912.08795). No label and no accuracy is in it.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ...classifying.classifier import Classifier
from ...datasets.dataset import Dataset
from ...images.preprocess import to_tensor
from ...models.taps import Tap, evaluating, reach
from ..claim import Claim
from ..judging import Estimate, Judgement, greater, together
from ..plan import WIDTHS, Arm, Measurements, Plan, StudyData
from ..results import Results, seeds_and_images
from ..study_data import load_study_data, some_a_class
from .pretrained_beats_scratch import BACKBONE, SIDES, head_on_features

COUNT = 20  # training images a class, others for each seed
RATES = (0.01, 0.03, 0.1)
ASKED = 64  # images whose distance is measured
SMALL, LARGER = ("digits", "shapes"), ("cifar10", "shapes", "digits")


def images_of(plans: Dataset, seed: int, *, name: str) -> Dataset:
    """Some training images a class of another dataset, whose parts are as large as those of the plan's."""
    counts = tuple(len(plans.parts[part]) for part in ("train", "val", "test"))
    data = plans if name == plans.name else _loaded(name, plans.preprocess.size, counts)
    return some_a_class(data, seed, COUNT)


@functools.lru_cache(maxsize=4)
def _loaded(name: str, size: int, counts: tuple[int, ...]) -> Dataset:
    train, val, test = counts
    return load_study_data(StudyData(name, size, train, val, test))


def measure(_network: nn.Module, data: Dataset, _plan: Dataset, *, side: int) -> Measurements:
    """ "distance" of training images from ImageNet, whatever network was trained."""
    images = to_tensor(np.asarray(data.images[data.subset("train", ASKED)]))
    return {"distance": torch.tensor(distance(images, side), dtype=torch.float64)}


def distance(images_BCHW: Tensor, side: int) -> float:
    """Nats: each channel's normal distribution from that of ImageNet, the median of a layer's, the mean of all layers.

    ``images_BCHW`` are uint8, and enlarged to ``side`` pixels.
    """
    classifier = Classifier.pretrained(BACKBONE)
    network = classifier.network
    norms = {name: m for name, m in network.named_modules() if isinstance(m, _BatchNorm)}
    large = F.interpolate(images_BCHW.float(), (side, side), mode="bilinear").round().to(torch.uint8)
    with evaluating(network), torch.inference_mode():
        given = reach(network, classifier.preprocess.normalise(large), [Tap(name, at_input=True) for name in norms])
    found = [divergence(maps, norm) for maps, norm in zip(given, norms.values(), strict=True)]
    return float(torch.stack(found).mean())


def divergence(maps_BCHW: Tensor, norm: _BatchNorm) -> Tensor:
    """Kullback and Leibler's, of each channel's normal distribution from the one that a norm knows: the median."""
    known_mean, known_variance = norm.get_buffer("running_mean").double(), norm.get_buffer("running_var").double()
    variance, mean = torch.var_mean(maps_BCHW.double(), (0, 2, 3))
    ratio = (variance + norm.eps) / (known_variance + norm.eps)
    away = (mean - known_mean).square() / (known_variance + norm.eps)
    return ((ratio + away - 1 - ratio.log()) / 2).median()


def plan(size: str) -> Plan:
    """Each dataset both ways; the images of either way are the same."""
    arms = []
    for name in SMALL if size == "small" else LARGER:
        change, options = partial(images_of, name=name), {"width": WIDTHS[size]}
        fit = partial(head_on_features, backbone=BACKBONE, side=SIDES[size])
        arms += [
            Arm(_scratch(name), "alexnet", options, change=change),
            Arm(_head(name), "alexnet", options, change=change, fit=fit),
        ]
    shared, asked = {"augment": "light"}, partial(measure, side=SIDES[size])
    if size == "small":
        images = StudyData("digits", 32, train=300, val=100, test=400)
        return Plan(images, tuple(arms), 120, RATES, recipe=shared, measure=asked)
    images = StudyData("cifar10", 32, train=600, val=200, test=900)  # as many as there are digits
    updates = 300 if size == "medium" else 1_000
    return Plan(images, tuple(arms), updates, RATES, recipe=shared, batch_size=64, trial_share=0.3, measure=asked)


def _scratch(name: str) -> str:
    return f"{name} from scratch"


def _head(name: str) -> str:
    return f"{name}, {BACKBONE} and a head"


def judge(results: Results) -> Judgement:
    """What the features gain over training from scratch, for each dataset more than for the next one further away."""
    names = SMALL if len(results.plan.arms) == 2 * len(SMALL) else LARGER
    far = {name: [*results.scalar(_scratch(name), "distance").values()] for name in names}
    order = sorted(names, key=lambda name: float(np.mean(far[name])) if far[name] else np.inf)
    parts = [
        greater(f"test accuracy gained by {BACKBONE}, {near} more than {away}", _more(results, near, away), least=0.02,
                unit="accuracy")
        for near, away in itertools.pairwise(order)
    ]  # fmt: skip
    told = [f"{name} {np.mean(far[name]):.2f}" for name in order if far[name]]
    gains = {name: results.accuracy({_head(name): 1.0, _scratch(name): -1.0}) for name in order}
    return together(
        parts,
        [f"Distance from ImageNet in nats: {', '.join(told)}.", f"Points gained: {_gained(gains, order)}."],
    )


def _gained(gains: dict[str, Estimate], order: Sequence[str]) -> str:
    return ", ".join(
        f"{name} {100 * g.value:.1f} [{100 * g.low:.1f}, {100 * g.high:.1f}]" for name in order if (g := gains[name])
    )


def _more(results: Results, near: str, away: str) -> Estimate:
    """The gain on one dataset minus that on another: two samples of images, drawn apart, as long as the shorter one."""
    rows = []
    for head, scratch, other_head, other_scratch in results.whole(
        _head(near), _scratch(near), _head(away), _scratch(away)
    ):
        one, other = (a.test.double() - b.test.double() for a, b in ((head, scratch), (other_head, other_scratch)))
        n = min(len(one), len(other))
        rows.append((one[:n] - other[:n]).numpy())
    return seeds_and_images(rows)


CLAIM = Claim(
    name="nearer-images",
    sentence="If your image set is even a little similar to ImageNet (almost all are), you'll do better using a "
    "pre-trained feature extractor.",
    question=f"Do lite0's features gain more over training from scratch, at {COUNT} images a class, the nearer the "
    "images are to ImageNet by lite0's own batch norms?",
    expected="holds: photographs gain more than drawings, and these more than scanned digits",
    needs=("digits", "shapes"),
    minutes={"small": 2.5, "medium": 10, "large": 120},
    plans=plan,
    judge=judge,
)
