"""Metrics against scikit-learn and torchmetrics, and against answers worked out by hand."""

import dataclasses
import json
import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_calibration_error

from convscope.classifying import metrics
from convscope.classifying.intervals import Difference, _newcombe, bootstrap, difference_of, paired_test, wilson
from convscope.errors import DataError

quick = settings(max_examples=40, deadline=None, derandomize=True)


@st.composite
def scored(draw, least_classes=3):
    """Logits (N, K) float32 without ties and labels (N,), from a seed: K from ``least_classes`` to 12, N to 300."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, k = draw(st.integers(1, 300)), draw(st.integers(least_classes, 12))
    labels = generator.integers(0, k, n)
    logits = generator.normal(size=(n, k)) * draw(st.sampled_from([0.3, 1.0, 2.0]))
    logits[np.arange(n), labels] += draw(st.sampled_from([0.0, 1.0, 2.0]))
    return logits.astype(np.float32), labels


def softmax(logits):
    return torch.softmax(torch.as_tensor(logits, dtype=torch.float64), 1).numpy()


def names(k):
    return [f"class {i}" for i in range(k)]


# --- against other libraries -------------------------------------------------------------------------------------


@quick
@given(scored(), st.integers(1, 12))
def test_top_k_is_sklearns(case, k):
    logits, labels = case
    assume(k < logits.shape[1])  # sklearn warns where k says nothing
    expected = oracle.top_k_accuracy_score(labels, logits, k=k, labels=np.arange(logits.shape[1]))
    assert metrics.top_k(logits, labels, k).value == pytest.approx(expected, abs=1e-12)


@quick
@given(scored())
def test_top_1_is_torchmetrics_accuracy(case):
    logits, labels = case
    expected = multiclass_accuracy(
        torch.from_numpy(logits), torch.from_numpy(labels), num_classes=logits.shape[1], average="micro"
    )
    assert metrics.top_k(logits, labels, 1).value == pytest.approx(float(expected), abs=1e-6)


@quick
@given(scored())
def test_cross_entropy_is_sklearns_and_torchs(case):
    logits, labels = case
    probabilities = softmax(logits)
    probabilities /= probabilities.sum(axis=1, keepdims=True)  # sklearn warns of the last digit
    ours = metrics.cross_entropy(logits, labels)
    assert ours == pytest.approx(oracle.log_loss(labels, probabilities, labels=np.arange(logits.shape[1])), rel=1e-9)
    expected = torch.nn.functional.cross_entropy(torch.from_numpy(logits).double(), torch.from_numpy(labels))
    assert ours == pytest.approx(float(expected), rel=1e-12)


@quick
@given(scored(least_classes=2))
def test_class_scores_are_sklearns(case):
    logits, labels = case
    k, guesses = logits.shape[1], logits.argmax(1)
    ours = metrics.per_class(logits, labels, names(k))
    every = {"labels": np.arange(k), "average": None, "zero_division": 0}
    expected = {
        "precision": oracle.precision_score(labels, guesses, **every),
        "recall": oracle.recall_score(labels, guesses, **every),
        "f1": oracle.f1_score(labels, guesses, **every),
    }
    for c, score in enumerate(ours):
        assert score.n == int((labels == c).sum())
        for field, values in expected.items():
            assert getattr(score, field) == (values[c] if score.n else None)


@quick
@given(scored(least_classes=2))
def test_confusion_is_sklearns(case):
    logits, labels = case
    matrix = metrics.confusion(logits, labels)
    assert matrix.dtype == np.int64
    expected = oracle.confusion_matrix(labels, logits.argmax(1), labels=np.arange(logits.shape[1]))
    np.testing.assert_array_equal(matrix, expected)


@settings(quick, max_examples=10)
@given(scored())
def test_balanced_accuracy_is_sklearns(case):
    logits, labels = case
    ours = metrics.balanced_accuracy(logits, labels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a guess that is no label's class
        expected = oracle.balanced_accuracy_score(labels, logits.argmax(1))
    assert ours.value == pytest.approx(expected, abs=1e-12)
    assert 0 <= ours.low <= ours.high <= 1


@quick
@given(scored())
def test_calibration_error_is_torchmetrics(case):
    logits, labels = case
    edge = softmax(logits).max(1) * 15
    assume(np.abs(edge - np.round(edge)).min() > 1e-4)  # float32 there may fall into the next bin
    expected = multiclass_calibration_error(
        torch.from_numpy(logits).softmax(1), torch.from_numpy(labels), logits.shape[1], n_bins=15, norm="l1"
    )
    assert metrics.calibration(logits, labels).ece == pytest.approx(float(expected), abs=2e-6)


@quick
@given(st.integers(1, 5000), st.floats(0, 1))
def test_wilson_is_about_the_share_and_within_0_to_1(n, share):
    found = wilson(round(share * n), n)
    assert 0 <= found.low <= found.value <= found.high <= 1


@quick
@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 40), st.integers(0, 40))
def test_a_paired_test_mirrors(both, a_only, b_only, neither):
    assume(both + a_only + b_only + neither > 0)
    a, b = pair(both, a_only, b_only, neither)
    ours, mirrored = paired_test(a, b), paired_test(b, a)
    assert ours.difference == pytest.approx(a.mean() - b.mean(), abs=1e-12)
    assert -1 <= ours.low <= ours.difference <= ours.high <= 1
    assert (mirrored.low, mirrored.high, mirrored.p) == pytest.approx((-ours.high, -ours.low, ours.p), abs=1e-12)


def pair(both, a_only, b_only, neither):
    counts = (both, a_only, b_only, neither)
    return np.repeat([True, True, False, False], counts), np.repeat([True, False, True, False], counts)


# --- answers known on paper --------------------------------------------------------------------------------------


def test_wilson_of_newcombes_table():
    """Newcombe 1998, Statistics in Medicine 17:857, table I, method 3."""
    for successes, n, low, high in [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0, 0.1611)]:
        interval = wilson(successes, n)
        assert (interval.low, interval.high) == pytest.approx((low, high), abs=5e-5)
    assert wilson(29, 29).high == 1.0
    assert wilson(0, 29).low == 0.0


def test_wilson_of_nothing_and_of_nonsense():
    with pytest.raises(DataError, match="no images to evaluate"):
        wilson(0, 0)
    with pytest.raises(ValueError, match="5 successes among 4"):
        wilson(5, 4)


@pytest.mark.parametrize(
    ("table", "low", "high"), [((36, 12, 2, 0), 0.0569, 0.3404), ((1, 1, 7, 12), -0.5069, -0.0256)]
)
def test_paired_interval_of_published_tables(table, low, high):
    """Newcombe 1998 (17:2635), and the airway data of Fagerland, Lydersen and Laake 2014."""
    result = paired_test(*pair(*table))
    assert (result.low, result.high) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(
    "table", [(30, 2, 3, 25), (200, 20, 30, 150), (5, 0, 3, 0), (0, 4, 0, 6), (7, 0, 0, 0), (4, 4, 4, 4), (9, 1, 1, 3)]
)
def test_paired_interval_as_newcombe_writes_it(table):
    """Method 10: Wilson's limits of both shares, and their correlation less a correction where it is positive."""
    both, a_only, b_only, neither = table
    n = sum(table)
    first, second = both + a_only, both + b_only
    (low_a, high_a), (low_b, high_b) = ((found.low, found.high) for found in (wilson(first, n), wilson(second, n)))
    covariance = both * neither - a_only * b_only
    if covariance > 0:
        covariance = max(0.0, covariance - n / 2)
    product = first * (n - first) * second * (n - second)
    correlation = covariance / product**0.5 if product else 0.0

    def reach(one, other):
        return (one**2 - 2 * correlation * one * other + other**2) ** 0.5

    difference = (a_only - b_only) / n
    low = difference - reach(first / n - low_a, high_b - second / n)
    high = difference + reach(high_a - first / n, second / n - low_b)
    found = paired_test(*pair(*table))
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-12)


