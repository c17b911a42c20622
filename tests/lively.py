"""Networks whose batch norms do something: running statistics away from 0 and 1, and biases in the head."""

from __future__ import annotations

import torch
from torch import nn


def lively(network: nn.Module, seed: int = 1) -> nn.Module:
    """The network in evaluation mode, its running statistics and linear biases drawn anew; the same for a seed."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.2, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
        if isinstance(module, nn.Linear) and module.bias is not None:
            module.bias.data.normal_(generator=generator)
    return network.eval()
