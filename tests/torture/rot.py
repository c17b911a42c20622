"""Rot: a bit that flips, a file that is cut, a page of zeros, in each file that convscope reads again.

Each attempt damages one file in place and reads it as commands do. It holds where the damage is named before anything
of the file is used; where what is read is equal all the same (a blank that became another one, a cache that is made
again); and where it is named and what is used is what there would be without the file (an older checkpoint).
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np

from convscope import machine
from convscope.errors import ConvscopeError
from torture.attempts import Attempt
from torture.rotting import Sound, content
from torture.rotting_later import LATER
from torture.rotting_trained import FIRST

PAGE = 4096  # bytes that a disk loses at once
ENDS = 600  # bytes at a file's beginning and end, where its description stands
DAMAGES = ("flip", "flip", "flip", "flip", "cut", "cut", "append", "zeros", "swap", "empty")


def attack(seed: int, count: int, folder: Path) -> Iterator[Attempt]:
    """Damage ``count`` files, each in one way; the first sixty are those of a training and of what it is trained on."""
    with _surroundings(folder):
        shelf = Shelf(folder)
        for i in range(count):
            random = np.random.default_rng([seed, i])
            sound = shelf.take(random, FIRST if i < 60 else {**FIRST, **LATER})
            yield attempt(sound, random)


@contextlib.contextmanager
def _surroundings(folder: Path) -> Iterator[None]:
    """A with-block with runs and a cache of its own, in which the peak of the machine is not measured for long."""
    places = {"CONVSCOPE_RUNS": str(folder / "runs"), "CONVSCOPE_CACHE": str(folder / "cache")}
    with mock.patch.dict(os.environ, places), mock.patch.object(machine, "PEAK_SIDE", 64):
        yield


class Shelf:
    """The files that are damaged, by what made them, made when one of them is first drawn."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._made: dict[str, dict[str, list[Sound]]] = {}

    def take(self, random: np.random.Generator, makers: dict) -> Sound:
        """A file of a maker, of a kind, each as likely as another; ``training`` is made before all others."""
        name = str(random.choice(list(makers)))
        for wanted in ("training", name):
            if wanted not in self._made:
                kinds = self._made[wanted] = {}
                for sound in makers[wanted](self.folder):
                    kinds.setdefault(sound.kind, []).append(sound)
                for sound in self._every():
                    sound.forget()
        kinds = self._made[name]
        several = kinds[str(random.choice(list(kinds)))]
        return several[random.integers(len(several))]

    def _every(self) -> Iterator[Sound]:
        return (sound for kinds in self._made.values() for several in kinds.values() for sound in several)


def attempt(sound: Sound, random: np.random.Generator) -> Attempt:
    """Damage a file, read it, and put it back as it was."""
    whole = sound.path.read_bytes()
    damaged, how = damage(whole, random)
    wanted, without = sound.wanted()
    sound.path.write_bytes(damaged)
    start = time.perf_counter()
    try:
        group, flaw = judged(sound, wanted, without)
    finally:
        seconds = time.perf_counter() - start
        sound.path.write_bytes(whole)
    return Attempt(f"{sound.path.name} ({sound.kind}), {how}", group, flaw, seconds)


def judged(sound: Sound, wanted: str, without: str | None) -> tuple[str, str]:
    """Read a damaged file: (the group of the attempt, the flaw or nothing)."""
    try:
        value, said = sound.read()
    except (ConvscopeError, SystemExit) as error:
        named = sound.is_named(str(error))
        return sound.kind, "" if named else f"it is refused without being named: {error}"
    except Exception as error:
        return sound.kind, f"a traceback: {type(error).__name__}: {error}"
    found = content(value)
    if found == wanted:
        return sound.kind if sound.made_again else "changes nothing", ""
    if not sound.is_named(said):
        lost = "it is as good as not there" if found == without else "another value is used"
        return sound.kind, f"{lost}, and nothing is said of it"
    return sound.kind, "" if found == without else "it is named, and another value is used all the same"


# -------------------------------------------------------------------------------------------------- ways to damage


def damage(data: bytes, random: np.random.Generator) -> tuple[bytes, str]:
    """Other bytes than these, damaged in one way, and which."""
    for _ in range(100):
        how = str(random.choice(DAMAGES))
        place = _place(len(data), random)
        found = _damaged(data, how, place, random)
        if found != data:
            return found, f"{how} at byte {place} of {len(data)}"
    return data + b"\0", "a byte appended"


def _place(size: int, random: np.random.Generator) -> int:
    """A byte of a file: anywhere, or as often near one of its ends."""
    place = int(random.integers(max(1, size)))
    near = int(random.integers(min(ENDS, max(1, size))))
    return (place, place, near, size - 1 - near)[random.integers(4)]


def _damaged(data: bytes, how: str, place: int, random: np.random.Generator) -> bytes:
    if how == "empty":
        return b""
    if how == "cut":
        return data[:place]
    if how == "append":
        more = random.bytes(int(random.integers(1, 600)))
        return data + (more, data[place : place + 600], b"\n" * len(more), bytes(len(more)))[random.integers(4)]
    altered = bytearray(data)
    if how == "flip":
        if data:
            altered[place] ^= 1 << int(random.integers(8))
    elif how == "zeros":
        end = min(len(data), place // PAGE * PAGE + PAGE)
        altered[place // PAGE * PAGE : end] = bytes(end - place // PAGE * PAGE)
    else:
        side = min(PAGE, max(1, len(data) // 8))
        one, other = sorted(int(n) * side for n in random.integers(max(1, len(data) // side), size=2))
        altered[one : one + side], altered[other : other + side] = data[other : other + side], data[one : one + side]
    return bytes(altered)
