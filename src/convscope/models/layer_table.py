"""The ledger of a network: the lecture's layer table, with what each layer costs and how much of the image it sees.

One forward pass of one empty image is watched, so any ``nn.Module`` will do; receptive fields are in ``receptive``.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from ..errors import UsageError
from ..noted import Noted
from .receptive_fields import Fields, pair, windows
from .taps import evaluating, first_tensor, leaves, observe, record

MapSize = int | tuple[int, ...]  # one number for a square, (height, width) otherwise

KINDS: dict[type[nn.Module], str] = {
    nn.Conv2d: "Conv",
    nn.MaxPool2d: "MaxPool",
    nn.AvgPool2d: "AvgPool",
    nn.BatchNorm2d: "BatchNorm",
    nn.Linear: "Linear",
    nn.Flatten: "Flatten",
}
WINDOWED = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)
LECTURE_COLUMNS = (
    "Layer", "Channels", "H/W", "Filters", "FSize", "Stride", "Pad", "Channels", "H/W",
    "parameters", "multiply-adds", "receptive field", "activation memory",
)  # fmt: skip


@dataclass(frozen=True)
class LayerRow:
    """One call of one layer, for one image; what a layer does not have is None. Sizes are in pixels.

    ``receptive_field`` is that of one output place by the arithmetic of sizes and strides, and so may exceed the
    image; None where it cannot be followed. ``activation_bytes`` is the float32 memory of the output, 0 where the
    layer gives back the memory it was given (flatten, a ReLU in place, dropout outside training).
    """

    name: str
    kind: str
    in_channels: int | None
    in_size: MapSize | None
    filters: int | None
    filter_size: MapSize | None
    stride: MapSize | None
    pad: MapSize | str | None
    out_channels: int | None
    out_size: MapSize | None
    parameters: int
    multiply_adds: int
    receptive_field: MapSize | None
    activation_bytes: int


@dataclass(frozen=True)
class Ledger(Noted):
    """The rows in the order of execution, and their totals for one image.

    Multiply-adds are those of convolutions and fully connected layers; floating-point operations are twice as many.
    ``parameters`` is of the whole network, also of a part that is not called in evaluation and so has no row.
    """

    rows: tuple[LayerRow, ...]
    parameters: int
    multiply_adds: int
    activation_bytes: int
    rules: tuple[str, ...] = ()  # of the lecture's, that it breaks

    @property
    def notes(self) -> tuple[str, ...]:
        """The lecture's rules that the network breaks, in sentences."""
        return self.rules

    def told(self) -> Iterable[tuple[str, Any]]:
        """The lecture's table, and the totals."""
        for cells in (LECTURE_COLUMNS, *map(lecture_cells, lecture_rows(self))):
            yield cells[0], ", ".join(cell or "-" for cell in cells[1:])
        yield "parameters", f"{self.parameters:,}"
        yield "multiply-adds", f"{self.multiply_adds:,}"


def ledger(network: nn.Module, image_size: int, channels: int = 3) -> Ledger:
    """The ledger of a network for images of ``channels`` x ``image_size`` x ``image_size`` (px).

    Runs the network once in eval mode, and leaves every module in the mode it was in. Shared parameters count once.
    Raises UsageError for a network that cannot take such an image, with the layer that failed.
    """
    weight = next((p for p in network.parameters() if p.is_floating_point()), torch.empty(0))
    with evaluating(network), torch.inference_mode(False), torch.no_grad():  # inference tensors have no version
        image = torch.zeros(1, channels, image_size, image_size, dtype=weight.dtype, device=weight.device)
        book = _Book(network, image)
        try:
            with observe(network, book.enter):
                network(image)
        except Exception as error:
            raise _failure(network, image, error) from error
    return Ledger(
        rows=tuple(book.rows),
        parameters=sum(p.numel() for p in network.parameters()),
        multiply_adds=sum(row.multiply_adds for row in book.rows),
        activation_bytes=sum(row.activation_bytes for row in book.rows),
    )


def lecture_rows(book: Ledger) -> tuple[LayerRow, ...]:
    """The rows of the lecture's table: what only normalises or activates is folded into the layer above it.

    That layer takes over its parameters, work and memory, so the totals are still those of the ledger.
    """
    shown: list[LayerRow] = []
    for row in book.rows:
        of_its_own = row.filter_size is not None or row.kind == "Linear"
        same_shape = (row.in_channels, row.in_size) == (row.out_channels, row.out_size)
        if of_its_own or not same_shape or not shown:
            shown.append(row)
            continue
        above = shown[-1]
        shown[-1] = replace(
            above,
            parameters=above.parameters + row.parameters,
            multiply_adds=above.multiply_adds + row.multiply_adds,
            activation_bytes=above.activation_bytes + row.activation_bytes,
        )
    return tuple(shown)


