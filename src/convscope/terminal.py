"""What every command says alike: notes, intervals, JSON, progress bars, and what is kept when it is interrupted.

Whatever is written goes through an ``Output``, which shows control characters instead of sending them, and outlives its
reader: a command whose output nobody takes any more goes on with its work.
"""

from __future__ import annotations

import io
import json as json_module
import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from .errors import InterruptedRun, StorageError
from .heartbeat import BEAT, Heartbeat, Pace
from .storage import finite
from .visible import visible, visible_lines

if TYPE_CHECKING:
    from .progress import Progress as Moving

PIPE_WIDTH = 10_000  # characters: in a file or a pipe nothing has to be cut


# ------------------------------------------------------------------------------------------------------------ output


class Output:
    """A text stream that never ends a command: ``lost`` says why it takes no more, None while it does.

    Control characters are written out, for they come from names; ``write_trusted`` writes those of our own, colours
    and moving bars, as they are. A line is handed over when it is whole, in a pipe too, and ``heartbeat``, where there
    is one, is told of it.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.lost: OSError | None = None
        self.heartbeat: Heartbeat | None = None
        self.pace = Pace()  # of the bars that are shown here one after another
        with suppress(AttributeError, ValueError, OSError):  # a stream of a notebook's, or one that is closed
            stream.reconfigure(errors="backslashreplace")  # type: ignore[attr-defined]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        """Write text, its control characters written out."""
        return self.write_trusted(visible_lines(text))

    def write_trusted(self, text: str) -> int:
        """Write text as it is."""
        beat = self.heartbeat
        with beat.lock if beat else nullcontext():
            if self.lost is None:
                with self._outliving():
                    self.stream.write(text)
                    if "\n" in text:
                        self.stream.flush()
            if beat:
                beat.wrote(id(self), text)
        return len(text)

    def flush(self) -> None:
        """Hand over what was written."""
        if self.lost is None:
            with self._outliving():
                self.stream.flush()

    @contextmanager
    def aside(self, number: int, other: int) -> Iterator[None]:
        """A with-block in which text meant for open file ``number``, which a library writes to, goes to ``other``."""
        try:
            meant = self.stream.fileno() == number
        except (AttributeError, ValueError, OSError):  # a stream of a notebook's
            meant = False
        if not meant:
            yield
            return
        kept = self.stream
        raw = io.BufferedWriter(io.FileIO(other, "wb", closefd=False))
        with io.TextIOWrapper(raw, encoding=kept.encoding, errors="backslashreplace") as self.stream:
            try:
                yield
            finally:
                with self.heartbeat.lock if self.heartbeat else nullcontext():
                    self.flush()
                    self.stream = kept

    @contextmanager
    def _outliving(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.lost = error
            with suppress(OSError, ValueError):  # what waits in the buffer has to go somewhere when the process ends
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self.stream.fileno())
                os.close(nowhere)


class _Trusted:
    """The way past an ``Output``'s guard, for rich."""

    def __init__(self, output: Output) -> None:
        self.output = output

    def __getattr__(self, name: str) -> Any:
        return getattr(self.output, name)

    def write(self, text: str) -> int:
        return self.output.write_trusted(text)


@contextmanager
def guarded_output() -> Iterator[None]:
    """A with-block in which standard output and error are Outputs; StorageError where the first could not be written.

    That its reader left is no error: ``head -1`` does so.
    """
    before = sys.stdout, sys.stderr
    streams = [Output(stream) if stream is not None else None for stream in before]
    sys.stdout, sys.stderr = streams  # type: ignore[assignment]
    try:
        with _heartbeat(streams):
            yield
    finally:
        for stream in streams:
            if stream is not None:
                stream.flush()
        sys.stdout, sys.stderr = before
    lost = streams[0].lost if streams[0] is not None else None
    if lost is not None and not isinstance(lost, BrokenPipeError):
        raise StorageError(f"the output could not be written: {(lost.strerror or str(lost)).lower()}.")


@contextmanager
def _heartbeat(streams: list[Output | None]) -> Iterator[None]:
    """A with-block in which standard error says how far the work is, where it is no terminal: there is a bar there."""
    errors = streams[1]
    if errors is None or console(stderr=True).is_terminal:
        yield
        return

    def say(line: str) -> None:
        errors.write(line)
        if BEAT in os.environ and isinstance(errors.lost, BrokenPipeError):
            os.kill(os.getpid(), signal.SIGTERM)  # who began it and showed it is gone, and nobody else can end it

    beat = Heartbeat(say)
    for stream in filter(None, streams):
        stream.heartbeat = beat
    with beat.beating():
        yield


