"""Figures that are printed, against scikit-learn, scipy, and slow loops in plain Python; on awkward inputs too."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats
from scipy.special import softmax
from sklearn.calibration import calibration_curve
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from convscope.classifying import metrics
from convscope.classifying.calibration import BINS, DRAWS, SURE_OF_SIGN, calibrate
from convscope.classifying.intervals import paired_test, wilson
from convscope.studies import judging
from convscope.transfer_learning.ladder import Rung, compare
from convscope.transfer_learning.learning_curve import AMOUNTS, DECAYS, FLOORS, CurvePoint, LearningCurve, _noise
from slow_figures import bin_means, by_coins, by_formula, gaps_of

Scored = tuple[np.ndarray, np.ndarray]  # logits (N, K), labels (N,)


def scored(n: int, classes: int = 4, seed: int = 0) -> Scored:
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, n)
    logits = 2 * random.normal(size=(n, classes))
    logits[np.arange(n), labels] += 1
    return logits, labels


def missing() -> Scored:
    logits, labels = scored(80)
    return logits[labels != 2], labels[labels != 2]


def faultless(right: bool) -> Scored:
    logits, _ = scored(30)
    return logits, logits.argmax(1) if right else (logits.argmax(1) + 1) % 4


def tied() -> Scored:
    logits, labels = scored(60)
    return np.round(logits / 2), labels


CASES = {
    "random": scored(300),
    "two classes": scored(100, 2),
    "a class is missing": missing(),
    "all right": faultless(True),
    "all wrong": faultless(False),
    "one image": scored(1),
    "ties": tied(),
    "all alike": (np.zeros((12, 4)), np.arange(12) % 4),
}
every = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


# ------------------------------------------------------------------------------------------------ shares and pairs


@pytest.mark.parametrize(("right", "n"), [(0, 1), (1, 1), (0, 20), (20, 20), (7, 20), (123, 4567)])
def test_wilson_is_his_formula(right: int, n: int):
    found = wilson(right, n)
    assert (found.low, found.high) == pytest.approx(by_formula(right, n), abs=1e-12)


@pytest.mark.parametrize(("a_only", "b_only"), [(0, 0), (0, 1), (5, 5), (9, 1), (40, 61), (0, 30)])
def test_mcnemars_p_is_counted_in_whole_numbers(a_only: int, b_only: int):
    a = np.repeat([True, False, True], [a_only, b_only, 3])
    b = np.repeat([False, True, True], [a_only, b_only, 3])
    assert paired_test(a, b).p == pytest.approx(by_coins(a_only, b_only), rel=1e-9)


# ------------------------------------------------------------------------------------------- bins, coverage, recall


@every
def test_bins_are_scikit_learns(case: Scored):
    logits, labels = case
    chance, right = softmax(logits, axis=1).max(1), logits.argmax(1) == labels
    bins = metrics.calibration(logits, labels).bins
    full = [row for row in bins if row.count]
    accuracies, confidences = calibration_curve(right.astype(int), chance, n_bins=BINS, pos_label=1)
    assert [row.accuracy for row in full] == pytest.approx(accuracies, abs=1e-12)
    assert [row.confidence for row in full] == pytest.approx(confidences, abs=1e-12)
    assert sum(row.count for row in bins) == len(labels)
    for row in full:
        assert (row.low, row.high) == pytest.approx(by_formula(round(row.accuracy * row.count), row.count), abs=1e-12)
    assert all(row.accuracy is row.confidence is row.low is row.high is None for row in bins if not row.count)


@every
def test_coverage_is_that_of_a_plain_loop(case: Scored):
    logits, labels = case
    chance, guesses = softmax(logits, axis=1).max(1), logits.argmax(1)
    surest = sorted(range(len(labels)), key=lambda i: (-round(chance[i], 12), i))
    for row in metrics.coverage(logits, labels):
        count = next(k for k in range(1, len(labels) + 1) if k >= Fraction(str(row.share)) * len(labels))
        kept = surest[:count]
        assert row.n == count
        assert row.top1 == pytest.approx(accuracy_score(labels[kept], guesses[kept]), abs=1e-12)
        assert row.least == pytest.approx(min(chance[kept]), abs=1e-12)
        assert (row.top1_low, row.top1_high) == pytest.approx(by_formula(round(row.top1 * count), count), abs=1e-12)


def test_the_interval_of_balanced_accuracy_is_scipys_bootstrap():
    logits, labels = scored(200)
    guesses = logits.argmax(1)

    def mean_recall(index: np.ndarray) -> float:
        return float(np.mean([np.mean(guesses[index][labels[index] == k] == k) for k in range(4)]))

    assert mean_recall(np.arange(200)) == pytest.approx(balanced_accuracy_score(labels, guesses))
    found = metrics.balanced_accuracy(logits, labels)
    wanted = stats.bootstrap(
        (np.arange(200),),
        mean_recall,
        vectorized=False,
        n_resamples=1000,
        method="percentile",
        random_state=np.random.default_rng(7),
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), abs=0.012)


# --------------------------------------------------------------------------------------------- calibration's interval


def test_calibrations_limits_are_those_of_a_slow_loop():
    logits, labels = scored(40, seed=5)
    ways = [gaps_of(logits, labels), gaps_of(logits / 2, labels)]
    random = np.random.default_rng(3)
    draws = [random.integers(0, 40, 40).tolist() for _ in range(DRAWS)]
    errors, along, most = [], [], []
    for gaps in ways:
        own = bin_means(gaps, iter(range(40)))
        off = [[m - o for m, o in zip(bin_means(gaps, iter(draw)), own, strict=True)] for draw in draws]
        sure = [abs(o) > SURE_OF_SIGN * np.std([row[k] for row in off]) for k, o in enumerate(own)]
        errors.append(sum(map(abs, own)))
        signed = [[math.copysign(1, o) * d if o else 0.0 for o, d in zip(own, row, strict=True)] for row in off]
        along.append(np.array([sum(row) for row in signed]))
        most.append(
            np.array(
                [
                    sum(s if one else abs(d) for s, d, one in zip(*rows, sure, strict=True))
                    for rows in zip(signed, off, strict=True)
                ]
            )
        )
    found = calibrate(logits, labels, 2.0, 10, seed=3)
    for interval, value, over, under, least in (
        (found.before, errors[0], most[0], along[0], 0),
        (found.after, errors[1], most[1], along[1], 0),
        (found.lowered, errors[0] - errors[1], most[0] - along[1], along[0] - most[1], -1),
    ):
        assert interval.value == pytest.approx(value, abs=1e-12)
        assert interval.low == pytest.approx(max(least, value - np.quantile(over, 0.975)), abs=1e-9)
        assert interval.high == pytest.approx(value - np.quantile(under, 0.025), abs=1e-9)


def test_far_from_the_truth_calibrations_limits_are_scipys_bootstrap():
    """Where every gap has its sign for sure, chance adds nothing, and the limits are the basic bootstrap's."""
    logits, labels = scored(2000, seed=1)
    logits = 8 * logits
    rows = np.array(gaps_of(logits, labels))
    kept = np.isin(rows[:, 0], [k for k in range(BINS) if (rows[:, 0] == k).sum() > 100])
    logits, labels, rows = logits[kept], labels[kept], rows[kept]

    def error(place: np.ndarray, gap: np.ndarray) -> float:
        return float(np.abs(np.bincount(place.astype(int), gap, BINS)).sum() / len(gap))

    wanted = stats.bootstrap(
        (rows[:, 0], rows[:, 1]),
        error,
        paired=True,
        vectorized=False,
        n_resamples=1000,
        method="basic",
        random_state=np.random.default_rng(2),
    ).confidence_interval
    found = calibrate(logits, labels, 2.0, 10).before
    assert found.value > 0.2
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), abs=0.004)


