"""One talk with the page over a connection, hostile or not, and whether what came back is what may come back."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass

from torture.page_server import PageServer, Reply, received

FINE = frozenset({200, 304, *range(400, 500)})  # what a hostile request may be answered
REFUSED = frozenset(range(400, 500))
ANSWER_SECONDS = 30.0
CANARY = b"nobody may read this"  # in a file beside the runs


@dataclass(frozen=True)
class Exchange:
    """What is sent, and what may come back.

    ``pieces`` are bytes, and numbers of seconds in which nothing is sent. ``statuses`` are those that every answer may
    have, ``most`` how many answers there may be. ``reads`` says how many bytes are taken (None for all), ``resets``
    that the connection is cut instead of closed, ``silent`` that nothing may come back. ``body`` is that of an answer
    200. ``closed`` is the number of seconds after which the server must have ended the connection.
    """

    group: str
    what: str
    pieces: tuple[bytes | float, ...]
    statuses: frozenset[int] = FINE
    most: int = 1
    reads: int | None = None
    resets: bool = False
    silent: bool = False
    body: bytes | None = None
    closed: float | None = None


def made(server: PageServer, wanted: Exchange) -> tuple[str, float]:
    """What is wrong with how the server answered, in a sentence (empty where nothing is), and the seconds it took."""
    start = time.monotonic()
    try:
        with server.connect() as talk:
            _send(talk, wanted.pieces)
            seconds = ANSWER_SECONDS if wanted.closed is None else max(0.1, start + wanted.closed - time.monotonic())
            quiet = 0.2 if wanted.closed is None else seconds
            reply = received(talk, seconds, wanted.reads, quiet) if wanted.reads != 0 else Reply(b"", False)
            if wanted.resets:
                talk.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    except OSError as error:
        return f"no connection: {error}", time.monotonic() - start
    return flaw(wanted, reply), time.monotonic() - start


def _send(talk: socket.socket, pieces: tuple[bytes | float, ...]) -> None:
    """Send the pieces, until the other side wants no more."""
    for piece in pieces:
        if isinstance(piece, float):
            time.sleep(piece)
            continue
        try:
            talk.sendall(piece)
        except OSError:  # it has ended the connection, which it may
            return


def flaw(wanted: Exchange, reply: Reply) -> str:
    """What may not have come back, in a sentence; empty where nothing did."""
    rules: tuple[tuple[Callable[[], bool], str], ...] = (
        (lambda: CANARY in reply.data, "a file beside the runs was sent"),
        (lambda: any(status >= 500 for status in reply.statuses), f"answered {reply.statuses}"),
        (lambda: not set(reply.statuses) <= wanted.statuses, f"answered {reply.statuses}, which it may not"),
        (lambda: len(reply.statuses) > wanted.most, f"{len(reply.statuses)} answers to {wanted.most} requests"),
        (lambda: not reply.statuses and not wanted.silent and wanted.reads != 0, "no answer"),
        (lambda: wanted.closed is not None and not reply.ended, f"still open after {wanted.closed} s"),
        (
            lambda: wanted.body is not None and reply.statuses == [200] and reply.body != wanted.body,
            "another answer than when nobody attacks",
        ),
    )
    return next((said for broken, said in rules if broken()), "")
