"""speednet: the most accuracy a minute of training can buy on small images.

The network of the CIFAR-10 speed records (Page 2018, "How to train your ResNet"; Jordan 2024, arXiv:2404.00498), built
from their description: a frozen first layer that whitens 2x2 patches, pools before norms, filters that begin as the
identity, norms whose scale is frozen, and logits that are scaled down.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

from .alexnet import Layers, check_sizes

SMALLEST_SIDE = 12  # px: whitening and two halvings of 12 leave two places a side
LAST_SIDE = 4  # px: a map of this side or less is not halved again
PATCH = 2  # px: side of the whitened patches
WHITENED = 2 * 3 * PATCH * PATCH  # filters: each principal direction and its negative
EPSILON = 5e-4  # added to the variance of a direction: what is below is noise
LOGIT_SCALE = 1 / 9
BIAS_RATE = 64.0
NORM_MOMENTUM = 0.4  # of the running statistics: a short training forgets its beginning


class Scale(nn.Module):
    """Multiplies by a constant."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.factor

    def extra_repr(self) -> str:
        return f"{self.factor:.4g}"


class SpeedNet(nn.Sequential):
    """``speednet``'s layers in a row, with ``prepare`` for the first."""

    @torch.no_grad()
    def prepare(self, images_BCHW: torch.Tensor) -> None:
        """Set the whitening filters from normalised training images (B, 3, s, s); called once before step 0.

        Each filter is an eigenvector of the covariance of their 2x2 patches over the root of its eigenvalue.
        """
        patches = images_BCHW.double().unfold(2, PATCH, 1).unfold(3, PATCH, 1)  # B, C, h, w, PATCH, PATCH
        flat = patches.permute(0, 2, 3, 1, 4, 5).reshape(-1, WHITENED // 2)
        values, vectors = torch.linalg.eigh(flat.T @ flat / len(flat))
        filters = (vectors / (values + EPSILON).sqrt()).T.reshape(-1, 3, PATCH, PATCH)
        self.get_submodule("whiten").get_parameter("weight").copy_(torch.cat([filters, -filters]))

    def rate_scales(self) -> dict[str, float]:
        """The biases, whitening and norms, learn at a higher rate: the scale of the logits makes all rates large."""
        return {name: BIAS_RATE for name, _ in self.named_parameters() if name.endswith("bias")}


def speednet(num_classes: int, image_size: int = 32, *, width: int = 64) -> SpeedNet:
    """The network: (B, 3, s, s) images of ``image_size`` s pixels to (B, K) logits.

    ``whiten``, 2x2 with 24 frozen filters and a learned bias; then stages of two 3x3 convolutions, the first one
    pooled 2x2 before its norm, each followed by a batch norm with frozen scale and a SiLU: ``width`` filters in the
    first stage and four times as many in the others, of which there are as many as bring the side to 4 pixels or less;
    a global max pool, one linear layer without bias, and logits times 1/9. Raises UsageError for what cannot be built.
    """
    check_sizes("speednet", num_classes, image_size, width, SMALLEST_SIDE)
    layers: Layers = OrderedDict()
    layers["whiten"] = nn.Conv2d(3, WHITENED, PATCH)
    layers["whiten"].weight.requires_grad_(False)
    layers["act0"] = nn.SiLU()
    channels, side, stage = WHITENED, image_size - PATCH + 1, 0
    while side > LAST_SIDE:
        stage, side = stage + 1, side // 2
        filters = width if stage == 1 else 4 * width
        for place in (1, 2):
            layers[f"conv{stage}_{place}"] = _identity(nn.Conv2d(channels, filters, 3, padding=1, bias=False))
            if place == 1:
                layers[f"pool{stage}"] = nn.MaxPool2d(2, 2)
            layers[f"norm{stage}_{place}"] = _norm(filters)
            layers[f"act{stage}_{place}"] = nn.SiLU()
            channels = filters
    layers["pool"] = nn.AdaptiveMaxPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["fc"] = nn.Linear(channels, num_classes, bias=False)
    layers["scale"] = Scale(LOGIT_SCALE)
    return SpeedNet(layers)


@torch.no_grad()
def _identity(conv: nn.Conv2d) -> nn.Conv2d:
    """The convolution, its first filters passing on one channel each; the others as torch draws them."""
    nn.init.dirac_(conv.weight[: conv.in_channels])
    return conv


def _norm(filters: int) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(filters, momentum=NORM_MOMENTUM)
    norm.weight.requires_grad_(False)
    return norm