@pytest.mark.parametrize("times", [1.0, 2.0])
def test_calibrations_limits_hold_the_truth(times: float):
    """Labels are drawn by the probabilities themselves, so after division by ``times`` the true error is 0."""
    random = np.random.default_rng(0)

    def drawn(n: int) -> Scored:
        scores = 2 * random.normal(size=(n, 5))
        return times * scores, (scores + random.gumbel(size=(n, 5))).argmax(1)

    truth = metrics.calibration(*drawn(100_000)).ece if times > 1 else 0.0
    held = np.zeros(3)
    for _ in range(15):
        found = calibrate(*drawn(150), times, 10)
        pairs = ((found.before, truth), (found.after, 0.0), (found.lowered, truth))
        held += [one.low <= true <= one.high for one, true in pairs]
    assert held.min() >= 12


@every
def test_calibrations_limits_are_about_the_value(case: Scored):
    found = calibrate(*case, 1.7, 10)
    for one in (found.before, found.after, found.lowered):
        assert one.low <= one.value <= one.high
    logits, labels = case
    right = logits.argmax(1) == labels
    if right.all() or not right.any():
        assert found.before.high - found.before.low > 0.1, "a few images that are all right prove little"


# ------------------------------------------------------------------------------------------------ transfer and study


def test_a_rung_is_counted_and_compared_image_by_image():
    random = np.random.default_rng(0)
    a, b = (random.choice(90, size, replace=False) for size in (60, 70))
    one, other = Rung("a", a, random.random(60) < 0.8, 1.0, 1), Rung("b", b, random.random(70) < 0.6, 1.0, 1)
    told = one.to_json()
    assert told["val_top1"] == sum(one.correct.tolist()) / 60
    assert (told["low"], told["high"]) == pytest.approx(by_formula(int(one.correct.sum()), 60), abs=1e-12)
    first = dict(zip(a.tolist(), one.correct.tolist(), strict=True))
    second = dict(zip(b.tolist(), other.correct.tolist(), strict=True))
    both = sorted(first.keys() & second.keys())
    a_only, b_only = (sum(x[i] and not y[i] for i in both) for x, y in ((first, second), (second, first)))
    found = compare(one, other)
    assert (found.n, found.a_only, found.b_only) == (len(both), a_only, b_only)
    assert found.difference == pytest.approx((a_only - b_only) / len(both))
    assert found.p == pytest.approx(by_coins(a_only, b_only))