def test_a_difference_is_told_with_the_better_one_first():
    told: dict[str, Any] = {"n": 1234, "difference": 0.1234, "low": 0.0567, "high": 0.1901, "method": "mcnemar"}
    better = "a is better than b by 12.3 points [5.7, 19.0]"
    assert Difference("a", "b", p=0.0123, **told).sentence() == f"{better} (p = 0.012, n = 1,234)."
    assert Difference("a", "b", p=0.001, **told).sentence() == f"{better} (p = 0.001, n = 1,234)."
    assert Difference("a", "b", p=0.00099, **told).sentence() == f"{better} (p under 0.001, n = 1,234)."
    worse = {**told, "difference": -0.1234, "low": -0.1901, "high": -0.0567}
    assert Difference("b", "a", p=0.0123, **worse).sentence() == f"{better} (p = 0.012, n = 1,234)."
    same = "a and b do not differ (p = 0.05, n = 1,234): +12.3 points [+5.7, +19.0]"
    edge = "; this is at the edge: the interval leaves out 0."
    assert Difference("a", "b", p=0.05, **told).sentence() == same + edge
    assert Difference("a", "b", p=0.0499, **told).sentence() == f"{better} (p = 0.05, n = 1,234)."
    holds = {**told, "low": 0.0}
    assert Difference("a", "b", p=0.05, **holds).sentence().endswith("[+0.0, +19.0].")
    edge = "(p = 0.05, n = 1,234); this is at the edge: the interval holds 0."
    assert Difference("a", "b", p=0.0499, **holds).sentence().endswith(edge)


