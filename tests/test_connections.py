"""The server's connections with a small application behind them: broken bodies, crowds, and clients that go away."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

import uvicorn

from convscope.errors import UsageError
from convscope.page import application as pages
from convscope.page import connections
from convscope.page.connections import Connection
from convscope.page.turns import Turns

AT_ONCE, AT_MOST = 6, 30


class Application:
    """Reads a body whole where there is one, and waits where it is asked to; ``given_up`` counts cancelled requests."""

    def __init__(self) -> None:
        self.given_up = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["method"] == "POST":
            while (message := await receive())["type"] == "http.request" and message["more_body"]:
                pass
        if scope["path"] == "/wait":
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                self.given_up += 1
                raise
        size = 40_000 if scope["path"] == "/small" else 100_000
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % size)]})
        await send({"type": "http.response.body", "body": bytes(size)})


class Running:
    """A server in a thread."""

    def __init__(self) -> None:
        self.application = Application()
        config = uvicorn.Config(
            self.application, http=Connection, ws="none", lifespan="off", log_config=None, limit_concurrency=AT_MOST,
            timeout_graceful_shutdown=1, h11_max_incomplete_event_size=16_384,
        )  # fmt: skip
        self.server, self.listening = uvicorn.Server(config), socket.create_server(("127.0.0.1", 0))
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.listening]})
        self.thread.start()

    def connect(self) -> socket.socket:
        return socket.create_connection(self.listening.getsockname(), 10)

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(20)
        assert not self.thread.is_alive()


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    monkeypatch.setattr(connections, "AT_ONCE", AT_ONCE)
    monkeypatch.setattr(connections, "AT_MOST", AT_MOST)
    made = Running()
    yield made
    made.stop()


def said(talk: socket.socket) -> bytes:
    """All until the other side ends."""
    data = b""
    while piece := talk.recv(65_536):
        data += piece
    return data


def answered(running: Running, request: bytes = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n") -> bytes:
    with running.connect() as talk:
        talk.sendall(request)
        return said(talk)


CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("body", [b"", b"zz\r\n", b"1\r\nx\r\n" * 1000, b"1\r\nx\r\n0\r\n\r\n"])
def test_a_body_in_chunks_is_refused_by_its_head(running: Running, body: bytes) -> None:
    answer = answered(running, CHUNKED + body)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"must come with its length" in answer
    told = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body)
    assert not answered(running, told + body).startswith(b"HTTP/1.1 400 ")


def test_what_is_no_request_behind_an_answer_leaves_no_traceback(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    closing = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 9\r\n\r\n"
    with caplog.at_level(logging.ERROR):
        for broken in (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n\0\r\n\r\n", closing + b"too long for what was said" * 9):
            assert answered(running, broken).startswith(b"HTTP/1.1 200 ")
        with running.connect() as talk:
            talk.sendall(b"GET /wait HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
            talk.sendall(b"\0\r\n\r\n")
        assert answered(running).startswith(b"HTTP/1.1 200 ")
    assert not caplog.records


@pytest.mark.parametrize(
    ("begun", "count"),
    [
        (b"", 2 * AT_MOST),
        (b"GET / HTTP/1.1\r\n", 2 * AT_MOST),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nx", AT_MOST - 1),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 20, AT_MOST - 1),
    ],
    ids=["silent", "half a head", "half a body", "nothing taken"],
)
def test_connections_that_give_or_take_nothing_keep_nobody_out(running: Running, begun: bytes, count: int) -> None:
    running.listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    with ExitStack() as opened:
        for _ in range(count):
            opened.enter_context(running.connect()).sendall(begun)
            time.sleep(0.02)
        time.sleep(1.5 * connections.GRACE_SECONDS)  # until all were read
        assert answered(running).startswith(b"HTTP/1.1 200 ")


def test_what_nobody_waits_for_any_more_is_given_up(running: Running) -> None:
    for _ in range(2 * AT_MOST):
        with running.connect() as talk:
            talk.sendall(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
    assert answered(running).startswith(b"HTTP/1.1 200 ")
    until = time.monotonic() + 10
    while running.application.given_up < AT_ONCE and time.monotonic() < until:
        time.sleep(0.01)
    assert running.application.given_up >= AT_ONCE  # of the others the head may not have been read yet


def test_an_answer_that_nobody_takes_ends(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "TAKING_SECONDS", 0.3)
    running.listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    with socket.socket() as talk:
        talk.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        talk.connect(running.listening.getsockname())
        talk.sendall(b"GET /small HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        time.sleep(0.2)
        assert running.server.server_state.connections  # it waits for its answer to be taken
        until = time.monotonic() + 10
        while running.server.server_state.connections and time.monotonic() < until:
            time.sleep(0.02)
        assert not running.server.server_state.connections


def test_the_end_of_the_server_gives_up_what_is_asked_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    running = Running()
    with caplog.at_level(logging.WARNING), running.connect() as talk:
        talk.sendall(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
        time.sleep(0.3)
        running.stop()
    assert running.application.given_up == 1
    assert "Traceback" not in caplog.text


def test_work_takes_turns_and_who_gives_up_leaves_the_queue() -> None:
    begun: list[int] = []
    going = threading.Event()

    def work(number: int) -> int:
        begun.append(number)
        going.wait(10)
        return number

    async def asked() -> None:
        turns = Turns(2)
        asks = [asyncio.ensure_future(turns.in_turn(work, number)) for number in range(5)]
        while len(begun) < 2:
            await asyncio.sleep(0.01)
        asks[0].cancel()  # begun: keeps its turn to its end
        asks[2].cancel()  # waiting: is never begun
        await asyncio.sleep(0.1)
        assert sorted(begun) == [0, 1]
        going.set()
        found = await asyncio.gather(*asks, return_exceptions=True)
        assert [answer for answer in found if isinstance(answer, int)] == [1, 3, 4]
        assert sorted(begun) == [0, 1, 3, 4]

    asyncio.run(asked())


def test_who_has_only_just_come_keeps_the_place(running: Running) -> None:
    """Many connect at once and all are accepted before any is read: none of them has been silent."""
    with ExitStack() as opened:
        talks = [opened.enter_context(running.connect()) for _ in range(3 * AT_ONCE)]
        for talk in talks:
            talk.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert [said(talk)[:13] for talk in talks] == [b"HTTP/1.1 200 "] * len(talks)


class File:
    """Something large."""


def test_a_file_is_free_once_its_error_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors and their frames hold each other; a file of megabytes among them would wait for the garbage collector."""
    kept: list[Any] = []

    def refusing(request: Any) -> Any:
        file = File()
        kept.append(weakref.ref(file))
        raise UsageError("no")

    monkeypatch.setattr(pages, "_told", lambda request, error: str(error))
    gc.disable()
    try:
        request = SimpleNamespace(app=SimpleNamespace(state=SimpleNamespace(pages=Turns(1))))
        assert asyncio.run(pages.answering(refusing)(request)) == "no"  # type: ignore[arg-type, comparison-overlap]
        assert kept[0]() is None
    finally:
        gc.enable()
