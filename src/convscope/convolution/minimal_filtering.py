"""The arithmetic of minimal filtering: m outputs of a filter of r taps from m + r - 1 products instead of m r.

After Winograd 1980 (https://doi.org/10.1137/1.9781611970364) and Lavin and Gray 2016 (arXiv:1509.09308): polynomials
are evaluated at points, multiplied there, and interpolated. Y = A^T [(G g G^T) * (B^T d B)] A for a tile d, a filter g
and outputs Y, the product taken number by number. All three maps are exact here, as fractions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np

Matrix = tuple[tuple[Fraction, ...], ...]

# Small numbers that float32 multiplies by without rounding; each behind its negative shares half of its sums with it.
POINTS = (Fraction(0), *(sign * point for point in (Fraction(1), Fraction(2), Fraction(1, 2)) for sign in (1, -1)))


@dataclass(frozen=True)
class Filtering:
    """F(m x m, r x r): tiles of ``outputs`` m a side under filters of ``filter_size`` r a side, both 1 or more."""

    outputs: int
    filter_size: int

    def __str__(self) -> str:
        m, r = self.outputs, self.filter_size
        return f"F({m}x{m},{r}x{r})"

    @property
    def side(self) -> int:
        """Pixels of a tile's side, m + r - 1; a pair of channels costs the square of it in products."""
        return self.outputs + self.filter_size - 1

    @property
    def positions(self) -> int:
        """Products a tile and pair of channels."""
        return self.side**2

    @cached_property
    def input_map(self) -> Matrix:
        """B^T (side, side): the tile in the points' basis."""
        points = POINTS[: self.side - 1]
        rows = [_product([points[j] for j in range(len(points)) if j != i]) for i in range(len(points))]
        return tuple(tuple(_padded(row, self.side)) for row in [*rows, _product(points)])

    @cached_property
    def filter_map(self) -> Matrix:
        """G (side, r): a filter evaluated at the points, over what interpolation divides by."""
        points = POINTS[: self.side - 1]
        scales = [_value(_product([q for q in points if q != p]), p) for p in points]
        rows = [
            [p**power / scale for power in range(self.filter_size)] for p, scale in zip(points, scales, strict=True)
        ]
        return tuple(tuple(row) for row in [*rows, _last(self.filter_size)])

    @cached_property
    def output_map(self) -> Matrix:
        """A^T (m, side): the outputs from their values at the points."""
        points = POINTS[: self.side - 1]
        rows = [[p**power for power in range(self.outputs)] for p in points]
        return transposed([*rows, _last(self.outputs)])

    def tiles(self, size: int) -> int:
        """Tiles that cover ``size`` outputs in a row."""
        return -(-size // self.outputs)

    def products(self, height: int, width: int) -> float:
        """Products of a pair of channels for each of height x width outputs; a direct convolution takes r x r."""
        return self.tiles(height) * self.tiles(width) * self.positions / (height * width)


def transposed(matrix: Sequence[Sequence[Fraction]]) -> Matrix:
    """Exchange rows and columns."""
    return tuple(zip(*matrix, strict=True))


def as_array(matrix: Matrix) -> np.ndarray:
    """The matrix in float64."""
    return np.array([[float(value) for value in row] for row in matrix])


def _product(points: Sequence[Fraction]) -> list[Fraction]:
    """Coefficients, the constant first, of the product of all (x - point)."""
    found = [Fraction(1)]
    for point in points:
        found = [a - point * b for a, b in zip([Fraction(0), *found], [*found, Fraction(0)], strict=True)]
    return found


def _value(coefficients: Sequence[Fraction], at: Fraction) -> Fraction:
    return sum((c * at**power for power, c in enumerate(coefficients)), Fraction(0))


def _padded(row: list[Fraction], size: int) -> list[Fraction]:
    return row + [Fraction(0)] * (size - len(row))


def _last(size: int) -> list[Fraction]:
    """The point at infinity: the leading coefficient."""
    return [Fraction(0)] * (size - 1) + [Fraction(1)]
