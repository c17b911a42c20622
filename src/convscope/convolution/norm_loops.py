"""Compiled loops of a batch norm with the activation behind it and the 2x2 max pool on either side of it.

Each goes over memory once. Arrays are float32 with the channels last: x is what the norm is given, y what it makes of
it, x * alpha + beta, z what the activation makes of y; dz, dx are the loss's gradients there. Every loop takes the
first and the last row it is for, or block of rows. The arithmetic of a number is the same, to the bit, in every loop.

Importing this file imports Numba, and raises ImportError where that is missing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

from .compiled import Compiled
from .lanes import BYTES, Lanes, Run, each, number_of

NONE, RELU, SILU = range(3)  # activations


def _activated(activation: int, y: Lanes) -> Lanes:
    if activation == RELU:
        return (y < 0.0).chosen(0.0, y)
    if activation == SILU:
        return y / ((-y).exp() + 1.0)
    return y


def _through(activation: int, y: Lanes, dz: Lanes) -> Lanes:
    """The gradient at y from that at z."""
    if activation == RELU:
        return (y <= 0.0).chosen(0.0, dz)
    if activation == SILU:
        share = 1.0 / ((-y).exp() + 1.0)
        return dz * (share * (y * (1.0 - share) + 1.0))
    return dz


def _numbers(formula: Callable[..., None]) -> list[int]:
    """The numbers of a formula for each activation."""
    return [number_of(f"{formula.__name__} {kind}", partial(formula, kind)) for kind in (NONE, RELU, SILU)]


# ------------------------------------------------------------------------------- rows (N, W) of numbers, by columns


def _add(run: Run) -> None:
    """x, sum: add."""
    run.store(1, run.load(1) + run.load(0))


def _add_square(run: Run) -> None:
    """x, mean, sum: add the squared deviation."""
    apart = run.load(0) - run.load(1)
    run.store(2, apart.fma(apart, run.load(2)))


def _forward(activation: int, run: Run) -> None:
    """x, z, alpha, beta."""
    run.store(1, _activated(activation, run.load(0).fma(run.load(2), run.load(3))))


def _add_gradient(activation: int, run: Run) -> None:
    """dz, x, dy, alpha, beta, mean, sum of dy, sum of dy * (x - mean). A dy that costs an exponential is kept."""
    alpha, beta, mean, total, with_x = (run.load(place) for place in range(3, 8))
    x = run.load(1)
    dy = _through(activation, x.fma(alpha, beta), run.load(0))
    run.store(6, total + dy)
    run.store(7, dy.fma(x - mean, with_x))
    if activation == SILU:
        run.store(2, dy)


def _backward(activation: int, run: Run) -> None:
    """dz, x, dx, alpha, beta, mean, spread, shift."""
    line = [run.load(place) for place in range(3, 8)]
    run.store(2, _gradient(activation, run.load(0), run.load(1), line))


def _gradient(activation: int, dz: Lanes, x: Lanes, line: list[Lanes]) -> Lanes:
    """dx."""
    alpha, beta, mean, spread, shift = line
    dy = _through(activation, x.fma(alpha, beta), dz)
    return dy.fma(alpha, (x - mean).fma(spread, shift))


ADD, ADD_SQUARE = number_of("add", _add), number_of("add_square", _add_square)
FORWARD, ADD_GRADIENT, BACKWARD = _numbers(_forward), _numbers(_add_gradient), _numbers(_backward)


@cache
def moments() -> Any:
    """(x, rows, sums, first, last): of blocks of so many rows, by their numbers, the mean of each column,
    sums[block, 0], and its sum of squared deviations, sums[block, 1]."""

    def loop(x, rows, sums, first, last):
        width, step = x.shape[1], BYTES * x.shape[1]
        for block in range(first, last):
            begin, end = block * rows, min(block * rows + rows, len(x))
            mean = sums.ctypes.data + 2 * block * step
            sums[block] = 0
            for i in range(begin, end):
                each(ADD, width, (x.ctypes.data + i * step, mean))
            for c in range(width):
                sums[block, 0, c] /= end - begin
            for i in range(begin, end):
                each(ADD_SQUARE, width, (x.ctypes.data + i * step, mean, mean + step))

    return Compiled(loop)


@cache
def forward(activation: int) -> Any:
    """(x, line, z, first, last): z. The rows of ``line`` are alpha and beta."""
    formula = FORWARD[activation]

    def loop(x, line, z, first, last):
        width, step, a = x.shape[1], BYTES * x.shape[1], line.ctypes.data
        for i in range(first, last):
            each(formula, width, (x.ctypes.data + i * step, z.ctypes.data + i * step, a, a + step))

    return Compiled(loop)


@cache
def sums_of_gradients(activation: int) -> Any:
    """(dz, x, dy, line, rows, sums, first, last): of each column the sum of dy, and of dy times x - mean, of blocks.

    The rows of ``line`` are alpha, beta and mean. Of a SILU dy is kept too.
    """
    formula = ADD_GRADIENT[activation]

    def loop(dz, x, dy, line, rows, sums, first, last):  # noqa: PLR0913
        width, step, a = x.shape[1], BYTES * x.shape[1], line.ctypes.data
        for block in range(first, last):
            s = sums.ctypes.data + 2 * block * step
            sums[block] = 0
            for i in range(block * rows, min(block * rows + rows, len(x))):
                at = i * step
                given = (dz.ctypes.data + at, x.ctypes.data + at, dy.ctypes.data + at)
                each(formula, width, (*given, a, a + step, a + 2 * step, s, s + step))

    return Compiled(loop)


@cache
def backward(activation: int) -> Any:
    """(dz, x, line, dx, first, last): dx = dy * alpha + (x - mean) * spread + shift.

    The rows of ``line`` are alpha, beta, mean, spread and shift.
    """
    formula = BACKWARD[activation]

    def loop(dz, x, line, dx, first, last):  # noqa: PLR0913
        width, step, a = x.shape[1], BYTES * x.shape[1], line.ctypes.data
        ends = (a, a + step, a + 2 * step, a + 3 * step, a + 4 * step)
        for i in range(first, last):
            at = i * step
            each(formula, width, (dz.ctypes.data + at, x.ctypes.data + at, dx.ctypes.data + at, *ends))

    return Compiled(loop)


# --------------------------------------------------------- maps (B, H, W, C), whose rows are B times half their height


def _highest(run: Run, values: list[Lanes], of: list[Lanes]) -> tuple[Lanes, Lanes, Lanes]:
    """The highest of four, the number beside it, and which it is: the first of equal ones; NaN is higher than all."""
    best, beside, which = values[0], of[0], run.all(0)
    for number in (1, 2, 3):
        more = values[number].beats(best)
        best = more.chosen(values[number], best)
        beside = more.chosen(of[number], beside)
        which = more.chosen(run.all(number), which)
    return best, beside, which


def _pool(run: Run) -> None:
    """Four x, pooled, which."""
    values = [run.load(place) for place in range(4)]
    best, _, which = _highest(run, values, values)
    run.store(4, best)
    run.store(5, which)


def _forward_pooled(activation: int, run: Run) -> None:
    """Four x, alpha, beta, pooled, chosen, which."""
    values = [run.load(place) for place in range(4)]
    alpha, beta = run.load(4), run.load(5)
    best, chosen, which = _highest(run, [_activated(activation, x.fma(alpha, beta)) for x in values], values)
    run.store(6, best)
    run.store(7, chosen)
    run.store(8, which)


def _backward_pooled(activation: int, run: Run) -> None:
    """dz, chosen, alpha, beta, mean, spread, shift, which, four x, four dx."""
    alpha, beta, mean, spread, shift = (run.load(place) for place in range(2, 7))
    dy, which = _through(activation, run.load(1).fma(alpha, beta), run.load(0)), run.load_bytes(7)
    for number in range(4):
        mine = which.equals(number).chosen(dy, 0.0)
        run.store(12 + number, mine.fma(alpha, (run.load(8 + number) - mean).fma(spread, shift)))


def _backward_of_pooled(activation: int, run: Run) -> None:
    """dz, x, alpha, beta, mean, spread, shift, which, four dx."""
    line = [run.load(place) for place in range(2, 7)]
    dx, which = _gradient(activation, run.load(0), run.load(1), line), run.load_bytes(7)
    for number in range(4):
        run.store(8 + number, which.equals(number).chosen(dx, 0.0))


POOL, FORWARD_POOLED = number_of("pool", _pool), _numbers(_forward_pooled)
BACKWARD_POOLED, BACKWARD_OF_POOLED = _numbers(_backward_pooled), _numbers(_backward_of_pooled)


@cache
def pool() -> Any:
    """(x, pooled, which, first, last): the highest number of each 2x2 square, and which of the four it was."""

    def loop(x, pooled, which, first, last):
        height, width, channels = pooled.shape[1:]
        run = BYTES * channels
        below = run * x.shape[2]
        for row in range(first, last):
            here = x.ctypes.data + (row // height * x.shape[1] + row % height * 2) * below
            for j in range(width):
                place, at = here + 2 * j * run, (row * width + j) * channels
                four = (place, place + run, place + below, place + below + run)
                each(POOL, channels, (*four, pooled.ctypes.data + BYTES * at, which.ctypes.data + at))

    return Compiled(loop)


@cache
def forward_pooled(activation: int) -> Any:
    """(x, line, pooled, chosen, which, first, last): pooled z, and the x that each is of; see ``forward``."""
    formula = FORWARD_POOLED[activation]

    def loop(x, line, pooled, chosen, which, first, last):  # noqa: PLR0913
        height, width, channels = pooled.shape[1:]
        a, run = line.ctypes.data, BYTES * channels
        below = run * x.shape[2]
        for row in range(first, last):
            here = x.ctypes.data + (row // height * x.shape[1] + row % height * 2) * below
            for j in range(width):
                place, at = here + 2 * j * run, (row * width + j) * channels
                four = (place, place + run, place + below, place + below + run)
                made = (pooled.ctypes.data + BYTES * at, chosen.ctypes.data + BYTES * at, which.ctypes.data + at)
                each(formula, channels, (*four, a, a + run, *made))

    return Compiled(loop)


@cache
def backward_pooled(activation: int) -> Any:
    """As ``backward``, of maps that were pooled after it: dz is of the pooled z, ``chosen`` the x they are of."""
    formula = BACKWARD_POOLED[activation]

    def loop(dz, x, chosen, which, line, dx, first, last):  # noqa: PLR0913
        height, width, channels = dz.shape[1:]
        a, run = line.ctypes.data, BYTES * channels
        lines, below = (a, a + run, a + 2 * run, a + 3 * run, a + 4 * run), run * x.shape[2]
        for row in range(first, last):
            start = (row // height * x.shape[1] + row % height * 2) * below
            for j in range(width):
                at, place = (row * width + j) * channels, start + 2 * j * run
                given = (dz.ctypes.data + BYTES * at, chosen.ctypes.data + BYTES * at)
                here, into = x.ctypes.data + place, dx.ctypes.data + place
                four = (here, here + run, here + below, here + below + run)
                others = (into, into + run, into + below, into + below + run)
                each(formula, channels, (*given, *lines, which.ctypes.data + at, *four, *others))

    return Compiled(loop)


@cache
def backward_of_pooled(activation: int) -> Any:
    """As ``backward``, of maps that were pooled before it: x is what the pool gave, dx the gradient before the pool."""
    formula = BACKWARD_OF_POOLED[activation]

    def loop(dz, x, which, line, dx, first, last):  # noqa: PLR0913
        height, width, channels = dz.shape[1:]
        a, run = line.ctypes.data, BYTES * channels
        lines, below = (a, a + run, a + 2 * run, a + 3 * run, a + 4 * run), run * dx.shape[2]
        for row in range(first, last):
            start = dx.ctypes.data + (row // height * dx.shape[1] + row % height * 2) * below
            for j in range(width):
                at, into = (row * width + j) * channels, start + 2 * j * run
                given = (dz.ctypes.data + BYTES * at, x.ctypes.data + BYTES * at)
                four = (into, into + run, into + below, into + below + run)
                each(formula, channels, (*given, *lines, which.ctypes.data + at, *four))

    return Compiled(loop)
