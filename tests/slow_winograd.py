"""Minimal filtering as its formula has it, in torch: any precision, differentiable, slow. The oracle's twin."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from convscope.convolution.minimal_filtering import Filtering, as_array


def convolve(images: Tensor, filters: Tensor, filtering: Filtering, padding: tuple[int, int]) -> Tensor:
    """Outputs (B, K, H', W') of images (B, C, H, W): Y = A^T [(G g G^T) * (B^T d B)] A, tile by tile."""
    to_points, to_filter, to_output = (
        torch.as_tensor(as_array(m), dtype=images.dtype)
        for m in (filtering.input_map, filtering.filter_map, filtering.output_map)
    )
    m, r, side = filtering.outputs, filtering.filter_size, filtering.side
    (top, left), (height, width) = padding, images.shape[2:]
    high, wide = height + 2 * top - r + 1, width + 2 * left - r + 1
    more_high, more_wide = filtering.tiles(high) * m - high, filtering.tiles(wide) * m - wide
    padded = F.pad(images, (left, left + more_wide, top, top + more_high))
    tiles = padded.unfold(2, side, m).unfold(3, side, m)  # B, C, rows, columns, side, side
    d = torch.einsum("pi,bcyxij,qj->bcyxpq", to_points, tiles, to_points)
    g = torch.einsum("pi,kcij,qj->kcpq", to_filter, filters, to_filter)
    outputs = torch.einsum("mp,bkyxpq,nq->bkymxn", to_output, torch.einsum("bcyxpq,kcpq->bkyxpq", d, g), to_output)
    return outputs.reshape(len(images), len(filters), high + more_high, wide + more_wide)[:, :, :high, :wide]
