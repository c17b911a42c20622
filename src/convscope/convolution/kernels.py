"""Compiled loops of minimal filtering: tiles of an image, or filters, into the points' basis and back.

A tile's transform is emitted as LLVM instructions on vectors of channels, its numbers never leaving the registers;
the loops around it are Numba's. All arrays are float32 with the channels last. Of what is transformed, the number of
position p, row t (a tile or a filter) and channel c lies at p * gap + t * channels + c.

Importing this file imports Numba, and raises ImportError where that is missing.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .compiled import OPTIONS, Compiled
from .lanes import BYTES, Value, vector_width
from .minimal_filtering import Filtering, Matrix, transposed

INPUT, GRADIENT, OUTPUT, FILTER, FILTER_GRADIENT = range(5)


def matrix_of(role: int, filtering: Filtering) -> Matrix:
    """What both axes of a tile are multiplied by: a gradient goes the way of its values, transposed."""
    return (
        filtering.input_map,
        transposed(filtering.output_map),
        filtering.output_map,
        filtering.filter_map,
        transposed(filtering.filter_map),
    )[role]


# --------------------------------------------------------------------------------------------------- instructions


def _typed(context, role, outputs, filter_size, source, row, column, target, into_row, into_column, channels, check):  # noqa: PLR0913 - Numba asks for their names
    """Transform a tile of all its channels, from one address to another, with the steps of both in bytes.

    ``check`` is 0, or the address of WIDTH floats, to which 0 is added for each finite result and otherwise NaN.
    """
    if not all(isinstance(value, types.IntegerLiteral) for value in (role, outputs, filter_size)):
        return None  # Numba asks again, with what is known when it compiles
    matrix = matrix_of(role.literal_value, Filtering(outputs.literal_value, filter_size.literal_value))

    def emit(context: Any, builder: Value, _: Any, arguments: Value) -> Value:
        *places, channels, check = arguments[3:]
        width = channels.type(vector_width())
        whole = builder.sub(channels, builder.srem(channels, width))
        for size, first, last in ((vector_width(), channels.type(0), whole), (1, whole, channels)):
            with cgutils.for_range_slice(builder, first, last, channels.type(size)) as (channel, _count):
                _tile(builder, matrix, size, channel, places, check)
        return context.get_dummy_value()

    return types.void(role, outputs, filter_size, *[types.intp] * 8), emit


_transform: Any = intrinsic(_typed)


def _tile(builder: Value, matrix: Matrix, width: int, channel: Value, places: list[Value], check: Value) -> None:  # noqa: PLR0913
    """Load the tile's columns, transform them, transform the rows, store: ``width`` channels at a time."""
    source, row, column, target, into_row, into_column = places
    vector = ir.VectorType(ir.FloatType(), width)
    offset = builder.mul(channel, channel.type(BYTES))

    def place(start: Value, i: int, down: Value, j: int, across: Value) -> Value:
        steps = builder.add(builder.mul(down, down.type(i)), builder.mul(across, across.type(j)))
        return builder.inttoptr(builder.add(builder.add(start, offset), steps), vector.as_pointer())

    half: list[list[Value]] = [[] for _ in matrix]
    for j in range(len(matrix[0])):
        read = [builder.load(place(source, i, row, j, column), align=BYTES) for i in range(len(matrix[0]))]
        for i, value in enumerate(_combined(builder, read, matrix)):
            half[i].append(value)
    found = []
    for i, values in enumerate(half):
        for j, value in enumerate(_combined(builder, values, matrix)):
            builder.store(value, place(target, i, into_row, j, into_column), align=BYTES)
            found.append(value)
    with builder.if_then(builder.icmp_signed("!=", check, check.type(0))):
        seen = builder.inttoptr(check, vector.as_pointer())
        total = builder.load(seen, align=BYTES)
        for value in found:
            total = builder.fadd(total, builder.fsub(value, value))
        builder.store(total, seen, align=BYTES)


def _combined(builder: Value, values: list[Value], matrix: Matrix) -> list[Value]:
    """The matrix times a column of vectors. Rows of a point and its negative share the sums of even and odd powers."""
    sums: dict[tuple[tuple[int, float], ...], Value] = {}

    def part(factors: list[tuple[int, float]]) -> tuple[float, Value]:
        """A sum of multiples, and the sign it is to be taken with."""
        sign = 1.0 if factors[0][1] > 0 else -1.0
        key = tuple((i, sign * factor) for i, factor in factors)
        if key not in sums:
            sums[key] = _sum(builder, [(values[i], factor) for i, factor in key])
        return sign, sums[key]

    made = []
    for row in matrix:
        used = [(i, float(factor)) for i, factor in enumerate(row) if factor]
        halves = [[(i, factor) for i, factor in used if i % 2 == parity] for parity in (0, 1)]
        (sign, first), *other = [part(half) for half in halves if half]
        value = first if sign > 0 else builder.fneg(first)
        for sign, second in other:
            value = builder.fadd(value, second) if sign > 0 else builder.fsub(value, second)
        made.append(value)
    return made


