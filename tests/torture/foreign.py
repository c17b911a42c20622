"""Combinations of host, origin, fetch site, token, method and address: honest where every part is, foreign otherwise.

Each is sent to the server, and asked of the application without one. What is foreign is refused at any address, and
told nothing of the runs; what is honest is let in.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convscope.page.application import application
from convscope.page.interactive import ACTIONS
from convscope.page.routes import ROUTES, Page
from convscope.page.served import Served
from page_client import Answer, request
from torture.exchange import ANSWER_SECONDS
from torture.hostile_heads import Random, choice
from torture.page_server import PageServer

Headers = tuple[tuple[str, str], ...]
FILLED = {"run": "first", "data": "digits", "layer": "conv1", "number": "0", "evaluation": "digits-test"}
REFUSALS = (400, 403, 405, 421)
SECRET = "resnet20"  # the network of the runs, which a refusal must not tell


@dataclass(frozen=True)
class Part:
    """One part of a request: its headers, with ``{host}`` and ``{token}`` of the server, and whether it is honest."""

    headers: Headers
    honest: bool


def parts(name: str, honest: list[list[str]], foreign: list[list[str]]) -> list[Part]:
    """The parts of a header by their values, each a list for the header may come more than once."""
    every = [(values, True) for values in honest] + [(values, False) for values in foreign]
    return [Part(tuple((name, value) for value in values), fine) for values, fine in every]


EVIL = [
    "evil.example",
    "127.0.0.1",
    "127.0.0.1:1",
    "localhost",
    "evil.example:{port}",
    "{host}.evil.example",
    "a@{host}",
]
EVIL += ["{host}@evil.example", "127.0.0.1.:{port}", "0.0.0.0:{port}", "127.1:{port}", "2130706433:{port}", "{host}/x"]
EVIL += [
    "[::]:{port}",
    "127.0.0.2:{port}",
    "http://{host}",
    "{host}#",
    "{host},evil.example",
    "{host}:{port}",
    "0{host}",
]
HOSTS = parts(
    "host",
    [["{host}"], ["localhost:{port}"], ["LocalHost:{port}"], ["[::1]:{port}"]],
    [
        [],
        [""],
        *[[word] for word in EVIL],
        ["{host}", "evil.example"],
        ["{host}", "{host}"],
        ["evil.example", "{host}"],
    ],
)
ORIGINS = parts(
    "origin",
    [[], [], ["http://{host}"], ["http://localhost:{port}"]],
    [["null"], [""], ["https://{host}"], ["http://{host}/"], ["http://{host}", "http://evil.example"], ["{host}"]]
    + [[f"http://{word}"] for word in EVIL if word != "http://{host}"]
    + [["file://"], ["http://{host} http://evil.example"], ["chrome-extension://abcdef"]],
)
SITES = parts(
    "sec-fetch-site",
    [[], ["same-origin"], ["none"], ["Same-Origin"]],
    [["cross-site"], ["same-site"], [""], ["x"], ["same-origin", "cross-site"], ["none,cross-site"], ["same-origin;"]],
)
TOKENS = parts(
    "x-convscope-token",
    [["{token}"]],
    [
        [],
        [""],
        ["x"],
        ["{token}", "{token}"],
        ["{token}x"],
        ["{token}", ""],
        ["{nekot}"],
        ["{TOKEN}"],
        ["{token},x"],
        ["*"],
    ],
)
METHODS = ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "post", "get", "PROPFIND", "QUERY")


def filled(pattern: str) -> str:
    """An address of the pattern, of what there is where that is only read."""
    pieces = [p.strip("{}").split(":")[0] if p.startswith("{") else p for p in pattern.split("/")]
    return "/".join(FILLED.get(piece, piece) if "{" in pattern else piece for piece in pieces)


READ = [filled(address) for address in ROUTES] + [filled(a) for a, _, method in ACTIONS if method == "GET"]
READ += ["/index.json", "/runs/first.json", "/static/page.css", "/runs/first/drawing/curves.png"]
CHANGE = ["/" + filled(a).strip("/").replace("digits", "data") for a, _, method in ACTIONS if method == "POST"]


@dataclass(frozen=True)
class Combination:
    """A request, and whether all of it is honest."""

    method: str
    address: str
    headers: Headers
    honest: bool

    def __str__(self) -> str:
        told = ", ".join(f"{name}: {value}" for name, value in self.headers)
        return f"{'an honest' if self.honest else 'a foreign'} {self.method} {self.address} ({told})"


def combination(random: Random) -> Combination:
    """Of most of them one part is foreign, of a fifth none, of a fifth as many as come."""
    changes = bool(random.random() < 0.4)
    method = "POST" if changes else choice(random, ["GET", "HEAD", "GET"])
    kinds = [HOSTS, ORIGINS, SITES, TOKENS]
    wrong = {int(random.integers(5))} if random.random() < 0.75 else {i for i in range(5) if random.random() < 0.5}
    wrong = set() if random.random() < 0.2 else wrong
    wrong -= set() if changes else {3}  # reading needs no token, so a wrong one is not foreign
    chosen = [
        choice(random, [part for part in kind if part.honest == (place not in wrong)])
        for place, kind in enumerate(kinds)
    ]
    if not changes and random.random() < 0.7:
        chosen.pop()
    if 4 in wrong:
        method = choice(random, METHODS)
    headers = tuple(header for part in chosen for header in part.headers)
    return Combination(method, choice(random, CHANGE if changes else READ), headers, not wrong)


class Door:
    """The page twice: served, and as an application in this process."""

    def __init__(self, server: PageServer, runs: Path) -> None:
        self.server, self.page = server, Page(Served(runs))
        own = [f"{name}:{server.port}" for name in ("127.0.0.1", "localhost", "[::1]")]
        self.guarded: Any = application(self.page, own)

    def close(self) -> None:
        """End what the application began."""
        self.page.close()

    def tried(self, wanted: Combination) -> str:
        """What is wrong with how either answers, in a sentence; empty where nothing is."""
        return self._served(wanted) or self._asked(wanted)

    def _filled(self, wanted: Combination, token: str) -> Headers:
        port = self.server.port
        names = {"host": f"127.0.0.1:{port}", "port": str(port), "token": token}
        names |= {"nekot": token[::-1], "TOKEN": token.swapcase()}
        return tuple((name, value.format(**names)) for name, value in wanted.headers)

    def _served(self, wanted: Combination) -> str:
        lines = [f"{name}: {value}" for name, value in self._filled(wanted, self.server.token)]
        lines = [f"{wanted.method} {wanted.address} HTTP/1.1", *lines, "Connection: close", "Content-Length: 0", "", ""]
        reply = self.server.exchange("\r\n".join(lines).encode(), ANSWER_SECONDS)
        if len(reply.statuses) != 1:
            return f"{len(reply.statuses)} answers"
        return judged(wanted, Answer(reply.statuses[0], {}, reply.data), self.server.token)

    def _asked(self, wanted: Combination) -> str:
        token = self.page.served.token
        answer = request(self.guarded, wanted.address, wanted.method, self._filled(wanted, token))
        said = judged(wanted, answer, token)
        return said and f"without a server: {said}"


def judged(wanted: Combination, answer: Answer, token: str) -> str:
    """What is wrong with an answer, in a sentence; empty where nothing is."""
    if answer.status >= 500:
        return f"answered {answer.status}"
    if wanted.honest:
        return f"answered {answer.status}, though it is honest" if answer.status in REFUSALS[1:] else ""
    if answer.status not in REFUSALS:
        return f"answered {answer.status}, though it is foreign"
    told = [word for word in (token, SECRET) if word.encode() in answer.body]
    return "the refusal tells what it must not" if told else ""
