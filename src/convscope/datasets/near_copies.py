"""Near copies: an image that was saved again, resized or made brighter is known by where it gets lighter and darker.

A look is the 144 steps of grey between neighbours, to the right and below, of a thumbnail of 9 x 9: what the difference
hash (Krawetz 2013) keeps the sign of. Two looks are compared by the cosine of the angle between them.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from ..images.preprocess import to_tensor

CELLS = 9
WIDTH = 2 * CELLS * (CELLS - 1)  # numbers in a look
ALIKE = 0.985  # the cosine of near copies; where it lies: docs/log.md
SAMPLED = 54  # pixels a side that are looked at, six for each cell
LUMA = (0.299, 0.587, 0.114)  # what a colour is in grey, as Pillow and JPEG have it
LEAST_STEP = 3.0  # grey levels, root mean square: an image with less holds nothing to compare
BLOCK, COLUMNS = 256, 8192  # images at a time


def looks(images_NHWC: np.ndarray) -> np.ndarray:
    """The look of each of uint8 images (N, H, W, 3): int8 (N, 144), steps of grey levels."""
    blocks = [_looks(images_NHWC[start : start + BLOCK]) for start in range(0, len(images_NHWC), BLOCK)]
    return np.concatenate(blocks) if blocks else np.zeros((0, WIDTH), np.int8)


def _looks(images_NHWC: np.ndarray) -> np.ndarray:
    step = max(1, images_NHWC.shape[1] // SAMPLED)  # a cell's mean needs no more
    colours = to_tensor(np.ascontiguousarray(images_NHWC[:, step // 2 :: step, step // 2 :: step])).float()
    grey = (colours * torch.tensor(LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)
    cells = F.adaptive_avg_pool2d(grey, CELLS)[:, 0]
    right, below = cells[:, :, 1:] - cells[:, :, :-1], cells[:, 1:] - cells[:, :-1]
    return torch.cat([right.flatten(1), below.flatten(1)], 1).clamp(-127, 127).round().to(torch.int8).numpy()


def near_copies(looks_N: np.ndarray, of_M: np.ndarray) -> np.ndarray:
    """For each look, the place of the one of ``of_M`` that is most alike, int64 (N,); -1 where none is alike enough."""
    place, best = np.full(len(looks_N), -1, np.int64), np.full(len(looks_N), ALIKE, np.float32)
    ours = _directions(looks_N)
    for start in range(0, len(of_M), COLUMNS):
        cosines, places = (t.numpy() for t in (ours @ _directions(of_M[start : start + COLUMNS]).T).max(1))
        better = cosines > best
        place[better], best[better] = places[better] + start, cosines[better]
    return place


def _directions(looks_N: np.ndarray) -> torch.Tensor:
    """Looks as vectors of length 1, float32 (N, 144); of length 0 where there is nothing to compare."""
    values = torch.from_numpy(looks_N.astype(np.float32))
    lengths = values.norm(dim=1, keepdim=True)
    return torch.where(lengths > LEAST_STEP * WIDTH**0.5, values / lengths.clamp(min=1e-6), 0.0)
