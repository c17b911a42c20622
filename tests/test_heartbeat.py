"""A command in a pipe is never silent for long, says nothing more when it is quick, and no line breaks another."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

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


STARTS_RAY = """
import os, sys, time
from convscope.scale.starting import _quietly
from convscope.terminal import guarded_output
with guarded_output():
    print("before", file=sys.stderr)
    with _quietly():
        os.write(2, b"what nobody asked for")
        time.sleep(1)
    print("after", file=sys.stderr)
"""


def test_a_library_that_is_kept_silent_does_not_silence_the_beat() -> None:
    around = {**os.environ, heartbeat.BEAT: "0.3"}
    done = subprocess.run([sys.executable, "-c", STARTS_RAY], capture_output=True, text=True, env=around, check=True)
    before, *beats, after = done.stderr.splitlines()
    assert (before, after) == ("before", "after")
    assert beats
    assert all(line.startswith(BEAT) for line in beats)


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


def test_a_line_said_within_a_bar_goes_where_the_streams_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(screen, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "30")
    monkeypatch.setattr(sys, "stderr", screen)
    clock = iter(range(0, 10_000, 2))
    with (tmp_path / "answers").open("w") as file:
        monkeypatch.setattr(sys, "stdout", file)
        with guarded_output():
            for _ in range(2):  # two bars one after another are of one command
                with progress_bar(json=False) as progress:
                    assert progress is not None
                    with monkeypatch.context() as patch:
                        patch.setattr(heartbeat.time, "monotonic", lambda: float(next(clock)))
                        for done in range(1, 6):
                            progress("features, a block", done, 50)
                    sys.stdout.write("an answer\n")
    assert (tmp_path / "answers").read_text() == "an answer\n" * 2
    said = "features: about 90 seconds for 50 images"
    assert screen.getvalue().count(said) == 1
    assert f"\x1b[2K{said}\n" in screen.getvalue()  # on a line that was wiped, and is its own


def test_the_estimate_is_said_before_any_silence_and_not_within_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = piped(monkeypatch)
    monkeypatch.setattr(heartbeat, "QUIET", 30.0)
    clock = iter(range(0, 10_000, 2))
    with guarded_output(), progress_bar(json=True) as progress:
        assert progress is not None
        sys.stdout.write("half")
        with monkeypatch.context() as patch:
            patch.setattr(heartbeat.time, "monotonic", lambda: float(next(clock)))
            for done in range(5):
                progress("features", done, 5000)
        time.sleep(0.05)
        assert pipe.getvalue() == "half"
        sys.stdout.write(" a line\n")
        assert _within(20, lambda: pipe.getvalue().endswith("features: about 6 hours for 5,000 images\n"))
        time.sleep(0.05)
    assert pipe.getvalue().count("about") == 1


def test_what_is_over_before_its_estimate_was_said_is_not_promised() -> None:
    said: list[str] = []
    beat = Heartbeat(said.append)
    beat._estimates.append("features: about 3 minutes")
    beat.forget()
    assert not beat._due()


def steps(seconds: list[float], *, first: int = 0) -> list[tuple[float, int]]:
    """(when, how many are done): before the first step, and after each."""
    return [(sum(seconds[:n]), first + n) for n in range(len(seconds) + 1)]


@pytest.mark.parametrize(
    ("what", "total", "moves", "said", "at"),
    [
        ("features", 50_000, steps([0.004] * 5000), "features: about 3 minutes for 50,000 images", 3.0),
        ("training 20 epochs, epoch 1", 14_400, steps([0.05] * 100), "training 20 epochs: about 12 minutes", 3.0),
        ("Jacobians, conv1", 9, steps([4.0] * 9), "Jacobians: about 30 seconds left", 8.0),
        ("decoding", 1000, steps([0.004] * 1000), "", 0.0),  # short
        ("decoding", 1000, steps([0.04] * 100), "decoding: about 40 seconds for 1,000 images", 3.0),
        ("decoding", 1000, steps([60.0] + [0.04] * 200), "decoding: about 40 seconds for 1,000 images", 63.0),
        ("decoding", 1000, steps([60.0] + [0.004] * 999), "", 0.0),  # slow in its first step only
        ("decoding", 1000, steps([0.04, 20.0] + [0.04] * 200), "decoding: about 40 seconds for 1,000 images", 23.1),
        ("features", 1000, steps([0.0625] * 90, first=600), "features: about 20 seconds left for 352 images", 3.0),
        ("study", 40, steps([0.01] * 12 + [30.0] * 9), "study: about 12 minutes left", 90.1),  # 12 were done before
        ("study", 40, steps([2.0, 8.0] * 9), "study: about 4 minutes", 20.0),  # never alike: the mean of all
        ("study", 99, steps([0.1] * 20 + [90.0] + [0.1] * 70), "", 0.0),  # slow once, later: nothing is promised of it
        ("study", 40, steps([2.0**n for n in range(8)]), "", 0.0),  # slower and slower: nobody knows
        ("cards", 1, steps([30.0]), "", 0.0),
        ("cards", 0, steps([30.0] * 4), "", 0.0),  # nobody knows how many
        ("cards", 2, steps([30.0] * 2), "", 0.0),  # nothing is left once it is measured
    ],
)  # fmt: skip
def test_how_long_it_takes_is_said_once_and_early_where_it_is_long(  # noqa: PLR0913 - pytest fills the last
    what: str, total: int, moves: list[tuple[float, int]], said: str, at: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(heartbeat.time, "monotonic", lambda: now)
    pace, heard = Pace(), []
    for now, done in moves:
        estimate = pace.move(what, done, total)[1]
        heard += [(estimate, pytest.approx(now, abs=0.1))] if estimate else []
    assert heard == ([(said, at)] if said else [])


def test_an_estimate_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the pace, what is said is what the rest takes, as far as rounding goes."""
    now = 0.0
    monkeypatch.setattr(heartbeat.time, "monotonic", lambda: now)
    units = {"seconds": 1, "minutes": 60, "hours": 3600, "days": 86400}
    for seconds in (0.02, 0.07, 0.3, 2.0, 9.0, 100.0):
        pace = Pace()
        for done in range(1000):
            now = seconds * done
            if estimate := pace.move("work", done, 1000)[1]:
                amount, unit = estimate.split("about ")[1].split()[:2]
                assert float(amount) * units[unit] == pytest.approx(seconds * (1000 - done), rel=0.25)
                break
        else:
            raise AssertionError(f"{seconds} s a step were not told")


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(11, "10 seconds"), (94, "90 seconds"), (96, "2 minutes"), (5000, "83 minutes"), (7200, "2 hours"),
     (100_000, "28 hours"), (172_800, "2 days")],
)  # fmt: skip
def test_a_time_is_said_as_people_say_it(seconds: float, said: str) -> None:
    assert heartbeat.in_words(seconds) == said


