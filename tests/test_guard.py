"""Every address of the page by method, host, origin and token: what comes from elsewhere is refused.

Others' mistakes, each with its test: a host believed from the URL (MLflow, CVE-2026-2611), a socket without the check
that pages have (marimo, CVE-2026-39987), ranges that cost more than they bring (Starlette, CVE-2025-62727), a path from
the client that is opened (Gradio, CVE-2026-28414).
"""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette")

import page_client
from convscope.page import bodies
from convscope.page.application import application
from convscope.page.interactive import ACTIONS
from convscope.page.routes import ROUTES, Page
from convscope.page.served import Served
from page_client import HOST, request

HOSTS = (HOST, "localhost:8848")
PAGES = [*ROUTES, "/index.json", "/runs/{run}.json", "/static/{name}", "/runs/{run}/drawing/{name}"]
ADDRESSES = [
    *((address, "GET") for address in PAGES),
    *((address, method) for address, _, method in ACTIONS),
]
FOREIGN_HOSTS = [
    [],
    [("host", "evil.example")],
    [("host", "127.0.0.1")],
    [("host", "127.0.0.1:9999")],
    [("host", "evil.example:8848")],
    [("host", f"{HOST}.evil.example")],
    [("host", HOST), ("host", "evil.example")],
    [("host", HOST), ("host", HOST)],
    [("host", "")],
    [("host", f"{HOST}@evil.example")],
]
FOREIGN_ORIGINS = [
    [("origin", "http://evil.example")],
    [("origin", "null")],
    [("origin", "https://127.0.0.1:8848")],
    [("origin", "http://127.0.0.1:8849")],
    [("origin", f"http://{HOST}"), ("origin", "http://evil.example")],
    [("sec-fetch-site", "cross-site")],
    [("sec-fetch-site", "same-site")],
    [("sec-fetch-site", "same-origin"), ("sec-fetch-site", "cross-site")],
]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    return Page(Served(tmp_path_factory.mktemp("runs")))


@pytest.fixture(scope="module")
def guarded(page: Page) -> Any:
    return application(page, HOSTS)


def filled(pattern: str) -> str:
    """An address of the pattern."""
    pieces = [piece if not piece.startswith("{") else piece.strip("{}").split(":")[0] for piece in pattern.split("/")]
    return "/".join(pieces)


def combinations() -> list[tuple[str, str, list[tuple[str, str]]]]:
    """Each address with each foreign host, and with each foreign origin at the right host."""
    wrong = [*FOREIGN_HOSTS, *([("host", HOST), *headers] for headers in FOREIGN_ORIGINS)]
    return [(filled(address), method, headers) for (address, method), headers in itertools.product(ADDRESSES, wrong)]


def test_what_comes_from_elsewhere_is_refused_at_every_address(guarded: Any, page: Page) -> None:
    tried = combinations()
    assert len(tried) > 500
    token = ("x-convscope-token", page.served.token)
    for address, method, headers in tried:
        answer = request(guarded, address, method, [*headers, token])
        assert answer.status in (403, 421), (address, method, headers)
        assert page.served.token not in answer.text
    assert request(guarded, "/").status == 200


@pytest.mark.parametrize("token", [[], [""], ["x"], ["right", "right"], ["right "], ["RIGHT"]])
def test_what_changes_something_needs_the_token(guarded: Any, page: Page, token: list[str]) -> None:
    said = [("x-convscope-token", word.replace("right", page.served.token)) for word in token]
    if token == ["RIGHT"]:
        said = [("x-convscope-token", page.served.token.swapcase())]
    for address in (filled(a) for a, _, method in ACTIONS if method == "POST"):
        assert request(guarded, address, "POST", [("host", HOST), *said]).status == 403, address


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "FOO"])
def test_other_methods_are_refused_even_with_the_token(guarded: Any, page: Page, method: str) -> None:
    headers = [("host", HOST), ("x-convscope-token", page.served.token)]
    for address, _ in ADDRESSES:
        assert request(guarded, filled(address), method, headers).status == 405


def test_an_address_that_is_in_no_table_is_not_there(guarded: Any, page: Page) -> None:
    headers = [("host", HOST), ("x-convscope-token", page.served.token)]
    for address in ("/x", "/runs", "/admin", "/jobs", "/static", "/data/x/mark", "/.env", "//", "/runs//", "/%00"):
        for method in ("GET", "POST"):
            assert request(guarded, address, method, headers).status in (404, 405), (address, method)


@pytest.mark.parametrize(
    "name",
    ["..%2f..%2fetc%2fpasswd", "%2fetc%2fpasswd", "....//....//etc/passwd", "page.css%00.png", "..\\..\\x", "C:%5cx"],
)
@pytest.mark.parametrize("place", ["/static/", "/runs/", "/data/", "/runs/r/drawing/", "/jobs/", "/live/"])
def test_no_path_of_a_client_is_opened(guarded: Any, tmp_path: Path, place: str, name: str) -> None:
    answer = request(guarded, place + name)
    assert answer.status in (404, 405)
    assert "root:" not in answer.text


