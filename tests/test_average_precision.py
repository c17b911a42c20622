"""Average precision of boxes: matches and figures are COCO's, samples are lists of images, and answers are known."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from convscope.errors import DataError
from convscope.tasks import average_precision, task
from convscope.tasks.average_precision import ap, score
from convscope.tasks.average_precision import settings as settings_of
from convscope.tasks.matching import AREAS, HALF, MOST, OVERLAPS, FoundBoxes, TrueBoxes, matched
from random_boxes import Image, as_coco, coco_evaluator, evaluated, matches_of, random_image

NAMES = ("apple", "pear", "plum", "fig")
SUMMARY = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")


@st.composite
def images(draw: st.DrawFn, classes: int = 3) -> Image:
    """An image whose boxes lie about a few places, so that they overlap, by the same share too; scores are tied."""
    places = [(0, 0, 20, 20), (10, 0, 32, 32), (40, 40, 60, 60), (30, 20, 96, 96), (100, 0, 140, 120)]
    shift = st.sampled_from([0, 0, 0, 1, 2, 3, 5, 8])
    one = st.tuples(st.sampled_from(places), shift, shift, shift, shift, st.integers(0, classes - 1))
    true, found = draw(st.lists(one, max_size=6)), draw(st.lists(one, max_size=10))
    crowd = draw(st.lists(st.booleans(), min_size=len(true), max_size=len(true)))
    levels = st.sampled_from([0.1, 0.5, 0.5, 0.7, 0.9]) if draw(st.booleans()) else st.floats(0, 1)
    scores = draw(st.lists(levels, min_size=len(found), max_size=len(found)))
    return (
        FoundBoxes(corners_of(found), labels_of(found), np.array(scores, np.float64)),
        TrueBoxes(corners_of(true), labels_of(true), np.array(crowd, bool)),
    )


def corners_of(rows: list[tuple]) -> np.ndarray:
    made = [(x + a, y + b, x + a + w + c, y + b + h + d) for (x, y, w, h), a, b, c, d, _ in rows]
    return np.array(made, np.float64).reshape(-1, 4)


def labels_of(rows: list[tuple]) -> np.ndarray:
    return np.array([row[-1] for row in rows], np.int64)


def image_of(found: list[tuple], true: list[tuple], crowd: list[bool] | None = None) -> Image:
    """An image of rows (left, top, right, bottom, label), of the found ones with a score at the end."""
    f, t = np.array(found, np.float64).reshape(-1, 6), np.array(true, np.float64).reshape(-1, 5)
    return (
        FoundBoxes(f[:, :4], f[:, 4].astype(int), f[:, 5]),
        TrueBoxes(t[:, :4], t[:, 4].astype(int), np.array(crowd or [False] * len(t), bool)),
    )


def several(seed: int, n: int = 12, levels: int = 0, classes: int = 3) -> list[Image]:
    """Random images, some without true boxes, some without found ones."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(0, [8, 14], (n, 2))
    return [random_image(rng, int(true), int(found), classes, levels) for true, found in sizes]


# ---------------------------------------------------------------------------------------- against the field's libraries


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(images(), min_size=1, max_size=5))
def test_average_precision_is_pycocotools(some: list[Image]):
    matches = matches_of(some, 4)  # of the last class there is nothing
    wanted, summary = evaluated("pycocotools", some, 4)
    assert ap(matches) == pytest.approx(wanted, abs=1e-6, nan_ok=True)
    if summary[1] is None:
        with pytest.raises(DataError, match="nothing to score"):
            score(matches, NAMES, {})
        return
    figures = score(matches, NAMES, {}).figures
    for name, value in zip(SUMMARY, summary, strict=True):
        assert figures[name] == (None if value is None else pytest.approx(value, abs=1e-6)), name
    for row, values in zip(figures["classes"], wanted[:, 0], strict=True):
        there = np.isfinite(values[0])
        assert row["ap50"] == (pytest.approx(values[0], abs=1e-6) if there else None)
        assert row["ap"] == (pytest.approx(values.mean(), abs=1e-6) if there else None)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(images(), min_size=1, max_size=3))
