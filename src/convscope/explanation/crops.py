"""Where in the image a filter looked: the crop of a place, and the part of the field that counts in fact."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from ..models.taps import evaluating, reach
from .layers import Layer

Box = tuple[int, int, int, int]  # top, left, bottom, right, in pixels
Crops = tuple[np.ndarray, ...]  # uint8 (h, w, 3), of a card's exemplars in their order
OUTSIDE = 128  # the grey of what a filter sees beyond the border, where the network pads with its mean colour
MASS = 0.95  # of the mean absolute gradient: what the effective field holds


def crop_box(layer: Layer, place: tuple[int, int], side: int) -> Box:
    """The part of an image of ``side`` pixels that a place of a layer's map sees; it may reach beyond the border.

    All of the image where the field is unknown, or as large as that.
    """
    if layer.field is None or max(layer.field.size) >= side:
        return 0, 0, side, side
    top, left = (layer.field.start[axis] + place[axis] * layer.field.step[axis] for axis in (0, 1))
    return top, left, top + layer.field.size[0], left + layer.field.size[1]


def cut(image_HWC: np.ndarray, box: Box) -> np.ndarray:
    """Cut out the part of an image uint8 (h, w, 3) within a box; what lies beyond the border is grey.

    All of an image is the image itself, not a copy.
    """
    height, width = image_HWC.shape[:2]
    if box == (0, 0, height, width):
        return image_HWC
    top, left, bottom, right = box
    crop = np.full((bottom - top, right - left, 3), OUTSIDE, np.uint8)
    rows, columns = slice(max(0, top), min(height, bottom)), slice(max(0, left), min(width, right))
    if rows.start < rows.stop and columns.start < columns.stop:  # else the place sees nothing but the padding
        inside = image_HWC[rows, columns]
        crop[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = inside
    return crop


def effective_field(network: nn.Module, layer: Layer, images_BCHW: Tensor, seed: int = 0) -> int:
    """The side in pixels of the square, around the middle of a layer's field, that holds 95 % of what counts.

    What counts is the absolute gradient of the middle place, all filters with random signs, averaged over normalised
    images (Luo et al. 2016, arXiv:1701.04128). It is usually much smaller than the field by arithmetic.
    """
    signs = torch.randn(layer.filters, generator=torch.Generator().manual_seed(seed)).to(images_BCHW.device)
    with evaluating(network), torch.inference_mode(False), torch.enable_grad():
        images = images_BCHW.detach().clone().requires_grad_(True)
        maps = reach(network, images, [layer.tap])[0]
        middle = maps[:, :, layer.places[0] // 2, layer.places[1] // 2]
        (gradient,) = torch.autograd.grad((middle * signs).sum(), images)
    weight_HW = gradient.abs().mean((0, 1))
    total = float(weight_HW.sum())
    if total == 0:
        return 0
    top, left, bottom, right = crop_box(layer, (layer.places[0] // 2, layer.places[1] // 2), images.shape[-1])
    row, column = (top + bottom - 1) / 2, (left + right - 1) / 2
    rows, columns = (torch.arange(n, device=weight_HW.device) for n in weight_HW.shape)
    reach_HW = torch.maximum((rows[:, None] - row).abs(), (columns[None] - column).abs())
    for side in range(1, 2 * max(weight_HW.shape)):
        if float(weight_HW[reach_HW <= (side - 1) / 2].sum()) >= MASS * total:
            return min(side, max(weight_HW.shape))
    return max(weight_HW.shape)
