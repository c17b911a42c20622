"""A server on 127.0.0.1 that misbehaves in a named way: what it sends is a file, or what a login page or a fault makes.

It speaks as a plain server does, and as the Hub does of a file's length and hash. Every way ends by itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

PAGE = b"<!DOCTYPE html><html><title>Sign in</title><body>Please accept the terms of this network.</body></html>"
MOST_ENDLESS = 64 << 20  # bytes after which an endless body gives up
MOST_SECONDS = 30.0  # after which a dripping one does


class BadServer(ThreadingHTTPServer):
    """Answers every request with ``data``, in the ``way`` that is set; ``asked`` are the paths that were asked for."""

    daemon_threads = True
    data, way, seed = b"", "good", 0

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.sent = 0  # bytes of the last body
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def address(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.server_port}"

    def set(self, data: bytes, way: str, seed: int) -> None:
        """Answer with these bytes, this way, from now on."""
        self.data, self.way, self.seed, self.asked, self.sent = data, way, seed, [], 0

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client that hangs up is what is tried."""


class _Handler(BaseHTTPRequestHandler):
    server: BadServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *given: Any) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        """As the Hub answers: the length and hash of the file that is meant, whatever will be sent."""
        self.server.asked.append(f"HEAD {self.path}")
        if self.server.way in ("500", "404", "403", "login page", "garbage", "closed", "silence"):
            with contextlib.suppress(OSError):
                WAYS[self.server.way](self, self.server.data)
            self.close_connection = True
            return
        self.head(200, len(self.server.data))

    def do_GET(self) -> None:
        """The body, in the server's way."""
        self.server.asked.append(f"GET {self.path}")
        way = "login page" if self.path == "/elsewhere" else self.server.way
        if self.path == "/moved":
            way = "good"
        with contextlib.suppress(OSError):
            WAYS[way](self, self.server.data)
        self.close_connection = True

    def head(self, status: int, length: Any, *more: tuple[str, str], reason: str | None = None) -> None:
        """The status and headers; the hash is that of the true file."""
        self.send_response(status, reason)
        if length is not None:
            self.send_header("Content-Length", str(length))
        digest = hashlib.sha256(self.server.data).hexdigest()
        for name, value in (("ETag", f'"{digest}"'), ("X-Repo-Commit", digest[:40]), *more):
            self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()

    def send(self, body: bytes) -> None:
        """Send, and count what was taken."""
        for start in range(0, len(body), 1 << 16):
            self.wfile.write(body[start : start + (1 << 16)])
            self.server.sent += len(body[start : start + (1 << 16)])

    @property
    def dice(self) -> np.random.Generator:
        """Random numbers of this attempt."""
        return np.random.default_rng([self.server.seed, 7])


Way = Callable[[_Handler, bytes], None]


def _whole(length: Callable[[bytes], Any], body: Callable[[_Handler, bytes], bytes]) -> Way:
    def answer(handler: _Handler, data: bytes) -> None:
        sent = body(handler, data)
        handler.head(200, length(sent))
        handler.send(sent)

    return answer


def _status(code: int, reason: str | None = None) -> Way:
    def answer(handler: _Handler, data: bytes) -> None:
        handler.head(code, len(PAGE), reason=reason)
        if handler.command == "GET":
            handler.send(PAGE)

    return answer


def _redirect(to: str) -> Way:
    def answer(handler: _Handler, data: bytes) -> None:
        handler.head(302, 0, ("Location", to.format(handler.server.address)))

    return answer


def _cut(handler: _Handler, data: bytes) -> bytes:
    return data[: int(handler.dice.integers(0, len(data)))]


def _flipped(handler: _Handler, data: bytes) -> bytes:
    place = int(handler.dice.integers(0, len(data)))
    return data[:place] + bytes([data[place] ^ 1 << int(handler.dice.integers(8))]) + data[place + 1 :]


def _another(handler: _Handler, data: bytes) -> bytes:
    return handler.dice.bytes(len(data))


def _login_page(handler: _Handler, data: bytes) -> None:
    """As a hotel's network answers every request: it knows of no file."""
    handler.send_response(200)
    handler.send_header("Content-Type", "text/html")
    handler.send_header("Content-Length", str(len(PAGE)))
    handler.end_headers()
    if handler.command == "GET":
        handler.send(PAGE)


def _cut_short(handler: _Handler, data: bytes) -> None:
    handler.head(200, len(data))
    handler.send(_cut(handler, data))


def _endless(handler: _Handler, data: bytes) -> None:
    handler.head(200, None)
    while handler.server.sent < MOST_ENDLESS:
        handler.send(data or PAGE)


def _dripping(handler: _Handler, data: bytes) -> None:
    handler.head(200, len(data))
    end = time.monotonic() + MOST_SECONDS
    while time.monotonic() < end:
        handler.send(data[:1])
        time.sleep(0.05)


def _silence(handler: _Handler, data: bytes) -> None:
    time.sleep(5)


def _garbage(handler: _Handler, data: bytes) -> None:
    handler.wfile.write(b"\x16\x03\x01\x02" + _another(handler, PAGE))


def _closed(handler: _Handler, data: bytes) -> None:
    handler.connection.shutdown(socket.SHUT_RDWR)


def _part_of_another(handler: _Handler, data: bytes) -> None:
    """As a resumed download is answered by a file that is another by now: its second half."""
    half = len(data) // 2
    handler.head(206, len(data) - half, ("Content-Range", f"bytes {half}-{len(data) - 1}/{len(data)}"))
    handler.send(_another(handler, data)[half:])


WAYS: dict[str, Way] = {
    "good": _whole(len, lambda handler, data: data),
    "good by another address": _redirect("{}/moved"),
    "cut short": _cut_short,
    "cut, and says so": _whole(len, _cut),
    "cut, without a length": _whole(lambda body: None, _cut),
    "one bit wrong": _whole(len, _flipped),
    "another file as long": _whole(len, _another),
    "longer": _whole(len, lambda handler, data: data + _another(handler, data)),
    "empty": _whole(len, lambda handler, data: b""),
    "a length that is no number": _whole(lambda body: "many", lambda handler, data: data[:-1]),
    "a length below zero": _whole(lambda body: -5, lambda handler, data: data[:-1]),
    "a length too short": _whole(lambda body: len(body) // 2, lambda handler, data: data),
    "a length too long": _whole(lambda body: 2 * len(body), lambda handler, data: data),
    "a length without end": _whole(lambda body: 10**30, lambda handler, data: data),
    "login page": _login_page,
    "login page elsewhere": _redirect("{}/elsewhere"),
    "a file of this machine": _redirect("file:///etc/hostname"),
    "an address without a scheme": _redirect("//"),
    "a port that nobody has": _redirect("http://127.0.0.1:99999/"),
    "round and round": _redirect("{}/round"),
    "by another protocol": _redirect("ftp://127.0.0.1:9/archive"),
    "endless": _endless,
    "dripping": _dripping,
    "silence": _silence,
    "garbage": _garbage,
    "closed": _closed,
    "part of another file": _part_of_another,
    "500": _status(500),
    "404": _status(404),
    "403": _status(403),
    "429": _status(429),
    "a reason with an escape": _status(503, "\x1b[31mrun this\x1b[0m"),
    "a reason of 20,000 letters": _status(503, "no " * 7000),
}
GOOD = ("good", "good by another address")


@contextlib.contextmanager
def bad_server() -> Iterator[BadServer]:
    """A with-block with a server that answers."""
    server = BadServer()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