def test_what_is_matched_is_what_pycocotools_matches(some: list[Image]):
    peer = coco_evaluator("pycocotools", *as_coco(some, 3))
    rows = [row for row in peer.evalImgs if row is not None]
    assert peer.params.iouThrs.tolist() == OVERLAPS.tolist()
    for i, one in enumerate(matches_of(some, 3), 1):
        for row in (row for row in rows if row["image_id"] == i):
            a, k = peer.params.areaRng.index(row["aRng"]), row["category_id"] - 1
            own = one.labels == k
            assert one.scores[own].tolist() == row["dtScores"]
            assert np.array_equal(one.hit[a][:, own], row["dtMatches"] > 0)
            assert np.array_equal(one.ignored[a][:, own], row["dtIgnore"])
            assert one.positives[a, k] == np.count_nonzero(np.asarray(row["gtIgnore"]) == 0)
            if a == 0:
                truth = np.flatnonzero(some[i - 1][1].labels == k)
                ids = np.asarray(row["gtIds"], int)
                free = (row["gtMatches"][HALF] == 0) & (np.asarray(row["gtIgnore"]) == 0)
                assert one.missed[truth].sum() == free.sum()
                start = sum(len(t.labels) for _, t in some[: i - 1]) + 1  # ids are counted over all images
                assert set(np.flatnonzero(one.missed & (some[i - 1][1].labels == k))) == set(ids[free] - start)


@pytest.mark.parametrize("seed", range(12))
def test_average_precision_is_that_of_both_libraries(seed: int):
    """Crowded images of boxes with uneven corners, 130 found boxes of one class among them."""
    rng = np.random.default_rng(seed)
    some = [*several(seed, 8, levels=7 * (seed % 2)), random_image(rng, 40, 130, 1), random_image(rng, 30, 60, 3)]
    found = ap(matches_of(some, 4))
    for library in ("pycocotools", "faster_coco_eval"):
        wanted, summary = evaluated(library, some, 4)
        assert found == pytest.approx(wanted, abs=1e-6, nan_ok=True), library
        figures = score(matches_of(some, 4), NAMES, {}).figures
        assert [figures[name] for name in SUMMARY] == pytest.approx(summary, abs=1e-6), library
    assert np.isnan(found[3]).all()
    assert (np.isfinite(found[:3]).all(2).sum(0) > 0).all(), "all ranges of areas are tried"


def test_a_recall_is_reached_where_the_quotient_of_pycocotools_reaches_it():
    """Of 100 true boxes 57 are not yet its recall of 0.57, which is a bit more: all such cases, by its own search."""
    positives = np.arange(1, 401)
    wanted = [np.searchsorted(np.arange(n + 1) / n, np.linspace(0, 1, 101)) for n in positives]
    assert np.array_equal(average_precision._needed(positives.astype(float)), wanted)
    assert wanted[99].tolist() != list(range(101))


# -------------------------------------------------------------------------------------------- weights are repetitions


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(images(), st.integers(0, 3)), min_size=1, max_size=5))
def test_an_image_that_counts_twice_is_an_image_that_stands_there_twice(some: list[tuple[Image, int]]):
    weights = np.array([times for _, times in some])
    repeated = [image for image, times in some for _ in range(times)]
    found = ap(matches_of([image for image, _ in some], 3), weights)
    if repeated:
        assert found == pytest.approx(ap(matches_of(repeated, 3)), abs=1e-12, nan_ok=True)
        assert found == pytest.approx(evaluated("pycocotools", repeated, 3)[0], abs=1e-6, nan_ok=True)
    else:
        assert np.isnan(found).all()


