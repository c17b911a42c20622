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


def test_the_cosine_is_one() -> None:
    assert SCHEDULES["cosine"](0.4, 0.2) == pytest.approx(0.5 * (1 + math.cos(math.pi * 0.25)))


def test_one_cycle_falls_in_a_line() -> None:
    assert SCHEDULES["one-cycle"](0.6, 0.2) == pytest.approx(0.5)