def test_the_learning_curves_intervals_are_those_of_laws_drawn_by_their_likelihood():
    random = np.random.default_rng(0)
    points = []
    for size in (2, 3, 5, 8, 12, 20):
        draws = tuple(random.binomial(200, 1 - (0.5 * size**-0.6 + 0.05), 5) / 200)
        points.append(CurvePoint(size, float(np.mean(draws)), draws, 200))
    curve = LearningCurve(tuple(points), 25, 0.9)
    laws = np.stack([grid.ravel() for grid in np.meshgrid(AMOUNTS, DECAYS, FLOORS)], 1)

    def errors(size: float) -> np.ndarray:
        return np.minimum(laws[:, 0] * size ** -laws[:, 1] + laws[:, 2], 0.9)

    likely = sum(stats.norm.logpdf(1 - p.accuracy, errors(p.per_class), _noise(p)) for p in points)
    shares = np.exp(likely - likely.max())
    drawn = random.choice(len(laws), 100_000, p=shares / shares.sum())
    here, twice = errors(25)[drawn], errors(50)[drawn]
    told = curve.to_json()
    assert told["here"] == pytest.approx(1 - here.mean(), abs=1e-3)
    assert told["twice"]["value"] == pytest.approx(1 - twice.mean(), abs=1e-3)
    noise = math.sqrt(twice.mean() * (1 - twice.mean()) / 200)
    low, high = np.quantile(1 - twice + random.normal(0, noise, len(twice)), [0.05, 0.95])
    assert (told["twice"]["low"], told["twice"]["high"]) == pytest.approx((low, high), abs=1e-3)
    low, high = np.quantile(here - twice, [0.05, 0.95])
    assert (told["gain"]["low"], told["gain"]["high"]) == pytest.approx((low, high), abs=1e-3)


@pytest.mark.parametrize("values", [[0.1, 0.3], [0.2, -0.1, 0.05, 0.4], list(np.random.default_rng(0).normal(size=30))])
def test_a_studys_interval_over_seeds_is_scipys(values: list[float]):
    found, wanted = judging.over_seeds(values), stats.ttest_1samp(values, 0).confidence_interval(0.99)
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high))
    assert found.value == pytest.approx(math.fsum(values) / len(values))


def test_a_studys_interval_over_seeds_and_images_is_an_analysis_of_variance():
    """Mean squares summed image by image, as a textbook has them; degrees of freedom are Satterthwaite's."""
    random = np.random.default_rng(2)
    values = random.normal(0.2, 0.1, (4, 1)) + random.normal(0, 0.3, (1, 25)) + random.normal(0, 0.5, (4, 25))
    mean = math.fsum(values.ravel()) / 100
    rows, columns = [math.fsum(row) / 25 for row in values], [math.fsum(column) / 4 for column in values.T]
    squares = [
        25 * sum((r - mean) ** 2 for r in rows) / 3,
        4 * sum((c - mean) ** 2 for c in columns) / 24,
        sum((values[i, j] - rows[i] - columns[j] + mean) ** 2 for i in range(4) for j in range(25)) / (3 * 24),
    ]
    terms = [s / 100 * sign for s, sign in zip(squares, (1, 1, -1), strict=True)]
    freedom = sum(terms) ** 2 / sum(t * t / f for t, f in zip(terms, (3, 24, 72), strict=True))
    low, high = stats.t.interval(0.99, freedom, mean, math.sqrt(sum(terms)))
    found = judging.over_seeds_and_images(values)
    assert (found.value, found.low, found.high) == pytest.approx((mean, low, high))
    assert (found.seed_part, found.image_part, found.noise) == pytest.approx(
        (squares[0] / 25, squares[1] / 4, squares[2])
    )
