"""Every error a user can meet, with the exit code the command line gives it.

ConvscopeError                 1    something of ours went wrong
|- UsageError                  2    the request cannot be carried out as it stands
|  |- UnknownName              2    a name that does not exist: offers the nearest ones
|  `- Untrained                2    a run whose first epoch is not over: it has no classifier
|- DataError                  65    data, or a file, that cannot be used
|  |- ImageError            65    one image that cannot be read
|  `- DamagedFile             65    a file of ours whose content is not what was written
|     `- ForeignFile          65    a whole file of a kind we read, but not written by us
|- UnreachableError           69    something that is not on this machine and cannot be fetched
|- MemoryExhausted            71    the work does not fit in memory
|- LockedError                73    another process holds it, or it cannot be created
|- StorageError               74    the disk is full, read-only or failing
|- DivergedError              76    the training ran away: NaN, or a loss that explodes
`- InterruptedRun        130, 143   stopped by a signal, with everything saved

A message repeats the question and offers the answer, in one sentence, so that it can be shown as it is.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

MOST_SHOWN = 2000  # characters of a sentence; a foreign file may hold names of megabytes
_BEGINNING = 1500  # of a longer one, beside its end, which says what to do


class ConvscopeError(Exception):
    """The base of every error that is shown to a user without a traceback; its sentence is cut where it is endless."""

    exit_code = 1

    def __init__(self, message: object = "") -> None:
        said = str(message)
        if len(said) > MOST_SHOWN:
            said = f"{said[:_BEGINNING]} [...] {said[_BEGINNING - MOST_SHOWN + 7 :]}"
        super().__init__(said)

    def __reduce__(self) -> tuple[object, ...]:
        """What a worker sends of it: all it says, whatever its kind is made from."""
        return _remade, (type(self), self.args, vars(self))


def _remade(kind: type[ConvscopeError], args: tuple[object, ...], fields: dict[str, object]) -> ConvscopeError:
    """An error as it was before it was sent."""
    error = kind.__new__(kind, *args)
    vars(error).update(fields)
    return error


class UsageError(ConvscopeError):
    """The request cannot be carried out as it stands."""

    exit_code = 2


class UnknownName(UsageError):
    """A name that is in no table: the message offers the nearest ones.

    ``kind`` is the word for what was asked ("model"), ``name`` the question and ``known`` every answer.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        self.kind, self.name, self.known = kind, name, tuple(known)
        near = nearest(name, self.known)
        offer = f" Did you mean {' or '.join(repr(n) for n in near)}?" if near else ""
        shown = ", ".join(self.known[:12]) + (", ..." if len(self.known) > 12 else "")
        super().__init__(f"no {kind} named {name!r}.{offer} Known: {shown or 'none yet'}.")


class Untrained(UsageError):
    """A run whose first epoch is not over, so that it has no classifier."""


class DataError(ConvscopeError):
    """Data, or a file, that cannot be used."""

    exit_code = 65


class ImageError(DataError):
    """One image that cannot be read; ``where`` names it and ``reason`` says why in a few words."""

    passing: bool
    """Say whether the machine is to blame (permission, a disk, memory) and not the bytes: it may be gone tomorrow."""

    def __init__(self, where: str, reason: str, *, passing: bool = False) -> None:
        self.where, self.reason, self.passing = where, reason, passing
        super().__init__(f"{where}: {reason}")


class DamagedFile(DataError):
    """A file of ours whose content is not what was written: truncated, altered, or of another kind."""


class ForeignFile(DamagedFile):
    """A whole file of a kind that we read, but not one that convscope wrote."""


class UnreachableError(ConvscopeError):
    """Something that is not on this machine and cannot be fetched from here."""

    exit_code = 69


class MemoryExhausted(ConvscopeError):
    """The work does not fit in memory."""

    exit_code = 71


class LockedError(ConvscopeError):
    """Another process holds it, or it exists already and would be overwritten."""

    exit_code = 73


class StorageError(ConvscopeError):
    """The disk is full, read-only or failing."""

    exit_code = 74


class DivergedError(ConvscopeError):
    """The training ran away: a NaN, or a loss that explodes."""

    exit_code = 76


class InterruptedRun(ConvscopeError):
    """A run stopped by a signal after everything was saved; ``exit_code`` is 128 plus the signal's number."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


def nearest(name: str, known: Iterable[str], count: int = 2) -> list[str]:
    """The up to ``count`` known names closest to ``name``, nearest first, or that begin with it; case is ignored."""
    by_lower = {k.lower(): k for k in known}
    close = difflib.get_close_matches(name.lower(), by_lower, n=count, cutoff=0.55)
    longer = [k for k in by_lower if name and k.startswith(f"{name.lower()}-")]
    return [by_lower[m] for m in dict.fromkeys([*close, *longer])][:count]


def one_line(said: object) -> str:
    """What an error says, in one line of some length without its full stop; its kind where it says nothing."""
    return " ".join(str(said).split())[:300].rstrip(".") or type(said).__name__
