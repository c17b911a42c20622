"""1x1 convolutions of a stride, of few channels, by a way around a fault that writes outside its memory.

In float32 and channels-last memory oneDNN 3.12, as torch 2.14 has it, computes the gradient of such weights wrongly:
with fewer than 16 channels in (8 without AVX-512) and several threads it writes past its workspace, and the process
ends in a segmentation fault, or worse, goes on (uxlfoundation/oneDNN#6035). The projection shortcut of a narrow network
is such a layer.
"""

from __future__ import annotations

import torch
from torch import nn

SOUND_FROM = 16  # channels in


class StridedPointwise(nn.Conv2d):
    """A 1x1 convolution of a stride as what it is: the places it looks at, and a convolution of stride 1 on them."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        down, across = self.stride
        picked = input[..., ::down, ::across]
        return nn.functional.conv2d(picked, self.weight, self.bias, 1, 0, 1, self.groups)


def without_the_fault(network: nn.Module) -> nn.Module:
    """The same network, its layers of the kind that meets the fault made StridedPointwise; parameters, names and
    numbers stay."""
    for module in network.modules():
        if type(module) is nn.Conv2d and _meets_it(module):
            module.__class__ = StridedPointwise
    return network


def _meets_it(conv: nn.Conv2d) -> bool:
    pointwise = conv.kernel_size == (1, 1) and conv.padding in ((0, 0), "valid")
    return pointwise and max(conv.stride) > 1 and conv.in_channels < SOUND_FROM