def test_a_difference_is_that_of_the_paired_test():
    a, b = pair(10, 5, 1, 4)
    found, test = difference_of(("one", a), ("other", b)), paired_test(a, b)
    expected = ("one", "other", 20, test.difference, test.low, test.high, test.p, "mcnemar")
    assert dataclasses.astuple(found) == expected


def test_paired_by_hand():
    result = paired_test(*pair(10, 5, 1, 4))
    assert (result.n, result.a_only, result.b_only) == (20, 5, 1)
    assert result.difference == pytest.approx(0.2)
    assert result.p == pytest.approx(2 * (1 + 6) / 2**6)  # six coins, at most one head, both sides
    same = paired_test(torch.tensor([True, False]), torch.tensor([True, False]))
    assert (same.p, same.difference) == (1.0, 0.0)
    assert same.low < 0 < same.high  # two images prove nothing


def test_paired_needs_the_same_images():
    with pytest.raises(DataError, match="same images"):
        paired_test(np.array([True]), np.array([True, False]))
    with pytest.raises(DataError, match="no images"):
        paired_test(np.array([]), np.array([]))


def test_paired_interval_covers():
    """95 % of the intervals hold the true difference of 0.1, within what 2,000 repetitions can tell."""
    generator = np.random.default_rng(0)
    inside = 0
    for counts in generator.multinomial(60, [0.5, 0.2, 0.1, 0.2], 2000):
        low, high = _newcombe(*counts.tolist())
        inside += low <= 0.1 <= high
    assert 0.935 < inside / 2000 < 0.975


def test_equal_logits_go_to_the_lower_index():
    logits = np.zeros((4, 4))
    for k, expected in [(1, 0.25), (2, 0.5), (4, 1.0), (9, 1.0)]:
        assert metrics.top_k(logits, np.arange(4), k).value == expected
    with pytest.raises(ValueError, match="at least 1"):
        metrics.top_k(logits, np.arange(4), 0)


