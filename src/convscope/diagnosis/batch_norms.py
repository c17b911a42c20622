"""A batch norm at work on one channel: the lecture's formulas, in training and at test time, and with small batches.

    mu_c = mean of x,  sigma_c^2 = mean of (x - mu_c)^2,  y = gamma_c (x - mu_c) / sqrt(sigma_c^2 + eps) + delta_c

over images and places (Ioffe and Szegedy 2015, arXiv:1502.03167). At test time running averages stand for mu and
sigma, so that the answer for an image does not depend on the images beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..errors import UnknownName, UsageError
from ..models.taps import Tap, evaluating, reach

BATCHES = (1, 2, 8, 64)
SHOWN = 20_000  # values of a distribution that are kept


@dataclass(frozen=True)
class BatchSize:
    """The effect of batches of ``size``: the spread (standard deviation over batches) of mu_c and of sigma_c, both over
    the sigma_c of all images, and ``noise``: how far what is output in training is from what the statistics of all the
    images would give, root mean square over gamma_c."""

    size: int
    mean_spread: float
    scale_spread: float
    noise: float


@dataclass(frozen=True)
class NormView:
    """One channel of a batch norm: ``before`` (V,) as given, ``after`` (V,) with the statistics of all the images,
    ``tested`` (V,) with the running ones. ``off`` is the largest difference of the formulas from what torch output."""

    layer: str
    channel: int
    channels: int
    before: Tensor
    after: Tensor
    tested: Tensor
    mean: float
    scale: float
    running_mean: float
    running_scale: float
    gamma: float
    delta: float
    eps: float
    off: float
    batches: tuple[BatchSize, ...]


def batch_norms(network: nn.Module) -> list[str]:
    """The batch norms of a network, by name."""
    return [name for name, module in network.named_modules() if isinstance(module, _BatchNorm)]


def look_at_norm(
    network: nn.Module, layer: str, channel: int, images_BCHW: Tensor, sizes: Sequence[int] = BATCHES
) -> NormView:
    """See what a batch norm does with one channel of these images, which pass through the network as at test time.

    UnknownName for a layer that is no batch norm, UsageError for a channel that it does not have.
    """
    known = batch_norms(network)
    if layer not in known:
        raise UnknownName("batch norm", layer, known)
    norm = network.get_submodule(layer)
    assert isinstance(norm, _BatchNorm)
    if not 0 <= channel < norm.num_features:
        raise UsageError(f"{layer} has channels 0 to {norm.num_features - 1}, not {channel}.")
    with evaluating(network), torch.no_grad():
        given = reach(network, images_BCHW, [Tap(layer, at_input=True)])[0].double()
        x = given.transpose(0, 1)[channel].reshape(len(given), -1)  # images, places
        gamma = float(norm.weight[channel]) if norm.weight is not None else 1.0
        delta = float(norm.bias[channel]) if norm.bias is not None else 0.0
        own = _statistics(x)
        running = own
        if norm.running_mean is not None and norm.running_var is not None:
            running = (float(norm.running_mean[channel]), float(norm.running_var[channel]))

        def outputs(values: Tensor, statistics: tuple[float, float]) -> Tensor:
            mean, variance = statistics
            return gamma * (values - mean) / (variance + norm.eps) ** 0.5 + delta

        tested = outputs(x, running)
        theirs = norm(given.to(norm.weight.dtype if norm.weight is not None else torch.float32))
        off = float((theirs.transpose(0, 1)[channel].reshape(len(given), -1).double() - tested).abs().max())
        rows = tuple(_batch_size(x, size, own, norm.eps) for size in sizes if size <= len(x))
    step = max(1, x.numel() // SHOWN)
    before, after, at_test = (v.flatten()[::step].float() for v in (x, outputs(x, own), tested))
    scale, running_scale = ((variance + norm.eps) ** 0.5 for variance in (own[1], running[1]))
    return NormView(
        layer=layer,
        channel=channel,
        channels=norm.num_features,
        before=before,
        after=after,
        tested=at_test,
        mean=own[0],
        scale=scale,
        running_mean=running[0],
        running_scale=running_scale,
        gamma=gamma,
        delta=delta,
        eps=norm.eps,
        off=off,
        batches=rows,
    )


def _statistics(x_BP: Tensor) -> tuple[float, float]:
    """Mean and variance over images and places."""
    return float(x_BP.mean()), float(x_BP.var(correction=0))


def _batch_size(x_BP: Tensor, size: int, whole: tuple[float, float], eps: float) -> BatchSize:
    """Split the images into batches of this size, and compare what each takes for mean and scale."""
    batches = x_BP[: len(x_BP) // size * size].reshape(-1, size * x_BP.shape[1])
    means, scales = batches.mean(1), (batches.var(1, correction=0) + eps).sqrt()
    scale = (whole[1] + eps) ** 0.5
    here = (batches - means[:, None]) / scales[:, None]
    there = (batches - whole[0]) / scale
    noise = float((here - there).square().mean().sqrt())
    spread = [float(v.std(correction=0)) / scale for v in (means, scales)]
    return BatchSize(size, spread[0], spread[1], noise)
