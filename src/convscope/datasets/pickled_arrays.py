"""What stands in a pickle for NumPy's arrays: their bytes, type and shape as the file says, each looked at first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

MAX_WORD = 300  # bytes of a number in digits, of the name of a module, or of a whole number


class PickleRefused(ValueError):
    """A pickle that is damaged, or that holds more than arrays and plain values."""


class Dtype:
    """A type of whole numbers, by its code and byte order."""

    def __init__(self, code: bytes | str) -> None:
        self.code, self.order = _text(code), "|"

    def restore(self, state: Any) -> None:
        """Take the byte order from what a dtype pickles as its state."""
        self.order = _text(state[1])

    def numpy(self) -> np.dtype:
        """Return it as NumPy's own; whatever is no plain whole number is refused."""
        if self.code not in ("u1", "i1", "i2", "i4", "i8") or self.order not in ("<", ">", "|", "="):
            raise PickleRefused("it holds an array that is not of bytes or whole numbers")
        return np.dtype(self.order + self.code)


class Array:
    """An array: NumPy's own way of restoring one trusts what the file says of sizes and types."""

    values: np.ndarray

    def restore(self, state: Any) -> None:
        """Take the values from what an array pickles as its state."""
        _, shape, dtype, fortran, raw = state
        self.view(raw, dtype, shape, "F" if fortran else "C")

    def view(self, raw: Any, dtype: Any, shape: Any, order: str) -> None:
        """Show these bytes as the array that the file describes; nothing is copied."""
        if not isinstance(dtype, Dtype):
            raise PickleRefused("it holds an array that is not of bytes or whole numbers")
        kind = dtype.numpy()
        if type(shape) is not tuple or len(shape) > 4 or not all(type(side) is int and side >= 0 for side in shape):
            raise PickleRefused("it holds an array of no sensible size")
        if type(raw) not in (bytes, bytearray) or len(raw) != kind.itemsize * _product(shape):
            raise PickleRefused("it holds an array that says another size than it has")
        self.values = np.frombuffer(raw, kind).reshape(shape, order="F" if order == "F" else "C")


def _product(sides: tuple[int, ...]) -> int:
    product = 1
    for side in sides:
        product *= side
    return product


def _text(value: Any) -> str:
    if type(value) not in (bytes, str) or len(value) > MAX_WORD:
        raise PickleRefused("it holds an array that is not of bytes or whole numbers")
    return value.decode("ascii") if isinstance(value, bytes) else value


class Spent(Protocol):
    """How many bytes a file has, and how many it has already asked to be made of its texts."""

    data: bytes
    encoded: int


class Call:
    """Something that a pickle may call, with what it has spent and the arguments."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function


def _array(spent: Spent, *_: Any) -> Array:
    return Array()


def _array_of_buffer(spent: Spent, raw: Any, dtype: Any, shape: Any, order: str, *more: Any) -> Array:
    if more not in ((), (None,)):
        raise PickleRefused("it holds an array whose axes are in another order")
    array = Array()
    array.view(raw, dtype, shape, order)
    return array


def _dtype(spent: Spent, code: Any, *_: Any) -> Dtype:
    return Dtype(code)


def _encode(spent: Spent, text: Any, encoding: Any) -> bytes:
    """Return text as bytes, as Python 3 writes them for Python 2; all of them together are no more than the file."""
    if type(text) is not str or encoding != "latin1":
        raise PickleRefused("it asks for an encoding that no array needs")
    spent.encoded += len(text)
    if spent.encoded > len(spent.data):
        raise PickleRefused("it asks for more bytes than it holds")
    return text.encode("latin1")


_CALLS = {
    **{(f"numpy.{core}.multiarray", "_reconstruct"): Call(_array) for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): Call(_array_of_buffer) for core in ("core", "_core")},
    ("numpy", "ndarray"): Array,
    ("numpy", "dtype"): Call(_dtype),
    ("_codecs", "encode"): Call(_encode),
}


def found(module: Any, name: Any) -> Any:
    """Return what a pickle means by a name in a module; all but the few names that arrays need are refused."""
    if type(module) is not str or type(name) is not str or len(module) + len(name) > MAX_WORD:
        raise PickleRefused("it asks for something without a proper name")
    try:
        return _CALLS[module, name]
    except KeyError:
        raise PickleRefused(f"it asks for {module}.{name}, which no array needs") from None