def _sum(builder: Value, terms: list[tuple[Value, float]]) -> Value:
    """The sum of values times factors; those with a factor of 1 come first, for they need no product."""
    total = None
    for value, factor in sorted(terms, key=lambda term: abs(term[1]) != 1):
        if abs(factor) != 1:
            constant = ir.Constant(value.type, [ir.Constant(value.type.element, factor)] * value.type.count)
            value = builder.fmul(value, constant, flags=("contract",))
        if total is None:
            total = builder.fneg(value) if factor == -1 else value
        elif factor == -1:
            total = builder.fsub(total, value)
        else:
            total = builder.fadd(total, value, flags=("contract",))
    return total


# ---------------------------------------------------------------------------------------------------------- loops


@numba.njit(**OPTIONS)
def _copy_window(image, y, x, window, spare):
    """Copy the window of an image (H, W, C) that begins at y, x; outside of the image it is 0."""
    height, width, channels = image.shape
    for i in range(window):
        for j in range(window):
            there = 0 <= y + i < height and 0 <= x + j < width
            for c in range(channels):
                spare[(i * window + j) * channels + c] = image[y + i, x + j, c] if there else numba.float32(0)


@numba.njit(**OPTIONS)
def _copy_back(spare, image, y, x, window):
    """Copy what of a window lies within an image (H, W, C) there."""
    height, width, channels = image.shape
    for i in range(min(window, height - y)):
        for j in range(min(window, width - x)):
            for c in range(channels):
                image[y + i, x + j, c] = spare[(i * window + j) * channels + c]


@cache
def reading(role: int, filtering: Filtering) -> Any:
    """The loop that transforms tiles of an image: an INPUT, or the GRADIENT of outputs.

    It takes (image, tiles, gap, first, last, rows, columns, top, left, spare): tiles ``first`` to ``last`` of the image
    (B, H, W, C), ``rows`` x ``columns`` in each of its B, into the array ``tiles`` from its beginning. The first window
    begins ``top`` and ``left`` pixels outside, where all is 0. ``spare`` has room for a window.
    """
    m, r, side = filtering.outputs, filtering.filter_size, filtering.side
    window = side if role == INPUT else m

    def loop(image, tiles, gap, first, last, rows, columns, top, left, spare):  # noqa: PLR0913
        _, height, width, channels = image.shape
        for tile in range(first, last):
            which, y, x = tile // (rows * columns), tile // columns % rows * m - top, tile % columns * m - left
            if y >= 0 and x >= 0 and y + window <= height and x + window <= width:
                place = image.ctypes.data + BYTES * ((which * height + y) * width + x) * channels
                row = BYTES * width * channels
            else:
                place, row = spare.ctypes.data, BYTES * window * channels
                _copy_window(image[which], y, x, window, spare)
            into = tiles.ctypes.data + BYTES * (tile - first) * channels
            _transform(role, m, r, place, row, BYTES * channels, into, BYTES * side * gap, BYTES * gap, channels, 0)

    return Compiled(loop)


@cache
def writing(filtering: Filtering) -> Any:
    """The loop that transforms tiles back into an image, its outputs (B, H, W, K).

    It takes (image, tiles, gap, first, last, rows, columns, spare, check): see ``reading`` and ``_transform``.
    """
    m, r, side = filtering.outputs, filtering.filter_size, filtering.side

    def loop(image, tiles, gap, first, last, rows, columns, spare, check):  # noqa: PLR0913
        _, height, width, channels = image.shape
        down, across, seen = BYTES * side * gap, BYTES * gap, check.ctypes.data
        for tile in range(first, last):
            which, y, x = tile // (rows * columns), tile // columns % rows * m, tile % columns * m
            source = tiles.ctypes.data + BYTES * (tile - first) * channels
            place = image.ctypes.data + BYTES * ((which * height + y) * width + x) * channels
            inside = y + m <= height and x + m <= width
            row = BYTES * (width if inside else m) * channels
            place = place if inside else spare.ctypes.data
            _transform(OUTPUT, m, r, source, down, across, place, row, BYTES * channels, channels, seen)
            if not inside:
                _copy_back(spare, image[which], y, x, m)

    return Compiled(loop)


@cache
def filters_loop(role: int, filtering: Filtering) -> Any:
    """The loop over filters (K, r, r, C): a FILTER into the points' basis, or a FILTER_GRADIENT back from there.

    It takes (filters, transformed, gap, turned); ``turned`` filters are read after half a turn.
    """
    m, r, side = filtering.outputs, filtering.filter_size, filtering.side

    def loop(filters, transformed, gap, turned):
        count, _, _, channels = filters.shape
        row, column, down, across = BYTES * r * channels, BYTES * channels, BYTES * side * gap, BYTES * gap
        for k in range(count):
            place = filters.ctypes.data + r * row * k
            other = transformed.ctypes.data + BYTES * k * channels
            if role == FILTER_GRADIENT:
                _transform(role, m, r, other, down, across, place, row, column, channels, 0)
            elif turned:
                last = place + (r - 1) * (row + column)
                _transform(role, m, r, last, -row, -column, other, down, across, channels, 0)
            else:
                _transform(role, m, r, place, row, column, other, down, across, channels, 0)

    return Compiled(loop)
