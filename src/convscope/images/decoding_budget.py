"""How much memory decoding may take: of all threads at once, and of one image.

Threads that decode small images never wait. Large ones, of which each takes hundreds of megabytes for a moment, go
one after the other.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..limits import container_memory

MB = 1 << 20
LEAST, MOST = 256 * MB, 2048 * MB  # of the budget, whatever the machine has
SHARE = 4  # the budget is one part in so many of the memory that is free
FRESH = 1.0  # seconds for which an answer about the machine's memory holds


class MemoryBudget:
    """Bytes that threads share: who wants more than is left waits for its turn, first come, first served.

    One that wants more than the whole budget goes alone, so nobody waits for ever. A thread must not hold twice.
    """

    def __init__(self, limit: Callable[[], int]) -> None:
        self._limit, self._held = limit, 0
        self._turn = threading.Condition()
        self._queue: deque[object] = deque()

    @contextmanager
    def holding(self, size: int) -> Iterator[None]:
        """Hold so many bytes within the block."""
        self._acquire(size)
        try:
            yield
        finally:
            with self._turn:
                self._held -= size
                self._turn.notify_all()

    def _acquire(self, size: int) -> None:
        ticket = object()
        with self._turn:
            self._queue.append(ticket)
            try:
                self._turn.wait_for(lambda: self._queue[0] is ticket and self._fits(size))
                self._held += size
            finally:
                self._queue.remove(ticket)
                self._turn.notify_all()

    def _fits(self, size: int) -> bool:
        return self._held == 0 or self._held + size <= self._limit()


def free_memory() -> int:
    """Return the bytes that this machine, or the container, can still give without swapping; 4 GB where unknown."""
    return min([_meminfo(), *(max(0, most - now) for most, now in container_memory())])


def _meminfo() -> int:
    try:
        with open("/proc/meminfo") as lines:
            return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")) << 10
    except (OSError, ValueError, StopIteration):
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # not on this system
        return 4096 * MB


class _QuarterOfFree:
    """A quarter of the free memory, between `LEAST` and `MOST`, asked for once a second at most."""

    def __init__(self) -> None:
        self._asked, self._answer = -FRESH, LEAST

    def __call__(self) -> int:
        now = time.monotonic()
        if now - self._asked > FRESH:
            self._answer = min(MOST, max(LEAST, free_memory() // SHARE))
            self._asked = now
        return self._answer


BUDGET = MemoryBudget(_QuarterOfFree())
