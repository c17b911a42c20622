"""The loss's gradient on its way back: the part that reaches each layer, and what each factor leaves of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..training.loop_signs import DROPOUTS
from .chain import Factor, logits_of, segments

TINY = 1e-300


@dataclass(frozen=True)
class Weight:
    """A layer's weight: its norm, the norm of the loss's gradient for it, that gradient's root mean square, and whether
    the loss depends on it at all."""

    name: str
    norm: float
    gradient: float
    rms: float
    used: bool = True

    @property
    def relative(self) -> float:
        """The gradient's norm over the weight's: by how much a step at a rate of 1 would change it."""
        return self.gradient / self.norm if self.norm else math.inf if self.gradient else 0.0


@dataclass(frozen=True)
class Gradients:
    """The gradient of a batch's mean loss on its way back.

    ``names`` are the factors, the first at the images; ``norms`` (F + 1,) of the gradient where each factor is given
    its input, and last at the logits; ``shrink`` (F,) the norm that leaves a factor over the norm that enters it. Their
    product is ``norms[0] / norms[-1]``; ``measured`` is that ratio in one undivided pass.
    """

    names: tuple[str, ...]
    norms: tuple[float, ...]
    measured: float
    weights: tuple[Weight, ...]
    loss: float

    @property
    def shrink(self) -> tuple[float, ...]:
        """The share that each factor leaves of the gradient that comes to it."""
        pairs = zip(self.norms[:-1], self.norms[1:], strict=True)
        return tuple(a / b if b else 0.0 for a, b in pairs)

    @property
    def typical(self) -> float:
        """The geometric mean of ``shrink``; 0 where nothing arrives."""
        logs = [math.log(max(s, TINY)) for s in self.shrink]
        return math.exp(sum(logs) / len(logs)) if min(self.shrink) > 0 else 0.0

    @property
    def reach(self) -> float:
        """The product of ``shrink``: what is left at the images of the gradient at the logits."""
        return math.prod(self.shrink)

    @property
    def off(self) -> float:
        """The relative difference of the product from the undivided measurement."""
        return abs(self.reach - self.measured) / max(self.measured, TINY)


def gradients(network: nn.Module, chain: Sequence[Factor], images_BCHW: Tensor, labels_B: Tensor) -> Gradients:
    """The gradients of the mean cross-entropy of these images; the network is used in the mode that it is in.

    Norms are over the whole batch. Running statistics move in training mode: hand over a copy.
    """
    cuts = segments(network, chain, images_BCHW)
    logits = cuts[-1].y.detach().requires_grad_()
    loss = F.cross_entropy(logits, labels_B)
    flowing = torch.autograd.grad(loss, logits)[0]
    norms = [_norm(flowing)]
    for segment in reversed(cuts):
        flowing = torch.autograd.grad(segment.y, segment.x, flowing)[0]
        norms.append(_norm(flowing))
    del cuts
    measured, weights, value = _undivided(network, images_BCHW, labels_B)
    return Gradients(tuple(f.name for f in chain), tuple(reversed(norms)), measured, weights, value)


def _undivided(network: nn.Module, images_BCHW: Tensor, labels_B: Tensor) -> tuple[float, tuple[Weight, ...], float]:
    """One ordinary pass: what reaches the images of what left the logits, the weights' gradients, and the loss."""
    x = images_BCHW.detach().clone().requires_grad_()
    named = {name: p for name, p in network.named_parameters() if p.ndim > 1 and p.requires_grad}
    with torch.enable_grad():
        logits = logits_of(network, x.clone())
        loss = F.cross_entropy(logits, labels_B)
        found = torch.autograd.grad(loss, [x, logits, *named.values()], allow_unused=True)
    at_images, at_logits = (0.0 if g is None else _norm(g) for g in found[:2])
    weights = tuple(_weight(name, p, g) for (name, p), g in zip(named.items(), found[2:], strict=True))
    return at_images / at_logits if at_logits else 0.0, weights, float(loss.detach())


def _norm(tensor: Tensor) -> float:
    """In float64: the squares of an exploding gradient do not fit into float32."""
    return float(tensor.norm(dtype=torch.float64))


def _weight(name: str, parameter: Tensor, gradient: Tensor | None) -> Weight:
    size = 0.0 if gradient is None else _norm(gradient)
    return Weight(name, _norm(parameter.detach()), size, size / math.sqrt(parameter.numel()), gradient is not None)


def ready(network: nn.Module, images_BCHW: Tensor | None = None) -> nn.Module:
    """Put a network, which is changed, in training mode without dropout.

    With images: in evaluation mode, its batch norms' running statistics replaced by those of the images. That is
    how a fresh network is looked at, whose running statistics are of nothing yet.
    """
    network.train()
    for module in network.modules():
        if isinstance(module, DROPOUTS):
            module.eval()
    if images_BCHW is None:
        return network
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.momentum = 1.0
    with torch.no_grad():
        logits_of(network, images_BCHW)
    return network.eval()