def test_each_stage_is_told_once_and_another_one_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(heartbeat.time, "monotonic", lambda: now)
    pace, heard = Pace(), []
    for total in (100, 100, 200):  # the second time it is the same again, the third time it is more
        for done in range(1, 50):
            now += 1.0
            heard.append(pace.move("decoding", done, total)[1])
    assert list(filter(None, heard)) == [
        "decoding: about 2 minutes for 100 images",
        "decoding: about 3 minutes for 200 images",
    ]


def test_work_that_begins_anew_is_measured_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 2.0, 10.0, 30.0])
    monkeypatch.setattr(heartbeat.time, "monotonic", lambda: next(clock))
    pace = Pace()
    left = [pace.move("decoding", done, 1000)[0] for done in (500, 600, 3, 23)]
    assert left == ["", "0:08 left", "", "16:17 left"]


def test_what_was_done_before_is_no_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of trainings that are kept, many are told in one moment; those that are left take as long as the next ones."""
    now = 0.0
    monkeypatch.setattr(heartbeat.time, "monotonic", lambda: now)
    pace, heard = Pace(), []
    for at, done in [*((k / 1000, k) for k in range(29)), *((200.0 * k, 28 + k) for k in range(1, 5))]:
        now = at
        left, said = pace.move("resnet-vgg, vgg", done, 36)
        assert not left
        heard += [said] * bool(said)
    assert heard == ["resnet-vgg: about 17 minutes left"]


def test_pauses_of_steady_work_are_part_of_its_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(heartbeat.time, "monotonic", lambda: now)
    pace, heard = Pace(), []
    for done in range(1, 6001):
        now += 0.002 + 3.0 * (done % 200 == 0 and done > 900)
        heard += filter(None, [pace.move("decoding", done, 12_000)[1]])
    left, _ = pace.move("decoding", 6000, 12_000)
    assert heard
    minutes, seconds = left.removesuffix(" left").split(":")
    assert 60 * int(minutes) + int(seconds) == pytest.approx(now, rel=0.05)
