"""Connections that ask nothing, or take nothing, are closed soon, so that they keep nobody else from the page.

The server's own clock runs only once a request was answered: a connection that was opened and left silent, or whose
request comes byte by byte, would stay, and a few dozen of them would fill the number of connections that there may be.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

ASKING_SECONDS = 5.0  # from the opening, or the last answer, until a request is there as a whole but for its body
TAKING_SECONDS = 60.0  # for an answer of which nothing is taken


class Connection(H11Protocol):
    """A connection that waits for a request no longer than ASKING_SECONDS, and gives way where there are too many."""

    silent: asyncio.TimerHandle | None = None  # runs while it is waited for a request
    stuck: asyncio.TimerHandle | None = None  # runs while the other side takes nothing of an answer

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait; the one that waits longest is closed where no more connections may be open."""
        super().connection_made(transport)
        others = (other for other in self.connections if isinstance(other, Connection))
        waiting = [(other.silent.when(), id(other), other) for other in others if other.silent is not None]
        if waiting and len(self.connections) >= (self.limit_concurrency or float("inf")):
            _, _, longest = min(waiting)
            self.connections.discard(longest)  # at once: others may be opened before its end is told
            longest.transport.abort()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self._stop("silent", "stuck")
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """A part of a request buys no time: only a whole head does."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self._watch()

    def pause_writing(self) -> None:
        """The other side takes nothing at the moment."""
        super().pause_writing()
        self.stuck = self.stuck or self.loop.call_later(TAKING_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """It does again."""
        super().resume_writing()
        self._stop("stuck")

    def _watch(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop("silent")
        elif not self.transport.is_closing():
            self.silent = self.silent or self.loop.call_later(ASKING_SECONDS, self.transport.abort)

    def _stop(self, *names: str) -> None:
        for name in names:
            timer: Any = getattr(self, name)
            if timer is not None:
                timer.cancel()
            setattr(self, name, None)
