"""Requests to the page as an ASGI application, without a server: any method, headers and body."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

HOST = "127.0.0.1:8848"


@dataclass(frozen=True)
class Answer:
    """The status, headers and body of an answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    def json(self) -> Any:
        return json.loads(self.body)


def request(
    application: Any,
    address: str,
    method: str = "GET",
    headers: Iterable[tuple[str, str]] = (("host", HOST),),
    pieces: Iterable[bytes] = (b"",),
) -> Answer:
    """The answer to one request whose body comes in ``pieces``."""
    return asyncio.run(answer_to(application, address, method, headers, pieces))


async def answer_to(
    application: Any,
    address: str,
    method: str = "GET",
    headers: Iterable[tuple[str, str]] = (("host", HOST),),
    pieces: Iterable[bytes] = (b"",),
) -> Answer:
    """The same in a loop that runs, where several are asked at once."""
    path, _, query = address.partition("?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers],
        "server": ("elsewhere.example", 80),
        "client": ("127.0.0.1", 1),
    }
    given = list(pieces)
    status, told, body = 0, {}, b""

    async def receive() -> MutableMapping[str, Any]:
        if not given:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": given.pop(0), "more_body": bool(given)}

    async def send(message: MutableMapping[str, Any]) -> None:
        nonlocal status, told, body
        if message["type"] == "http.response.start":
            status = message["status"]
            told = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            body += message.get("body", b"")

    await application(scope, receive, send)
    return Answer(status, told, body)
