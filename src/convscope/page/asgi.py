"""One request of the page without a server: what `--get` prints and a static site is made of."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import Any
from urllib.parse import unquote

from .guard import Application


def get(application: Application, address: str, host: str) -> tuple[int, bytes]:
    """The status and the body of the answer to a GET of an address."""
    path, _, query = address.partition("?")
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(b"host", host.encode())],
        "server": None,
        "client": None,
    }
    status, body = 500, b""

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        nonlocal status, body
        if message["type"] == "http.response.start":
            status = message["status"]
        else:
            body += message.get("body", b"")

    asyncio.run(_call(application, scope, receive, send))
    return status, body


async def _call(application: Application, scope: dict[str, Any], receive: Any, send: Any) -> None:
    await application(scope, receive, send)
