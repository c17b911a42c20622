"""Batch norms over the shares of several processes: by the statistics of the whole batch, as one process has them.

torch's own SyncBatchNorm refuses a CPU. Means and variances of the shares are exchanged, once in a forward pass, and
sums of gradients once in a backward pass; they are put together as Chan, Golub and LeVeque 1979 do it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

Gather = Callable[[Tensor], Tensor]  # what each process holds, (processes, *shape), the same on each


class Synced(partial):
    """The forward of a batch norm that is synchronised, told apart by its type."""


def is_synced(module: nn.Module) -> bool:
    """Tell whether a batch norm computes over all processes at the moment."""
    return isinstance(module.__dict__.get("forward"), Synced)


def synced(network: nn.Module, gather: Gather) -> dict[nn.Module, Callable[..., Any]]:
    """What ``taps.computing_by`` needs for batch norms that compute over the shares of all processes."""
    return {module: Synced(_forward, module, gather) for module in network.modules() if isinstance(module, _BatchNorm)}


def _forward(norm: _BatchNorm, gather: Gather, x: Tensor) -> Tensor:
    if not norm.training:
        return type(norm).forward(norm, x)
    out, mean, variance, count = _Synchronised.apply(x, norm.weight, norm.bias, norm.eps, gather)
    with torch.no_grad():
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked.add_(1)
        if norm.running_mean is not None and norm.running_var is not None:
            momentum = norm.momentum
            if momentum is None:
                momentum = 1 / float(norm.get_buffer("num_batches_tracked"))
            unbiased = variance * count / (count - 1)
            norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), momentum)
            norm.running_var.lerp_(unbiased.to(norm.running_var.dtype), momentum)
    return out


class _Synchronised(torch.autograd.Function):
    """(x - mean) / sqrt(variance + eps), scaled and moved by channel, over all processes."""

    @staticmethod
    def forward(  # noqa: PLR0913 - what torch's own takes, and how to exchange
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, gather: Gather
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        dims = [d for d in range(x.ndim) if d != 1]
        wide = x.float()
        variance, mean = torch.var_mean(wide, dims, correction=0)
        own = mean.new_full((1,), wide.numel() // wide.shape[1]).double()
        seen = gather(torch.cat([mean.double(), variance.double(), own]))
        channels = x.shape[1]
        means, variances, counts = seen[:, :channels], seen[:, channels : 2 * channels], seen[:, -1:]
        count = counts.sum()
        mean = (means * counts).sum(0) / count
        variance = ((variances + (means - mean).square()) * counts).sum(0) / count
        inverse = (variance + eps).rsqrt()
        shape = [1, -1] + [1] * (x.ndim - 2)
        normal = (wide - mean.float().view(shape)) * inverse.float().view(shape)
        out = normal if weight is None else normal * weight.float().view(shape)
        out = out if bias is None else out + bias.float().view(shape)
        ctx.save_for_backward(normal, inverse.float(), weight)
        ctx.gather, ctx.count, ctx.has_bias = gather, count.float(), bias is not None
        ctx.mark_non_differentiable(mean, variance, count)
        return out.to(x.dtype), mean, variance, count

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        normal, inverse, weight = ctx.saved_tensors
        dims = [d for d in range(normal.ndim) if d != 1]
        shape = [1, -1] + [1] * (normal.ndim - 2)
        wide = gradients[0].float()
        bias_gradient, weight_gradient = wide.sum(dims), (wide * normal).sum(dims)
        sums = ctx.gather(torch.cat([bias_gradient, weight_gradient]).double()).sum(0).float() / ctx.count
        mean, along = sums.chunk(2)
        scale = inverse if weight is None else inverse * weight.float()
        found = (wide - mean.view(shape) - normal * along.view(shape)) * scale.view(shape)
        given = None if weight is None else weight_gradient.to(weight.dtype)
        moved = bias_gradient if ctx.has_bias else None
        return found.to(gradients[0].dtype), given, moved, None, None
