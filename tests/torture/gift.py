"""What a gift is: a file or folder as somebody might send it, made by a generator from random numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from torture.witness import MARK

T = TypeVar("T")


@dataclass(frozen=True)
class Yard:
    """Where payloads point: ``foreign`` must not be touched by anything, ``home`` is where commands stand.

    ``elsewhere`` holds files outside a gift that a user's own tables and links may name.
    """

    home: Path
    foreign: Path
    elsewhere: Path

    @property
    def canary(self) -> str:
        """The file that code in a payload makes."""
        return str(self.foreign / MARK)

    @property
    def secret(self) -> str:
        """A file that a payload would read."""
        return str(self.foreign / "secret.bin")


@dataclass(frozen=True)
class Gift:
    """A gift at ``path``: what is wrong with it, and who reads such things."""

    what: str
    path: Path
    readers: tuple[str, ...]


Generator = Callable[[np.random.Generator, Path, Yard], Gift]


def pick(rng: np.random.Generator, things: Sequence[T]) -> T:
    """One of them, any type (NumPy's choice would make an array of them)."""
    return things[int(rng.integers(len(things)))]


def chance(rng: np.random.Generator, share: float) -> bool:
    """True so often."""
    return bool(rng.random() < share)


def word(rng: np.random.Generator, length: int = 6) -> str:
    """A word of small letters."""
    return "".join(chr(97 + int(n)) for n in rng.integers(0, 26, length))


ABSURD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63 - 1, 2**64, 10**30, 1.5, 1e308, -1e308, float("nan"), float("inf"), "",
    "x", "\0", "../../x", "/etc/passwd", "\ud800", "\u202e", "x" * 5000, [], {}, [[]], {"a": {}}, [None], [1, "a"],
)  # fmt: skip


def escaping(rng: np.random.Generator, yard: Yard) -> str:
    """A path that leads out of a folder: absolute, by dots, by a foreign system's rules, or odd."""
    up = "../" * int(rng.integers(1, 12))
    return pick(
        rng,
        [
            yard.secret, f"{up}etc/passwd", f"{up}{yard.secret.lstrip('/')}", "/etc/passwd", "/dev/zero", "/dev/stdin",
            "/proc/self/mem", "/proc/self/environ", "C:\\Windows\\win.ini", "\\\\server\\share\\x", "~/.ssh/id_rsa",
            "$HOME/.netrc", f"file://{yard.secret}", "http://127.0.0.1:9/x", f"./{up}x", "a/../../b", "con",
            "nul\0.png",
            f"{yard.secret}\0.png", "." * 300, "x/" * 2000, f"sub/{up}{yard.canary.lstrip('/')}", "|touch x", "$(id)",
        ],
    )  # fmt: skip


def planted(value: Any, rng: np.random.Generator, thing: Any, deep: int = 6) -> Any:
    """A copy of JSON values with ``thing`` in place of one of its parts, anywhere."""
    if deep == 0 or not isinstance(value, (dict, list)) or not value or chance(rng, 0.15):
        return thing
    if isinstance(value, dict):
        key = pick(rng, sorted(value))
        return {**value, key: planted(value[key], rng, thing, deep - 1)}
    place = int(rng.integers(len(value)))
    return [*value[:place], planted(value[place], rng, thing, deep - 1), *value[place + 1 :]]


def finite(thing: Any) -> Any:
    """A value that JSON of ours can hold: NaN, infinity and lone surrogates never come from a sealed file."""
    if isinstance(thing, float) and not abs(thing) < float("inf"):
        return 1e300
    return "?" if thing == "\ud800" else thing
