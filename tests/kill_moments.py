"""Counts the moments of a command's writing, and ends the process at one of them, as a kill does.

A moment is before or after a call that changes what lies on disk, or that a save makes on its way: opening a temporary
file, the middle of its first writing, fsync, reading it back, the rename, and each appending.
"""

from __future__ import annotations

import builtins
import io
import os
import signal
import stat
from collections.abc import Callable
from typing import Any

TEMPORARY = ".tmp-"


class Moments:
    """Counts the moments of writing, and ends this process at the ``last`` one, as a kill does.

    ``last`` may be the end of a path too: then it is the moment after the rename that puts such a file in its place,
    the second time if " x2" stands behind.
    ``turns`` are the moments before and after a rename or an appending: at any other moment a kill leaves what it
    leaves at one of these, but for a part of a temporary file. ``inside`` are those inside a save: there is a
    temporary file, and it has not taken its name.
    """

    def __init__(self, last: int | str) -> None:
        self.last, self.count = last, 0
        end, _, times = str(last).partition(" x")
        self.end, self.times = end if isinstance(last, str) else None, int(times or 1)
        self.turns: list[int] = []
        self.inside: list[int] = []

    def pass_one(self, target: str = "", turn: bool = False, inside: bool = False) -> None:
        """Count one moment, and end here if it is the last."""
        if self.is_last(target, turn, inside):
            os.kill(os.getpid(), signal.SIGKILL)

    def is_last(self, target: str = "", turn: bool = False, inside: bool = False) -> bool:
        """Count one moment, and tell whether it is the last."""
        self.count += 1
        if turn:
            self.turns.append(self.count)
        if inside:
            self.inside.append(self.count)
        self.times -= self.end is not None and target.endswith(self.end)
        return self.count == self.last or self.times == 0

    def _renaming(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def renamed(*given: Any, **named: Any) -> Any:
            self.pass_one(turn=True, inside=TEMPORARY in str(given[0]))
            answer = function(*given, **named)
            self.pass_one(str(given[-1]), turn=True)
            return answer

        return renamed

    def _flushing(self, function: Callable[[int], None]) -> Callable[[int], None]:
        """Tell a file from a folder, which is flushed after the rename."""

        def flushed(handle: int) -> None:
            inside = stat.S_ISREG(os.fstat(handle).st_mode)
            self.pass_one(inside=inside)
            function(handle)
            self.pass_one(inside=inside)

        return flushed

    def _opening(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def opened(file: Any, mode: str = "r", *given: Any, **named: Any) -> Any:
            temporary = TEMPORARY in str(file)
            if not temporary and "a" not in mode:
                return function(file, mode, *given, **named)
            reading = temporary and "r" in mode
            self.pass_one(turn=not temporary, inside=reading)
            handle = function(file, mode, *given, **named)
            self.pass_one(turn=not temporary, inside=temporary)
            return _Torn(handle, self) if temporary and "w" in mode else handle

        return opened

    def install(self) -> None:
        """Count in every way that this program writes: renames, what waits for the disk, saves, appending."""
        from convscope import folders

        folders._exchange = self._renaming(folders._exchange)
        os.replace, os.rename = self._renaming(os.replace), self._renaming(os.rename)
        os.fsync = self._flushing(os.fsync)
        io.open = builtins.open = self._opening(io.open)


class _Torn:
    """A file whose first writing has a moment in its middle: killed there, it holds half of it."""

    def __init__(self, handle: Any, moments: Moments) -> None:
        self._handle, self._moments, self._written = handle, moments, False

    def write(self, data: Any) -> int:
        """Write, and count the middle of the first time."""
        if not self._written:
            self._written = True
            if self._moments.is_last(inside=True):
                whole = memoryview(data).cast("B")
                self._handle.write(whole[: len(whole) // 2])
                self._handle.flush()
                os.kill(os.getpid(), signal.SIGKILL)
        return self._handle.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._handle, name)

    def __enter__(self) -> _Torn:
        self._handle.__enter__()
        return self

    def __exit__(self, *given: Any) -> None:
        self._handle.__exit__(*given)


def set_numbers(numbers: dict[str, Any]) -> None:
    """Give constants of modules, by their whole names, other values in this process."""
    import importlib

    for name, value in numbers.items():
        module, _, constant = name.rpartition(".")
        assert hasattr(importlib.import_module(module), constant), name
        setattr(importlib.import_module(module), constant, value)
