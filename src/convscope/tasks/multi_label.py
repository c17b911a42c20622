"""Several labels an image, or none: a yes or no for each. Scored by mean average precision over labels."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..datasets.asked import ASKED
from ..datasets.targets import LabelSets, Targets
from ..errors import DataError
from ..images.preprocess import Preprocess
from ..models.heads import fcnn
from .task import HeadKind, Score, Shape, Task, ends, interval_of, resamples

STRENGTHS = tuple(float(c) for c in np.logspace(-4, 1, 6))
THRESHOLD = 0.5  # of a label of which validation shows too little to choose another


def tensor(targets: Targets, index: np.ndarray, preprocess: Preprocess) -> Tensor:
    """Labels float32 (B, K), 1 where an image has one."""
    assert isinstance(targets, LabelSets)
    return torch.from_numpy(targets.values[index]).float()


def loss(logits_BK: Tensor, labels_BK: Tensor) -> Tensor:
    """The mean binary cross-entropy, in nats."""
    return F.binary_cross_entropy_with_logits(logits_BK, labels_BK)


def tally(logits_BK: Tensor, labels_BK: Tensor) -> np.ndarray:
    """Probability and truth of each label, (B, K, 2)."""
    return torch.stack([torch.sigmoid(logits_BK.double()), labels_BK.double()], 2).cpu().numpy()


def average_precision(scores_N: np.ndarray, truth_N: np.ndarray, weights_RN: np.ndarray) -> np.ndarray:
    """The average precision of one label in R samples, of which sample r holds image n ``weights_RN[r, n]`` times.

    The sum over thresholds of precision times the recall gained, equal scores together, as sklearn has it. NaN in a
    sample without an image that has the label.
    """
    order = np.argsort(-scores_N, kind="stable")
    last = np.append(np.diff(scores_N[order]) != 0, True)  # of images with equal scores, the last
    weights = weights_RN[:, order]
    found = np.cumsum(weights * truth_N[order], 1)[:, last]
    taken = np.cumsum(weights, 1)[:, last]
    total = found[:, -1:]
    precision = np.divide(found, taken, out=np.zeros_like(found), where=taken > 0)
    gained = np.diff(found, axis=1, prepend=0.0)
    value = (precision * gained).sum(1)
    return np.divide(value, total[:, 0], out=np.full(len(value), np.nan), where=total[:, 0] > 0)


def score(
    tallies_NK2: np.ndarray, names: tuple[str, ...], settings: Mapping[str, Any], groups: np.ndarray | None = None
) -> Score:
    """Mean average precision over the labels that some image has, and what the thresholds make of each label.

    DataError without images, and where no image has any label.
    """
    if not len(tallies_NK2):
        raise DataError("no images to evaluate")
    n, thresholds = len(tallies_NK2), settings.get("thresholds", [THRESHOLD] * len(names))
    p, truth = tallies_NK2[..., 0], tallies_NK2[..., 1]
    if not truth.any():
        raise DataError("none of these images has any of the labels, so there is nothing to score.")
    drawn = resamples(n, groups)
    once = np.ones((1, n))
    whole = np.array([average_precision(p[:, k], truth[:, k], once)[0] for k in range(len(names))])
    each = np.stack([average_precision(p[:, k], truth[:, k], drawn) for k in range(len(names))], 1)
    there = np.isfinite(whole)
    known = np.isfinite(each)
    means = np.where(known, each, 0.0).sum(1) / np.maximum(known.sum(1), 1)
    figure = interval_of(float(whole[there].mean()), means, n)
    said = p >= np.array(thresholds)
    right = said == (truth > 0)
    exact = interval_of(float(right.all(1).mean()), drawn @ right.all(1) / n, n)
    wrong = interval_of(float((~right).mean()), drawn @ (~right).mean(1) / n, n)
    rows = [
        _label_row(name, said[:, k], truth[:, k] > 0, thresholds[k], interval_of(whole[k], each[:, k], n))
        for k, name in enumerate(names)
    ]
    figures = {**ends("map", figure), "n": n, **ends("exact_match", exact), **ends("hamming_loss", wrong)}
    return Score(figure, {**figures, "labels": rows}, -np.abs(p - truth).sum(1), groups)


def _label_row(name: str, said_N: np.ndarray, truth_N: np.ndarray, threshold: float, ap: Any) -> dict[str, Any]:
    """One label at its threshold; null what nothing can be said of."""
    both, guessed, true = int((said_N & truth_N).sum()), int(said_N.sum()), int(truth_N.sum())
    there = bool(np.isfinite(ap.value))
    return {
        "name": name,
        "n": true,
        "ap": ap.value if there else None,
        "ap_low": ap.low if there else None,
        "ap_high": ap.high if there else None,
        "threshold": float(threshold),
        "precision": both / guessed if guessed else None,
        "recall": both / true if true else None,
        "f1": 2 * both / (guessed + true) if guessed + true else None,
    }


def settings(tallies_NK2: np.ndarray) -> dict[str, Any]:
    """The threshold of each label that has the best F1 on these images, half-way to the next lower probability."""
    return {"thresholds": [_threshold(one[:, 0], one[:, 1] > 0) for one in tallies_NK2.transpose(1, 0, 2)]}


def _threshold(p_N: np.ndarray, truth_N: np.ndarray) -> float:
    if not truth_N.any() or truth_N.all():
        return THRESHOLD
    order = np.argsort(-p_N, kind="stable")
    found, taken = np.cumsum(truth_N[order]), np.arange(1, len(p_N) + 1)
    last = np.append(np.diff(p_N[order]) != 0, True)
    f1 = np.where(last, 2 * found / (taken + truth_N.sum()), -1.0)
    best = int(f1.argmax())
    lower = p_N[order][best + 1] if best + 1 < len(p_N) else 0.0
    middle = (p_N[order][best] + lower) / 2
    return float(middle if middle > lower else p_N[order][best])  # between neighbours there is no number


def check(train: Targets, val: Targets) -> list[str]:
    """Notes about labels that training shows always or never. DataError where no label tells images apart."""
    assert isinstance(train, LabelSets)
    count = train.values.sum(0)
    never = [n for n, c in zip(train.names, count, strict=True) if c == 0]
    always = [n for n, c in zip(train.names, count, strict=True) if c == len(train)]
    if len(never) + len(always) == len(train.names):
        raise DataError("every training image has the same labels: there is nothing to tell apart.")
    notes = []
    for which, told in ((never, "no training image has"), (always, "every training image has")):
        if which:
            names = ", ".join(map(repr, which[:4])) + (", ..." if len(which) > 4 else "")
            notes.append(f"{told} {names}: that cannot be learned.")
    return notes


def solve(features_NC: Tensor, labels_NK: Tensor, strength: float) -> nn.Module:
    """Logistic regression a label, all at once: the least of C times the summed loss plus half the squared weights.

    Features are scaled by their common deviation, which the weights take up again; biases are free.
    """
    mean, scale = features_NC.mean(0), features_NC.std().clamp(min=1e-12)
    inputs = (features_NC - mean) / scale
    weight = torch.zeros(labels_NK.shape[1], features_NC.shape[1], requires_grad=True)
    bias = torch.zeros(labels_NK.shape[1], requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=200, tolerance_grad=1e-6, line_search_fn="strong_wolfe")

    def objective() -> Tensor:
        optimizer.zero_grad()
        summed = F.binary_cross_entropy_with_logits(inputs @ weight.T + bias, labels_NK, reduction="sum")
        value = strength * summed + 0.5 * weight.square().sum()
        value.backward()
        return value

    with torch.enable_grad():
        optimizer.step(objective)
    head = nn.Linear(features_NC.shape[1], labels_NK.shape[1])
    with torch.no_grad():
        head.weight.copy_(weight / scale)
        head.bias.copy_(bias - head.weight @ mean)
    return head


def make(kind: str, shapes: list[Shape], outputs: int) -> nn.Module:
    """A head on features of one shape."""
    (channels,) = shapes[0]
    return fcnn(channels, outputs) if kind == "fcnn" else nn.Linear(channels, outputs)


TASK = Task(
    name="multi_label",
    asks=ASKED["multi_label"],
    better="higher",
    metric=lambda names: "map",
    tensor=tensor,
    loss=loss,
    tally=tally,
    score=score,
    settings=settings,
    check=check,
    heads=(
        HeadKind("linear", {}, partial(make, "linear"), solve, STRENGTHS),
        HeadKind("FCNN", {"head": "fcnn"}, partial(make, "fcnn"), epochs=40, rate=1e-3, batch=32),
    ),
)
