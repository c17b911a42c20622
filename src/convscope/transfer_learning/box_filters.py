"""Boxes as classes of places, so that the filters which speak for a box's class are found as those of pixels are.

The middle of a box is of its class, its rim says nothing, and what no box holds is background: of the places in a box
FCOS learns those near the centre.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..datasets.mask_coding import VOID
from ..tasks.detection import NOBODY

MIDDLE = 0.5  # of a box's width and height, that is of its class


class ClassesOfPlaces(nn.Module):
    """A head of boxes as one of pixels: maps to logits (B, K + 1, h, w) at the finest map's places.

    Of each class the largest that any map says there; the background's, which comes first, is 0.
    """

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, maps: list[Tensor]) -> Tensor:
        outputs_BLD = self.head(maps)
        sizes = [one.shape[-2:] for one in maps]
        levels = outputs_BLD[..., :-5].split([h * w for h, w in sizes], 1)
        grids = [part.transpose(1, 2).unflatten(2, size) for part, size in zip(levels, sizes, strict=True)]
        classes = torch.stack([F.interpolate(one, size=sizes[0], mode="nearest") for one in grids]).amax(0)
        return torch.cat([torch.zeros_like(classes[:, :1]), classes], 1)


def middles(boxes_BG5: Tensor, side: int) -> Tensor:
    """The class of each pixel as masks have it, int64 (B, S, S): 0 is background, k + 1 class k, VOID the rest.

    Small boxes lie on large ones.
    """
    masks = torch.zeros(len(boxes_BG5), side, side, dtype=torch.int64)
    for mask, boxes in zip(masks, boxes_BG5, strict=True):
        known = boxes[boxes[:, 4] != NOBODY]
        area = (known[:, 2] - known[:, 0]) * (known[:, 3] - known[:, 1])
        for left, top, right, bottom, label in known[torch.argsort(-area)].tolist():
            _paint(mask, (left, top, right, bottom), VOID)
            if 0 <= label < VOID - 1:  # of more classes a mask has no numbers
                x, y = (1 - MIDDLE) / 2 * (right - left), (1 - MIDDLE) / 2 * (bottom - top)
                _paint(mask, (left + x, top + y, right - x, bottom - y), int(label) + 1)
    return masks


def _paint(mask_SS: Tensor, corners: tuple[float, float, float, float], value: int) -> None:
    """Give the pixels whose centres lie in a rectangle their value."""
    left, top, right, bottom = (max(0, round(edge)) for edge in corners)
    mask_SS[top:bottom, left:right] = value