@quick
@given(st.integers(0, 1000), st.integers(1, 4))
def test_top_k_with_ties_is_a_stable_sort(seed, k):
    generator = np.random.default_rng(seed)
    logits, labels = generator.integers(0, 3, (50, 6)).astype(float), generator.integers(0, 6, 50)
    best = np.argsort(-logits, axis=1, kind="stable")[:, :k]
    assert metrics.top_k(logits, labels, k).value == np.mean((best == labels[:, None]).any(1))


def test_cross_entropy_by_hand():
    assert metrics.cross_entropy(np.zeros((3, 10)), [0, 4, 9]) == pytest.approx(math.log(10), rel=1e-15)
    assert metrics.cross_entropy([[1e4, 0.0]], [0]) == 0.0
    assert metrics.cross_entropy([[1e4, 0.0]], [1]) == 1e4  # no overflow


def test_calibration_by_hand():
    """Confidence 3/4 four times, right twice: the error is 1/4; the bin (11/15, 12/15] holds all of it."""
    logits = np.tile([math.log(3), 0.0], (4, 1))
    result = metrics.calibration(logits, [0, 0, 1, 1])
    assert result.ece == pytest.approx(0.25)
    assert [b.count for b in result.bins] == [0] * 11 + [4] + [0] * 3
    assert result.bins[11].confidence == pytest.approx(0.75)
    assert result.bins[11].accuracy == 0.5
    assert result.bins[0].confidence is None
    assert metrics.calibration([[1e4, 0.0]], [0]).bins[-1].count == 1  # confidence 1 is in the last bin


def test_class_scores_by_hand():
    logits = np.eye(4)[[0, 0, 1, 2]]  # guesses
    scores = metrics.per_class(logits, [0, 1, 1, 3], ["a", "b", "c", "d"])
    assert (scores[0].precision, scores[0].recall, scores[0].f1) == (0.5, 1.0, pytest.approx(2 / 3))
    assert (scores[1].precision, scores[1].recall) == (1.0, 0.5)
    assert scores[2] == metrics.ClassScore("c", 0)  # absent: None, not 0
    assert (scores[3].precision, scores[3].recall, scores[3].n) == (0.0, 0.0, 1)  # present, never guessed
    assert scores[3].recall_low == 0.0 < scores[3].recall_high < 1.0
    assert metrics.balanced_accuracy(logits, [0, 1, 1, 3]).value == pytest.approx(0.5)


def test_balanced_accuracy_of_a_faultless_network_is_not_certain():
    perfect = metrics.balanced_accuracy(np.eye(5), np.arange(5))
    assert perfect == wilson(5, 5)
    assert perfect.low < 0.6
    mixed = metrics.balanced_accuracy(np.eye(3)[[0, 1, 2, 2]], [0, 1, 2, 0])
    assert mixed.method == "bootstrap"


def test_balanced_accuracy_of_classes_that_are_few_in_a_resample():
    """By the plain mean of recalls of the classes that a resample holds, an image of one of them being enough."""
    logits, labels = example(n=30, k=5, seed=2)
    right = logits.argmax(1) == labels

    def statistic(index):
        return float(np.mean([right[index][labels[index] == k].mean() for k in set(labels[index])]))

    for found, seed in (
        (metrics.balanced_accuracy(logits, labels), 0),
        (metrics.balanced_accuracy(logits, labels, 7), 7),
    ):
        wanted = bootstrap(statistic, 30, seed)
        assert (found.value, found.low, found.high) == pytest.approx((wanted.value, wanted.low, wanted.high))


def test_calibration_divides_by_a_temperature_and_takes_the_ends_of_bins():
    logits, labels = example(n=400)
    for temperature in (0.5, 3.0):
        assert metrics.calibration(logits, labels, temperature=temperature).ece == pytest.approx(
            metrics.calibration(logits.astype(np.float64) / temperature, labels).ece
        )
    sure = np.array([[800.0, 0.0], [800.0, 0.0]])  # a confidence of exactly 1 is in the last bin
    bins = metrics.calibration(sure, [0, 1], bins=4).bins
    assert [b.count for b in bins] == [0, 0, 0, 2]
    even = np.zeros((3, 4))  # and one of exactly 1/4 in the first, not in the second
    bins = metrics.calibration(even, [0, 1, 2], bins=4).bins
    assert [b.count for b in bins] == [3, 0, 0, 0]


