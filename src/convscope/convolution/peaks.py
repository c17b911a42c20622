"""The highest value of each map, where it is, and how many values are above 0, in one pass over memory."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .normalised import joined
from .threads import over

ALONE = 1 << 21  # numbers that one thread reads before others would be awake
MOST_PLACES = 2**24  # float32 counts them one by one up to here


def peaks(maps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The highest value of each map, (B, C), NaN where one is NaN; its place, int64 (B, C); and float64 (C,), the
    values above 0 of each channel.

    ``maps`` (B, C, H, W) are of the kind that ``normalised.fits``, of MOST_PLACES or fewer. A place is a number in the
    order of rows, the first where there are several.
    """
    from . import peak_loops as loops

    x = maps.detach().permute(0, 2, 3, 1)
    count, height, width, channels = x.shape
    times = joined(height * width, channels)
    rows = x.reshape(count, height * width // times, times * channels).numpy()
    scratch = np.empty((count, 4, times * channels), np.float32)
    highest, place, above = np.empty((3, count, channels), np.float32)
    over(loops.peaks(), [rows, scratch, highest, place, above], count, ALONE)
    return torch.from_numpy(highest), torch.from_numpy(place).long(), torch.from_numpy(above.sum(0, dtype=np.float64))
