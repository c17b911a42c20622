"""How long work tells how far it is, without knowing who listens, and where its time went."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial

Progress = Callable[[str, int, int], None]  # (what is done, how many are done, of how many)
Counted = Callable[[int, int], None]  # the same, of work that does not know its own name


def counted(progress: Progress | None, what: str) -> Counted | None:
    """A Progress for work that is named by whoever calls it; None where nobody listens."""
    return partial(progress, what) if progress else None


class Laps:
    """Seconds by what they were spent on. A lap takes all the time since the one before, so that none is lost."""

    def __init__(self, before: float = 0.0) -> None:
        """Begin; ``before`` are seconds that went by already, and belong to the first lap."""
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter() - before

    def lap(self, what: str, parts: Mapping[str, float] | None = None) -> None:
        """Count the time since the last lap as spent on ``what``, less what is known of its ``parts``."""
        now, parts = time.perf_counter(), parts or {}
        rest = max(0.0, now - self._last - sum(parts.values()))
        for name, seconds in {what: rest, **parts}.items():
            self.seconds[name] = self.seconds.get(name, 0.0) + seconds
        self._last = now


def time_line(spent: Mapping[str, float]) -> str:
    """Tell where a command's time went; what took under a tenth of a second is counted together."""
    long = {what: seconds for what, seconds in spent.items() if seconds >= 0.1}
    total = sum(spent.values())
    said = [f"{what} {seconds:.1f} s" for what, seconds in long.items()]
    rest = total - sum(long.values())
    said += [f"the rest {rest:.1f} s"] if rest >= 0.05 else []
    return ": ".join(filter(None, [f"time: {total:.1f} s in all", ", ".join(said)]))
