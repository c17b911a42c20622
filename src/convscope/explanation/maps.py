"""What stands in a network and what goes through it, as it is: first-layer filters, and the maps of one image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..images.preprocess import Preprocess
from ..models.taps import evaluating, tapping
from .layers import Layer


def upsampled(coarse_hw: Tensor, size: tuple[int, int]) -> Tensor:
    """A coarse map at ``size`` (height, width), bilinear."""
    return F.interpolate(coarse_hw[None, None], size=size, mode="bilinear", align_corners=False)[0, 0]


def filter_images(weight: Tensor) -> np.ndarray:
    """Filters (C, 3, h, w) as images uint8 (C, h, w, 3): grey is 0, each is scaled by its own largest weight."""
    largest = weight.abs().amax((1, 2, 3), keepdim=True).clamp(min=1e-20)
    return (127.5 + 127.5 * weight / largest).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()


def pixel_weights(network: nn.Module, layer: Layer, preprocess: Preprocess, grey: bool = False) -> Tensor | None:
    """The weights (C, 3, h, w) of a layer that sees the image itself, per unit of pixel value 0..1.

    None for any other layer, and for filters of one pixel. For ``grey`` images the channels cannot be told apart, and
    each has their mean.
    """
    convolution = dict(network.named_modules()).get(layer.convolution or "")
    if not isinstance(convolution, nn.Conv2d) or convolution.weight.shape[1] != 3 or layer.below is not None:
        return None
    if min(convolution.kernel_size) < 2:
        return None
    weight = convolution.weight.detach().float().cpu() / torch.tensor(preprocess.std).view(1, 3, 1, 1)
    return weight.mean(1, keepdim=True).expand_as(weight) if grey else weight


@dataclass(frozen=True)
class FeatureMaps:
    """What one layer makes of one image: ``maps`` float32 (C, h, w) before the activation.

    ``order`` lists the filters by their highest value; ``firing`` is the share of all places above 0.
    """

    layer: Layer
    maps: Tensor
    order: Tensor
    firing: float


def feature_maps(network: nn.Module, image_1CHW: Tensor, layers: Sequence[Layer]) -> tuple[FeatureMaps, ...]:
    """The maps of all layers for a normalised image (1, 3, S, S)."""
    kept: dict[int, Tensor] = {}

    def keep(number: int, maps_1Chw: Tensor) -> None:
        kept[number] = maps_1Chw[0].float().cpu().clone()

    with evaluating(network), torch.inference_mode(), tapping(network, [layer.tap for layer in layers], keep):
        network(image_1CHW)
    found = []
    for number, layer in enumerate(layers):
        maps = kept[number]
        order = maps.amax((1, 2)).argsort(descending=True)
        found.append(FeatureMaps(layer, maps, order, float((maps > 0).double().mean())))
    return tuple(found)
