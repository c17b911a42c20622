"""The page under attack: hostile requests of many kinds at once, and honest ones that must be answered as ever.

A server is started as a user starts it, with three small runs, and what it answers is learned while nobody else asks.
Of a round the attempts are made by some clients at once, the slow ones by more, the honest ones by one of their own.
From TIMED attempts on the last two say whether honest requests took more than twice as long in the attack as between
the rounds (the 99th percentile of the same addresses), and how much memory the server and its decoder kept.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import convscope
from torture import hostile_heads, hostile_talks
from torture.attempts import Attempt
from torture.exchange import CANARY, Exchange, made
from torture.foreign import Door, combination
from torture.hostile_heads import Random, choice
from torture.hostile_talks import posted
from torture.page_server import PageServer, Taken

TIMED = 1000  # attempts from which on time and memory are judged
ROUND = 250
ATTACKERS, SLOW = 2, 24  # clients at once
RATIO, MEGABYTES = 2.0, 20.0  # of the honest 99th percentile in the attack, and of growth
CROWD, CROWD_SECONDS = 80, 15.0  # connections, and how long an honest request may take beside them
POOL = 11  # threads that wait for the next work, at most
SHARES = {
    "honest": 24, "foreign": 17, "malformed": 12, "smuggled": 7, "paths": 8, "queries": 7, "ranges": 4, "methods": 3,
    "upgrades": 3, "bodies": 4, "bombs": 3, "torn": 4, "slow": 2.5, "oversize": 1, "crowd": 0.5,
}  # fmt: skip
HOSTILE: dict[str, Callable[[Random, PageServer], Exchange]] = {
    kind.__name__: kind for kind in (
        hostile_heads.malformed, hostile_heads.smuggled, hostile_heads.paths, hostile_heads.queries,
        hostile_heads.methods, hostile_heads.upgrades,
        hostile_talks.bodies, hostile_talks.bombs, hostile_talks.oversize,
    )
}  # fmt: skip
OF_PAGES: dict[str, Callable[[Random, PageServer, dict[str, bytes]], Exchange]] = {
    "ranges": hostile_heads.ranges, "torn": hostile_talks.torn, "slow": hostile_talks.slow,
}  # fmt: skip
ADDRESSES = ("/", "/index.json", "/runs/first", "/runs/first.json", "/runs/second", "/runs/damaged", "/study", "/data")
ADDRESSES += ("/runs/first/network", "/runs/first/gradients", "/runs/first/ask", "/compare?run=first&run=second")
ADDRESSES += ("/static/page.css", "/runs/first/drawing/curves.png", "/live/first", "/runs/first/epochs", "/train")


@dataclass(frozen=True)
class Planned:
    """An attempt to be made: what it is counted with, and how to make it (its flaw, and its seconds)."""

    group: str
    what: str
    make: Callable[[], tuple[str, float]]


@dataclass
class Stage:
    """The server, what it answers when nobody attacks, and what it held then."""

    server: PageServer
    door: Door
    pages: dict[str, bytes] = field(default_factory=dict)
    images: dict[bytes, bytes] = field(default_factory=dict)
    heard: int = 0

    def learn(self) -> Taken:
        """Ask all that is asked later, twice: what differs from itself would be no measure."""
        for kind in ("PNG", "JPEG"):
            data = hostile_talks.small(kind)
            self.images[data] = self.server.exchange(posted(self.server, hostile_talks.ASK, data), 120).body
            key = self.images[data].partition(b'"key":"')[2][:32].decode()
            asked = (f"/runs/first/asked/{key}.json", f"/runs/first/asked/{key}/evidence")
            self.pages |= {address: self.page(address) for address in asked}
        self.pages |= {address: self.page(address) for address in ADDRESSES}
        unlike = [address for address, body in self.pages.items() if self.page(address) != body]
        if unlike:
            raise RuntimeError(f"these pages differ from one time to the next: {unlike}")
        return self.server.taken()

    def page(self, address: str) -> bytes:
        """The body of a page that is there."""
        reply = self.server.exchange(self.server.head("GET", address), 120)
        if reply.statuses != [200]:
            raise RuntimeError(f"{address} is answered {reply.data[:200]!r}")
        return reply.body

    def honest(self, random: Random) -> Exchange:
        """A page, or a question about an image, and the answer that it has."""
        if random.random() < 0.15:
            data = choice(random, sorted(self.images))
            told = (posted(self.server, hostile_talks.ASK, data),)
            return Exchange("honest", "an image", told, frozenset({200}), body=self.images[data])
        address = choice(random, sorted(self.pages))
        method = "HEAD" if random.random() < 0.1 else "GET"
        body = self.pages[address] if method == "GET" else b""
        told = (self.server.head(method, address),)
        return Exchange("honest", f"{method} {address}", told, frozenset({200}), body=body)

    def unsaid(self) -> str:
        """What the server printed since the last time that is no answer to give a user; empty for none."""
        new = self.server.said()[self.heard :]
        self.heard += len(new)
        signs = ("Traceback", "ERROR", "Exception", "Error:")
        line = next((line for line in reversed(new.splitlines()) if any(sign in line for sign in signs)), "")
        return f"the server printed: {line}" if line else "" if self.server.lives() else "the server is gone"


def planned(stage: Stage, random: Random) -> Planned:
    """One attempt of the kinds of SHARES."""
    weights = np.array(list(SHARES.values()))
    kind = list(SHARES)[int(random.choice(len(weights), p=weights / weights.sum()))]
    if kind == "foreign":
        wanted = combination(random)
        return Planned(kind, str(wanted), lambda: timed(lambda: stage.door.tried(wanted)))
    if kind == "crowd":
        return crowd(stage, random)
    if kind == "honest":
        exchange = stage.honest(random)
    elif kind in OF_PAGES:
        exchange = OF_PAGES[kind](random, stage.server, stage.pages)
    else:
        exchange = HOSTILE[kind](random, stage.server)
    return Planned(kind, exchange.what, lambda: made(stage.server, exchange))


def timed(make: Callable[[], str]) -> tuple[str, float]:
    """A flaw, with the seconds it took to find none."""
    start = time.monotonic()
    try:
        said = make()
    except OSError as error:
        said = f"no answer: {error}"
    return said, time.monotonic() - start


def crowd(stage: Stage, random: Random) -> Planned:
    """More connections than there may be, all of one kind, and an honest request beside them."""
    server, exchange = stage.server, stage.honest(random)
    page = server.head("GET", "/static/page.css").replace(b"Connection: close\r\n", b"")
    kinds = {
        "silent": b"",
        "with half a head": page[:-2],
        "with half an image": posted(server, hostile_talks.ASK, hostile_talks.small("PNG"))[:-50],
        "that take no answer": page * 400,
        "that leave before the answer": server.head("GET", "/runs/first/network"),
    }
    kind = choice(random, sorted(kinds))

    def make() -> str:
        talks = []
        try:
            for _ in range(CROWD):
                talks.append(server.connect(5))
                with suppress(OSError):  # another needed its place
                    talks[-1].sendall(kinds[kind])
                if "leave" in kind:
                    talks[-1].close()
            said, seconds = made(server, exchange)
        finally:
            for talk in talks:
                talk.close()
        return said or (f"{seconds:.0f} s for an honest request" if seconds > CROWD_SECONDS else "")

    return Planned("crowd", f"{CROWD} connections {kind}, and {exchange.what}", lambda: timed(make))


@dataclass
class Pace:
    """Seconds of honest requests, in the attack and between its rounds."""

    attacked: list[float] = field(default_factory=list)
    idle: list[float] = field(default_factory=list)

    def judged(self) -> Attempt:
        """Whether the 99th percentile grew no more than RATIO."""
        slow, usual = (float(np.percentile(seconds, 99)) for seconds in (self.attacked, self.idle))
        what = f"the honest 99th percentile: {1000 * slow:.0f} ms in the attack, {1000 * usual:.0f} ms without"
        return Attempt(what, "pace", f"{slow / usual:.1f} times" if slow > RATIO * usual else "", seconds=slow)


def attack(seed: int, count: int, folder: Path) -> Iterator[Attempt]:
    """The attempts, at the end whether the server left anything behind; from TIMED on its pace and its memory."""
    if not count:
        return
    ends = 1 if count < TIMED else 3
    (folder / "secret.txt").write_bytes(CANARY)
    with PageServer(folder) as server:
        make_runs(server.runs)
        server.wait()
        stage = Stage(server, Door(server, server.runs))
        before, pace = stage.learn(), Pace()
        plans = [planned(stage, np.random.default_rng([seed, i])) for i in range(count - ends)]
        for start in range(0, len(plans), ROUND):
            if ends > 1:
                idle = (stage.honest(np.random.default_rng([seed, start, i])) for i in range(ROUND // 4))
                pace.idle += [made(server, exchange)[1] for exchange in idle]
            yield from made_at_once(stage, plans[start : start + ROUND], pace)
        stage.door.close()
        after = settled(stage, before, strict=ends > 1)
        if ends > 1:
            yield pace.judged()
            yield grown(before, after)
        yield left(stage, before, after)


def make_runs(runs: Path) -> None:
    """A small run with an evaluation, a copy of it, and a damaged one."""
    asked = {"width": 4, "image_size": 16, "epochs": 1, "limit": 60, "flip": "none", "augment": "none"}
    run = convscope.train("digits", runs=runs, name="first", model="resnet20", **asked).run
    convscope.evaluate(run)
    for name in ("second", "damaged"):
        shutil.copytree(run.folder, runs / name)
    (runs / "damaged" / "recipe.json").write_text("{", encoding="utf-8")


def made_at_once(stage: Stage, plans: list[Planned], pace: Pace) -> Iterator[Attempt]:
    """Make the attempts, each by a client of its kind, and tell them in their order."""
    with ThreadPoolExecutor(ATTACKERS) as attackers, ThreadPoolExecutor(SLOW) as slow, ThreadPoolExecutor(1) as own:
        pools = {"slow": slow, "honest": own}
        waiting: list[Future[tuple[str, float]]] = [
            pools.get(plan.group, attackers).submit(plan.make) for plan in plans
        ]
        for plan, future in zip(plans, waiting, strict=True):
            said, seconds = future.result()
            if plan.group == "honest":
                pace.attacked.append(seconds)
            told = 0.0 if plan.group == "slow" else seconds
            yield Attempt(plan.what, plan.group, said or stage.unsaid(), seconds=told)


def settled(stage: Stage, before: Taken, *, strict: bool, patience: float = 40.0) -> Taken:
    """What the server holds once it has had time to let go of what it does not need."""
    until = time.monotonic() + patience
    while True:
        if strict:
            time.sleep(11)  # after 10 s a thread without work ends, when the next work comes
            stage.page("/index.json")
        found = stage.server.taken()
        if not surplus(before, found, strict=strict) or time.monotonic() > until:
            return found
        time.sleep(0.3)


def surplus(before: Taken, after: Taken, *, strict: bool) -> str:
    """What is there after that was not before, in words; threads that wait for work count where ``strict``."""
    spare = 0 if strict else POOL
    found = {
        "threads": after.threads - before.threads - spare,
        "open files": after.descriptors - before.descriptors,
        "child processes": after.children - before.children,
        "temporary files": len(set(after.files) - set(before.files)),
    }
    return ", ".join(f"{number} more {what}" for what, number in found.items() if number > 0)


def grown(before: Taken, after: Taken) -> Attempt:
    """Whether the server's own memory and its decoder's grew no more than MEGABYTES."""
    more = (after.memory - before.memory) / 2**20
    what = f"{more:.1f} MB more of own memory than the {before.memory / 2**20:.0f} MB before"
    return Attempt(
        what, "memory", f"more than {MEGABYTES:.0f} MB" if more > MEGABYTES else "", megabytes=max(0.0, more)
    )


def left(stage: Stage, before: Taken, after: Taken) -> Attempt:
    """Whether anything is left behind, and whether the server ends as it should."""
    said = (
        surplus(before, after, strict=False) or stage.server.stop() or stage.unsaid().replace("the server is gone", "")
    )
    rest = sorted(os.listdir(stage.server.temporary))
    return Attempt("what is left behind", "leavings", said or (f"temporary files: {rest}" if rest else ""))
