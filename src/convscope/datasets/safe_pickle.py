"""Pickles of plain values and arrays of whole numbers, read by a small machine that knows these and nothing else.

Nothing in a file is run, and no step costs more than the bytes it stands for: a step makes at most one small object or
a copy of bytes of the file, a name in the memo is a key and no place in a table, what a table's key can be has a hash
of its own, and there are at most `MAX_STEPS` steps. Lists in one another are made as the file says and never walked.
"""

from __future__ import annotations

import codecs
import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from .pickled_arrays import MAX_WORD, Array, Call, Dtype, PickleRefused, found

MAX_STEPS = 500_000  # a file of 10,000 images takes 15,000 to 110,000, by its protocol
MAX_WIDE = 1 << 20  # bytes of text beyond Latin-1 in a file: Python keeps four bytes for each of its characters


def load(data: bytes) -> Any:
    """Return the value of a pickle: plain values, with an `Array` for each NumPy array; byte strings of Python 2 are
    bytes. Raises PickleRefused."""
    machine = _Machine(data)
    try:
        return machine.run()
    except PickleRefused:
        raise
    except (IndexError, KeyError, TypeError, ValueError, struct.error, Warning) as error:
        raise PickleRefused(f"it is damaged at byte {machine.at}") from error


class _Machine:
    """The stack, the marks in it, the memo, and where in the data it stands."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at, self.encoded, self.wide = data, 0, 0, 0
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        """Obey each opcode up to the stop, and return the value on the stack."""
        data, steps = self.data, _STEPS
        for _ in range(MAX_STEPS):
            code = data[self.at]
            self.at += 1
            if code == 0x2E:  # stop
                return self.stack.pop()
            step = steps.get(code)
            if step is None:
                raise PickleRefused(f"it holds the opcode {code:#04x}, which no array needs")
            step(self)
        raise PickleRefused(f"it takes more than {MAX_STEPS:,} steps")

    def take(self, count: int) -> bytes:
        """Return the next bytes."""
        end = self.at + count
        if count < 0 or end > len(self.data):
            raise PickleRefused("it ends too early")
        taken = self.data[self.at : end]
        self.at = end
        return taken

    def number(self, size: int) -> int:
        """Return the next bytes as a number without a sign."""
        return int.from_bytes(self.take(size), "little")

    def line(self, longest: int = MAX_WORD) -> bytes:
        """Return the bytes up to the end of the line."""
        end = self.data.find(b"\n", self.at, self.at + longest + 1)
        if end < 0:
            raise PickleRefused("it ends too early, or holds a line that is too long")
        taken = self.data[self.at : end]
        self.at = end + 1
        return taken

    def marked(self) -> list[Any]:
        """Take what lies above the last mark off the stack."""
        start = self.marks.pop()
        taken = self.stack[start:]
        del self.stack[start:]
        return taken

    def spend_wide(self, size: int) -> None:
        """Count text beyond Latin-1, of which there may be little."""
        self.wide += size
        if self.wide > MAX_WIDE:
            raise PickleRefused("it holds long texts, which no array needs")

    def fill(self, table: Any, items: list[Any]) -> None:
        """Put keys and values, in turn, into a table."""
        if type(table) is not dict or len(items) % 2 or not all(type(key) in (bytes, str) for key in items[::2]):
            raise PickleRefused("it holds a table with keys that are no names")
        table.update(zip(items[::2], items[1::2], strict=True))


def _bytes_of(size: int, kind: Callable[[bytes], Any] = bytes) -> Callable[[_Machine], None]:
    return lambda m: m.stack.append(kind(m.take(m.number(size))))


def _utf8_of(size: int) -> Callable[[_Machine], None]:
    def step(m: _Machine) -> None:
        raw = m.take(m.number(size))
        if not raw.isascii() and np.frombuffer(raw, np.uint8).max() > 0xC3:  # what begins a character beyond Latin-1
            m.spend_wide(len(raw))
        m.stack.append(str(raw, "utf-8", "surrogatepass"))

    return step


def _whole_of(size: int) -> Callable[[_Machine], None]:
    return lambda m: m.stack.append(int.from_bytes(m.take(size), "little"))


def _last(count: int) -> Callable[[_Machine], None]:
    """Make a tuple of as many values."""

    def step(m: _Machine) -> None:
        if len(m.stack) < count:
            raise PickleRefused("it ends too early")
        m.stack[-count:] = [tuple(m.stack[-count:])]

    return step


def _signed(m: _Machine, size: int) -> None:
    if size > MAX_WORD:
        raise PickleRefused("it holds a number of more digits than any label")
    m.stack.append(int.from_bytes(m.take(size), "little", signed=True))


def _int_line(m: _Machine) -> None:
    word = m.line()
    m.stack.append(word == b"01" if word in (b"00", b"01") else int(word))


def _string_line(m: _Machine) -> None:
    word = m.line(len(m.data)).strip()
    if len(word) < 2 or word[:1] != word[-1:] or word[:1] not in (b"'", b'"'):
        raise PickleRefused("it holds a text without quotes")
    m.stack.append(codecs.escape_decode(word[1:-1])[0])


def _escaped_line(m: _Machine) -> None:
    raw = m.line(len(m.data))
    if b"\\U" in raw or raw.count(b"\\u") > raw.count(b"\\u00"):
        m.spend_wide(len(raw))
    m.stack.append(str(raw, "raw-unicode-escape"))


def _append(m: _Machine, items: list[Any]) -> None:
    if type(m.stack[-1]) is not list:
        raise PickleRefused("it appends to what is no list")
    m.stack[-1].extend(items)


def _dict(m: _Machine) -> None:
    table: dict[bytes | str, Any] = {}
    m.fill(table, m.marked())
    m.stack.append(table)


def _set_item(m: _Machine) -> None:
    value, key = m.stack.pop(), m.stack.pop()
    m.fill(m.stack[-1], [key, value])


def _set_items(m: _Machine) -> None:
    items = m.marked()
    m.fill(m.stack[-1], items)


def _global(m: _Machine) -> None:
    m.stack.append(found(m.line().decode("utf-8"), m.line().decode("utf-8")))


def _stack_global(m: _Machine) -> None:
    name, module = m.stack.pop(), m.stack.pop()
    m.stack.append(found(module, name))


def _instance(m: _Machine) -> None:
    found(m.line().decode("utf-8"), m.line().decode("utf-8"))
    raise PickleRefused("it makes an array as none is made")


def _reduce(m: _Machine) -> None:
    arguments, call = m.stack.pop(), m.stack.pop()
    if type(call) is not Call or type(arguments) is not tuple or len(arguments) > 5:
        raise PickleRefused("it calls what cannot be called")
    m.stack.append(call.function(m, *arguments))


def _build(m: _Machine) -> None:
    state = m.stack.pop()
    if type(m.stack[-1]) not in (Array, Dtype) or type(state) is not tuple:
        raise PickleRefused("it restores what is no array")
    m.stack[-1].restore(state)


def _remember(m: _Machine, name: int) -> None:
    m.memo[name] = m.stack[-1]


_STEPS: dict[int, Callable[[_Machine], None]] = {
    ord(code): step
    for code, step in {
        "\x80": lambda m: m.take(1),  # the protocol
        "\x95": lambda m: m.take(8),  # a frame; what it holds follows
        "(": lambda m: m.marks.append(len(m.stack)),
        "N": lambda m: m.stack.append(None),
        "\x88": lambda m: m.stack.append(True),
        "\x89": lambda m: m.stack.append(False),
        "I": _int_line,
        "L": lambda m: m.stack.append(int(m.line().rstrip(b"L"))),
        "F": lambda m: m.stack.append(float(m.line())),
        "G": lambda m: m.stack.append(struct.unpack(">d", m.take(8))[0]),
        "J": lambda m: _signed(m, 4),
        "K": _whole_of(1),
        "M": _whole_of(2),
        "\x8a": lambda m: _signed(m, m.number(1)),
        "\x8b": lambda m: _signed(m, m.number(4)),
        "S": _string_line,
        "T": _bytes_of(4),
        "U": _bytes_of(1),
        "B": _bytes_of(4),
        "C": _bytes_of(1),
        "\x8e": _bytes_of(8),
        "\x96": _bytes_of(8, bytearray),
        "V": _escaped_line,
        "X": _utf8_of(4),
        "\x8c": _utf8_of(1),
        "\x8d": _utf8_of(8),
        "]": lambda m: m.stack.append([]),
        "}": lambda m: m.stack.append({}),
        ")": lambda m: m.stack.append(()),
        "l": lambda m: m.stack.append(m.marked()),
        "d": _dict,
        "t": lambda m: m.stack.append(tuple(m.marked())),
        "\x85": _last(1),
        "\x86": _last(2),
        "\x87": _last(3),
        "a": lambda m: _append(m, [m.stack.pop()]),
        "e": lambda m: _append(m, m.marked()),
        "s": _set_item,
        "u": _set_items,
        "p": lambda m: _remember(m, int(m.line())),
        "q": lambda m: _remember(m, m.number(1)),
        "r": lambda m: _remember(m, m.number(4)),
        "\x94": lambda m: _remember(m, len(m.memo)),
        "g": lambda m: m.stack.append(m.memo[int(m.line())]),
        "h": lambda m: m.stack.append(m.memo[m.number(1)]),
        "j": lambda m: m.stack.append(m.memo[m.number(4)]),
        "c": _global,
        "\x93": _stack_global,
        "i": _instance,
        "R": _reduce,
        "b": _build,
    }.items()
}
