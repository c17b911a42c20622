"""What a maximized image is made with: presets of the ascent, the colours of real images, and how rough they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..images.preprocess import to_tensor

GREY = 0.01  # standard deviation of colour, in pixel values 0..1: below it images are grey


@dataclass(frozen=True)
class Preset:
    """How an image is climbed: ``steps`` of Adam with ``rate`` falling to nothing; noise of ``start`` to begin with.

    ``decay`` pulls towards the mean colour, ``falloff`` is the exponent of amplitude over frequency (about 1 in
    photographs). ``shift`` in pixels, ``zoom`` as a share and ``turn`` in radians are the reach of the random moves.
    ``pixels`` climbs in plain pixel values, without moves or bounds on the variation.
    """

    steps: int
    rate: float
    decay: float = 0.5
    falloff: float = 1.2
    start: float = 0.5
    shift: float = 2.0
    zoom: float = 0.0
    turn: float = 0.0
    pixels: bool = False


LINEAR = Preset(48, 0.08, decay=0.0, shift=0.0, pixels=True)  # what sees the image directly has one known answer
# By the largest canvas they are for, in pixels a side; tuned by eye and by what they reach (docs/log.md).
PRESETS: dict[int, Preset] = {
    24: Preset(96, 0.3, shift=1.0),
    48: Preset(64, 0.2, shift=2.0),
    112: Preset(96, 0.2, shift=4.0, zoom=0.05, turn=0.05),
    10_000: Preset(128, 0.2, shift=8.0, zoom=0.08, turn=0.08),
}
WHOLE: dict[int, Preset] = {  # for logits and other objectives that look at the whole image
    48: Preset(128, 0.2, shift=3.0, zoom=0.1, turn=0.1),
    112: Preset(128, 0.2, shift=6.0, zoom=0.1, turn=0.1),
    10_000: Preset(160, 0.2, shift=16.0, zoom=0.1, turn=0.1),
}


@dataclass(frozen=True)
class Palette:
    """What real images are like, in pixel values 0..1: mean colour (3,), colour mixing (3, 3), and total variation.

    The mixing turns uncorrelated unit noise into colours with the covariance of real ones. ``variation`` holds the 5,
    50 and 95 % points of the mean absolute difference of neighbours, down plus across.
    """

    mean: Tensor
    mixing: Tensor
    variation: tuple[float, float, float]

    @property
    def grey(self) -> bool:
        """Tell whether the images have no colours: then a maximized one gets none either."""
        return float(self.mixing.abs().amax(0).sort().values[1]) < GREY


def palette(images_NHWC: np.ndarray) -> Palette:
    """The statistics of uint8 images (N, H, W, 3); a thousand are enough."""
    x_NCHW = to_tensor(np.ascontiguousarray(images_NHWC)).float() / 255
    colours = x_NCHW.permute(1, 0, 2, 3).reshape(3, -1)
    values, vectors = torch.linalg.eigh(torch.cov(colours) + 1e-5 * torch.eye(3))
    low, middle, high = torch.quantile(total_variation(x_NCHW), torch.tensor([0.05, 0.5, 0.95])).tolist()
    return Palette(colours.mean(1), vectors * values.sqrt(), (low, middle, high))


def total_variation(x_BCHW: Tensor) -> Tensor:
    """Mean absolute difference of neighbours, down plus across, for each image: (B,)."""
    down = (x_BCHW[:, :, 1:] - x_BCHW[:, :, :-1]).abs().flatten(1)
    across = (x_BCHW[:, :, :, 1:] - x_BCHW[:, :, :, :-1]).abs().flatten(1)
    return sum((part.sum(1) / max(1, part.shape[1]) for part in (down, across)), torch.zeros(()))
