"""Early layers are general, late ones specific (Yosinski et al. 2014, arXiv:1411.1792), asked with linear probes.

One network learns half of the classes, its twin the other half. At each layer a linear head on the mean of each map in
four quarters tells the second half's classes: where the first network's maps serve as well as the twin's own, the
layer is general.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...classifying.prediction import BATCH
from ...datasets.dataset import Dataset
from ...images.preprocess import to_tensor
from ...machine import device_of
from ...models.taps import Tap, evaluating, reach
from ...transfer_learning.head import train_head
from ..claim import Claim
from ..judging import Judgement, alike, greater, together
from ..plan import WIDTHS, Arm, Measurements, Plan, StudyData, on_cifar
from ..results import Results
from ..study_data import only_classes

OTHER, OWN = "trained on the other classes", "trained on these classes"
RATES = (0.01, 0.03, 0.1)
DEPTH = 6
MARGIN = 0.03
STRENGTH = 1.0  # C of the probes, the same for all
SEEDS = tuple(range(11, 21))  # so many since seeds 1 to 5 left it open; none of those
PROBED = 2_000  # images that probes are trained on at most


def half(dataset: Dataset, _seed: int, *, second: bool) -> Dataset:
    """The first half of the classes, or the second."""
    middle = len(dataset.class_names) // 2
    return only_classes(dataset, range(middle, 2 * middle) if second else range(middle))


def measure(network: nn.Module, data: Dataset, plan: Dataset) -> Measurements:
    """ "layer 1", ... bool (N,): right or not of a probe at each ReLU, on the second half's test images."""
    task = half(plan, 0, second=True)
    train, test = task.subset("train", PROBED), task.subset("test")
    names = [n for n, m in network.named_modules() if isinstance(m, nn.ReLU) and "_" in n]
    found: Measurements = {}
    inside, asked = (_features(network, data, task, index, names) for index in (train, test))
    labels, truth = (torch.from_numpy(task.labels[index]) for index in (train, test))
    for place, name in enumerate(names):
        keys = task.keys[train]
        head = train_head(inside[name], labels, len(task.class_names), keys, strengths=[STRENGTH], folds=0)
        found[f"layer {place + 1}"] = (asked[name] @ head.weight.T + head.bias).argmax(1) == truth
    return found


def _features(
    network: nn.Module, data: Dataset, task: Dataset, index: np.ndarray, names: list[str]
) -> dict[str, Tensor]:
    """Each layer's maps, averaged in four quarters: (N, 4 C). Images are normalised as the network learned them."""
    rows: dict[str, list[Tensor]] = {name: [] for name in names}
    with evaluating(network), torch.inference_mode():
        for start in range(0, len(index), BATCH):
            block = to_tensor(task.images[index[start : start + BATCH]]).to(device_of(network))
            passed = reach(network, data.preprocess.normalise(block), [Tap(name) for name in names])
            for name, maps in zip(names, passed, strict=True):
                rows[name].append(F.adaptive_avg_pool2d(maps, 2).flatten(1).cpu())
    return {name: torch.cat(parts).clone() for name, parts in rows.items()}


def plan(size: str) -> Plan:
    """The same network on either half of the classes; of digits at size small."""
    options = {"width": WIDTHS[size], "depth": DEPTH}
    arms = tuple(
        Arm(name, "vgg", options, change=partial(half, second=second)) for name, second in ((OTHER, False), (OWN, True))
    )
    if size == "small":
        return Plan(StudyData("digits", 16, train=600, val=200), arms, 200, RATES, SEEDS, measure=measure)
    return on_cifar(size, arms, RATES, seeds=SEEDS, measure=measure)


def judge(results: Results) -> Judgement:
    """Judge the gain of a probe by training on these classes: nothing at the first layer, and more at the last."""
    first, last = (results.accuracy({OWN: 1.0, OTHER: -1.0}, f"layer {n}") for n in (1, DEPTH))
    grows = results.accuracy_between({OWN: 1.0, OTHER: -1.0}, f"layer {DEPTH}", "layer 1")
    each = [results.accuracy({OWN: 1.0, OTHER: -1.0}, f"layer {n}").value for n in range(1, DEPTH + 1)]
    quantity = "what own training gains a probe, at the last layer more than at the first"
    return together(
        [
            alike("what own training gains a probe at the first layer", first, margin=MARGIN, unit="accuracy"),
            greater(quantity, grows, least=0.01, unit="accuracy"),
        ],
        [
            f"Points gained by layer: {', '.join(f'{100 * value:.1f}' for value in each)}; at the last "
            f"[{100 * last.low:.1f}, {100 * last.high:.1f}]."
        ],
    )


CLAIM = Claim(
    name="general-to-specific",
    sentence="The bottom layers learn to extract edges of images ... As we move up, we learn to combine edges and "
    "innards",
    question="Do a network's first maps tell classes it never saw as well as those of a network trained on them, and "
    "its last maps not?",
    expected="holds: the first layer is general, the last is made for its own classes",
    needs=("digits",),
    minutes={"small": 1.5, "medium": 35, "large": 300},
    plans=plan,
    judge=judge,
)
