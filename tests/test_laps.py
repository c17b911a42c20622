"""Where the time went: no second is lost, and none counted twice."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convscope import progress
from convscope.progress import Laps, time_line

STEPS = st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 50), st.floats(0, 1)), min_size=1, max_size=20)


@given(STEPS, st.floats(0, 9))
def test_laps_add_up_to_all_the_time(steps: list[tuple[str, float, float]], before: float) -> None:
    now = 100.0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(progress.time, "perf_counter", lambda: now)
        laps = Laps(before)
        for what, seconds, share in steps:
            now += seconds
            laps.lap(what, {"part": seconds * share})
    assert sum(laps.seconds.values()) == pytest.approx(now - 100.0 + before, abs=1e-6)


@pytest.mark.parametrize(
    ("spent", "said"),
    [
        ({"reading": 2.0, "features": 10.04}, "time: 12.0 s in all: reading 2.0 s, features 10.0 s"),
        ({"reading": 2.0, "a": 0.04, "b": 0.05}, "time: 2.1 s in all: reading 2.0 s, the rest 0.1 s"),
        ({"a": 0.01}, "time: 0.0 s in all"),
    ],
)
def test_the_line_says_all_of_it(spent: dict[str, float], said: str) -> None:
    assert time_line(spent) == said
