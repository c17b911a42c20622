"""Verdicts against simulated data whose truth is known: coverage, false alarms, power, and answers known on paper."""

from __future__ import annotations

import math

import numpy as np
import pytest

from convscope.errors import DataError
from convscope.studies.judging import (
    FAILS,
    HOLDS,
    OPEN,
    Estimate,
    alike,
    exactly,
    greater,
    needed,
    no_less,
    over_seeds,
    over_seeds_and_images,
    together,
)

RUNS = 500


def answers(generator: np.random.Generator, effect: float, seeds: int = 5, images: int = 300) -> np.ndarray:
    """Right or not of two networks on the same images, as a difference (S, N); on the mean it is ``effect``.

    An image is hard or easy for both, and better for one of them; so is a seed.
    """
    hard = generator.normal(0, 0.15, (1, images))
    own = generator.normal(0, 0.05, (1, images))
    lucky = generator.normal(0, 0.015, (seeds, 1))
    base = np.clip(0.5 + hard, 0.2, 0.8)
    tilt = np.clip(effect / 2 + own / 2 + lucky / 2, -0.2, 0.2)
    a = generator.random((seeds, images)) < base + tilt
    b = generator.random((seeds, images)) < base - tilt
    return a.astype(float) - b.astype(float)


def test_student_on_paper() -> None:
    found = over_seeds([1.0, 2.0, 3.0])
    half = 9.924843 * 1 / math.sqrt(3)  # t with 2 degrees of freedom, 99.5 %
    assert (found.value, found.low, found.high) == pytest.approx((2.0, 2 - half, 2 + half), rel=1e-6)


def test_one_seed_has_no_interval() -> None:
    assert over_seeds([1.0]).low == -math.inf
    found = over_seeds_and_images(np.ones((1, 50)))
    assert greater("gain", found, least=0.1).verdict == OPEN


@pytest.mark.parametrize("bad", [[], [1.0, math.nan]])
def test_what_is_no_number_is_refused(bad: list[float]) -> None:
    with pytest.raises(DataError):
        over_seeds(bad)
    with pytest.raises(DataError):
        over_seeds_and_images(np.array([bad]))


def test_the_interval_over_seeds_covers_the_truth() -> None:
    generator = np.random.default_rng(0)
    hits = [abs((e := over_seeds(generator.normal(0.3, 1, 5))).value - 0.3) <= e.half for _ in range(RUNS)]
    assert 0.975 <= np.mean(hits) <= 1.0


@pytest.mark.parametrize("effect", [0.0, 0.08])
def test_the_interval_over_seeds_and_images_covers_the_truth(effect: float) -> None:
    generator = np.random.default_rng(1)
    truth = np.mean([answers(generator, effect, 50, 3_000).mean() for _ in range(20)])
    found = [over_seeds_and_images(answers(generator, effect)) for _ in range(RUNS)]
    hits = [e.low <= truth <= e.high for e in found]
    assert 0.975 <= np.mean(hits) <= 1.0
    spread = np.std([e.value for e in found])
    assert np.median([e.half for e in found]) < 1.8 * 2.576 * spread  # and is not wide for nothing


def test_without_an_effect_a_claim_seldom_holds_and_with_a_large_one_it_does() -> None:
    generator = np.random.default_rng(2)
    false = [greater("d", over_seeds_and_images(answers(generator, 0.0)), least=0.02).verdict for _ in range(RUNS)]
    assert np.mean([v == HOLDS for v in false]) <= 0.01
    true = [greater("d", over_seeds_and_images(answers(generator, 0.15)), least=0.02).verdict for _ in range(300)]
    assert np.mean([v == HOLDS for v in true]) >= 0.9


def test_equal_ones_are_alike_and_unequal_ones_are_not() -> None:
    generator = np.random.default_rng(3)
    equal = [alike("d", over_seeds_and_images(answers(generator, 0.0, 8, 2_000)), margin=0.05) for _ in range(100)]
    assert np.mean([p.verdict == HOLDS for p in equal]) >= 0.95
    edge = [alike("d", over_seeds_and_images(answers(generator, 0.06)), margin=0.05).verdict for _ in range(500)]
    assert np.mean([v == HOLDS for v in edge]) <= 0.01


def test_two_that_never_differ_are_alike_only_as_far_as_the_images_go() -> None:
    found = over_seeds_and_images(np.zeros((5, 100)))
    assert found.half == pytest.approx(-math.log(0.005) / 100)
    assert alike("d", found, margin=0.02).verdict == OPEN
    assert alike("d", over_seeds_and_images(np.zeros((5, 1_000))), margin=0.02).verdict == HOLDS


@pytest.mark.parametrize(
    ("low", "high", "verdicts"),
    [
        (0.01, 0.05, (HOLDS, HOLDS, OPEN)),
        (-0.05, 0.005, (FAILS, OPEN, OPEN)),
        (-0.05, 0.05, (OPEN, OPEN, OPEN)),
        (-0.09, -0.04, (FAILS, FAILS, FAILS)),
        (-0.01, 0.02, (OPEN, HOLDS, HOLDS)),
    ],
)
def test_verdicts_on_paper(low: float, high: float, verdicts: tuple[str, str, str]) -> None:
    e = Estimate((low + high) / 2, low, high, 5, 100, 1e-4, 1e-2, 1e-2)
    found = (greater("q", e, least=0.01), no_less("q", e, margin=0.03), alike("q", e, margin=0.03))
    assert tuple(p.verdict for p in found) == verdicts
    assert all(bool(p.would_decide) == (p.verdict == OPEN) for p in found)


def test_what_would_decide_does_decide() -> None:
    generator = np.random.default_rng(4)
    words = [needed(over_seeds(generator.normal(0.5, 1, 5)), 0.0) for _ in range(50)]
    seeds = np.median([int(w.split()[1]) for w in words if w.startswith("About")])
    assert 20 <= seeds <= 60  # 2.58 / 0.5 squared is 27, and Student's t wants a few more
    enough = []  # seeds alone decide where what is measured of an image is noise: more seeds make it steadier too
    for _ in range(50):
        noisy = over_seeds_and_images(generator.normal(0.05, 1, (3, 400)))
        words = needed(noisy, 0.0)
        if words.startswith("About") and "images" not in words:
            seeds = int(words.split()[1])
            again = [over_seeds_and_images(generator.normal(noisy.value, 1, (seeds, 400))).low > 0 for _ in range(9)]
            enough.append(np.mean(again))
    assert len(enough) >= 20
    assert 0.3 < np.mean(enough) < 0.9  # a half width of the distance decides half of the time
    few = over_seeds_and_images(answers(generator, 0.05, 5, 100))
    assert "test images" in needed(few, few.value - 0.01)
    assert needed(few, few.value).startswith("It is too close")
    assert needed(over_seeds([1.0]), 0.0).startswith("More than one seed")


def test_a_claim_is_as_good_as_its_parts() -> None:
    good = greater("a", exactly(2.0), least=0.1)
    bad = greater("b", exactly(-2.0), least=0.1)
    unsure = greater("c", over_seeds([1.0, -1.0]), least=0.1)
    assert together([good]).verdict == HOLDS
    assert together([good, unsure]).verdict == OPEN
    assert together([good, unsure, bad]).verdict == FAILS
    assert together([]).verdict == OPEN
    assert together([good, bad]).sentence().startswith("The claim does not hold. a: 2; wanted above 0")
    assert together([unsure]).parts[0].to_json()["low"] == pytest.approx(unsure.estimate.low)