def test_the_host_of_a_url_is_not_believed(guarded: Any) -> None:
    """The scope's own server, which a client may name in the request line, counts for nothing."""
    assert request(guarded, f"http://{HOST}/", headers=[("host", "evil.example")]).status == 421


def test_a_websocket_is_closed(guarded: Any) -> None:
    sent: list[Any] = []

    async def receive() -> dict[str, str]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "websocket", "path": "/", "headers": [(b"host", HOST.encode())]}
    asyncio.run(guarded(scope, receive, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]


def test_ranges_are_not_served_in_pieces(guarded: Any) -> None:
    whole = request(guarded, "/static/page.css")
    ranges = ("range", "bytes=" + ",".join(f"{i}-{i + 1}" for i in range(0, 4000, 2)))
    answer = request(guarded, "/static/page.css", headers=[("host", HOST), ranges])
    assert (answer.status, answer.body) == (200, whole.body)


def test_every_answer_forbids_what_a_page_does_not_need(guarded: Any) -> None:
    for address in ("/", "/index.json", "/static/page.css", "/nowhere"):
        told = request(guarded, address).headers
        assert "default-src 'none'" in told["content-security-policy"]
        assert "unsafe" not in told["content-security-policy"]
        assert told["x-content-type-options"] == "nosniff"
        assert told["x-frame-options"] == "DENY"
        assert "access-control-allow-origin" not in told


def test_long_addresses_and_many_headers_do_no_harm(guarded: Any) -> None:
    assert request(guarded, "/" + "a" * 3000).status == 414
    assert request(guarded, "/?find=" + "a" * 3000).status == 414
    assert request(guarded, "/", headers=[("host", HOST), *((f"x-{i}", "y" * 100) for i in range(500))]).status == 200


def test_a_body_has_a_size_and_a_time(guarded: Any, page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    headers = [("host", HOST), ("x-convscope-token", page.served.token)]
    monkeypatch.setattr(bodies.read_body, "__defaults__", (1000, 0.2))
    told = request(guarded, "/runs/r/ask", "POST", [*headers, ("content-length", "5000")])
    assert told.status == 413
    assert request(guarded, "/runs/r/ask", "POST", headers, [b"x" * 600, b"x" * 600]).status == 413
    assert request(guarded, "/runs/r/ask", "POST", headers).status == 400
    for said in ("-5", "many", "99999999999999999999"):
        answer = request(guarded, "/runs/r/ask", "POST", [*headers, ("content-length", said)])
        assert answer.status in (400, 413)


def test_a_slow_body_is_given_up(guarded: Any, page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies.read_body, "__defaults__", (1000, 0.2))
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0.05)
        return {"type": "http.request", "body": b"x", "more_body": True}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"host", HOST.encode()), (b"x-convscope-token", page.served.token.encode())]
    scope = {
        "type": "http", "method": "POST", "path": "/runs/r/ask", "raw_path": b"/runs/r/ask", "query_string": b"",
        "headers": headers, "root_path": "", "scheme": "http", "http_version": "1.1", "server": None, "client": None,
    }  # fmt: skip
    asyncio.run(guarded(scope, receive, send))
    assert sent[0]["status"] == 408


def test_the_token_is_another_with_each_start(tmp_path: Path) -> None:
    tokens = {Served(tmp_path).token for _ in range(50)}
    assert len(tokens) == 50
    assert min(map(len, tokens)) >= 40


def test_every_route_stands_in_a_table(guarded: Any) -> None:
    inner = guarded.application
    known = {address for address, _ in ADDRESSES} | {"/static/{name:path}", "/runs/{run}/drawing/{name:path}"}
    twins = {f"{address}.json" for address in ROUTES} | {"/index.json"}
    assert {route.path for route in inner.routes} <= known | twins
    assert page_client.HOST in HOSTS


def test_an_address_that_is_typed_or_followed_within_is_answered(guarded: Any) -> None:
    for site in ("none", "same-origin"):
        assert request(guarded, "/", headers=[("host", HOST), ("sec-fetch-site", site)]).status == 200
    assert request(guarded, "/", headers=[("host", HOST), ("origin", f"http://{HOST}")]).status == 200


def test_the_token_that_a_loaded_page_holds_is_taken(guarded: Any) -> None:
    loaded = request(guarded, "/").text
    token = loaded.split('name="convscope-token" content="')[1].split('"')[0]
    answer = request(guarded, "/jobs/burn", "POST", [("host", HOST), ("x-convscope-token", token)])
    assert answer.status == 404  # it got as far as that there is no such job
