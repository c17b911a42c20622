"""Every schedule: within [0, 1], at its peak when the warm-up ends, continuous, and at zero in the end."""

from __future__ import annotations

import math

import numpy as np
import pytest

from convscope.schedules import SCHEDULES


@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("name", SCHEDULES)
def test_the_shape_of_every_schedule(name: str, warmup: float) -> None:
    values = np.array([SCHEDULES[name](p, warmup) for p in np.linspace(0, 1, 1001)])
    assert (values >= 0).all()
    assert (values <= 1).all()
    assert SCHEDULES[name](warmup, warmup) == pytest.approx(1)
    assert abs(np.diff(values)).max() < 0.011
    assert values[-1] == pytest.approx(1 if name == "constant" else 0, abs=1e-12)
    if warmup:
        assert values[0] == pytest.approx(0.04)
        assert (np.diff(values[: int(1000 * warmup)]) > 0).all()


@pytest.mark.parametrize("warmup", [1e-6, 0.25, 0.99])
@pytest.mark.parametrize("name", SCHEDULES)
def test_the_climb_meets_the_peak(name: str, warmup: float) -> None:
    """Continuous where the halves meet, and only downwards from there."""
    schedule = SCHEDULES[name]
    assert schedule(math.nextafter(warmup, 0), warmup) == pytest.approx(1)
    assert schedule(warmup, warmup) == pytest.approx(1)
    assert schedule(warmup / 2, warmup) == pytest.approx(0.52)
    after = [schedule(p, warmup) for p in np.linspace(warmup, 1, 200)]
    assert (np.diff(after) <= 1e-12).all()
    assert schedule(1, warmup) == pytest.approx(1 if name == "constant" else 0, abs=1e-12)


@pytest.mark.parametrize("name", SCHEDULES)
def test_without_warmup_it_starts_at_the_peak(name: str) -> None:
    assert SCHEDULES[name](0, 0) == 1


@pytest.mark.parametrize("warmup", [0.0, 0.2, 0.7])
def test_the_cosine_is_one(warmup: float) -> None:
    for share in np.linspace(0, 1, 21):
        progress = warmup + share * (1 - warmup)
        expected = math.cos(math.pi * share / 2) ** 2  # half a cosine, written otherwise
        assert SCHEDULES["cosine"](progress, warmup) == pytest.approx(expected, abs=1e-12)


def test_one_cycle_falls_in_a_line() -> None:
    assert SCHEDULES["one-cycle"](0.6, 0.2) == pytest.approx(0.5)
