"""The ladder: ways to use a pretrained network, from the cheapest up, each measured on images it did not train on.

The cheap rungs (k nearest neighbours, a head, a small fully connected network) live on recorded features and are
measured by cross-validation over all training and validation images. Those that train the backbone, or a network from
scratch, are measured on the validation images, and compared with the best cheap rung on these same images.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..classifying.intervals import SURE, Interval, PairedTest, paired_test, wilson
from ..progress import Progress, counted
from .fcnn import LEAST_EPOCHS, train_fcnn
from .head import FOLDS, LinearHead, Strength, folds_of, train_head
from .knn import choose_neighbours, neighbours_head

FCNN = "FCNN head"


@dataclass(frozen=True)
class HeadTask:
    """What a rung is trained on: features (N, C) of training and validation images, labels, content keys.

    The first ``scored`` rows are images as they are, on which rungs are measured; augmented copies stand behind.
    ``thorough`` spares no time for the FCNN head; ``progress`` is told how far a rung is.
    """

    features: Tensor
    labels: Tensor
    keys: np.ndarray
    classes: int
    balance: bool = False
    seed: int = 0
    scored: int | None = None
    thorough: bool = False
    progress: Progress | None = None

    @property
    def folds(self) -> Tensor:
        """The fold of each image (N,)."""
        count = max(2, min(FOLDS, int(np.unique(self.keys).size)))
        return torch.from_numpy(folds_of(self.keys, self.labels.numpy(), count))

    def take(self, index: Tensor) -> HeadTask:
        """Some of the images."""
        keys = self.keys[index.numpy()]
        return replace(self, features=self.features[index], labels=self.labels[index], keys=keys, scored=None)


@dataclass(frozen=True)
class Rung:
    """One way, measured: ``correct`` (M,) at the images ``index`` (M,) of the dataset, none of them trained on.

    ``options`` are the head's, for ``models.build``; ``module`` is the head trained on all images, for a cheap rung.
    ``seconds`` are those of training and measuring, the features not counted; ``parameters`` those that were trained.
    """

    name: str
    index: np.ndarray
    correct: np.ndarray
    seconds: float
    parameters: int
    options: dict[str, Any] = field(default_factory=dict)
    module: nn.Module | None = None
    path: tuple[Strength, ...] = ()
    chosen: str = ""
    strength: float | None = None  # C of the head that was kept
    measured_by: str = "cross-validation"  # how the images were held out; else "one fold" or "validation"
    held_out: Tensor | None = None  # (M, K): logits by heads that were not trained on them, of one trained on all

    @property
    def top1(self) -> Interval:
        """Accuracy with its interval."""
        return wilson(int(self.correct.sum()), len(self.correct))

    def line(self) -> str:
        """The rung in one line."""
        low, top, high = (100 * v for v in (self.top1.low, self.top1.value, self.top1.high))
        return (
            f"{self.name:<10}  {top:5.1f} % [{low:.1f}, {high:.1f}] of {self.top1.n:,} in {self.measured_by}  "
            f"{self.seconds:6.1f} s  {self.parameters:>11,} parameters  {self.chosen}"
        )

    def to_json(self) -> dict[str, Any]:
        """The stable JSON form."""
        top1 = self.top1
        return {
            "name": self.name,
            "val_top1": top1.value,
            "low": top1.low,
            "high": top1.high,
            "n": top1.n,
            "measured_by": self.measured_by,
            "seconds": self.seconds,
            "parameters": self.parameters,
            "chosen": self.chosen,
        }


def knn_rung(task: HeadTask, index: np.ndarray) -> Rung:
    """k nearest neighbours; nothing is trained, k is chosen."""
    start = time.perf_counter()
    found = choose_neighbours(task.features, task.labels, task.folds, task.classes, counted(task.progress, "k-NN"))
    head = neighbours_head(task.features, task.labels, task.classes, found.neighbours)
    correct = (found.logits.argmax(1) == task.labels).numpy()[: task.scored]
    options = {"head": "knn", "rows": len(task.labels), "neighbours": found.neighbours}
    seconds = time.perf_counter() - start
    logits, chosen = found.logits[: task.scored], f"k = {found.neighbours}"
    return Rung("k-NN", index, correct, seconds, 0, options, head, chosen=chosen, held_out=logits)


def head_rung(task: HeadTask, index: np.ndarray) -> Rung:
    """Multinomial logistic regression, its strength chosen by cross-validation."""
    start = time.perf_counter()
    found = train_head(
        task.features, task.labels, task.classes, task.keys, balance=task.balance, scored=task.scored,
        progress=counted(task.progress, "head"),
    )  # fmt: skip
    strength = next(s for s in found.path if found.chosen == s.C)
    seconds = time.perf_counter() - start
    module = linear_of(found)
    count = sum(p.numel() for p in module.parameters())
    chosen = f"C = {found.chosen:.2g}"
    return Rung(
        "head", index, strength.correct, seconds, count, {}, module, found.path, chosen, found.chosen,
        held_out=strength.logits,
    )  # fmt: skip


def linear_of(head: LinearHead) -> nn.Linear:
    """The head as a layer."""
    layer = nn.Linear(head.weight.shape[1], head.weight.shape[0])
    layer.load_state_dict({"weight": head.weight, "bias": head.bias})
    return layer.requires_grad_(False)


def fcnn_rung(task: HeadTask, index: np.ndarray) -> Rung:
    """The lecture's small fully connected network: trained once, on all folds but one, and measured on that one.

    A thorough task measures it on every fold, and then trains it on all images: six times as long, and more.
    """
    start = time.perf_counter()
    fold = task.folds
    scored = torch.arange(len(fold)) < (len(fold) if task.scored is None else task.scored)
    measured = fold.unique() if task.thorough else fold.unique()[:1]
    correct, asked, trained = np.zeros(len(fold), bool), np.zeros(len(fold), bool), list[nn.Module]()
    logits = torch.zeros(len(fold), task.classes)
    for j in measured:
        inside, outside = torch.nonzero((fold == j) & scored)[:, 0], torch.nonzero(fold != j)[:, 0]
        trained.append(_fcnn(task.take(outside)))
        with torch.inference_mode():
            logits[inside] = trained[-1](task.features[inside])
            correct[inside.numpy()] = (logits[inside].argmax(1) == task.labels[inside]).numpy()
        asked[inside.numpy()] = True
    module = _fcnn(task) if task.thorough else trained[0]
    count = sum(p.numel() for p in module.parameters())
    chosen = "" if task.thorough else f"on one fold of {int(fold.max()) + 1}; all: --fcnn full"
    seconds = time.perf_counter() - start
    found = asked[: len(index)]
    return Rung(
        FCNN,
        index[found],
        correct[: len(index)][found],
        seconds,
        count,
        {"head": "fcnn"},
        module,
        chosen=chosen,
        measured_by="cross-validation" if task.thorough else "one fold",
        held_out=logits[: len(index)][found],
    )


def _fcnn(task: HeadTask) -> nn.Module:
    return train_fcnn(
        task.features,
        task.labels,
        task.classes,
        task.keys,
        seed=task.seed,
        balance=task.balance,
        least=LEAST_EPOCHS if task.thorough else 1,
        progress=task.progress,
    ).requires_grad_(False)


# The rungs that need features only, the cheapest first; each takes (task, index).
CHEAP: dict[str, Callable[[HeadTask, np.ndarray], Rung]] = {"k-NN": knn_rung, "head": head_rung, FCNN: fcnn_rung}
# Those that train on images, in the order in which a budget is spent.
COSTLY = ("last stage", "full", "scratch")


def compare(rung: Rung, other: Rung) -> PairedTest:
    """A paired test of two rungs on the images that both were measured on."""
    common = np.intersect1d(rung.index, other.index)
    return paired_test(_at(rung, common), _at(other, common))


def _at(rung: Rung, index: np.ndarray) -> np.ndarray:
    place = np.argsort(rung.index, kind="stable")
    return rung.correct[place[np.searchsorted(rung.index[place], index)]]


def best_of(rungs: list[Rung]) -> Rung:
    """The rung to keep: the better of k-NN and head, unless a costlier one is better beyond chance on equal images.

    Validation images are few: two more of a hundred right is no reason to keep a network that took an hour.
    """
    best = max((r for r in rungs if r.name in ("head", "k-NN")), key=lambda r: (r.top1.value, r.name == "head"))
    for rung in rungs:
        if rung.name not in ("head", "k-NN"):
            test = compare(rung, best)
            if test.difference > 0 and test.p < SURE:
                best = rung
    return best
