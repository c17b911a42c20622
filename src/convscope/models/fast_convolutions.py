"""A network's layers that can be computed faster than by torch, and a with-block in which they are."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..convolution.normalised import RowShape
from ..convolution.passes import Passes, Tiles, convolve
from ..convolution.timing import FILTER_SIZES, Shape, Told, faster_rows, fastest_tiles, is_possible, usual_tiles
from .fast_norms import Forwards, fused, rows_of
from .taps import computing_by, evaluating, record


def shapes_of(network: nn.Module, image_size: int) -> dict[str, Shape]:
    """The shape of every convolution that minimal filtering does, by layer: 3x3 or 5x5, stride 1, no groups.

    A layer that is called several times goes by its first.
    """
    layers = _layers(network)
    image = torch.zeros(1, 3, image_size, image_size).contiguous(memory_format=torch.channels_last)
    with evaluating(network), torch.no_grad(), record(network, layers) as seen:
        network(image)
    found = {}
    for name, layer in layers.items():
        inputs = seen.inputs.get(name)
        if inputs is not None and inputs.ndim == 4:
            height, width = inputs.shape[2:]
            size = layer.kernel_size[0]
            found[name] = Shape(layer.in_channels, layer.out_channels, size, height, width, _padding(layer))
    return found


def fastest_layers(network: nn.Module, image_size: int, progress: Told | None = None) -> dict[str, tuple[Any, ...]]:
    """What a training of this network takes here, timed: ``tiles`` and ``fused``, as options of a recipe."""
    shapes, rows = shapes_of(network, image_size), rows_of(network, image_size)
    return _options(shapes, fastest_tiles(shapes.values(), progress), rows, faster_rows(rows.values(), progress))


def every_layer(network: nn.Module, image_size: int) -> dict[str, tuple[Any, ...]]:
    """The same, of every layer that can be, untimed."""
    shapes, rows = shapes_of(network, image_size), rows_of(network, image_size)
    tiles = {shape: usual_tiles(shape) for shape in shapes.values()}
    return _options(shapes, tiles, rows, dict.fromkeys(rows.values(), True))


def _options(
    shapes: dict[str, Shape], tiles: dict[Shape, Tiles], rows: dict[str, RowShape], fast: dict[RowShape, bool]
) -> dict[str, tuple[Any, ...]]:
    chosen = tuple((name, *tiles[shape]) for name, shape in shapes.items() if any(tiles[shape]))
    return {"tiles": chosen, "fused": tuple(name for name, row in rows.items() if fast[row])}


def faster(network: nn.Module, tiles: Mapping[str, Tiles], norms: Collection[str] = ()) -> Forwards:
    """What ``taps.computing_by`` needs for convolutions with these tiles (see ``passes.Tiles``) and the named norms'
    rows in one go (see ``fast_norms``).

    Names that are no layers, and layers that minimal filtering does not do, are computed as ever; so are all where
    Numba is missing.
    """
    if not (tiles or norms) or not is_possible():
        return {}
    fast: Forwards = fused(network, norms)
    for name, layer in _layers(network).items():
        if name in tiles:
            fast[layer] = partial(_forward, layer, Passes.of(tiles[name], layer.kernel_size[0]))
    return fast


@contextmanager
def convolving(network: nn.Module, tiles: Mapping[str, Tiles], norms: Collection[str] = ()) -> Iterator[None]:
    """A with-block in which a network computes as ``faster`` has it."""
    with computing_by(faster(network, tiles, norms)):
        yield


def _forward(layer: nn.Conv2d, passes: Passes, images: Tensor) -> Tensor:
    if images.ndim != 4:
        return nn.Conv2d.forward(layer, images)
    return convolve(images, layer.weight, layer.bias, _padding(layer), passes)


def _layers(network: nn.Module) -> dict[str, nn.Conv2d]:
    return {name: module for name, module in network.named_modules() if type(module) is nn.Conv2d and _fits(module)}


def _fits(module: nn.Conv2d) -> bool:
    return (
        "forward" not in module.__dict__
        and module.kernel_size[0] == module.kernel_size[1]
        and module.kernel_size[0] in FILTER_SIZES
        and module.stride == module.dilation == (1, 1)
        and module.groups == 1
        and module.padding_mode == "zeros"
        and max(_padding(module)) < module.kernel_size[0]
        and module.weight.dtype == torch.float32
    )


def _padding(layer: nn.Conv2d) -> tuple[int, int]:
    if isinstance(layer.padding, str):
        return (layer.kernel_size[0] // 2,) * 2 if layer.padding == "same" else (0, 0)
    top, left = layer.padding
    return top, left
