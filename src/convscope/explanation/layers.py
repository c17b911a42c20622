"""The layers of any network: each convolution with its batch norm, and where its value before the activation passes.

One forward pass of one image is watched and the tensors are followed from module to module, so nothing is traced and
skips, shared and in-place modules do no harm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..errors import UnknownName, UsageError
from ..models.receptive_fields import MAPS_BCHW, Field, Fields, Pair
from ..models.taps import Tap, evaluating, first_tensor, leaves, observe
from ..portable import shortened

# What a tensor keeps its channels through, each on its own; between a convolution and its norm, or its successor.
_BY_CHANNEL = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
_IDLE = (nn.Identity, nn.Dropout, nn.Dropout2d)  # in evaluation they pass on the very tensor
_WEIGHTLESS = (*_IDLE, nn.ReLU, nn.ReLU6, nn.SiLU, nn.GELU, nn.Hardswish, nn.LeakyReLU)


@dataclass(frozen=True)
class Layer:
    """A layer: ``filters`` maps of ``places`` rows and columns, seen at ``tap`` before the activation.

    ``name`` is that of the convolution (``name@2`` at its second call in a pass), or of the module that was asked for.
    ``field`` is the receptive field of its places, None where that cannot be followed. ``below`` is the layer whose
    filters are the channels of the convolution's input, None where they are the image's or a mixture's.
    """

    name: str
    tap: Tap
    filters: int
    places: Pair
    field: Field | None
    convolution: str | None = None
    norm: str | None = None
    call: int = 0
    below: str | None = None

    @property
    def file(self) -> str:
        """The name as part of a file's name."""
        return layer_file(self.name)


def layer_file(name: str) -> str:
    """What the files of a layer are called, without their endings."""
    return shortened(name.replace("/", "-") or "network")


def find_layers(network: nn.Module, image_1CHW: Tensor, names: Sequence[str] | None = None) -> tuple[Layer, ...]:
    """The layers of a network in the order in which they work, or those of these names.

    A name may also be of another module that outputs maps (1, C, h, w). Convolutions that see one place only, as in
    squeeze-and-excitation, are layers only when asked for. Raises UnknownName for a name that does not exist, and
    UsageError for a module that outputs no maps, with its shape, and for a network without convolutions.
    """
    with evaluating(network), torch.inference_mode(False), torch.no_grad():  # inference tensors have no version
        image_1CHW = image_1CHW.clone()
        walk = _Walk(network, image_1CHW)
        with observe(network, walk.see):
            network(image_1CHW)
    found = {layer.name: layer for layer in walk.layers}
    if names is None:
        wanted = [layer for layer in walk.layers if layer.name not in walk.single_place]
        if not wanted:
            raise UsageError("the network has no convolution that outputs maps, so there are no filters to explain.")
        return tuple(wanted)
    order = list(found)
    chosen = {name: found.get(name) or _other(network, image_1CHW, name, walk) for name in names}
    return tuple(sorted(chosen.values(), key=lambda c: order.index(c.name) if c.name in found else len(order)))


def owners(network: nn.Module, image_1CHW: Tensor) -> dict[str, str]:
    """For each module whose output's channels are a layer's filters, activated or pooled: the name of that layer."""
    with evaluating(network), torch.inference_mode(False), torch.no_grad():
        image_1CHW = image_1CHW.clone()
        walk = _Walk(network, image_1CHW)
        with observe(network, walk.see):
            network(image_1CHW)
    return walk.owners


def _other(network: nn.Module, image_1CHW: Tensor, name: str, walk: _Walk) -> Layer:
    """A module that is no convolution as a layer, if it outputs maps."""
    layers = [layer.name for layer in walk.layers]
    if name not in dict(network.named_modules()) or not name:
        raise UnknownName("layer", name, [*layers, *(n for n, _ in network.named_modules() if n and n not in layers)])
    usable = f"Layers that work: {', '.join(layers[:12])}{', ...' if len(layers) > 12 else ''}."
    if name not in walk.shapes:
        raise UsageError(f"{name} outputs no tensor in a forward pass. {usable}")
    shape, field = walk.shapes[name]
    if len(shape) != MAPS_BCHW:
        raise UsageError(f"{name} outputs {shape}, and a layer outputs maps (N, C, h, w). {usable}")
    return Layer(name, Tap(name), shape[1], (shape[2], shape[3]), field)


