"""Watching a training from inside: each layer's output, the gradient at it, how far its weights move.

Only every so-many-th step is looked at, through hooks that are there for that step alone, and on a sample of the values
of each tensor; so it costs little, and changes no weight. Works with any training loop: see ``watching``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..errors import DamagedFile, UsageError
from ..models.taps import accumulating, call_name, following
from ..schemas import Schema, check_schema
from ..tensor_files import commit_tensors, read_tensors

EVERY = 10  # steps from one look to the next
SAMPLE = 1024  # values of a tensor that are looked at: its scale is known to about two percent
UNITS = 2**15  # values that are searched for one above zero, before a channel counts as dead in this step
RECTIFIERS = (nn.ReLU, nn.ReLU6)
PASSING = (nn.Identity, nn.Dropout, nn.Flatten)  # their output is that of the layer before
LEAST_SLOPE = 0.05  # of the greatest slope of a sigmoid or tanh: under it a unit is saturated

# The bins of |x|: zeros, then a factor of two each; what lies outside is counted with the first or last of them.
LOWEST, HIGHEST = -40, 16
BINS = HIGHEST - LOWEST + 2

# What is measured of each layer at each watched step; NaN where it has no meaning.
QUANTITIES = {
    "mean": "mean of the layer's output",
    "scale": "standard deviation of the layer's output",
    "zeros": "share of zeros in the layer's output",
    "dead": "share of a rectifier's channels that are zero for every image and place looked at",
    "saturated": f"share of a sigmoid's or tanh's values with a slope under {LEAST_SLOPE:.0%} of the greatest",
    "before_mean": "mean of what a norm is given",
    "before_scale": "standard deviation of what a norm is given",
    "training": "1 where a norm uses the batch's statistics, 0 where it uses running ones",
    "gradient": "root mean square of the loss's gradient at the output of a layer with filters or a matrix",
    "weight_gradient": "norm of the loss's gradient for the layer's weight, before any clipping",
    "weight": "norm of the layer's weight before the step",
    "update": "norm of the weight's change in the step over the norm of the weight",
}


class _WatchedMeta(Schema):
    kind: Literal["watched"]
    layers: list[str]
    every: Annotated[int, Field(ge=1)]


@dataclass(frozen=True)
class Watched:
    """A training as it was watched: T looks at L layers in the order of their calls, S steps in all.

    ``steps`` int64 (T,) from 0; ``values`` maps the names of QUANTITIES to float32 (T, L); ``bins`` int32 (T, L, 2,
    BINS): of output and gradient, how many values looked at fall into which factor of two. ``losses`` float64 (S,) and
    ``rates`` float64 (S,), NaN where they were not told.
    """

    layers: tuple[str, ...]
    steps: np.ndarray
    values: dict[str, np.ndarray]
    bins: np.ndarray
    losses: np.ndarray
    rates: np.ndarray
    every: int

    def of(self, quantity: str, having: str | None = None) -> tuple[tuple[str, ...], np.ndarray]:
        """The layers where a quantity (or ``having``) has a meaning, and its values there: float32 (T, l)."""
        known = np.flatnonzero(~np.isnan(self.values[having or quantity]).all(axis=0))
        return tuple(self.layers[i] for i in known), self.values[quantity][:, known]

    def save(self, path: Path) -> None:
        """Write it as one sealed safetensors file. Raises StorageError."""
        tensors = {f"values/{name}": torch.from_numpy(v) for name, v in self.values.items()}
        tensors |= {name: torch.from_numpy(getattr(self, name)) for name in ("steps", "bins", "losses", "rates")}
        commit_tensors(path, tensors, {"kind": "watched", "layers": list(self.layers), "every": self.every})

    @staticmethod
    def load(path: Path) -> Watched:
        """Read what ``save`` wrote. Raises DamagedFile."""
        tensors, meta = read_tensors(path)
        said = check_schema(_WatchedMeta, meta, path, "a record of a training")
        looks, layers = len(tensors.get("steps", ())), len(said.layers)
        shapes = {f"values/{name}": (looks, layers) for name in QUANTITIES} | {"bins": (looks, layers, 2, BINS)}
        shapes |= {"steps": (looks,), "losses": (n := len(tensors.get("losses", ())),), "rates": (n,)}
        if {name: tuple(tensor.shape) for name, tensor in tensors.items()} != shapes:
            raise DamagedFile(f"{path} is not a record of a training: its tensors are not those of one.")
        arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
        values = {name: arrays[f"values/{name}"] for name in QUANTITIES}
        rest = {name: arrays[name] for name in ("steps", "bins", "losses", "rates")}
        return Watched(tuple(said.layers), values=values, every=said.every, **rest)


@dataclass
class _Look:
    """One step's samples, by layer; the tensors are samples that are worked out together afterwards."""

    step: int
    values: dict[str, dict[str, float]] = field(default_factory=dict)
    outputs: dict[str, Tensor] = field(default_factory=dict)
    gradients: dict[str, Tensor] = field(default_factory=dict)
    given: dict[str, Tensor] = field(default_factory=dict)
    bins: dict[str, np.ndarray] = field(default_factory=dict)
    latest: tuple[Tensor, int, Tensor] | None = None  # the last output, its version, and its sample

    def known(self, tensor: Tensor) -> Tensor:
        """The sample of a tensor: the one that was taken already, where it is the last output as it came."""
        if self.latest is not None and self.latest[0] is tensor and self.latest[1] == tensor._version:
            return self.latest[2]
        return _sample(tensor.detach())

    def put(self, layer: str, quantity: str, value: float) -> None:
        self.values.setdefault(layer, {})[quantity] = value


