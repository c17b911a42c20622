"""What is live on the page: the epochs of a run that trains, sent as they are written."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

from starlette.concurrency import run_in_threadpool

from ..errors import ConvscopeError
from ..locks import holder
from ..training.runs import Run
from .run_view import curves_of

EVERY = 0.5  # seconds between two looks at the log
SIGN = 10.0  # seconds without an event after which a sign of life is sent
AT_ONCE = 16  # readers


class Live:
    """The readers of live events; more than 16 at once are turned away."""

    def __init__(self) -> None:
        self._free = threading.Semaphore(AT_ONCE)

    def admits(self) -> bool:
        """Whether one more may read, until it calls ``leave``."""
        return self._free.acquire(blocking=False)

    def leave(self) -> None:
        """Give the place of a reader back."""
        self._free.release()

    async def epochs(self, run: Run, after: int) -> AsyncIterator[str]:
        """The rows of the log behind the first ``after``, as server-sent events; "over" when nobody trains it."""
        said = time.monotonic()
        while True:
            training, rows = await run_in_threadpool(_look, run)
            for row in rows[after:]:
                yield _event("epoch", row)
                said = time.monotonic()
            after = max(after, len(rows))
            if not training:
                yield _event("over", {})
                return
            if time.monotonic() - said > SIGN:
                yield ": still training\n\n"
                said = time.monotonic()
            await asyncio.sleep(EVERY)


def _look(run: Run) -> tuple[bool, list[dict[str, Any]]]:
    """Whether it trains, asked first: what it wrote before it stopped is then read."""
    training = holder(run.folder) is not None
    try:
        return training, curves_of(run)
    except ConvscopeError:
        return training, []


def _event(name: str, data: dict[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"
