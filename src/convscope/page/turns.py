"""The computing that answers need, in threads: a few at a time, in the order of asking."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from starlette.concurrency import run_in_threadpool

READING = 8  # pages at once; more threads would only take each other's turn at the interpreter
ASKING = 2  # images at once, new ones and changed: one is decoded while another is computed


class Turns:
    """``in_turn`` as often as ``most`` at once; who gives up while waiting leaves the queue."""

    def __init__(self, most: int) -> None:
        self._free = asyncio.Semaphore(most)

    async def in_turn(self, work: Callable[..., Any], *given: Any) -> Any:
        """What the work returns. Begun work keeps its turn to its end, even where nobody waits for it any more."""
        await self._free.acquire()
        begun = asyncio.ensure_future(run_in_threadpool(work, *given))
        begun.add_done_callback(self._over)
        try:
            return await asyncio.shield(begun)
        finally:
            del begun  # its error holds this frame

    def _over(self, begun: asyncio.Future[Any]) -> None:
        self._free.release()
        if not begun.cancelled():
            begun.exception()  # seen: who asked may be gone
