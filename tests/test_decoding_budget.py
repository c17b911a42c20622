"""Threads that decode share memory: never more than the budget at once, never a standstill, and never held for good."""

from __future__ import annotations

import io
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from convscope.errors import ImageError
from convscope.images import decoding, decoding_budget
from convscope.images.decoding_budget import LEAST, MOST, MemoryBudget
from convscope.images.preprocess import Preprocess


def test_no_more_than_the_budget_at_once_and_all_come_through() -> None:
    budget, lock, held, most = MemoryBudget(lambda: 100), threading.Lock(), [0], [0]

    def work(size: int) -> None:
        with budget.holding(size):
            with lock:
                held[0] += size
                most[0] = max(most[0], held[0] if size <= 100 else 0)
                assert held[0] <= max(100, size)
            time.sleep(0.001)
            with lock:
                held[0] -= size

    sizes = np.random.default_rng(0).choice([1, 20, 60, 100, 250], 200).tolist()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, sizes, timeout=60))
    assert held == [0]
    assert 60 <= most[0] <= 100


def test_a_large_one_has_its_turn_among_small_ones() -> None:
    budget, done, stop = MemoryBudget(lambda: 100), threading.Event(), threading.Event()

    def small() -> None:
        while not stop.is_set():
            with budget.holding(40):
                time.sleep(0.001)

    def large() -> None:
        with budget.holding(1000):
            done.set()

    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            pool.submit(small)
        time.sleep(0.02)
        pool.submit(large)
        came = done.wait(20)
        stop.set()
    assert came


def test_an_error_gives_the_memory_back() -> None:
    budget = MemoryBudget(lambda: 10)
    for _ in range(3):
        with pytest.raises(ValueError, match="x"), budget.holding(10):
            raise ValueError("x")
    with budget.holding(10):
        pass


def test_the_budget_is_a_quarter_of_what_is_free_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    for free, limit in ((0, LEAST), (4 << 30, 1 << 30), (64 << 30, MOST)):
        monkeypatch.setattr(decoding_budget, "free_memory", lambda free=free: free)
        assert decoding_budget._QuarterOfFree()() == limit
    monkeypatch.undo()
    assert 0 < decoding_budget.free_memory() < 1 << 50


def png(side: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((side, side, 3), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def test_decoding_holds_what_the_header_says_until_the_image_is_fitted(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, open_now, most = [], [0], [0]

    class Counting(MemoryBudget):
        def _acquire(self, size: int) -> None:
            super()._acquire(size)
            asked.append(size)
            open_now[0] = self._held
            most[0] = max(most[0], self._held)

    budget = Counting(lambda: 5_000_000)
    monkeypatch.setattr(decoding, "BUDGET", budget)
    raw = png(500)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: Preprocess(size=8).fit_image(raw), range(40)))
    assert asked == [8 * 500 * 500] * 40
    assert most[0] <= 5_000_000
    with pytest.raises(ImageError):
        decoding.decode(raw[:-200])
    Preprocess(size=8).fit_image(Image.fromarray(np.zeros((10, 10), np.uint8)))
    assert asked[-1] == 5 * 100
    assert budget._held == 0
