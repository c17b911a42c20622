"""Connections that ask nothing, or take nothing, are closed soon, so that they keep nobody else from the page.

The server's own clock runs only once a request was answered: a connection that was opened and left silent, or whose
request comes byte by byte, would stay, and a few dozen of them would fill the number of connections that there may be.
What a client that went away had asked for is not computed any more, unless it is being computed already.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from .options import AT_MOST, AT_ONCE

ASKING_SECONDS = 5.0  # from the opening, or the last answer, until a request is there as a whole but for its body
TAKING_SECONDS = 60.0  # for an answer of which nothing is taken
GRACE_SECONDS = 1.0  # in which a connection keeps its place: what it sent may not have been read yet


class Asked(h11.Connection):
    """What a client says; a body in chunks is refused, for each of a million of one byte costs as much as a large one.

    No browser sends one: it says the length.
    """

    refused = ""

    def next_event(self) -> Any:
        """The next thing said. RemoteProtocolError for what is no HTTP, and for the head of a body in chunks."""
        event = super().next_event()
        if isinstance(event, h11.Request) and any(name == b"transfer-encoding" for name, _ in event.headers):
            self.refused = "a body must come with its length, not in chunks."
            raise h11.RemoteProtocolError(self.refused)
        return event


class Connection(H11Protocol):
    """A connection that waits for a request no longer than ASKING_SECONDS, and gives way where there are too many."""

    silent: asyncio.TimerHandle | None = None  # runs while it is waited for a request
    stuck: asyncio.TimerHandle | None = None  # runs while the other side takes nothing of an answer
    since = 0.0  # when a request was there but for its body
    work: asyncio.Task[Any] | None = None  # that answers the request

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.asked = Asked(h11.SERVER, self.config.h11_max_incomplete_event_size or 16_384)
        self.conn: h11.Connection = self.asked
        self.app = self._followed  # type: ignore[assignment]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait; where many are open, the one that keeps its place with the least right gives it up."""
        super().connection_made(transport)
        if len(self.connections) >= AT_ONCE:
            latest = self.loop.time() - (GRACE_SECONDS if len(self.connections) < AT_MOST else 0)
            others = [other for other in self.connections if isinstance(other, Connection) and other is not self]
            ranked = [(place, id(other), other) for other in others if (place := other._gives_way()) is not None]
            ranked = [row for row in ranked if row[0][1] <= latest]
            if ranked:
                _, _, least = min(ranked)
                self.connections.discard(least)  # at once: others may be opened before its end is told
                least.transport.abort()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more, and let what nobody waits for be."""
        self._stop("silent", "stuck")
        super().connection_lost(exc)
        if self.work is not None:
            self.work.cancel()

    def data_received(self, data: bytes) -> None:
        """A part of a request buys no time: only a whole head does."""
        super().data_received(data)
        self._watch()

    def send_400_response(self, msg: str) -> None:
        """Say what is wrong."""
        super().send_400_response(self.asked.refused or msg)

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

    async def _followed(self, scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[..., Any]) -> None:
        """The application, given up without a word when the client is gone or the server ends."""
        cycle, self.work = self.cycle, asyncio.current_task()
        work = self.work
        try:
            await self.config.loaded_app(scope, receive, send)
        except asyncio.CancelledError:
            cycle.disconnected = True
            self.transport.abort()
        finally:
            self.work = None if self.work is work else self.work

    def _gives_way(self) -> tuple[int, float] | None:
        """How soon it must give up its place: first who asks nothing, then who takes nothing, then who gives no body.

        Of each kind the one that has waited longest. None for one that is being answered.
        """
        if self.silent is not None:
            return 0, self.silent.when() - ASKING_SECONDS
        if self.stuck is not None:
            return 1, self.stuck.when() - TAKING_SECONDS
        if self.cycle is not None and self.cycle.more_body and not self.cycle.response_complete:
            return 2, self.since
        return None

    def _watch(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self.since = self.loop.time() if self.silent is not None else self.since
            self._stop("silent")
        elif not self.transport.is_closing():
            self.silent = self.silent or self.loop.call_later(ASKING_SECONDS, self.transport.abort)
        else:  # it closes once the last answer is taken
            self.stuck = self.stuck or self.loop.call_later(TAKING_SECONDS, self.transport.abort)

    def _stop(self, *names: str) -> None:
        for name in names:
            timer: Any = getattr(self, name)
            if timer is not None:
                timer.cancel()
            setattr(self, name, None)