def test_the_surest_are_one_image_at_least():
    logits, labels = example(n=40)
    (surest,) = metrics.coverage(logits, labels, (0.001,))
    assert surest.n == 1
    (two,) = metrics.coverage(logits, labels, (0.05,))
    assert two.n == 2


def test_bootstrap_is_repeatable_and_covers_a_mean():
    values = np.random.default_rng(3).normal(5, 2, 400)
    first = bootstrap(lambda i: float(values[i].mean()), 400, seed=1)
    assert first == bootstrap(lambda i: float(values[i].mean()), 400, seed=1)
    assert first == bootstrap(lambda i: float(values[i].mean()), 400, seed=1, draws=1000)
    assert first.value == values.mean()
    assert first.high - first.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)
    assert (first.n, first.method, first.confidence) == (400, "bootstrap", 0.95)
    with pytest.raises(DataError, match=r"^no images to evaluate$"):
        bootstrap(lambda i: 0.0, 0)
    assert bootstrap(lambda i: 3.0, 1).low == 3.0


def test_bootstrap_draws_a_thousand_times_among_all_images_from_seed_0():
    asked = []

    def statistic(index):
        asked.append(index)
        return float(index.mean())

    found = bootstrap(statistic, 7)
    generator = np.random.default_rng(0)
    drawn = [generator.integers(0, 7, 7) for _ in range(1000)]
    assert np.array_equal(np.stack(asked[:1000]), np.stack(drawn))
    assert (found.low, found.high) == tuple(np.quantile(np.stack(drawn).mean(axis=1), [0.025, 0.975]))
    assert found.value == 3.0


def test_confusion_stops_at_1000_classes():
    assert metrics.confusion(np.zeros((1, 1000)), [0]).shape == (1000, 1000)
    assert metrics.confusion(np.zeros((1, 1001)), [0]) is None
    wide = metrics.evaluate(np.zeros((1, 1001)), [0], names(1001))
    assert wide.confusion is None
    assert wide.to_json()["confusion"] is None


# --- the whole evaluation ----------------------------------------------------------------------------------------


def example(n=200, k=7, seed=0):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, k, n)
    logits = generator.normal(size=(n, k)).astype(np.float32)
    logits[np.arange(n), labels] += 1
    return logits, labels


def test_evaluation_holds_the_parts():
    logits, labels = example()
    whole = metrics.evaluate(logits, labels, names(7))
    assert whole.top1 == metrics.top_k(logits, labels, 1)
    assert whole.top5 == metrics.top_k(logits, labels, 5)
    assert whole.scores == metrics.per_class(logits, labels, names(7))
    assert [score.name for score in whole.scores] == names(7)
    assert whole.calibration == metrics.calibration(logits, labels)
    assert sum(map(sum, whole.confusion)) == whole.n == 200
    assert sum(row[i] for i, row in enumerate(whole.confusion)) / 200 == whole.top1.value


def test_mistakes_are_the_most_confident_ones():
    logits, labels = example()
    mistakes, probabilities = metrics.evaluate(logits, labels, names(7)).mistakes, softmax(logits)
    wrong = np.flatnonzero(logits.argmax(1) != labels)
    assert len(mistakes) == 25 < len(wrong)
    assert [m.index for m in mistakes] == sorted(wrong, key=lambda i: -probabilities[i].max())[:25]
    for m in mistakes:
        assert m.truth == labels[m.index] != m.guess
        assert m.probability == pytest.approx(probabilities[m.index, m.guess])
    assert metrics.evaluate(np.eye(3), [0, 1, 2], names(3)).mistakes == ()