@pytest.mark.parametrize(("levels", "at_once"), [(0, 2**19), (5, 2**19), (5, 100), (0, 1)])
def test_intervals_are_those_of_lists_of_images(levels: int, at_once: int, monkeypatch: pytest.MonkeyPatch):
    """However many samples are made at once, and with many equal scores."""
    monkeypatch.setattr(task, "DRAWS", 50)
    monkeypatch.setattr(average_precision, "AT_ONCE", at_once)
    some, groups = several(3, levels=levels), np.arange(12) // 2
    for group in (None, groups):
        figures = score(matches_of(some, 3), NAMES[:3], {}, group).figures
        lists = [np.repeat(np.arange(12), times.astype(int)) for times in task.resamples(12, group)]
        drawn = np.stack([ap(matches_of([some[i] for i in one], 3))[:, 0] for one in lists])  # (R, K, T)
        wanted = [np.nanmean(drawn[..., HALF], 1), np.nanmean(drawn, 1).mean(1)]
        for name, values in zip(("ap50", "ap"), wanted, strict=True):
            ends = np.quantile(values, [0.025, 0.975])
            assert [figures[f"{name}_low"], figures[f"{name}_high"]] == pytest.approx(ends, abs=1e-12)
        for row, values in zip(figures["classes"], drawn[..., HALF].T, strict=True):
            ends = np.nanquantile(values, [0.025, 0.975])
            assert [row["ap50_low"], row["ap50_high"]] == pytest.approx(ends, abs=1e-12)


def test_an_interval_holds_its_value_and_groups_drawn_whole_widen_it():
    some = several(5, 30)
    alone = score(matches_of(some, 3), NAMES[:3], {})
    assert alone.figure.low < alone.figure.value < alone.figure.high
    assert alone.figure.value == alone.figures["ap50"]
    assert alone.figure == score(matches_of(some, 3), NAMES[:3], {}).figure
    many, groups = matches_of([one for one in some for _ in range(4)], 3), np.repeat(np.arange(30), 4)
    apart, grouped = score(many, NAMES[:3], {}), score(many, NAMES[:3], {}, groups)
    assert grouped.figure.value == apart.figure.value
    assert (grouped.figure.low, grouped.figure.high) == pytest.approx((alone.figure.low, alone.figure.high), abs=1e-9)
    assert apart.figure.high - apart.figure.low < 0.75 * (grouped.figure.high - grouped.figure.low)
    assert grouped.groups is groups


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    """Each image has one object, found in seven of ten, and never anything else: the truth is 71 recalls of 101."""
    there, found = [(0, 0, 50, 50, 0)], [(0, 0, 50, 50, 0, 0.5)]
    yes, no = matches_of([image_of(found, there), image_of([], there)], 1)
    rng, held = np.random.default_rng(0), 0
    for _ in range(40):
        drawn = np.empty(60, object)
        drawn[:] = [yes if hit else no for hit in rng.random(60) < 0.7]
        interval = score(drawn, ("cell",), {}).figure
        held += interval.low <= 71 / 101 <= interval.high
    assert 34 <= held <= 40


# ------------------------------------------------------------------------------------------------------ known answers


def test_perfect_boxes_score_one():
    rng = np.random.default_rng(0)
    some = []
    for _ in range(6):
        _, truth = random_image(rng, 12, 0, 3)
        some.append((FoundBoxes(truth.corners, truth.labels, rng.random(12)), truth))
    found = score(matches_of(some, 3), NAMES[:3], settings_of(matches_of(some, 3)))
    assert found.figure.value == found.figure.low == found.figure.high == 1
    assert [found.figures[name] for name in (*SUMMARY, "precision", "recall", "f1")] == [1] * 9
    assert found.each.tolist() == [1] * 6


def test_a_doubled_box_costs_what_it_should():
    some = matches_of(
        [
            image_of(
                [(0, 0, 10, 10, 0, 0.9), (0, 1, 10, 10, 0, 0.8), (50, 50, 70, 70, 0, 0.7), (200, 0, 220, 9, 0, 0.6)],
                [(0, 0, 10, 10, 0), (50, 50, 70, 70, 0), (300, 300, 320, 320, 0)],
            )
        ],
        1,
    )
    (one,) = some
    assert one.right.tolist() == [True, False, True, False]
    assert one.doubled.tolist() == [False, True, False, False]
    assert one.false.tolist() == [False, False, False, True]
    assert one.missed.tolist() == [False, False, True]
    figures = score(some, ("leaf",), {"threshold": 0.75}).figures
    assert figures["ap50"] == pytest.approx((34 * 1 + 33 * 2 / 3) / 101)  # a third of recall at 1, another at 2 of 3
    assert (figures["precision"], figures["recall"], figures["f1"]) == pytest.approx((1 / 2, 1 / 3, 2 / 5))