def lecture_cells(row: LayerRow) -> tuple[str, ...]:
    """A row as text, one cell for each of LECTURE_COLUMNS; empty where the layer does not have it."""
    cells = (
        row.name, row.in_channels, row.in_size, row.filters, row.filter_size, row.stride, row.pad, row.out_channels,
        row.out_size, row.parameters, row.multiply_adds, row.receptive_field, row.activation_bytes,
    )  # fmt: skip
    return tuple(_text(cell) for cell in cells)


class _Book:
    """Writes one row for each call that ``observe`` reports."""

    def __init__(self, network: nn.Module, image: Tensor) -> None:
        self.rows: list[LayerRow] = []
        self._leaves = leaves(network)
        self._counted: set[int] = set()
        self._fields = Fields(image)

    def enter(self, name: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        is_leaf = name in self._leaves
        given, outputs = first_tensor(inputs), first_tensor(output)
        weightless = next(module.parameters(recurse=False), None) is None
        if given is None or outputs is None or (weightless and not is_leaf):
            return  # a container without weights of its own: its leaves have told everything
        if is_leaf:
            self._fields.pass_through(module, [x for x in inputs if isinstance(x, Tensor)] or [given], outputs)
        field = self._fields.of(outputs)
        filters, filter_size, stride, pad = _geometry(module, given, outputs)
        row = LayerRow(
            name=name or type(module).__name__,
            kind=next((word for kind, word in KINDS.items() if isinstance(module, kind)), type(module).__name__),
            in_channels=_channels(module, given),
            in_size=_map_size(module, given),
            filters=filters,
            filter_size=filter_size,
            stride=stride,
            pad=pad,
            out_channels=_channels(module, outputs),
            out_size=_map_size(module, outputs),
            parameters=self._first_seen(module, is_leaf),
            multiply_adds=_multiply_adds(module, given, outputs),
            receptive_field=None if field is None else _size(field.size),
            activation_bytes=0 if _same_memory(given, outputs) else 4 * outputs.numel(),
        )
        self.rows.append(row)

    def _first_seen(self, module: nn.Module, is_leaf: bool) -> int:
        """The number of a module's parameters that no row before has counted."""
        new = [p for p in module.parameters(recurse=is_leaf) if id(p) not in self._counted]
        self._counted.update(id(p) for p in new)
        return sum(p.numel() for p in new)


def _failure(network: nn.Module, image: Tensor, error: Exception) -> UsageError:
    """The sentence for a network that raised: a second pass finds the innermost call that does not return."""
    names = [name for name, _ in network.named_modules()]
    with record(network, names) as recording, suppress(Exception):
        network(image)
    open_calls = [(name, x) for name, x in recording.inputs.items() if name not in recording.outputs]
    name, given = open_calls[-1] if open_calls else ("", image)
    where = f"layer {name!r}" if name else type(network).__name__
    return UsageError(
        f"the network cannot take an image of {_shape(image)}: {where} was given {_shape(given)} and raised "
        f"{type(error).__name__}: {' '.join(str(error).split())}"
    )


def _multiply_adds(module: nn.Module, given: Tensor, outputs: Tensor) -> int:
    if isinstance(module, _ConvNd):  # a transposed convolution multiplies its filters with the input's places
        places = given if isinstance(module, _ConvTransposeNd) else outputs
        return places.numel() * module.weight[0].numel()
    return outputs.numel() * module.in_features if isinstance(module, nn.Linear) else 0


def _geometry(module: nn.Module, given: Tensor, outputs: Tensor) -> tuple[Any, MapSize | None, MapSize | None, Any]:
    """Filters, filter size, stride and padding; "same" where a convolution's padding keeps the size of the map."""
    if not isinstance(module, WINDOWED):
        return None, None, None, None
    _, stride, padding = windows(module)
    filters = module.out_channels if isinstance(module, nn.Conv2d) else None
    kept = filters is not None and given.shape[2:] == outputs.shape[2:] and padding != (0, 0)
    return filters, _size(pair(module.kernel_size)), _size(stride), "same" if kept else _size(padding)


def _channels(module: nn.Module, tensor: Tensor) -> int | None:
    if tensor.dim() < 2:
        return None
    return tensor.shape[-1] if isinstance(module, nn.Linear) else tensor.shape[1]


def _map_size(module: nn.Module, tensor: Tensor) -> MapSize | None:
    return None if tensor.dim() < 3 or isinstance(module, nn.Linear) else _size(tuple(tensor.shape[2:]))


def _size(sides: tuple[int, ...]) -> MapSize:
    return sides[0] if len(set(sides)) == 1 else sides


def _shape(tensor: Tensor) -> str:
    return " x ".join(str(side) for side in tensor.shape[1:]) or "1 number"


def _same_memory(given: Tensor, outputs: Tensor) -> bool:
    return outputs.untyped_storage().data_ptr() == given.untyped_storage().data_ptr() != 0


def _text(cell: MapSize | str | None) -> str:
    if cell is None:
        return ""
    return " x ".join(f"{side:,}" for side in cell) if isinstance(cell, tuple) else str(cell)