def test_among_equal_confidences_the_earlier_image_comes_first():
    """So many that a sort that is not stable mixes them."""
    labels, logits = np.arange(300) % 3, np.tile(np.eye(3, dtype=np.float32)[[0, 1]], (150, 1))
    wrong = np.flatnonzero(logits.argmax(1) != labels)
    assert [m.index for m in metrics.mistakes_of(logits, labels)] == wrong[:25].tolist()
    kept = metrics.coverage(logits, labels, (0.1,))[0]
    assert kept.top1 == np.mean(logits[:30].argmax(1) == labels[:30])


def test_json_is_flat_stable_and_strict():
    logits, labels = example(n=50, k=3)
    flat = metrics.evaluate(logits, labels, names(3)).to_json()
    again = json.loads(json.dumps(flat, allow_nan=False))
    assert again == flat
    for key in ("top1", "top5", "balanced_accuracy"):
        assert 0 <= flat[f"{key}_low"] <= flat[key] <= flat[f"{key}_high"] <= 1
    assert (flat["top5_k"], flat["top5"], flat["n"]) == (3, 1.0, 50)
    assert {"loss", "ece", "confusion", "confused", "calibration", "coverage", "mistakes"} < set(flat)
    assert flat["confidence"] == 0.95
    assert flat["confusion"] == metrics.confusion(logits, labels).tolist()
    assert [row["share"] for row in flat["coverage"]] == list(metrics.SHARES)
    assert metrics.evaluate(*example(n=50), names(7)).to_json()["top5_k"] == 5
    assert list(flat["classes"][0]) == ["name", "n", "precision", "recall", "f1", "recall_low", "recall_high"]


def test_evaluation_is_the_same_each_time_and_in_any_form():
    logits, labels = example(n=5000)  # more than one slice
    first = metrics.evaluate(logits, labels, names(7))
    frozen = logits.copy()
    frozen.setflags(write=False)  # as a memory-mapped file is
    assert first == metrics.evaluate(frozen, labels.astype(np.int32), names(7))
    assert first == metrics.evaluate(torch.tensor(logits, requires_grad=True), torch.tensor(labels), names(7))
    order = np.random.default_rng(1).permutation(5000)
    assert metrics.cross_entropy(logits[order], labels[order]) == first.loss
    half = torch.tensor(logits).bfloat16()
    assert metrics.top_k(half, labels, 2) == metrics.top_k(half.float(), labels, 2)


def test_one_class():
    whole = metrics.evaluate(np.zeros((4, 1)), np.zeros(4, int), ["only"])
    assert (whole.top1.value, whole.top5_k, whole.loss, whole.confusion) == (1.0, 1, 0.0, ((4,),))
    assert whole.calibration.ece == 0.0
    assert math.copysign(1, whole.loss) == 1


def test_one_image():
    whole = metrics.evaluate([[0.0, 1.0]], [0], ["a", "b"])
    assert (whole.top1.value, whole.balanced_accuracy.value, whole.scores[1].recall) == (0.0, 0.0, None)


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (np.zeros((0, 3)), np.zeros(0, int), "no images to evaluate"),
        ([[0.0, math.nan], [0.0, 1.0], [math.inf, 0.0]], [0, 1, 0], "NaN or infinite for 2 of 3"),
        ([[0.0, 1.0]], [2], "do not fit a network of 2 classes"),
        ([[0.0, 1.0]], [-1], "do not fit"),
        ([[0.0, 1.0]], [0, 1], "do not go together"),
        ([0.0, 1.0], [0, 1], "do not go together"),
    ],
)
def test_what_cannot_be_evaluated_says_why(logits, labels, message):
    with pytest.raises(DataError, match=message):
        metrics.evaluate(logits, labels, ["a", "b"])


def test_names_must_fit():
    with pytest.raises(DataError, match="3 class names do not fit a network of 2 classes"):
        metrics.evaluate([[0.0, 1.0]], [0], ["a", "b", "c"])
