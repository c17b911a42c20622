"""A command in a pipe is never silent for long, says nothing more when it is quick, and no line breaks another."""

from __future__ import annotations

import io
import json
import sys
import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convscope import cli, heartbeat
from convscope.heartbeat import Heartbeat, Pace
from convscope.terminal import command_seconds, guarded_output, progress_bar

BEAT = "still at work, "


class Pipe(io.StringIO):
    """Where standard output and error both go, as with 2>&1."""


def piped(monkeypatch: pytest.MonkeyPatch) -> Pipe:
    both = Pipe()
    monkeypatch.setattr(sys, "stdout", both)
    monkeypatch.setattr(sys, "stderr", both)
    monkeypatch.setattr(heartbeat, "TICK", 0.001)
    return both


@pytest.mark.parametrize(
    ("moves", "spoke_after", "said"),
    [
        ([], False, "still at work, 9 s in all"),
        ([("features", 312, 1000)], False, "features: 312 of 1,000"),
        ([("features", 312, 1000)], True, "still at features: 312 of 1,000, 5 s"),
        ([("reading", 1121, 1121)], False, "reading: 1,121 of 1,121 are done; what follows has taken 5 s"),
        ([("conv1: words", 0, 1)], False, "conv1: words"),
        ([("conv1: words", 0, 1)], True, "still at conv1: words, 5 s"),
        ([("evidence", 0, 0)], False, "evidence"),
        ([("decoding", 0, 100), ("decoding", 50, 100)], False, "decoding: 50 of 100, 0:05 left"),
        ([("training, epoch 1", 0, 9000), ("training, epoch 2", 30, 9000)], False,
         "training, epoch 2: 30 of 9,000, 24:55 left"),
        ([("decoding", 90, 100), ("decoding", 5, 100)], False, "decoding: 5 of 100"),
    ],
)  # fmt: skip
def test_it_says_where_the_work_is_and_no_more_than_is_known(
    moves: list[tuple[str, int, int]], spoke_after: bool, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(heartbeat.time, "monotonic", lambda: now)
    beat = Heartbeat(print)
    for number, move in enumerate(moves):
        now = 5.0 * number if len(moves) > 1 else 4.0
        beat.move(*move)
    now += 2.0 if spoke_after else 0.0
    if spoke_after:
        beat.wrote(1, "a line\n")
    now = 9.0 if len(moves) < 2 else now
    assert beat.words() == said


def test_what_was_said_is_forgotten_with_its_end() -> None:
    beat = Heartbeat(print)
    beat.move("reading", 1, 10)
    beat.forget()
    assert "reading" not in beat.words()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.text("ab \n", max_size=6)), max_size=30))
def test_it_never_breaks_a_line_and_takes_none_away(pieces: list[tuple[bool, str]]) -> None:
    both, quiet, tick = Pipe(), heartbeat.QUIET, heartbeat.TICK
    streams = sys.stdout, sys.stderr
    heartbeat.QUIET, heartbeat.TICK = 0.0, 0.0001
    sys.stdout = sys.stderr = both
    try:
        with guarded_output():
            for error, text in pieces:
                (sys.stderr if error else sys.stdout).write(text)
                time.sleep(0.0005)
    finally:
        sys.stdout, sys.stderr = streams
        heartbeat.QUIET, heartbeat.TICK = quiet, tick
    left = "".join(line for line in both.getvalue().splitlines(True) if not line.startswith(BEAT))
    assert left == "".join(text for _, text in pieces)


def _within(seconds: float, there: Callable[[], bool]) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if there():
            return True
        time.sleep(0.002)
    return False


def test_a_silent_command_is_heard_and_a_quick_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = piped(monkeypatch)
    monkeypatch.setattr(heartbeat, "QUIET", 30.0)
    with guarded_output(), progress_bar(json=False) as progress:
        assert progress is not None
        progress("features", 1, 9)
        sys.stdout.write("an answer\n")
    assert pipe.getvalue() == "an answer\n"
    monkeypatch.setattr(heartbeat, "QUIET", 0.05)
    with guarded_output(), progress_bar(json=True) as progress:
        assert progress is not None
        progress("features", 2, 9)
        assert _within(20, lambda: "features: 2 of 9" in pipe.getvalue())


def test_json_stays_json_while_it_beats(monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    monkeypatch.setattr(heartbeat, "QUIET", 0.0)
    monkeypatch.setattr(heartbeat, "TICK", 0.0001)
    assert cli.run(["models", "--json"]) == 0
    assert json.loads(out.getvalue())
    assert BEAT in err.getvalue()


def test_the_beat_ends_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = piped(monkeypatch)
    monkeypatch.setattr(heartbeat, "QUIET", 0.0)
    with guarded_output():
        assert command_seconds() is not None
        assert _within(20, lambda: BEAT in pipe.getvalue())
    said = pipe.getvalue()
    time.sleep(0.05)
    assert pipe.getvalue() == said
    assert command_seconds() is None


def test_a_terminal_has_a_bar_and_no_beat(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(screen, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(heartbeat, "QUIET", 0.0)
    with guarded_output():
        assert command_seconds() is None
        with progress_bar(json=True) as progress:
            assert progress is None
    assert not screen.getvalue()


def test_work_that_begins_anew_is_measured_anew() -> None:
    pace = Pace()
    pace.left("decoding", 500, 1000)
    assert pace.left("decoding", 3, 1000) == ""
    assert pace.first["decoding"][0] == 3
