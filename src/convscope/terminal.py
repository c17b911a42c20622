"""What every command says alike: notes, intervals, progress bars, and what is kept when it is interrupted."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console

from .errors import InterruptedRun

if TYPE_CHECKING:
    from .progress import Progress as Moving

STEPS_BEFORE_ESTIMATE = 20


def print_notes(notes: Iterable[str]) -> None:
    for note in notes:
        print(f"note: {note}", file=sys.stderr)


def percent(row: dict[str, Any], prefix: str) -> str:
    value = row[f"{prefix}_top1"] if prefix else row["top1"]
    low, high = (row[f"{prefix}_{end}"] if prefix else row[f"top1_{end}"] for end in ("low", "high"))
    return f"{100 * value:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


@contextmanager
def progress_bar(json: bool) -> Iterator[Moving | None]:
    """A with-block with a function (what, done, total) that moves a bar, or None when nobody watches."""
    console = Console(stderr=True)
    if json or not console.is_terminal:
        yield None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[left]}"))
    with Progress(*columns, console=console, transient=True) as bars:
        task = bars.add_task("", total=None, left="")
        first: dict[str, tuple[int, float]] = {}

        def move(what: str, done: int, total: int) -> None:
            start = first.setdefault(what.split(",")[0], (done, bars.get_time()))
            left = ""
            if done - start[0] >= STEPS_BEFORE_ESTIMATE and total:
                seconds = (bars.get_time() - start[1]) / (done - start[0]) * (total - done)
                left = f"{seconds // 60:.0f}:{seconds % 60:02.0f} left"
            bars.update(task, description=what, completed=done, total=total or None, left=left)

        yield move


@contextmanager
def keeping(words: str) -> Iterator[None]:
    """A with-block after whose interruption these words are said."""
    try:
        yield
    except KeyboardInterrupt:
        raise InterruptedRun(f"interrupted; {words}", signal.SIGINT) from None
