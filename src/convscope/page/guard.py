"""Who may ask the page for what. All that comes from elsewhere than the page itself is refused, with a sentence.

A browser sends requests to this machine for any site that is open in it. So the host that a request names must be one
of the page's own (read from the header and never from a URL: else a name that an attacker's server answers for would
do, DNS rebinding), its origin too, and what changes something needs a token that only the page was told.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

TOKEN = b"x-convscope-token"
READING = ("GET", "HEAD")
LONGEST_PATH = 2_000  # bytes of a path, and of a query
HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(self), microphone=(), geolocation=()",
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'{nonce}; img-src 'self' data: blob:; connect-src 'self'; "
    "media-src 'self' blob:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


@dataclass(frozen=True)
class Refusal:
    """Why a request is not answered."""

    status: int
    sentence: str


def refusal(scope: Scope, hosts: frozenset[str], token: str) -> Refusal | None:
    """Why a request is refused before any page sees it; None where it may pass.

    ``hosts`` are the names of this page, with the port; ``token`` is needed by all but GET and HEAD.
    """
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    named = {name: [value for found, value in headers if found == name] for name in (b"host", b"origin", TOKEN)}
    if len(named[b"host"]) != 1 or _text(named[b"host"][0]).lower() not in hosts:
        return Refusal(421, "this page is not the host that the request names.")
    if any(_text(origin).lower() not in {f"http://{host}" for host in hosts} for origin in named[b"origin"]):
        return Refusal(403, "another site may not ask this page.")
    sites = {_text(value).lower() for name, value in headers if name == b"sec-fetch-site"}
    if sites - {"same-origin", "none"}:
        return Refusal(403, "another site may not ask this page; open its address by hand.")
    if max(len(scope.get("raw_path") or b""), len(scope.get("query_string") or b"")) > LONGEST_PATH:
        return Refusal(414, f"an address is at most {LONGEST_PATH} characters long.")
    if scope["method"] in READING:
        return None
    if scope["method"] != "POST":
        return Refusal(405, "a page is read with GET, and changed with POST.")
    if len(named[TOKEN]) != 1 or not hmac.compare_digest(named[TOKEN][0], token.encode()):
        return Refusal(403, "what changes something needs the token of this start of the page: load the page again.")
    return None


def _text(value: bytes) -> str:
    return value.decode("latin-1").strip()


class Guard:
    """An ASGI application that lets only those requests through that ``refusal`` has nothing against."""

    def __init__(self, application: Application, hosts: frozenset[str], token: str) -> None:
        self.application, self.hosts, self.token = application, hosts, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, refuse, or close: there are no websockets here."""
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self.application(scope, receive, send)
            return
        found = refusal(scope, self.hosts, self.token)
        sending = _with_headers(send)
        if found is None:
            await self.application(scope, receive, sending)
            return
        body = (found.sentence + "\n").encode()
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
        await sending({"type": "http.response.start", "status": found.status, "headers": headers})
        await sending({"type": "http.response.body", "body": body if scope["method"] != "HEAD" else b""})


def _with_headers(send: Send) -> Send:
    async def sending(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            there = {name.lower() for name, _ in message["headers"]}
            more = {**HEADERS, "content-security-policy": POLICY.format(nonce=""), "cache-control": "no-store"}
            added = [(n.encode(), v.encode()) for n, v in more.items() if n.encode() not in there]
            message = {**message, "headers": [*message["headers"], *added]}
        await send(message)

    return sending
