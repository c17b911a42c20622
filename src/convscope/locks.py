"""One process a folder: a lock that the kernel frees when the process dies, however it dies."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from .errors import LockedError
from .storage import commit_text, discard, make_folder, storage_error

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


def _read_holder(path: Path) -> str:
    """Tell who holds the lock, in words; it may be gone, or not yet written, at this very moment."""
    try:
        return path.read_text(encoding="utf-8").strip() or "another process"
    except OSError:
        return "another process"
