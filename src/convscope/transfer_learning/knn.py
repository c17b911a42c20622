"""Nearest images by the cosine of recorded features: exact; as a classifier (Wu et al. 2018, arXiv:1805.01978)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..models.heads import Neighbours, unit, votes
from ..progress import Counted

TRIED = (1, 3, 5, 10, 20)
BLOCK = 1024


@dataclass(frozen=True)
class Knn:
    """k nearest neighbours, k chosen by accuracy on held-out folds: ``logits`` (N, K) are those of each image by the
    images of the other folds."""

    neighbours: int
    logits: Tensor


def choose_neighbours(
    features_NC: Tensor, labels_N: Tensor, fold_N: Tensor, classes: int, progress: Counted | None = None
) -> Knn:
    """Ask each image's fold of the others, with every k of TRIED; of equally good ones the smallest is taken."""
    rows = unit(features_NC)
    tried = [k for k in TRIED if k <= min(int((fold_N != j).sum()) for j in fold_N.unique())] or [1]
    logits = {k: torch.empty(len(rows), classes) for k in tried}
    done = 0
    for j in fold_N.unique():
        inside, outside = torch.nonzero(fold_N == j)[:, 0], torch.nonzero(fold_N != j)[:, 0]
        for block in inside.split(BLOCK):
            cosines = rows[block] @ rows[outside].T
            for k in tried:
                logits[k][block] = votes(cosines, labels_N[outside], k, classes)
            done += len(block)
            if progress:
                progress(done, len(rows))
    best = max(tried, key=lambda k: (int((logits[k].argmax(1) == labels_N).sum()), -k))
    return Knn(best, logits[best])


def neighbours_head(features_NC: Tensor, labels_N: Tensor, classes: int, neighbours: int) -> Neighbours:
    """The classifier of these images as a layer."""
    head = Neighbours(features_NC.shape[1], classes, len(features_NC), neighbours)
    head.load_state_dict({"features": unit(features_NC), "labels": labels_N})
    return head
