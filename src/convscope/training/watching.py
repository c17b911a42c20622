"""Watching a training from inside: each layer's output, the gradient at it, how far its weights move.

Only every so-many-th step is looked at, through hooks that are there for that step alone, and on a sample of the values
of each tensor; so it costs little, and changes no weight. Works with any training loop: see ``watching``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from weakref import ref

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import is_lazy

from ..errors import UsageError
from ..given import takes_what_is_meant
from ..models.followed import OnGradient, accumulating, following
from ..models.taps import call_name
from .loop_signs import LoopSigns
from .watched import BINS, HIGHEST, LEAST_SLOPE, LOWEST, QUANTITIES, Watched

EVERY = 10  # steps from one look to the next
SAMPLE = 1024  # values of a tensor that are looked at: its scale is known to about two percent
UNITS = 2**15  # values that are searched for one above zero, before a channel counts as dead in this step
RECTIFIERS = (nn.ReLU, nn.ReLU6)
PASSING = (nn.Identity, nn.Dropout, nn.Flatten)  # their output is that of the layer before


@dataclass
class _Pass:
    """One pass's samples, by layer; the tensors are samples that are worked out together afterwards."""

    values: dict[str, dict[str, float]] = field(default_factory=dict)
    outputs: dict[str, Tensor] = field(default_factory=dict)
    gradients: dict[str, Tensor] = field(default_factory=dict)
    given: dict[str, Tensor] = field(default_factory=dict)
    latest: tuple[ref[Tensor], int, Tensor] | None = None  # the last output, its version, and its sample

    def known(self, tensor: Tensor) -> Tensor:
        """The sample of a tensor: the one that was taken already, where it is the last output as it came."""
        if self.latest is not None and self.latest[0]() is tensor and self.latest[1] == tensor._version:
            return self.latest[2]
        return _sample(tensor.detach())

    def put(self, layer: str, quantity: str, value: float) -> None:
        self.values.setdefault(layer, {})[quantity] = value


@dataclass
class _Look:
    """One step that is looked at: the last of its passes to which a gradient came, or the last that there was."""

    step: int
    values: dict[str, dict[str, float]] = field(default_factory=dict)
    bins: dict[str, np.ndarray] = field(default_factory=dict)
    present: _Pass = field(default_factory=_Pass)
    arrived: _Pass | None = None

    def put(self, layer: str, quantity: str, value: float) -> None:
        self.values.setdefault(layer, {})[quantity] = value


def check_every(every: int) -> None:
    """UsageError for a number of steps that is none."""
    if every < 1:
        raise UsageError(f"a training is watched every 1, 2, 3, ... steps, not every {every}.")


