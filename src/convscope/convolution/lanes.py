"""Arithmetic on many numbers at once, emitted as LLVM vectors: what a compiler would have to prove, it is told.

A formula is a Python function of a ``Run`` of neighbouring float32 numbers: it is called while a loop is compiled, and
what it says is done at each run. Products and sums are only contracted where it says so, so that a number comes out
the same wherever it stands.

Importing this file imports Numba, and raises ImportError where that is missing.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import llvmlite.binding as llvm
import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

BYTES = 4  # of a float32
WIDTH = 16  # floats of the widest vector

Value = Any  # of llvmlite, which declares no types
config: Any = numba.config


def vector_width() -> int:
    """Floats in a register of the processor that is compiled for; of AVX2 or less, those of AVX2."""
    wide = config.CPU_NAME is None and llvm.get_host_cpu_features().get("avx512f")
    return WIDTH if wide else WIDTH // 2


@cache
def has_fma() -> bool:
    """Tell whether the processor that is compiled for multiplies and adds in one instruction."""
    features = llvm.get_host_cpu_features()
    return bool(features.get("fma") or features.get("neon"))


@dataclass(frozen=True)
class Lanes:
    """Neighbouring numbers in a register, with the arithmetic that formulas need. Numbers in it are float32."""

    builder: Value
    value: Value

    def _of(self, other: Lanes | float) -> Value:
        kind = self.value.type
        return other.value if isinstance(other, Lanes) else ir.Constant(kind, [other] * kind.count)

    def _made(self, value: Value) -> Lanes:
        return Lanes(self.builder, value)

    def __add__(self, other: Lanes | float) -> Lanes:
        return self._made(self.builder.fadd(self.value, self._of(other)))

    def __sub__(self, other: Lanes | float) -> Lanes:
        return self._made(self.builder.fsub(self.value, self._of(other)))

    def __rsub__(self, other: float) -> Lanes:
        return self._made(self.builder.fsub(self._of(other), self.value))

    def __mul__(self, other: Lanes | float) -> Lanes:
        return self._made(self.builder.fmul(self.value, self._of(other)))

    def fma(self, factor: Lanes | float, more: Lanes | float) -> Lanes:
        """This times a factor, and more, rounded once; twice where the processor cannot."""
        if not has_fma():
            return self * factor + more
        kind = self.value.type
        function = ir.FunctionType(kind, [kind] * 3)  # llvmlite's own has no vectors
        named = cgutils.get_or_insert_function(self.builder.module, function, f"llvm.fma.v{kind.count}f32")
        return self._made(self.builder.call(named, [self.value, self._of(factor), self._of(more)]))

    def __truediv__(self, other: Lanes) -> Lanes:
        return self._made(self.builder.fdiv(self.value, other.value))

    def __rtruediv__(self, other: float) -> Lanes:
        return self._made(self.builder.fdiv(self._of(other), self.value))

    def __neg__(self) -> Lanes:
        return self._made(self.builder.fneg(self.value))

    def __lt__(self, other: Lanes | float) -> Lanes:
        return self._made(self.builder.fcmp_ordered("<", self.value, self._of(other)))

    def __le__(self, other: Lanes | float) -> Lanes:
        return self._made(self.builder.fcmp_ordered("<=", self.value, self._of(other)))

    def __and__(self, other: Lanes) -> Lanes:
        return self._made(self.builder.and_(self.value, other.value))

    def __or__(self, other: Lanes) -> Lanes:
        return self._made(self.builder.or_(self.value, other.value))

    def is_nan(self) -> Lanes:
        """Where this is no number."""
        return self._made(self.builder.fcmp_unordered("uno", self.value, self.value))

    def beats(self, other: Lanes) -> Lanes:
        """Where this is larger, or no number."""
        return (other < self) | self.is_nan()

    def equals(self, number: int) -> Lanes:
        """Where these whole numbers are this one."""
        return self._made(self.builder.icmp_signed("==", self.value, self._of(number)))

    def chosen(self, yes: Lanes | float, no: Lanes | float) -> Lanes:
        """``yes`` where this holds, else ``no``; one of them is of lanes."""
        lanes = yes if isinstance(yes, Lanes) else no
        assert isinstance(lanes, Lanes)
        return self._made(self.builder.select(self.value, lanes._of(yes), lanes._of(no)))

    def all(self, number: float) -> Lanes:
        """As many lanes of one number."""
        return self._made(self._of(number))

    def exp(self) -> Lanes:
        """e to the power of each, within 2 units of the last place from -87 to 88; beyond, nearly 0 and that of 88."""
        held = (self < -MOST).chosen(-MOST, self)
        held = (-held < -MOST).chosen(MOST, held)
        shifted = held.fma(LOG2_E, ROUND)
        n = shifted - ROUND
        r = n.fma(-LN_2_LOW, n.fma(-LN_2_HIGH, held))
        p = r.fma(SERIES[0], SERIES[1])
        for factor in SERIES[2:]:
            p = p.fma(r, factor)
        p = p.fma(r * r, r) + 1.0
        whole = ir.VectorType(ir.IntType(32), self.value.type.count)
        bits = self.builder.bitcast(shifted.value, whole)
        bits = self.builder.add(bits, ir.Constant(whole, [127] * whole.count))
        bits = self.builder.shl(bits, ir.Constant(whole, [23] * whole.count))
        return p * self._made(self.builder.bitcast(bits, self.value.type))


LOG2_E = 1.4426950216293335
LN_2_HIGH, LN_2_LOW = 0.693359375, -2.1219444170128554e-4  # whose sum is the logarithm of 2
ROUND = 12582912.0  # 1.5 * 2**23: added, it leaves a float's whole part in its last bits
MOST = 88.0  # e to more is infinite in float32
SERIES = (  # of exp(r) - 1 - r over r**2, from 0.5 log 2 below 0 to as much above; the coefficients of Cephes' expf
    *(1.9875691214110702e-4, 1.398199936375022e-3, 8.333452045917511e-3),
    *(4.1665796935558319e-2, 1.6666665673255920e-1, 5.0000001192092896e-1),
)


@dataclass(frozen=True)
class Run:
    """A run of numbers that a formula works on: what lies there at each of the addresses it was given."""

    builder: Value
    offset: Value  # numbers before this run
    width: int
    places: list[Value]

    def _pointer(self, place: int, kind: Value, size: int) -> Value:
        start = self.builder.add(self.places[place], self.builder.mul(self.offset, self.offset.type(size)))
        return self.builder.inttoptr(start, ir.VectorType(kind, self.width).as_pointer())

    def load(self, place: int) -> Lanes:
        """The float32 numbers at an address."""
        return Lanes(self.builder, self.builder.load(self._pointer(place, ir.FloatType(), BYTES), align=BYTES))

    def load_bytes(self, place: int) -> Lanes:
        """The uint8 numbers at an address."""
        return Lanes(self.builder, self.builder.load(self._pointer(place, ir.IntType(8), 1), align=1))

    def all(self, number: int) -> Lanes:
        """A run of one uint8 number."""
        return Lanes(self.builder, ir.Constant(ir.VectorType(ir.IntType(8), self.width), [number] * self.width))

    def store(self, place: int, lanes: Lanes) -> None:
        """Put numbers, float32 or uint8 as they are, at an address."""
        kind = lanes.value.type.element
        size = BYTES if isinstance(kind, ir.FloatType) else 1
        self.builder.store(lanes.value, self._pointer(place, kind, size), align=size)


FORMULAS: dict[int, Callable[[Run], None]] = {}  # by the numbers that compiled code, which is kept, knows them by


def number_of(name: str, formula: Callable[[Run], None]) -> int:
    """The number that ``each`` knows a formula by: a function of its name, in whatever order files are imported."""
    number = zlib.crc32(name.encode())
    assert number not in FORMULAS, name
    FORMULAS[number] = formula
    return number


def _typed(context, number, count, places):
    """Do a formula, by its number in FORMULAS, on ``count`` numbers at each of some addresses."""
    if not isinstance(number, types.IntegerLiteral):
        return None  # Numba asks again, with what is known when it compiles

    def emit(context: Any, builder: Value, _: Any, arguments: Value) -> Value:
        _, count, packed = arguments
        addresses = [builder.extract_value(packed, i) for i in range(len(places))]
        formula, width = FORMULAS[number.literal_value], vector_width()
        whole = builder.sub(count, builder.srem(count, count.type(width)))
        for size, first, last in ((width, count.type(0), whole), (1, whole, count)):
            with cgutils.for_range_slice(builder, first, last, count.type(size)) as (offset, _count):
                formula(Run(builder, offset, size, addresses))
        return context.get_dummy_value()

    return types.void(number, types.intp, types.UniTuple(types.intp, len(places))), emit


each: Any = intrinsic(_typed)
