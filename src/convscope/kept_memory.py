"""Memory that the process keeps for its next tensors, instead of fetching it from the system for each of them anew.

By default glibc maps every block of megabytes when it is asked for and unmaps it when it is freed, so that each
activation of each step is zeroed and mapped page by page again: a fifth of a training step on a CPU (docs/log.md).
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from typing import Any

# Of <malloc.h>: what is trimmed from the heap's end, from which size on a block is mapped, how many are mapped at most,
# and how many heaps threads may have.
TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX, ARENA_MAX = -1, -3, -4, -8
NEVER = 2**31 - 1  # of bytes at the heap's end: more than 2 GB that nobody uses are given back at once
USUAL = {TRIM_THRESHOLD: 2**26, MMAP_THRESHOLD: 2**25, MMAP_MAX: 2**16}  # to which glibc's own adapt in a long process
SMALL, SHELF = 1040, 8  # bytes of what is put on shelves, by steps of 16; one more than a shelf holds
KEPT = {TRIM_THRESHOLD: NEVER, MMAP_MAX: 0}

_lock = threading.Lock()
_open = {"keeping": 0, "usual": 0}  # with-blocks


@contextmanager
def keeping_memory(enabled: bool = True) -> Iterator[None]:
    """A with-block in which freed memory stays for the next tensor; afterwards it is given back to the system.

    The setting is the process's. It does nothing where the allocator is not glibc's, or the user has set it. What is
    kept lies in pieces: activations may take up to 1.8 times the memory that they take without (docs/log.md).
    """
    with _counted("keeping") if enabled else nullcontext():
        yield


@contextmanager
def usual_memory() -> Iterator[None]:
    """A with-block in which memory is as ever, though blocks that keep it are open: for what is compared with them."""
    with _counted("usual"):
        yield


def keep_none() -> None:
    """Give each free block of a megabyte or more back to the system at once, from now on, but where a block keeps it.

    For a process that lives long and is given files of any size: else its heap stays as large as the largest of them,
    and so does that of each thread, of which there are two from now on.
    """
    glibc = _glibc()
    with _lock:
        USUAL.update({MMAP_THRESHOLD: 2**20, ARENA_MAX: 2})
        if glibc is not None and not (_open["keeping"] > 0 and _open["usual"] == 0):
            _set(glibc, USUAL)
            glibc.malloc_trim(0)


@contextmanager
def _counted(kind: str) -> Iterator[None]:
    _count(kind, 1)
    try:
        yield
    finally:
        _count(kind, -1)


def _count(kind: str, by: int) -> None:
    """A block was opened or left: memory is kept while one that keeps it is open, and none that wants it as ever."""
    glibc = _glibc()
    if glibc is None:
        return
    with _lock:
        before = _open["keeping"] > 0 and _open["usual"] == 0
        _open[kind] += by
        after = _open["keeping"] > 0 and _open["usual"] == 0
        if after != before:
            _set(glibc, KEPT if after else USUAL)
            if after:
                _fill_small(glibc)
        if before and not after:
            glibc.malloc_trim(0)


def _fill_small(glibc: Any) -> None:
    """Fill the allocator's shelves of small blocks, which it does not join with their neighbours.

    What it cuts off when it aligns a large block goes there, and would keep apart the block and those beside it.
    """
    blocks = [glibc.malloc(size) for size in range(24, SMALL, 16) for _ in range(SHELF)]
    for block in blocks:
        glibc.free(block)


def _set(glibc: Any, values: dict[int, int]) -> None:
    for name, value in values.items():
        glibc.mallopt(name, value)


@cache
def _glibc() -> Any:
    """The C library, where it is glibc and nothing was said about its allocator; None elsewhere."""
    said = any(name.startswith("MALLOC_") for name in os.environ) or "malloc" in os.environ.get("GLIBC_TUNABLES", "")
    if said:
        return None
    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018 - the name is what tells it apart
        library.malloc.restype, library.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
        return library if library.mallopt and library.malloc_trim else None
    except (OSError, TypeError, AttributeError):  # Windows; another C library
        return None
