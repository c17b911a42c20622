"""One process a folder: a lock that the kernel frees when the process dies, however it dies."""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

from .errors import LockedError
from .processes import is_alive
from .storage import commit_text, discard, make_folder, storage_error

_HOLDER = re.compile(r"process (\d+) on (.+)")

# --------------------------------------------------------------------------------------------------------- locks


@contextlib.contextmanager
def lock(folder: Path, what: str) -> Iterator[None]:
    """Hold ``folder`` for this process alone; the kernel frees it when the process dies, however it dies.

    Raises LockedError naming the host and process that hold it. Not reliable on every network file system.
    """
    from filelock import FileLock, Timeout

    make_folder(folder)
    holder = folder / ".lock-holder"
    guard = FileLock(folder / ".lock", thread_local=False)
    try:
        guard.acquire(timeout=0)
    except Timeout:
        raise LockedError(f"{what} is in use by {_read_holder(holder)}; wait, or stop it.") from None
    except OSError as error:
        raise storage_error(folder, error) from error
    try:
        commit_text(holder, f"process {os.getpid()} on {socket.gethostname()}\n")
        yield
    finally:
        discard(holder)
        guard.release()


def check_unheld(folder: Path, what: str) -> None:
    """LockedError where another process holds ``folder``: told before work that would only come to that."""
    if holder(folder) is not None:  # a process's number may be another's by now: the lock itself says
        with lock(folder, what):
            pass


def holder(folder: Path) -> str | None:
    """Who works in ``folder`` now, in words; None where nobody does. Nothing is locked to find out."""
    told = _read_holder(folder / ".lock-holder")
    found = _HOLDER.fullmatch(told)
    if found is None or (found[2] == socket.gethostname() and not is_alive(int(found[1]))):
        return None
    return told


def _read_holder(path: Path) -> str:
    """Tell who holds the lock, in words; it may be gone, or not yet written, at this very moment."""
    try:
        return path.read_text(encoding="utf-8").strip() or "another process"
    except OSError:
        return "another process"
