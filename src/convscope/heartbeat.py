"""A sign of life for whoever reads a command's output from a pipe or a file: a line whenever it was silent for long.

The work only notes how far it is, which costs next to nothing. One thread, which ends with the command, says it, and
only between two whole lines.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

QUIET = 6.0  # seconds without a line, after which one is written
TICK = 0.25  # seconds between two looks at the clock
STEPS_BEFORE_ESTIMATE = 20


@dataclass
class Pace:
    """How fast each kind of work goes: its first step seen, and when. What follows a comma is no other kind."""

    first: dict[str, tuple[int, float]] = field(default_factory=dict)

    def left(self, what: str, done: int, total: int) -> str:
        """Tell how long it will take, "3:10 left"; nothing before enough steps were seen."""
        now = time.monotonic()
        start = self.first.setdefault(what.split(",")[0], (done, now))
        if done < start[0]:  # it began anew
            self.first[what.split(",")[0]] = start = (done, now)
        if done - start[0] < STEPS_BEFORE_ESTIMATE or done >= total:
            return ""
        seconds = round((now - start[1]) / (done - start[0]) * (total - done))
        return f"{seconds // 60}:{seconds % 60:02} left"


class Heartbeat:
    """What the work said last, and when a line was written last, by it or by the beat."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self.lock = threading.RLock()  # held while a stream takes text
        self.began = time.monotonic()
        self._write = write
        self._at: tuple[str, int, int] | None = None
        self._left = ""
        self._pace = Pace()
        self._moved = self._spoke = self.began
        self._open: set[int] = set()  # the streams that stand within a line
        self._over = threading.Event()

    def move(self, what: str, done: int, total: int) -> None:
        """Note how far the work is: a Progress."""
        left = self._pace.left(what, done, total)
        self._at, self._left, self._moved = (what, done, total), left, time.monotonic()

    def forget(self) -> None:
        """Note that what was said of the work is over."""
        self._at, self._moved = None, time.monotonic()

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
                if not self._open and time.monotonic() - self._spoke >= QUIET:
                    self._write(self.words() + "\n")
                    self._spoke = time.monotonic()
