"""Nearest images by the cosine of recorded features: exact."""

from __future__ import annotations

import numpy as np
import torch

from ..models.heads import unit


def most_similar(features_NC: np.ndarray, one_C: np.ndarray, count: int) -> list[tuple[int, float]]:
    """(index, cosine) of the ``count`` rows nearest to one vector, the nearest first; exact."""
    rows = torch.from_numpy(np.ascontiguousarray(features_NC, np.float32))
    one = torch.from_numpy(np.ascontiguousarray(one_C, np.float32))
    cosines = unit(rows) @ unit(one[None])[0]
    best = torch.topk(cosines, min(count, len(rows)))
    return [(int(i), float(c)) for c, i in zip(best.values, best.indices, strict=True)]
