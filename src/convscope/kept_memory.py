"""Memory that the process keeps for its next tensors, instead of fetching it from the system for each of them anew.

By default glibc maps every block of megabytes when it is asked for and unmaps it when it is freed, so that each
activation of each step is zeroed and mapped page by page again: a fifth of a training step on a CPU (docs/log.md).
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

# Of <malloc.h>: what is trimmed from the heap's end, from which size on a block is mapped, how many are mapped at most.
TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4
NEVER = 2**31 - 1
USUAL = {TRIM_THRESHOLD: 2**26, MMAP_THRESHOLD: 2**25, MMAP_MAX: 2**16}  # to which glibc's own adapt in a long process
KEPT = {TRIM_THRESHOLD: NEVER, MMAP_MAX: 0}

_lock = threading.Lock()
_blocks = 0  # that are open


@contextmanager
def keeping_memory() -> Iterator[None]:
    """A with-block in which freed memory stays for the next tensor; afterwards it is given back to the system.

    The setting is the process's. It does nothing where the allocator is not glibc's, or the user has set it.
    """
    global _blocks
    glibc = _glibc()
    if glibc is None:
        yield
        return
    with _lock:
        _blocks += 1
        if _blocks == 1:
            _set(glibc, KEPT)
    try:
        yield
    finally:
        with _lock:
            _blocks -= 1
            if _blocks == 0:
                _set(glibc, USUAL)
                glibc.malloc_trim(0)


@contextmanager
def usual_memory() -> Iterator[None]:
    """A with-block in which memory is as ever, though blocks that keep it are open: for what is compared with them."""
    glibc = _glibc() if _blocks else None
    if glibc is None:
        yield
        return
    _set(glibc, USUAL)
    glibc.malloc_trim(0)
    try:
        yield
    finally:
        _set(glibc, KEPT)


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
        return library if library.mallopt and library.malloc_trim else None
    except (OSError, TypeError, AttributeError):  # Windows; another C library
        return None
