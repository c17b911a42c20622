"""One class of several an image. Its heads, its ladder and its figures stand in their own files, as they always did."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..classifying.metrics import evaluate
from ..datasets.asked import ASKED
from ..datasets.targets import Targets
from ..images.preprocess import Preprocess
from .task import Score, Task


def tensor(targets: Targets, index: np.ndarray, preprocess: Preprocess) -> Tensor:
    """A dataset with one class an image has labels and no targets."""
    raise TypeError("labels of classes are the dataset's own")


def tally(logits_BK: Tensor, labels_B: Tensor) -> np.ndarray:
    """The logits of each image and its label behind them, (B, K + 1)."""
    return torch.cat([logits_BK.double(), labels_B.double()[:, None]], 1).cpu().numpy()


def score(
    tallies: np.ndarray, names: tuple[str, ...], settings: Mapping[str, Any], groups: np.ndarray | None = None
) -> Score:
    """Top-1 with Wilson's interval, and all that ``metrics.evaluate`` finds."""
    logits, labels = tallies[:, :-1], tallies[:, -1].astype(np.int64)
    found = evaluate(logits, labels, names)
    return Score(found.top1, found.to_json(), (logits.argmax(1) == labels).astype(np.float64))


def check(train: Targets, val: Targets) -> list[str]:
    """A transfer to classes checks labels itself."""
    return []


TASK = Task(
    name="classification",
    asks=ASKED["classification"],
    better="higher",
    metric=lambda names: "test_top1",
    tensor=tensor,
    loss=F.cross_entropy,
    tally=tally,
    score=score,
    check=check,
)
