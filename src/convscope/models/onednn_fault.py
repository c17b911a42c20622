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

    def __init__(self, plain: nn.Conv2d) -> None:
        vars(self).update(vars(plain))  # its own parameters, hooks and settings: nothing is copied or drawn

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        down, across = self.stride
        picked = input[..., ::down, ::across]
        return nn.functional.conv2d(picked, self.weight, self.bias, 1, 0, 1, self.groups)


def without_the_fault(network: nn.Module) -> nn.Module:
    """The network with a StridedPointwise in the place of each layer that meets the fault; parameters, names and
    numbers stay. Another object is returned where the network itself is such a layer."""
    sound: dict[nn.Module, nn.Module] = {
        m: StridedPointwise(m) for m in network.modules() if type(m) is nn.Conv2d and _meets_it(m)
    }
    for parent in list(network.modules()) if sound else ():
        for name, child in parent._modules.items():  # not named_children, which tells a shared layer once
            if child in sound:
                setattr(parent, name, sound[child])
    return sound.get(network, network)


def _meets_it(conv: nn.Conv2d) -> bool:
    pointwise = conv.kernel_size == (1, 1) and conv.padding in ((0, 0), "valid")
    return pointwise and max(conv.stride) > 1 and conv.in_channels < SOUND_FROM
