"""The learning curve: laws that are known are continued, intervals hold what they promise, subsets are nested."""

from __future__ import annotations

import numpy as np
import pytest

from convscope.errors import UsageError
from convscope.transfer_learning.learning_curve import CurvePoint, LearningCurve, measure_curve, nested_subsets

SIZES = (2, 3, 5, 8, 12, 20, 30)


def curve(a: float, b: float, c: float, n: int = 10**7, rng: np.random.Generator | None = None) -> LearningCurve:
    points = []
    for size in SIZES:
        right = 1 - min(a * size**-b + c, 0.9)
        draws = tuple(right if rng is None else rng.binomial(n, right) / n for _ in range(5))
        points.append(CurvePoint(size, float(np.mean(draws)), draws, n))
    return LearningCurve(tuple(points), 30, 0.9)


def test_a_law_is_continued():
    for law in ((0.6, 0.7, 0.02), (0.9, 0.4, 0.0), (0.5, 1.0, 0.1)):
        a, b, c = law
        said = curve(*law).predict(60)
        truth = 1 - (a * 60**-b + c)
        assert said.low - 0.002 <= truth <= said.high + 0.002  # the grid of laws has steps
        assert said.value == pytest.approx(truth, abs=0.01)
        gain = curve(*law).twice()
        assert gain.value == pytest.approx(a * (30**-b - 60**-b), abs=0.01)


def test_intervals_hold_what_they_promise():
    rng = np.random.default_rng(1)
    hit = 0
    for _ in range(100):
        a, b, c = rng.uniform(0.3, 0.8), rng.uniform(0.4, 1.0), rng.uniform(0, 0.1)
        n = int(rng.integers(240, 700))
        said = curve(a, b, c, n, rng).predict(60, held_out=240)
        measured = rng.binomial(240, 1 - (a * 60**-b + c)) / 240
        hit += said.low <= measured <= said.high
    assert 82 <= hit <= 100


def test_more_images_are_never_said_to_harm_and_nothing_leaves_0_to_1():
    for law in ((0.6, 0.7, 0.02), (1e-3, 1.0, 0.0), (4.0, 0.05, 0.9)):
        found = curve(*law, n=50)
        values = [found.predict(n) for n in (1, 10, 100, 10_000)]
        assert [v.value for v in values] == sorted(v.value for v in values)
        assert all(0 <= v.low <= v.value <= v.high <= 1 for v in values)
        assert found.twice().low >= 0


def test_subsets_are_nested_stratified_and_decided_by_content():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 20)
    keys = rng.integers(0, 2**63, 60, dtype=np.uint64)
    keys[5] = keys[6]
    small, large = nested_subsets(labels, keys, [4, 10], 7)
    assert set(small) <= set(large)
    assert all(4 <= (labels[small] == k).sum() <= 5 for k in range(3))
    assert (5 in large) == (6 in large)
    order = rng.permutation(60)
    again = nested_subsets(labels[order], keys[order], [4], 7)[0]
    assert set(order[again]) == set(small)
    assert set(nested_subsets(labels, keys, [4], 8)[0]) != set(small)


def test_measuring_asks_only_images_that_were_left_out():
    labels = np.repeat(np.arange(4), 30)
    keys = np.arange(120, dtype=np.uint64)

    def guess(train: np.ndarray, held_out: np.ndarray) -> np.ndarray:
        assert not set(train) & set(held_out)
        known = {*labels[train]}
        return np.array([label if label in known else -1 for label in labels[held_out]])

    found = measure_curve(labels, keys, guess)
    assert [p.per_class for p in found.points] == [2, 3, 5, 8, 12, 20, 24]
    assert all(p.accuracy == 1 for p in found.points)
    assert found.predict(60).value > 0.99
    assert found.to_json()["gain"]["value"] < 0.01


def test_too_few_images_have_no_curve():
    with pytest.raises(UsageError, match="needs 7"):
        measure_curve(np.repeat([0, 1], 3), np.arange(6, dtype=np.uint64), lambda a, b: b)