def test_a_shifted_box_is_right_while_it_overlaps_enough():
    """Ten pixels wide and two off: 80 of 120 square pixels."""
    some = matches_of([image_of([(2, 0, 12, 10, 0, 0.5)], [(0, 0, 10, 10, 0)])], 1)
    assert ap(some)[0, 0].tolist() == [1] * 4 + [0] * 6
    assert np.array_equal(ap(some)[0, AREAS.index("small")], ap(some)[0, 0])
    assert np.isnan(ap(some)[0, AREAS.index("large")]).all()
    figures = score(some, ("leaf",), {}).figures
    assert (figures["ap50"], figures["ap"], figures["ap75"]) == (1, pytest.approx(0.4), 0)
    assert (figures["ap_small"], figures["ap_medium"], figures["ap_large"]) == (pytest.approx(0.4), None, None)


def test_of_true_boxes_that_overlap_equally_the_last_is_taken():
    """As pycocotools does: so the second found box, which lies on that one alone, is doubled."""
    some = [image_of([(2, 0, 12, 10, 0, 0.9), (4, 0, 14, 10, 0, 0.8)], [(0, 0, 10, 10, 0), (4, 0, 14, 10, 0)])]
    (one,) = matches_of(some, 1)
    assert (one.right.tolist(), one.doubled.tolist()) == ([True, False], [False, True])
    assert one.missed.tolist() == [True, False]
    assert ap(matches_of(some, 1)) == pytest.approx(evaluated("pycocotools", some, 1)[0], nan_ok=True)


def test_boxes_in_a_crowd_are_neither_right_nor_wrong():
    found = [(5, 5, 20, 20, 0, 0.9), (30, 30, 50, 50, 0, 0.8), (200, 200, 240, 240, 0, 0.1)]
    (one,) = some = matches_of([image_of(found, [(0, 0, 100, 100, 0), (200, 200, 240, 240, 0)], [True, False])], 1)
    assert one.right.tolist() == [False, False, True]
    assert not (one.doubled | one.false).any()
    assert not one.missed.any()
    found = score(some, ("sheep",), {"threshold": 0.5}).figures
    assert (found["ap50"], found["boxes"], found["precision"], found["recall"]) == (1, 1, None, 0)


def test_of_each_class_a_hundred_boxes_count():
    rng = np.random.default_rng(1)
    found, truth = random_image(rng, 40, 400, 2)
    one = matched(found, truth, 2)
    for k in range(2):
        own = np.flatnonzero(found.labels == k)
        best = own[np.argsort(-found.scores[own], kind="stable")[:MOST]]
        assert len(own) > MOST
        assert one.kept[one.labels == k].tolist() == best.tolist()
        assert np.array_equal(one.scores[one.labels == k], found.scores[best])


# ------------------------------------------------------------------------------------------------ what a threshold says


def counted(some: np.ndarray, threshold: float) -> tuple[float, float, float]:
    """Right, given and true boxes at a threshold, one by one."""
    right = given = there = 0
    for one in some:
        there += one.positives[0].sum()
        for box_score, is_right, left_out in zip(one.scores, one.right, one.ignored[0, HALF], strict=True):
            given += box_score >= threshold and not left_out
            right += box_score >= threshold and bool(is_right)
    return right, given, there