def command_seconds() -> float | None:
    """Seconds since the command began, its start-up with them; None where none is running, as in a notebook."""
    beat = getattr(sys.stderr, "heartbeat", None)
    return time.monotonic() - beat.began if beat else None


def rest() -> None:
    """Say nothing more of how far the work is: what follows has no end to wait for."""
    beat = getattr(sys.stderr, "heartbeat", None)
    if beat:
        beat.rest()


def console(*, stderr: bool = False, **options: Any) -> Console:
    """Make a console of rich's that writes where ``print`` does; names go onto it by ``cell``."""
    stream = sys.stderr if stderr else sys.stdout
    made = Console(file=_Trusted(stream) if isinstance(stream, Output) else stream, **options)  # type: ignore[arg-type]
    if not made.is_terminal:
        made.width = PIPE_WIDTH
    return made


def new_table(*headings: str) -> Table:
    """Make a table of rich's that cuts no name: where the screen is too narrow, a name goes on in the next line."""
    made = Table(box=None, header_style="bold")
    for heading in headings:
        made.add_column(heading, overflow="fold")
    return made


def cell(name: str, style: str = "") -> Text:
    """A name for a table of rich's, nothing in it taken for markup."""
    return Text(visible(name), style)


def print_json(value: Any) -> None:
    """Print one line of JSON in plain ASCII, which every stream can hold; a number that is none is null."""
    print(json_module.dumps(finite(value), allow_nan=False), flush=True)


# ------------------------------------------------------------------------------------------------------------- words


def print_notes(notes: Iterable[str]) -> None:
    for note in notes:
        print(f"note: {visible(note)}", file=sys.stderr)


def percent(row: Mapping[str, Any], prefix: str) -> str:
    value = row[f"{prefix}_top1"] if prefix else row["top1"]
    low, high = (row[f"{prefix}_{end}"] if prefix else row[f"top1_{end}"] for end in ("low", "high"))
    return f"{100 * value:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


@contextmanager
def progress_bar(json: bool) -> Iterator[Moving | None]:
    """A with-block with a function (what, done, total): on a terminal it moves a bar, else it tells the heartbeat.

    None where there is neither, and with ``json`` on a terminal.
    """
    shown = console(stderr=True)
    if not shown.is_terminal:
        beat: Heartbeat | None = getattr(sys.stderr, "heartbeat", None)
        try:
            yield beat.move if beat else None
        finally:
            if beat:
                beat.forget()
        return
    if json:
        yield None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[left]}"))
    pace = sys.stderr.pace if isinstance(sys.stderr, Output) else Pace()
    both = console().is_terminal  # else what goes to a file would go to the terminal, above the bar
    with Progress(*columns, console=shown, transient=True, redirect_stdout=both) as bars:
        task = bars.add_task("", total=None, left="")

        def move(what: str, done: int, total: int) -> None:
            left, said = pace.move(what, done, total)
            if said:
                bars.console.print(visible(said), markup=False, highlight=False, soft_wrap=True)
            bars.update(task, description=visible(what), completed=done, total=total or None, left=left)

        yield move


# ----------------------------------------------------------------------------------------------------------- signals


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP, taken as Ctrl-C is: what is being done is left in order."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def signal_number(error: KeyboardInterrupt) -> int:
    """The signal that interrupted."""
    return error.number if isinstance(error, Terminated) else signal.SIGINT


@contextmanager
def terminations() -> Iterator[None]:
    """A with-block in which SIGTERM and SIGHUP raise Terminated, where they would end the process without a word."""

    def stop(number: int, frame: Any) -> None:
        raise Terminated(number)

    there = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    try:
        before = {n: signal.signal(n, stop) for n in there if signal.getsignal(n) is signal.SIG_DFL}
    except ValueError:  # not in the main thread, which alone takes signals
        before = {}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def keeping(words: str) -> Iterator[None]:
    """A with-block after whose interruption these words are said."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise InterruptedRun(f"interrupted; {words}", signal_number(error)) from None
