"""How long work will take, and a sign of life for whoever reads a command's output from a pipe or a file: a line before
anything long, and one whenever it was silent for long.

The work only notes how far it is, which costs next to nothing. One thread, which ends with the command, says it, and
only between two whole lines.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

QUIET = 6.0  # seconds without a line, after which one is written
BEAT = "CONVSCOPE_BEAT"  # in the environment: other seconds, for a program that shows how far a command is
TICK = 0.25  # seconds between two looks at the clock
STEPS_BEFORE_ESTIMATE = 20
LONG = 10.0  # seconds that are worth a line in advance
STRETCH = 1.5  # seconds over which a pace is measured
FAR = 50  # times as slow is other work
ALIKE = 1.4  # times as slow, at most, is the same pace
OF_IMAGES = (  # how the kinds of work begin that count images
    "reading", "decoding", "comparing images", "features", "k-NN", "evaluating", "predicting", "looking", "exemplars",
)  # fmt: skip


@dataclass
class Stage:
    """One kind of work from its first step seen to its last: (done, when) at the ends of the stretches measured."""

    total: int
    marks: list[tuple[int, float]]
    last: int = 0
    moved: float = 0.0  # when the last step was seen
    settled: bool = False  # whether how long it takes was said, or that it is short found

    def note(self, done: int, now: float) -> None:
        """Note a step. The first ones do not count where they were over in a moment, and the next is far slower: they
        were no work (done already, say)."""
        (first, began), *_ = self.marks
        before, spent = (self.moved - began) * (done - self.last), (now - self.moved) * (self.last - first)
        if self.moved - began < STRETCH < now - self.moved and self.last > first and spent > FAR * before:
            self.marks = [(done, now)]
        self.last, self.moved = done, now

    def left(self, done: int, now: float) -> str:
        """Tell how long it will take, "3:10 left"; nothing before enough steps were seen."""
        (first, began), *_ = self.marks
        if done - first < STEPS_BEFORE_ESTIMATE or done >= self.total or now - began < STRETCH:
            return ""
        seconds = round((now - began) / (done - first) * (self.total - done))
        return f"{seconds // 60}:{seconds % 60:02} left"

    def seconds_left(self, done: int, now: float) -> float | None:
        """Seconds that are left, once the pace is known; None before, and ever after."""
        before, since = self.marks[-1]
        if self.settled or done == before or now - since < STRETCH:
            return None
        self.marks.append((done, now))
        pace = self._pace()
        self.settled = pace is not None
        return None if pace is None else pace * (self.total - done)

    def _pace(self) -> float | None:
        """Seconds a step, where two stretches went alike; else, later, where a time twice as long changed it little.

        First steps are often slow. What went before the first mark does not count, nor does a first stretch that the
        second is not like.
        """
        if len(self.marks) < 3:
            return None
        start = self.marks[0 if len(self.marks) == 3 else 1]
        half = (start[1] + self.marks[-1][1]) / 2
        middle = min(self.marks[2 if len(self.marks) > 3 else 1 : -1], key=lambda mark: abs(mark[1] - half))
        earlier = _between(start, middle)
        pace = _between(middle if len(self.marks) == 3 else start, self.marks[-1])
        return pace if max(pace, earlier) <= ALIKE * min(pace, earlier) else None


def _between(start: tuple[int, float], end: tuple[int, float]) -> float:
    return (end[1] - start[1]) / (end[0] - start[0])


class Pace:
    """How fast each kind of work goes, and how long it will take. What follows a comma is no other kind."""

    def __init__(self) -> None:
        self._stages: dict[str, Stage] = {}
        self._said: set[tuple[str, int]] = set()

    def move(self, what: str, done: int, total: int) -> tuple[str, str]:
        """Note how far the work is. Returns how long is left, and once, where that is long, how long all of it takes.

        Both are empty where there is nothing to say yet.
        """
        now, kind = time.monotonic(), what.split(",")[0]
        stage = self._stages.get(kind)
        if stage is None or done < stage.last or total != stage.total:  # it begins, or began anew
            stage = self._stages[kind] = Stage(total, [(done, now)], done, now)
        stage.note(done, now)
        seconds = stage.seconds_left(done, now) if done < total else None
        if seconds is None or seconds <= LONG or (kind, total) in self._said:
            return stage.left(done, now), ""
        self._said.add((kind, total))
        return stage.left(done, now), estimate(kind, done, total, seconds)


def estimate(kind: str, done: int, total: int, seconds: float) -> str:
    """Say how long a kind of work will take; of what is left, where more than a tenth is done."""
    late = 10 * done > total
    count = f" for {total - done if late else total:,} images" if kind.startswith(OF_IMAGES) else ""
    return f"{kind}: about {in_words(seconds)}{' left' if late else ''}{count}"


def in_words(seconds: float) -> str:
    """A time as one says it: tens of seconds, minutes, hours or days."""
    for size, name in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 1.58 * size:
            return f"{seconds / size:.0f} {name}"
    return f"{max(10, 10 * round(seconds / 10))} seconds"


class Heartbeat:
    """What the work said last, and when a line was written last, by it or by the beat."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self.lock = threading.RLock()  # held while a stream takes text
        self.began = time.monotonic()
        self._write = write
        self._at: tuple[str, int, int] | None = None
        self._left = ""
        self._pace = Pace()
        self._estimates: deque[str] = deque()
        self._moved = self._spoke = self.began
        self._open: set[int] = set()  # the streams that stand within a line
        self._over = threading.Event()
        self._quiet = _seconds(os.environ.get(BEAT))

    def move(self, what: str, done: int, total: int) -> None:
        """Note how far the work is: a Progress."""
        left, said = self._pace.move(what, done, total)
        self._at, self._left, self._moved = (what, done, total), left, time.monotonic()
        if said:
            self._estimates.append(said)

    def forget(self) -> None:
        """Note that what was said of the work is over."""
        self._at, self._moved = None, time.monotonic()
        self._estimates.clear()

    def rest(self) -> None:
        """Say nothing more: what follows has no end to wait for."""
        self._over.set()

    def wrote(self, stream: int, text: str) -> None:
        """Note that a stream took text."""
        if text:
            (self._open.discard if text.endswith("\n") else self._open.add)(stream)
        if "\n" in text:
            self._spoke = time.monotonic()

    def words(self) -> str:
        """Tell where the work is. What has not moved since the last line is honestly "still" there."""
        now, at = time.monotonic(), self._at
        still = f"{now - self._moved:.0f} s"
        if at is None:
            return f"still at work, {now - self.began:.0f} s in all"
        what, done, total = at
        where = f"{what}: {done:,} of {total:,}" if total > 1 else what
        if total > 1 and done >= total:
            return f"{where} are done; what follows has taken {still}"
        if self._moved < self._spoke:
            return f"still at {where}, {still}"
        return ", ".join(filter(None, [where, self._left]))

    @contextmanager
    def beating(self) -> Iterator[None]:
        """A with-block that is never silent for long. Where no thread can be had it is silent, and works."""
        thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            yield
            return
        try:
            yield
        finally:
            self._over.set()
            thread.join(1.0)  # unless nobody takes its line

    def _beat(self) -> None:
        while not self._over.wait(TICK):
            with self.lock:
                if not self._open and (said := self._due()):
                    self._write(said + "\n")
                    self._spoke = time.monotonic()

    def _due(self) -> str:
        """What is to be said now: how long the work will take, or after a silence where it is; else nothing."""
        with suppress(IndexError):
            return self._estimates.popleft()
        return self.words() if time.monotonic() - self._spoke >= self._quiet else ""


def _seconds(said: str | None) -> float:
    try:
        return max(TICK, float(said or QUIET))
    except ValueError:
        return QUIET