@pytest.mark.parametrize("levels", [0, 6])
def test_the_threshold_has_the_best_f1_and_the_figures_are_those_at_it(levels: int):
    for seed in range(12):
        some = matches_of(several(seed, levels=levels), 3)
        threshold = settings_of(some)["threshold"]
        scores = sorted({float(s) for one in some for s in one.scores})
        f1 = {t: 2 * r / (g + n) for t in scores for r, g, n in [counted(some, t)]}
        assert threshold == max(t for t in scores if f1[t] == max(f1.values()))
        figures = score(some, NAMES[:3], {"threshold": threshold}).figures
        right, given, there = counted(some, threshold)
        assert figures["f1"] == pytest.approx(f1[threshold])
        assert (figures["precision"], figures["recall"]) == pytest.approx((right / given, right / there))
        assert (figures["boxes"], figures["n"], figures["threshold"]) == (there, 12, threshold)
        curve = figures["curve"]
        for t, precision, recall in zip(*curve.values(), strict=True):
            right, given, there = counted(some, t)
            assert (precision, recall) == pytest.approx((right / given, right / there))
        assert len(curve["threshold"]) == 50
        json.dumps(figures, allow_nan=False)


def test_each_image_and_class_is_told_at_the_threshold():
    some = matches_of(several(8), 3)
    found = score(some, NAMES[:3], {"threshold": 0.4})
    for value, one in zip(found.each, some, strict=True):
        right, given, there = counted(np.array([one], object), 0.4)
        assert value == pytest.approx(2 * right / (given + there) if given + there else 1)
    for k, row in enumerate(found.figures["classes"]):
        alone = [matched(*only(one, k), 3) for one in several(8)]
        right, given, there = counted(np.array(alone, object), 0.4)
        assert (row["name"], row["boxes"]) == (NAMES[k], there)
        assert row["images"] == sum(bool(one.positives[0].any()) for one in alone)
        assert (row["precision"], row["recall"]) == pytest.approx((right / given, right / there))


def only(image: Image, k: int) -> Image:
    """The boxes of one class in an image."""
    found, truth = image
    f, t = found.labels == k, truth.labels == k
    return (
        FoundBoxes(found.corners[f], found.labels[f], found.scores[f]),
        TrueBoxes(truth.corners[t], truth.labels[t], truth.crowd[t]),
    )


def test_an_image_without_boxes_is_right_where_none_is_given():
    there, given = [(0, 0, 9, 9, 0)], [(0, 0, 9, 9, 0, 0.8)]
    some = [image_of([], []), image_of(given, there), image_of(given, []), image_of([], there)]
    assert score(matches_of(some, 1), ("leaf",), {"threshold": 0.5}).each.tolist() == [1, 1, 0, 0]
    assert score(matches_of(some, 1), ("leaf",), {"threshold": 0.9}).each.tolist() == [1, 0, 1, 0]


def test_where_nothing_is_found_the_threshold_is_one_half_and_the_score_nothing():
    some = matches_of([image_of([], [(0, 0, 9, 9, 0)])], 2)
    assert settings_of(some) == settings_of(some[:0]) == {"threshold": 0.5}
    figures = score(some, NAMES[:2], {}).figures
    assert (figures["ap50"], figures["precision"], figures["recall"], figures["f1"]) == (0, None, 0, 0)
    assert figures["curve"] == {"threshold": [], "precision": [], "recall": []}
    assert figures["classes"][1] == {
        "name": "pear", "boxes": 0, "images": 0, "ap": None, "precision": None, "recall": None,
        "ap50": None, "ap50_low": None, "ap50_high": None,
    }  # fmt: skip


def test_without_images_or_true_boxes_there_is_no_score():
    some = matches_of([image_of([(0, 0, 9, 9, 0, 0.5)], [(0, 0, 9, 9, 0)])], 1)
    with pytest.raises(DataError, match="no images"):
        score(some[:0], ("leaf",), {})
    found, truth = image_of([(0, 0, 9, 9, 0, 0.5)], [(0, 0, 9, 9, 0)])
    crowds = matches_of([(found, replace(truth, crowd=np.array([True])))], 1)
    for one in (crowds, matches_of([image_of([], [])], 1)):
        with pytest.raises(DataError, match="nothing to score"):
            score(one, ("leaf",), {})
