"""How every filter answers to some thousand images, one by one: what twins, rules and probes are read from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ..classifying.prediction import logits
from ..images.preprocess import Preprocess
from ..models.taps import Tap, tapping
from .exemplars import average, highest
from .layers import Layer

MOST_BYTES = 256 * 2**20  # of the answers that are kept
MOST_IMAGES = 5_000


@dataclass(frozen=True)
class Responses:
    """The answers of one layer's C filters to N images.

    ``highest`` float32 (N, C) is the highest value before the activation, ``mean`` float32 (N, C) the mean over places
    of what is above 0. ``entering`` float32 (channels,) is the mean of each channel that the convolution is given,
    empty where the layer is no convolution.
    """

    layer: Layer
    highest: Tensor
    mean: Tensor
    entering: Tensor


def affordable(layers: Sequence[Layer], images: int) -> int:
    """Tell how many images' answers are kept, so that memory stays bounded: at most 5,000."""
    bytes_an_image = 8 * sum(layer.filters for layer in layers)
    return max(1, min(images, MOST_IMAGES, MOST_BYTES // bytes_an_image))


def responses(
    network: nn.Module, images: np.ndarray, preprocess: Preprocess, layers: Sequence[Layer], index: np.ndarray
) -> tuple[tuple[Responses, ...], Tensor]:
    """The answers of all layers to uint8 images (M, H, W, 3) at ``index`` (N,), and the logits (N, K): one pass."""
    n = len(layers)
    convolutions = [i for i, layer in enumerate(layers) if layer.convolution is not None]
    entries = [Tap(str(layers[i].convolution), at_input=True, call=layers[i].call) for i in convolutions]
    peaks: list[list[Tensor]] = [[] for _ in layers]
    means: list[list[Tensor]] = [[] for _ in layers]
    sums: dict[int, Tensor] = {}

    def look(number: int, maps_BCHW: Tensor) -> None:
        if number < n:
            peaks[number].append(highest(maps_BCHW).cpu())
            means[number].append(average(maps_BCHW.clamp(min=0)).cpu())
        else:
            i = convolutions[number - n]
            sums[i] = sums.get(i, torch.zeros(())) + average(maps_BCHW).sum(0).cpu()

    with tapping(network, [layer.tap for layer in layers] + entries, look):
        scores = logits(network, images, preprocess, index)
    return tuple(
        Responses(layer, torch.cat(peaks[i]), torch.cat(means[i]), sums.get(i, torch.empty(0)) / len(index))
        for i, layer in enumerate(layers)
    ), scores


def correlations(answers_NC: Tensor) -> Tensor:
    """Pearson's correlation of the filters' answers, float64 (C, C); 0 with a filter that never varies."""
    centred = answers_NC.double() - answers_NC.double().mean(0)
    size = centred.norm(dim=0)
    unit = torch.where(size > 1e-9 * max(1.0, float(size.max())), centred / size.clamp(min=1e-30), 0.0)
    return (unit.T @ unit).clamp_(-1, 1)


def built_from(network: nn.Module, answers: Responses) -> Tensor | None:
    """Tell what each filter is built from: (C, channels), weight summed over the filter's places times mean activation.

    The scale of the layer's batch norm is in it. None where the layer is no plain convolution (grouped ones see a part
    of the channels only).
    """
    modules = dict(network.named_modules())
    convolution = modules.get(answers.layer.convolution or "")
    if not isinstance(convolution, nn.Conv2d) or convolution.groups != 1:
        return None
    scale = _norm_scale(modules.get(answers.layer.norm or ""), answers.layer.filters)
    weight = convolution.weight.detach().sum((2, 3)).float().cpu()
    return scale[:, None] * weight * answers.entering[None]


def _norm_scale(norm: nn.Module | None, filters: int) -> Tensor:
    """Tell what a batch norm multiplies each filter with, (C,); ones without."""
    variance = getattr(norm, "running_var", None)
    if variance is None:
        return torch.ones(filters)
    gain = getattr(norm, "weight", None)
    scale = 1 / (variance + getattr(norm, "eps", 0.0)).sqrt()
    return (scale if gain is None else scale * gain).detach().float().cpu()