class Watch:
    """Collects a training's looks; made by ``watching``. Call ``step`` after each update of the weights."""

    def __init__(self, network: nn.Module, every: int, scale: Callable[[], float], before: Watched | None) -> None:
        check_every(every)
        self._network, self._every, self._scale = network, every, scale
        self._hooks = ExitStack()
        self._look: _Look | None = None
        self._unmoved: _Look | None = None  # a look that is done but for the weights' move
        self._old: dict[str, Tensor] = {}
        self._before = before
        self._looks: list[_Look] = []
        self._losses: list[float] = [] if before is None else before.losses.tolist()
        self._rates: list[float] = [] if before is None else before.rates.tolist()
        self._signs = LoopSigns(network, scale, {} if before is None else before.all_signs(), self._losses)

    def step(self, loss: float | None = None, lr: float | None = None) -> None:
        """One step is done: ``loss`` is its batch's, ``lr`` its rate. Works out the look, and prepares the next.

        Call it after each update of the weights, or, where gradients of several batches are added up for one update,
        after each batch: how far weights move is then seen when they do. A tensor with one value is a number too.
        """
        loss, lr = _number("loss", loss), _number("rate", lr)
        moved = self._signs.told(loss, self._look is not None)
        if self._look is not None:
            self._finish(self._look)
        if self._unmoved is not None and moved:
            self._settle(self._unmoved)
        self._losses.append(math.nan if loss is None else _told(loss))
        self._rates.append(math.nan if lr is None else lr)
        self.prepare()

    def tell(self, loss: float | None = None, lr: float | None = None) -> None:
        """Tell the loss and the rate of the latest step, where they are known only after ``step``."""
        for told, value in ((self._losses, _number("loss", loss)), (self._rates, _number("rate", lr))):
            if value is not None and told:
                told[-1] = _told(value)

    def begin(self) -> None:
        """Put the hooks at the network's ends in place, and those of the first look."""
        self._signs.begin()
        self.prepare()

    def prepare(self) -> None:
        """Put the hooks in place if the step that comes is one to look at."""
        if len(self._losses) % self._every:
            return
        if self._unmoved is not None:
            self._settle(self._unmoved)
        self._look = _Look(len(self._losses))
        weights = {name: p for name, p in self._network.named_parameters() if not is_lazy(p) and p.ndim > 1}
        self._old = {name: p.detach().clone() for name, p in weights.items()}
        self._hooks.enter_context(following(self._network, self._on_begin, self._on_output))
        self._hooks.enter_context(accumulating(weights, self._on_weight))

    def close(self) -> None:
        """Remove the hooks; a step that was begun and not told is forgotten."""
        self._hooks.close()
        self._signs.close()
        self._look = None
        if self._unmoved is not None:
            self._settle(self._unmoved)

    def watched(self) -> Watched:
        """All that was seen so far."""
        found = _collate(self._looks, self._before, (self._losses, self._rates), self._every)
        found.signs.update({name: np.array(row, np.float32) for name, row in self._signs.rows.items()})
        return found

    def _on_begin(self) -> None:
        if self._look is not None:
            self._look.present = _Pass()

    def _on_output(
        self, name: str, call: int, module: nn.Module, given: Tensor | None, output: Tensor
    ) -> OnGradient | None:
        if self._look is None or isinstance(module, PASSING) or not output.is_floating_point() or not output.numel():
            return None
        look = self._look.present
        layer, values = call_name(name, call), output.detach()
        look.outputs[layer] = _sample(values)
        if isinstance(module, RECTIFIERS):
            look.put(layer, "dead", dead_share(values))
        if isinstance(module, (nn.Sigmoid, nn.Tanh)):
            look.put(layer, "saturated", saturated_share(module, look.outputs[layer]))
        if isinstance(module, _BatchNorm):
            look.put(layer, "training", float(module.training or module.running_mean is None))
            if given is not None and given.numel():
                look.given[layer] = look.known(given)
        look.latest = (ref(output), output._version, look.outputs[layer])
        return partial(self._on_gradient, self._look, look, layer)

    def _on_gradient(self, look: _Look, seen: _Pass, layer: str, gradient: Tensor) -> None:
        if self._look is look:
            seen.gradients[layer] = _sample(gradient.detach())
            look.arrived = seen

    def _on_weight(self, name: str, gradient: Tensor) -> None:
        if self._look is not None:
            self._look.put(_owner(name), "weight_gradient", float(gradient.norm()) / self._scale())

    def _settle(self, look: _Look) -> None:
        """Tell how far the weights have moved since the look began; what has another shape now is another weight."""
        now = dict(self._network.named_parameters())
        for name, old in self._old.items():
            layer, before = _owner(name), float(old.norm())
            look.put(layer, "weight", before)
            if name in now and now[name].shape == old.shape and now[name].device == old.device:
                change = float(old.sub_(now[name].detach()).norm())
                look.put(layer, "update", change / before if before else math.nan)
        self._unmoved, self._old = None, {}
        self._signs.track()

    def _finish(self, look: _Look) -> None:
        self._hooks.close()
        self._hooks = ExitStack()
        factor, blank = self._scale(), np.zeros(BINS, np.int32)
        seen = look.arrived or look.present
        for layer, found in seen.values.items():
            look.values[layer] = look.values.get(layer, {}) | found
        back = _statistics({layer: tensor / factor for layer, tensor in seen.gradients.items()})
        for layer, (_, _, size, _, _) in back.items():
            look.put(layer, "gradient", size)
        for layer, (mean, scale, _, _, _) in _statistics(seen.given).items():
            look.put(layer, "before_mean", mean)
            look.put(layer, "before_scale", scale)
        for layer, (mean, scale, _, zeros, bins) in _statistics(seen.outputs).items():
            for quantity, value in (("mean", mean), ("scale", scale), ("zeros", zeros)):
                look.put(layer, quantity, value)
            look.bins[layer] = np.stack([bins, back[layer][4] if layer in back else blank])
        look.present, look.arrived = _Pass(), None
        self._looks.append(look)
        self._look, self._unmoved = None, look


@takes_what_is_meant
@contextmanager
def watching(
    network: nn.Module,
    every: int = EVERY,
    *,
    scale: Callable[[], float] = lambda: 1.0,
    before: Watched | None = None,
) -> Iterator[Watch]:
    """Watch a training of ``network`` within the block; the weights become the same, to the last bit.

    ::

        with watching(network) as watch:
            for images, labels in loader:
                optimizer.zero_grad()
                loss = loss_function(network(images), labels)
                loss.backward()
                optimizer.step()
                watch.step(loss.item())
        seen = watch.watched()

    ``scale`` tells by what the loss is multiplied, for gradients in mixed precision: ``scaler.get_scale``. ``before``
    is what was seen of the steps before, where a training goes on. Raises UsageError for an ``every`` below 1.
    """
    watch = Watch(network, every, scale, before)
    try:
        watch.begin()
        yield watch
    finally:
        watch.close()


