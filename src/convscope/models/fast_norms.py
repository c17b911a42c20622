"""Batch norms of a network with the activation and pools beside them, each row of them computed in one go.

Only what a ``nn.Sequential`` calls one after the other is a row: nothing else can see what passes between them. While a
module of a row has a hook, each of them is called as ever.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..convolution.normalised import ACTIVATIONS, Moments, Row, RowShape, fits, normalise, normalise_by
from .taps import evaluating, record

Forwards = dict[nn.Module, Callable[..., Any]]


def rows_of(network: nn.Module, image_size: int) -> dict[str, RowShape]:
    """The shape of every row, by the layer name of its norm."""
    names = {module: name for name, module in network.named_modules()}
    rows = {names[row.norm]: row for units in _sequences(network).values() for row in units if isinstance(row, _Row)}
    image = torch.zeros(1, 3, image_size, image_size).contiguous(memory_format=torch.channels_last)
    first = {name: names[row.modules[0]] for name, row in rows.items()}
    with evaluating(network), torch.no_grad(), record(network, first.values()) as seen:
        network(image)
    found = {}
    for name, row in rows.items():
        given = seen.inputs.get(first[name])
        if given is not None and given.ndim == 4:
            _, channels, height, width = given.shape
            found[name] = RowShape(channels, height, width, row.kind(height, width))
    return found


def fused(network: nn.Module, norms: Collection[str]) -> Forwards:
    """What ``taps.computing_by`` needs to compute the rows of the named norms in one go."""
    chosen = {module for name, module in network.named_modules() if name in norms}
    forwards: Forwards = {}
    for sequence, units in _sequences(network, chosen).items():
        if any(isinstance(unit, _Row) for unit in units):
            forwards[sequence] = partial(_one_by_one, units)
    return forwards


def _sequences(
    network: nn.Module, norms: Collection[nn.Module] | None = None
) -> dict[nn.Module, list[nn.Module | _Row]]:
    """What each ``nn.Sequential`` is made of; only these norms are of a row, or all."""
    return {
        module: list(_units(list(module), norms))  # as it is called: a layer may stand in it twice
        for module in network.modules()
        if isinstance(module, nn.Sequential)
        and type(module).forward is nn.Sequential.forward
        and "forward" not in module.__dict__
    }


@dataclass(frozen=True)
class _Row:
    """Modules that are called one after the other: perhaps a pool, a norm, perhaps an activation and a pool."""

    before: nn.Module | None
    norm: nn.BatchNorm2d
    activation: nn.Module | None
    after: nn.Module | None

    @property
    def modules(self) -> list[nn.Module]:
        return [m for m in (self.before, self.norm, self.activation, self.after) if m is not None]

    def kind(self, height: int, width: int) -> Row:
        """What is computed in one go of maps of this size: one pool at most, and none behind the norm at odd sides."""
        activation = 0 if self.activation is None else ACTIVATIONS[type(self.activation)]
        after = self.after is not None and self.before is None and height % 2 == width % 2 == 0
        return Row(self.before is not None, activation, after)

    def __call__(self, x: Tensor) -> Tensor:
        if not self._is_possible(x):
            return _one_by_one(self.modules, x)
        kind = self.kind(*x.shape[2:])
        out = (_normalised if self.norm.training else _evaluated)(self.norm, kind, x)
        return out if kind.after or self.after is None else self.after(out)

    def _is_possible(self, x: Tensor) -> bool:
        """Tell whether maps can go through in one go, with nobody looking at what passes between the modules."""
        if not fits(x) or x.shape[1] != self.norm.num_features or min(x.shape[2:]) < 2 or any(map(_seen, self.modules)):
            return False
        if not self.norm.training:
            return not torch.is_grad_enabled()
        height, width = (side // 2 if self.before else side for side in x.shape[2:])
        return len(x) * height * width > 1  # torch has a sentence for one number


def _units(layers: Sequence[nn.Module], norms: Collection[nn.Module] | None) -> Iterator[nn.Module | _Row]:
    """The layers in order, those of a row together."""
    i = 0
    while i < len(layers):
        start = i + (_is_pool(layers[i]) and i + 1 < len(layers))
        norm = layers[start]
        if type(norm) is not nn.BatchNorm2d or not (norms is None or norm in norms) or not norm.track_running_stats:
            yield layers[i]
            i += 1
            continue
        rest = list(layers[start + 1 : start + 3])
        activation = rest.pop(0) if rest and type(rest[0]) in ACTIVATIONS else None
        after = rest[0] if rest and _is_pool(rest[0]) else None
        row = _Row(layers[i] if start > i else None, norm, activation, after)
        yield row if len(row.modules) > 1 else norm  # by itself torch's own is as fast
        i += len(row.modules)


def _is_pool(layer: nn.Module) -> bool:
    """Tell whether a layer is a max pool of squares of 2 x 2."""
    if type(layer) is not nn.MaxPool2d or layer.return_indices or layer.ceil_mode:
        return False
    pairs = [(v, v) if isinstance(v, int) else tuple(v) for v in (layer.kernel_size, layer.stride)]
    return pairs == [(2, 2), (2, 2)] and layer.padding in (0, (0, 0)) and layer.dilation in (1, (1, 1))


def _seen(module: nn.Module) -> bool:
    """Tell whether a module has hooks, or computes by something else for the moment."""
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    return any(hooks) or "forward" in module.__dict__


def _one_by_one(layers: Sequence[Callable[[Any], Any]], x: Any) -> Any:
    for layer in layers:
        x = layer(x)
    return x


def _normalised(norm: nn.BatchNorm2d, row: Row, x: Tensor) -> Tensor:
    """A row's output, the norm's running statistics moved as torch moves them."""
    assert norm.num_batches_tracked is not None
    norm.num_batches_tracked.add_(1)
    momentum = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum

    def seen(moments: Moments) -> None:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        unbiased = moments.variance * moments.count / (moments.count - 1)
        for running, now in ((norm.running_mean, moments.mean), (norm.running_var, unbiased)):
            running.mul_(1 - momentum).add_(torch.from_numpy(now).to(running.dtype), alpha=momentum)

    return normalise(x, norm.weight, norm.bias, norm.eps, row, seen)


def _evaluated(norm: nn.BatchNorm2d, row: Row, x: Tensor) -> Tensor:
    """A row's output by the norm's running statistics."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    moments = Moments(norm.running_mean.double().numpy(), norm.running_var.double().numpy(), 0)
    return normalise_by(x, norm.weight, norm.bias, norm.eps, row, moments)
