"""How a training is stopped: the first signal is noted, so that it saves and ends in order; the second ends it."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")


@contextlib.contextmanager
def noting_signals(caught: list[int]) -> Iterator[None]:
    """A with-block in which the first signal is noted in a list and the second one ends the process at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def note(number: int, frame: Any) -> None:
        if caught:
            raise KeyboardInterrupt
        caught.append(number)

    there = [getattr(signal, name) for name in SIGNALS if hasattr(signal, name)]
    # What is ignored stays ignored: under nohup a hang-up must not stop the run.
    wanted = [number for number in there if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, note) for number in wanted}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