class Watch:
    """Collects a training's looks; made by ``watching``. Call ``step`` after each update of the weights."""

    def __init__(self, network: nn.Module, every: int, scale: Callable[[], float], before: Watched | None) -> None:
        if every < 1:
            raise UsageError(f"a training is watched every 1, 2, 3, ... steps, not every {every}.")
        self._network, self._every, self._scale = network, every, scale
        self._weights = {name: p for name, p in network.named_parameters() if p.ndim > 1}
        self._stack = ExitStack()
        self._look: _Look | None = None
        self._old: dict[str, Tensor] = {}
        self._before = before
        self._looks: list[_Look] = []
        self._losses: list[float] = [] if before is None else before.losses.tolist()
        self._rates: list[float] = [] if before is None else before.rates.tolist()

    def step(self, loss: float = math.nan, lr: float = math.nan) -> None:
        """One update is done: ``loss`` is its batch's, ``lr`` its rate. Works out the look, and prepares the next."""
        if self._look is not None:
            self._finish(self._look)
        self._losses.append(float(loss))
        self._rates.append(float(lr))
        self.prepare()

    def prepare(self) -> None:
        """Put the hooks in place if the step that comes is one to look at."""
        if len(self._losses) % self._every:
            return
        self._look = _Look(len(self._losses))
        self._old = {name: p.detach().clone() for name, p in self._weights.items()}
        self._stack.enter_context(following(self._network, self._on_output, self._on_gradient))
        self._stack.enter_context(accumulating(self._weights, self._on_weight))

    def close(self) -> None:
        """Remove the hooks; a step that was begun and not told is forgotten."""
        self._stack.close()
        self._look = None

    def watched(self) -> Watched:
        """All that was seen so far."""
        return _collate(self._looks, self._before, (self._losses, self._rates), self._every)

    def _on_output(self, name: str, call: int, module: nn.Module, given: Tensor | None, output: Tensor) -> None:
        look = self._look
        if look is None or isinstance(module, PASSING) or not output.is_floating_point() or not output.numel():
            return
        layer, values = call_name(name, call), output.detach()
        look.outputs[layer] = _sample(values)
        if isinstance(module, RECTIFIERS):
            look.put(layer, "dead", dead_share(values))
        if isinstance(module, (nn.Sigmoid, nn.Tanh)):
            look.put(layer, "saturated", saturated_share(module, look.outputs[layer]))
        if isinstance(module, _BatchNorm):
            look.put(layer, "training", float(module.training or module.running_mean is None))
            if given is not None:
                look.given[layer] = look.known(given)
        look.latest = (output, output._version, look.outputs[layer])

    def _on_gradient(self, name: str, call: int, gradient: Tensor) -> None:
        if self._look is not None:
            self._look.gradients[call_name(name, call)] = _sample(gradient.detach())

    def _on_weight(self, name: str, gradient: Tensor) -> None:
        if self._look is not None:
            self._look.put(_owner(name), "weight_gradient", float(gradient.norm()) / self._scale())

    def _finish(self, look: _Look) -> None:
        self._stack.close()
        self._stack = ExitStack()
        for name, parameter in self._weights.items():
            layer, before = _owner(name), float(self._old[name].norm())
            look.put(layer, "weight", before)
            change = float(self._old[name].sub_(parameter.detach()).norm())
            look.put(layer, "update", change / before if before else math.nan)
        factor, blank = self._scale(), np.zeros(BINS, np.int32)
        back = _statistics({layer: tensor / factor for layer, tensor in look.gradients.items()})
        for layer, (_, _, size, _, _) in back.items():
            look.put(layer, "gradient", size)
        for layer, (mean, scale, _, _, _) in _statistics(look.given).items():
            look.put(layer, "before_mean", mean)
            look.put(layer, "before_scale", scale)
        for layer, (mean, scale, _, zeros, bins) in _statistics(look.outputs).items():
            for quantity, value in (("mean", mean), ("scale", scale), ("zeros", zeros)):
                look.put(layer, quantity, value)
            look.bins[layer] = np.stack([bins, back[layer][4] if layer in back else blank])
        look.outputs, look.gradients, look.given, look.latest, self._old = {}, {}, {}, None, {}
        self._looks.append(look)
        self._look = None


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
        watch.prepare()
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


def up_to(watched: Watched, steps: int) -> Watched:
    """The part seen in the first ``steps`` updates: for a training that goes on from an earlier checkpoint."""
    kept = watched.steps < steps
    parts: dict[str, Any] = {"values": {q: v[kept] for q, v in watched.values.items()}}
    parts |= {"steps": watched.steps[kept], "bins": watched.bins[kept]}
    parts |= {"losses": watched.losses[:steps], "rates": watched.rates[:steps]}
    return Watched(watched.layers, every=watched.every, **parts)
