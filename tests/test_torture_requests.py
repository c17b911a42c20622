"""The attack on the page: that it sees what is wrong, and that a seed makes the same attempts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from page_client import Answer
from torture import page_requests
from torture.exchange import CANARY, Exchange, flaw
from torture.foreign import REFUSALS, SECRET, Combination, Door, combination, judged
from torture.page_requests import Pace, Stage, grown, planned, surplus
from torture.page_server import PageServer, Reply, Taken

OK = b"HTTP/1.1 200 OK\r\ncontent-type: x\r\n\r\n"
SOUND = Exchange("g", "w", (b"",), frozenset({200}), body=b"as ever")


@pytest.mark.parametrize(
    ("changes", "data", "ended", "said"),
    [
        ({}, OK + b"as ever", True, ""),
        ({}, OK + b"otherwise", True, "another answer"),
        ({}, OK + b"as ever" + CANARY, True, "a file beside the runs"),
        ({}, OK.replace(b"200", b"500"), True, "answered [500]"),
        ({}, OK.replace(b"200", b"503"), True, "answered [503]"),
        ({}, OK.replace(b"200", b"404"), True, "which it may not"),
        ({}, OK * 2, True, "2 answers to 1"),
        ({}, b"", True, "no answer"),
        ({"silent": True}, b"", True, ""),
        ({"silent": True, "closed": 3.0}, b"", False, "still open"),
        ({"most": 2, "body": None}, OK * 2, True, ""),
        ({"body": None}, b"HTTP/1.1 100 Continue\r\n\r\n" + OK, True, ""),
    ],
)
def test_what_may_not_come_back_is_seen(changes: dict[str, Any], data: bytes, ended: bool, said: str) -> None:
    found = flaw(Exchange(**{**vars(SOUND), **changes}), Reply(data, ended))
    assert said in found
    assert bool(found) == bool(said)


def test_the_nonce_of_a_page_is_no_difference() -> None:
    pages = [Reply(OK + b'<script nonce="%s">' % nonce, True).body for nonce in (b"a", b"b")]
    assert pages[0] == pages[1]


@pytest.mark.parametrize("status", [200, 304, 404, 422, 500, 503])
def test_a_foreign_request_that_is_let_in_is_seen(status: int) -> None:
    wanted = Combination("GET", "/", (), honest=False)
    assert judged(wanted, Answer(status, {}, b""), "token")
    assert not [refused for refused in REFUSALS if judged(wanted, Answer(refused, {}, b""), "token")]
    for told in (b"token", SECRET.encode()):
        assert "tells" in judged(wanted, Answer(403, {}, told), "token")


@pytest.mark.parametrize("status", [403, 405, 421, 500])
def test_an_honest_request_that_is_refused_is_seen(status: int) -> None:
    assert judged(Combination("GET", "/", (), honest=True), Answer(status, {}, b""), "token")


def test_combinations_are_foreign_and_honest_and_seldom_twice_the_same() -> None:
    made = [combination(np.random.default_rng([5, i])) for i in range(2000)]
    assert 300 < sum(found.honest for found in made) < 900
    assert len({str(found) for found in made}) > 1500
    assert {found.method for found in made} >= {"GET", "HEAD", "POST", "PUT"}


def test_what_is_left_behind_is_seen() -> None:
    before = Taken(100 << 20, 5, 9, 1, ("a",))
    assert not surplus(before, before, strict=True)
    for after in (
        Taken(0, 6, 9, 1, ("a",)),
        Taken(0, 5, 10, 1, ("a",)),
        Taken(0, 5, 9, 2, ("a",)),
        Taken(0, 5, 9, 1, ("a", "b")),
    ):
        assert "1 more" in surplus(before, after, strict=True)
    assert surplus(before, Taken(0, 5 + page_requests.POOL + 1, 9, 1, ("a",)), strict=False)
    assert grown(before, Taken(121 << 20, 5, 9, 1, ())).flaw
    assert not grown(before, Taken(119 << 20, 5, 9, 1, ())).flaw


def test_an_attack_that_slows_honest_requests_is_seen() -> None:
    idle = [0.01] * 99 + [0.1]
    assert Pace([3 * seconds for seconds in idle], idle).judged().flaw
    assert not Pace([1.9 * seconds for seconds in idle], idle).judged().flaw


class Standing(PageServer):
    """A server that is not there: what is to be sent to it can be made all the same."""

    def __init__(self) -> None:
        self.port = 8848
        self.token = str("t" * 43)


def test_a_seed_makes_the_same_attempts_of_every_kind_and_another_seed_others() -> None:
    stage = Stage(Standing(), Door.__new__(Door), {"/": b"", "/static/page.css": b""}, {b"an image": b""})

    def whats(seed: int) -> list[tuple[str, str]]:
        plans = [planned(stage, np.random.default_rng([seed, i])) for i in range(1000)]
        return [(plan.group, plan.what) for plan in plans]

    assert whats(1) == whats(1)
    assert len(set(whats(1)) & set(whats(2))) < 500
    assert {group for group, _ in whats(1)} == set(page_requests.SHARES)
