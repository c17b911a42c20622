"""Every schedule: within [0, 1], at its peak when the warm-up ends, continuous, and at zero in the end."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from convscope.training.schedules import SCHEDULES

TOTAL = 100  # updates of the comparisons with torch


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
def test_the_warm_up_meets_the_peak(name: str, warmup: float) -> None:
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


def torch_factors(make: Callable[[torch.optim.Optimizer], torch.optim.lr_scheduler.LRScheduler]) -> list[float]:
    """The rates a schedule of torch gives over TOTAL updates, for a peak of 1."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler, rates = make(optimizer), []
    for _ in range(TOTAL - 1):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return [*rates, scheduler.get_last_lr()[0]]


@pytest.mark.parametrize("warm", [10, 25, 60])
def test_one_cycle_is_torchs(warm: int) -> None:
    """Torch counts its peak and its end as updates: of TOTAL, the peak is number ``warm`` - 1 and zero the last."""

    def make(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        return torch.optim.lr_scheduler.OneCycleLR(
            optimizer, 1.0, TOTAL, pct_start=warm / TOTAL, anneal_strategy="linear", cycle_momentum=False,
            div_factor=25, final_div_factor=math.inf,
        )  # fmt: skip

    last = TOTAL - 1
    ours = [SCHEDULES["one-cycle"](i / last, (warm - 1) / last) for i in range(TOTAL)]
    np.testing.assert_allclose(ours, torch_factors(make), atol=1e-12)


def test_the_cosine_is_torchs() -> None:
    ours = [SCHEDULES["cosine"](i / TOTAL, 0) for i in range(TOTAL)]
    theirs = torch_factors(lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, TOTAL))
    np.testing.assert_allclose(ours, theirs, atol=1e-12)
