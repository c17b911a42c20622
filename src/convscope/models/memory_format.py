"""Channels-last memory, which convolutions are fastest in, and the usual one for a network that cannot take it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from .taps import evaluating


def channels_last(network: nn.Module) -> nn.Module:
    """Lay every tensor of four dimensions out with its channels last; those of five, a Conv3d's, stay as they are."""
    for tensor in (*network.parameters(), *network.buffers()):
        if tensor.dim() == 4:
            tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)
    return network


def laid_out(network: nn.Module, image_size: int) -> nn.Module:
    """The network in channels-last memory, or, where ``x.view`` in its code cannot take that, in the usual one.

    Then its images are laid out so on their way in, by a hook that stays: it changes no number.
    """
    image = torch.zeros(1, 3, image_size, image_size)
    if _takes(channels_last(network), image.contiguous(memory_format=torch.channels_last)):
        return network
    for tensor in (*network.parameters(), *network.buffers()):
        tensor.data = tensor.data.contiguous()
    if not _takes(network, image):
        return network  # it is not the memory: whoever calls it is told
    network.register_forward_pre_hook(_contiguous)
    return network


def _takes(network: nn.Module, image_1CHW: torch.Tensor) -> bool:
    with evaluating(network), torch.no_grad():
        try:
            network(image_1CHW)
        except Exception:  # whatever a user's code raises
            return False
    return True


def _contiguous(network: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(x.contiguous() if isinstance(x, torch.Tensor) else x for x in inputs)