def dead_share(output: Tensor) -> float:
    """The share of channels (B, C, ...) that are zero in every image and place; of many values only a part is seen,
    whole images of them."""
    if output.ndim < 2:
        return math.nan
    images = max(2, UNITS * len(output) // output.numel())
    seen = output[:images]
    others = [d for d in range(output.ndim) if d != 1]
    return float((seen.abs().amax(others) == 0).float().mean())


def _number(name: str, value: Any) -> float | None:
    """What was told as a number: a tensor, which may hold a graph, by its one value. UsageError where it has more."""
    if isinstance(value, Tensor):
        value = value.detach()
        if value.numel() != 1:
            raise UsageError(f"a step's {name} is one number, not {value.numel()}: its mean, perhaps.")
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError):
        raise UsageError(f"a step's {name} is a number, not {value!r:.60}.") from None


def _told(loss: float) -> float:
    """A loss as it is kept: infinite where it is no number, for NaN is what nobody told."""
    return math.inf if math.isnan(loss) else loss


def _owner(parameter: str) -> str:
    """The layer that a parameter belongs to, by its name."""
    return parameter.rpartition(".")[0] if parameter.endswith(".weight") else parameter


def saturated_share(module: nn.Module, values_S: Tensor) -> float:
    """The share of a sigmoid's or tanh's values, of any shape, whose slope is under LEAST_SLOPE of the greatest."""
    slope = 4 * values_S * (1 - values_S) if isinstance(module, nn.Sigmoid) else 1 - values_S**2
    return float((slope < LEAST_SLOPE).float().mean())


def _sample(tensor: Tensor) -> Tensor:
    """A copy of up to SAMPLE values, evenly spread in memory over images, channels and places: float32 (S,)."""
    if tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last):
        tensor = tensor.permute(0, 2, 3, 1)
    flat = tensor.reshape(-1)
    if not flat.numel():
        return flat.float()
    stride = -(-flat.numel() // SAMPLE)
    while math.gcd(stride, flat.numel()) > 1:  # else it would fall on the same channels or columns again and again
        stride += 1
    return flat[::stride].to(torch.float32, copy=True)


def _statistics(tensors: Mapping[str, Tensor]) -> dict[str, tuple[float, float, float, float, np.ndarray]]:
    """Mean, standard deviation, root mean square, share of zeros and bins of each sample, all in a few operations."""
    if not tensors:
        return {}
    lengths = torch.tensor([len(t) for t in tensors.values()])
    padded = nn.utils.rnn.pad_sequence(list(tensors.values()), batch_first=True).cpu()
    inside = torch.arange(padded.shape[1]) < lengths[:, None]
    mean = padded.sum(1) / lengths
    square = padded.square().sum(1) / lengths
    deviation = torch.where(inside, padded - mean[:, None], 0).square().sum(1).div(lengths).sqrt()
    zero = (padded == 0) & inside
    place = torch.where(zero, 0, torch.frexp(padded)[1].long().clamp(LOWEST, HIGHEST) - LOWEST + 1)
    counted = inside & torch.isfinite(padded)
    rows = torch.arange(len(lengths))[:, None] * BINS + place
    bins = torch.bincount(rows[counted], minlength=len(lengths) * BINS).reshape(-1, BINS).int().numpy()
    columns = (mean, deviation, square.sqrt(), zero.sum(1) / lengths)
    numbers = zip(*(column.tolist() for column in columns), bins, strict=True)
    return dict(zip(tensors, numbers, strict=True))


def _collate(looks: list[_Look], before: Watched | None, told: tuple[list[float], list[float]], every: int) -> Watched:
    """One array a quantity, over the layers of all looks in the order in which they were first seen."""
    named: dict[str, None] = dict.fromkeys(before.layers if before is not None else ())
    for look in looks:
        named |= dict.fromkeys([*look.bins, *look.values])
    layers = tuple(named)
    place = {layer: i for i, layer in enumerate(layers)}
    old = 0 if before is None else len(before.steps)
    shape = (old + len(looks), len(layers))
    values = {quantity: np.full(shape, np.nan, np.float32) for quantity in QUANTITIES}
    bins = np.zeros((*shape, 2, BINS), np.int32)
    steps = np.array([*([] if before is None else before.steps), *(look.step for look in looks)], np.int64)
    if before is not None:
        bins[:old, : len(before.layers)] = before.bins
        for quantity, array in before.values.items():
            values[quantity][:old, : len(before.layers)] = array
    for row, look in enumerate(looks, start=old):
        for layer, found in look.values.items():
            for quantity, value in found.items():
                values[quantity][row, place[layer]] = value
        for layer, counts in look.bins.items():
            bins[row, place[layer]] = counts
    losses, rates = (np.array(column, np.float64) for column in told)
    return Watched(layers, steps, values, bins, losses, rates, every)