class _Walk:
    """Follows the tensors of one pass; ``see`` is called after each module."""

    def __init__(self, network: nn.Module, image: Tensor) -> None:
        self.layers: list[Layer] = []
        self.single_place: set[str] = set()
        self.shapes: dict[str, tuple[tuple[int, ...], Field | None]] = {}
        self.owners: dict[str, str] = {}
        self._leaves = leaves(network)
        self._fields = Fields(image)
        self._calls: dict[str, int] = {}
        # A tensor's id to the layer whose filters its channels are, and the version of the tensor that this is true of.
        self._channels: dict[int, tuple[str, int]] = {}
        self._open: set[int] = set()  # those that no norm or activation has seen yet
        self._alive: list[Tensor] = [image]  # ids are reused when tensors die

    def see(self, name: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        given, outputs = first_tensor(inputs), first_tensor(output)
        if given is None or outputs is None:
            return
        self._alive += [given, outputs]
        call = self._calls[name] = self._calls.get(name, -1) + 1
        if name in self._leaves:
            tensors = [x for x in inputs if isinstance(x, Tensor)] or [given]
            self._fields.pass_through(module, tensors, outputs)
        field = self._fields.of(outputs)
        self.shapes.setdefault(name, (tuple(outputs.shape), field))
        in_place = given is outputs and not isinstance(module, _IDLE)
        title = self._title(given, in_place)
        self.owners.pop(name, None)  # of a module that is called again the latest call counts
        if isinstance(module, nn.Conv2d) and outputs.dim() == MAPS_BCHW:
            self._convolution(name, module, call, given, outputs)
        elif isinstance(module, _BatchNorm) and id(given) in self._open and title is not None:
            self._norm(name, module, call, title, outputs)
        elif isinstance(module, _BY_CHANNEL + _WEIGHTLESS) and title is not None:
            self._channels[id(outputs)] = (title, outputs._version)
            self.owners[name] = title
            if in_place:
                self._open.discard(id(given))
            elif isinstance(module, _BY_CHANNEL) and id(given) in self._open:  # a pool may stand before the norm
                self._open.add(id(outputs))

    def _title(self, given: Tensor, in_place: bool = False) -> str | None:
        """The layer whose filters are the tensor's channels; None when something between two modules changed it."""
        title, version = self._channels.get(id(given), (None, 0))
        return title if given._version == version + in_place else None

    def _convolution(self, name: str, module: nn.Conv2d, call: int, given: Tensor, outputs: Tensor) -> None:
        layer = Layer(
            name=name if call == 0 else f"{name}@{call + 1}",
            tap=Tap(name, call=call),
            filters=outputs.shape[1],
            places=(outputs.shape[2], outputs.shape[3]),
            field=self._fields.of(outputs),
            convolution=name,
            call=call,
            below=self._title(given) if module.groups == 1 else None,
        )
        self.layers.append(layer)
        if given.shape[2:] == (1, 1) and module.kernel_size == (1, 1):
            self.single_place.add(layer.name)
        self._channels[id(outputs)] = (layer.name, outputs._version)
        self.owners[name] = layer.name
        self._open.add(id(outputs))

    def _norm(self, name: str, module: nn.Module, call: int, title: str, outputs: Tensor) -> None:
        """The convolution's layer is seen behind its norm; one that activates too hides it between its own parts."""
        number = next(i for i, layer in enumerate(self.layers) if layer.name == title)
        part = next((n for n, _ in module.named_modules() if n and f"{name}.{n}" in self._calls), None)
        tap = Tap(name, call=call) if part is None else Tap(f"{name}.{part}", at_input=True, call=call)
        places = (outputs.shape[2], outputs.shape[3])
        self.layers[number] = replace(
            self.layers[number], tap=tap, places=places, field=self._fields.of(outputs), norm=name
        )
        self._channels[id(outputs)] = (title, outputs._version)
        self.owners[name] = title
