"""What a task is worth: every entry of TASKS keeps the same promises, and each figure agrees with a known library."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.stats import beta
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import average_precision_score, f1_score, jaccard_score, mean_absolute_error, r2_score

from convscope.datasets.mask_coding import VOID
from convscope.datasets.targets import LabelSets, Numbers
from convscope.errors import DataError
from convscope.models.box_network import places_of
from convscope.tasks import detection, multi_label, regression, segmentation
from convscope.tasks.paired import paired_figure
from convscope.tasks.registry import TASKS
from convscope.tasks.task import DRAWS, Score, interval_of, resamples

N, K, SIDE = 24, 3, 8
NAMES = {
    "classification": ("a", "b", "c"),
    "multi_label": ("a", "b", "c"),
    "regression": ("age",),
    "segmentation": ("sky", "road", "car"),
    "detection": ("cat", "dog", "fox"),
}
SQUARE = 64  # px of images with boxes


def targets_of(task: str, rng: np.random.Generator) -> torch.Tensor:
    """Random targets of N images."""
    return {
        "classification": lambda: torch.from_numpy(rng.permutation(np.arange(N) % K)),
        "multi_label": lambda: torch.from_numpy((rng.random((N, K)) < 0.4).astype(np.float32)),
        "regression": lambda: torch.from_numpy(rng.normal(40, 12, (N, 1)).astype(np.float32)),
        "segmentation": lambda: torch.from_numpy(rng.integers(0, K, (N, SIDE, SIDE))),
        "detection": lambda: torch.from_numpy(boxes_of(rng)).float(),
    }[task]()


def boxes_of(rng: np.random.Generator) -> np.ndarray:
    """The window of each image, and a box in its left and in its right half: (N, 3, 5)."""
    low, sides = rng.uniform(1, 6, (N, 2, 2)), rng.uniform(14, 24, (N, 2, 2))
    low[:, 1, 0] += SQUARE / 2
    boxes = np.concatenate([low, low + sides, rng.integers(0, K, (N, 2, 1))], 2)
    window = np.tile([[0.0, 0, SQUARE, SQUARE, detection.NOBODY]], (N, 1, 1))
    return np.concatenate([window, boxes], 1)


def perfect(task: str, targets: torch.Tensor) -> torch.Tensor:
    """Outputs that answer nothing but what is true."""
    hot = torch.nn.functional.one_hot
    return {
        "classification": lambda: 20.0 * hot(targets, K).float(),
        "multi_label": lambda: 20.0 * (2 * targets - 1),
        "regression": lambda: targets,
        "segmentation": lambda: 20.0 * hot(targets, K).permute(0, 3, 1, 2).float(),
        "detection": lambda: torch.stack([found_at_places(boxes) for boxes in targets]),
    }[task]()


def found_at_places(boxes: torch.Tensor) -> torch.Tensor:
    """What tells these boxes and no others, at each place that is to tell one: (L, K + 5)."""
    centres, strides = places_of(SQUARE)
    rows = detection.assigned(boxes, centres, strides)
    outputs = torch.full((len(centres), K + 5), -20.0)
    outputs[:, -4:] = 8.0
    for place in torch.nonzero(rows >= 0)[:, 0].tolist():
        own, (x, y) = boxes[rows[place]], centres[place]
        near = detection.centreness(own[None, :4], centres[place][None]).clamp(1e-6, 1 - 1e-6)
        outputs[place, int(own[4])], outputs[place, K] = 20.0, float(torch.logit(near)[0])
        outputs[place, -4:] = torch.stack([x - own[0], y - own[1], own[2] - x, own[3] - y])
    return outputs


def guesses(task: str, targets: torch.Tensor, seed: int) -> torch.Tensor:
    """Outputs that are right in part."""
    right = perfect(task, targets)
    noise = torch.randn(right.shape, generator=torch.Generator().manual_seed(seed))
    if task == "detection":
        return torch.cat([right[..., :-4] + 20 * noise[..., :-4], right[..., -4:] * (0.2 * noise[..., -4:]).exp()], -1)
    return right + noise * (8 if task == "regression" else 30)


def scored(name: str, outputs: torch.Tensor, targets: torch.Tensor, groups: np.ndarray | None = None) -> Score:
    return TASKS[name].score(TASKS[name].tally(outputs, targets), NAMES[name], {}, groups)


# ------------------------------------------------------------------------------------------------------ the contract


def test_every_task_has_its_name_and_words_and_heads():
    for name, task in TASKS.items():
        assert task.name == name
        assert task.asks
        assert task.metric(NAMES[name]) == task.metric(NAMES[name]).strip() != ""
        assert task.better in ("higher", "lower")
        assert task.is_better(1.0, 0.0) is (task.better == "higher")
        assert not task.is_better(1.0, 1.0)
        kinds = [kind.name for kind in task.heads]
        assert len(set(kinds)) == len(kinds)
        assert all((kind.solve is None) == (not kind.strengths) for kind in task.heads)
        assert all((kind.solve is None) == bool(kind.epochs and kind.rate) for kind in task.heads)
    assert [name for name, task in TASKS.items() if not task.heads] == ["classification"]


@pytest.mark.parametrize("name", TASKS)
def test_a_perfect_answer_scores_best(name: str):
    targets = targets_of(name, np.random.default_rng(0))
    best = scored(name, perfect(name, targets), targets)
    assert best.figure.value == pytest.approx(0 if TASKS[name].better == "lower" else 1)
    for seed in range(5):
        worse = scored(name, guesses(name, targets, seed), targets)
        assert TASKS[name].is_better(best.figure.value, worse.figure.value)
        assert (worse.each <= best.each + 1e-6).all(), "of an image the larger figure is the better one"
        assert worse.each.sum() < best.each.sum()


@pytest.mark.parametrize("name", TASKS)
def test_tallies_of_batches_are_those_of_all_at_once(name: str):
    targets = targets_of(name, np.random.default_rng(1))
    outputs = guesses(name, targets, 1)
    whole = TASKS[name].tally(outputs, targets)
    assert whole.dtype == (object if name == "detection" else np.float64)
    assert len(whole) == N
    for size in (1, 5, N):
        parts = [TASKS[name].tally(outputs[i : i + size], targets[i : i + size]) for i in range(0, N, size)]
        assert flat(np.concatenate(parts)) == pytest.approx(flat(whole), rel=1e-12)


def flat(tallies: np.ndarray) -> np.ndarray:
    """All numbers of tallies, also of those that are objects."""
    if tallies.dtype != object:
        return tallies.ravel()
    return np.concatenate([np.ravel(values).astype(np.float64) for one in tallies for values in vars(one).values()])


@pytest.mark.parametrize("name", TASKS)
def test_a_score_is_the_same_each_time_and_lies_in_its_interval(name: str):
    targets = targets_of(name, np.random.default_rng(2))
    for seed in range(10):
        outputs = guesses(name, targets, seed)
        one, other = scored(name, outputs, targets), scored(name, outputs, targets)
        assert one.figure == other.figure
        assert one.figures == other.figures
        assert one.figure.low < one.figure.value < one.figure.high
        assert one.figure.n == len(one.each) == N


@pytest.mark.parametrize("name", TASKS)
def test_without_images_there_is_no_score(name: str):
    targets = targets_of(name, np.random.default_rng(0))
    tallies = TASKS[name].tally(perfect(name, targets), targets)[:0]
    with pytest.raises(DataError, match="no images"):
        TASKS[name].score(tallies, NAMES[name], {}, None)


@pytest.mark.parametrize("name", [name for name, task in TASKS.items() if task.heads])
def test_the_loss_falls_when_answers_become_better(name: str):
    targets = targets_of(name, np.random.default_rng(3))
    worse = TASKS[name].loss(guesses(name, targets, 3), targets)
    assert 0 <= float(TASKS[name].loss(perfect(name, targets), targets)) < float(worse)


@pytest.mark.parametrize("name", ["multi_label", "regression", "segmentation"])
def test_groups_are_drawn_whole_and_widen_the_interval(name: str):
    """Every image stands there four times: as images of their own they seem four times as many as they are."""
    targets = targets_of(name, np.random.default_rng(4))
    outputs = guesses(name, targets, 4)
    many = [torch.cat([one] * 4) for one in (outputs, targets)]
    groups = np.tile(np.arange(N), 4)
    alone, apart, grouped = scored(name, outputs, targets), scored(name, *many), scored(name, *many, groups)
    assert grouped.figure.value == pytest.approx(alone.figure.value)
    assert grouped.figure.low == pytest.approx(alone.figure.low)
    assert grouped.figure.high == pytest.approx(alone.figure.high)
    assert apart.figure.high - apart.figure.low < 0.75 * (alone.figure.high - alone.figure.low)


# ---------------------------------------------------------------------------------------------------- the bootstrap


def test_weights_of_samples_are_counts_of_images():
    weights = resamples(N, None)
    assert weights.shape == (DRAWS, N)
    assert (weights.sum(1) == N).all()
    assert np.array_equal(weights, weights.round())
    groups = np.array(["x", "y", "z", "y", "x", "x"])
    drawn = resamples(6, groups)
    assert np.array_equal(drawn[:, 0], drawn[:, 4])
    assert np.array_equal(drawn[:, 1], drawn[:, 3])
    assert (drawn[:, 0] + drawn[:, 1] + drawn[:, 2] == 3).all()


def explicit(n: int, figure: Callable[[np.ndarray], float]) -> tuple[float, float]:
    """The percentile interval by drawing images themselves, with other random numbers."""
    rng = np.random.default_rng(99)
    low, high = np.quantile([figure(rng.integers(0, n, n)) for _ in range(3000)], [0.025, 0.975])
    return float(low), float(high)


def test_the_interval_of_a_number_is_that_of_an_explicit_resampling():
    rng = np.random.default_rng(5)
    truth = rng.normal(0, 3, 60)
    guess = truth + rng.normal(0, 1, 60)
    found = regression.score(np.stack([guess, truth], 1), ("x",), {}).figures
    mae = explicit(60, lambda i: np.abs(truth[i] - guess[i]).mean())
    r2 = explicit(60, lambda i: 1 - ((truth[i] - guess[i]) ** 2).mean() / truth[i].var())
    assert (found["mae_low"], found["mae_high"]) == pytest.approx(mae, abs=0.02)
    assert (found["r2_low"], found["r2_high"]) == pytest.approx(r2, abs=0.015)


def test_weighted_samples_are_samples_of_images():
    """Each figure of a sample by weights is that of the list in which every image stands so often."""
    rng = np.random.default_rng(6)
    p, truth, weights = rng.integers(0, 6, 30) / 6, (rng.random(30) < 0.3).astype(float), resamples(30, None)[:40]
    lists = [np.repeat(np.arange(30), row.astype(int)) for row in weights]
    found = multi_label.average_precision(p, truth, weights)
    for value, images in zip(found, lists, strict=True):
        assert value == pytest.approx(average_precision_score(truth[images], p[images]))
    numbers = rng.normal(size=30)
    found = regression._r2(weights, p, numbers)
    assert found == pytest.approx([r2_score(numbers[images], p[images]) for images in lists])
    counts = rng.integers(0, 9, (30, K, 3)).astype(float)
    counts[..., 0] = counts.min(2)
    summed = (weights @ counts.reshape(30, -1)).reshape(-1, K, 3)
    assert np.array_equal(summed, np.stack([counts[images].sum(0) for images in lists]))


def test_samples_without_a_figure_are_left_out_of_an_interval():
    found = interval_of(0.5, np.array([np.nan, 0.4, 0.6, np.nan]), 7)
    assert 0.4 <= found.low < found.value < found.high <= 0.6
    assert (found.n, found.method) == (7, "bootstrap")


def test_two_ways_are_compared_image_by_image():
    rng = np.random.default_rng(7)
    one, noise = rng.normal(size=80), rng.normal(0, 0.1, 80)
    better = paired_figure(one + 0.2 + noise, one)
    assert better.low < better.difference < better.high
    assert better.difference == pytest.approx(0.2 + noise.mean())
    assert better.sure
    assert better.low > 0
    assert not paired_figure(one + noise - noise.mean(), one).sure
    groups = np.arange(len(one)) % 2  # two videos say little, however many images they have
    grouped = paired_figure(one + 0.2 + noise, one, groups)
    assert (grouped.n, grouped.unit, grouped.sure) == (2, "group", False)
    assert grouped.difference == pytest.approx(better.difference, abs=1e-12)
    same = paired_figure(one, one)
    assert (same.difference, same.low, same.high, same.p, same.sure) == (0, 0, 0, 1, False)


# ----------------------------------------------------------------------------------------------------- segmentation


def masks_with_void(seed: int, absent: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Guesses and masks (N, S, S), a fifth of these void; the absent class is nowhere."""
    rng = np.random.default_rng(seed)
    kinds = [k for k in range(4) if k != absent]
    truth, guess = rng.choice(kinds, (2, N, SIDE, SIDE))
    guess = np.where(rng.random(truth.shape) < 0.6, truth, guess)
    return guess, np.where(rng.random(truth.shape) < 0.2, VOID, truth)


def segmentation_score(guess: np.ndarray, truth: np.ndarray, names: tuple[str, ...]) -> Score:
    tallies = np.stack([segmentation.counts(g, t, len(names)) for g, t in zip(guess, truth, strict=True)])
    return segmentation.score(tallies, names, {})


@pytest.mark.parametrize("absent", [None, 0, 2])
def test_miou_is_that_of_the_field(absent: int | None):
    guess, truth = masks_with_void(8, absent)
    found = segmentation_score(guess, truth, ("a", "b", "c", "d"))
    known = truth != VOID
    there = [k for k in range(4) if k != absent]
    wanted = jaccard_score(truth[known], guess[known], labels=there, average=None)
    assert [row["iou"] for row in found.figures["classes"] if row["iou"] is not None] == pytest.approx(list(wanted))
    assert [row["iou"] is None for row in found.figures["classes"]] == [k == absent for k in range(4)]
    assert found.figure.value == found.figures["miou"] == pytest.approx(wanted.mean())
    assert found.figures["pixel_accuracy"] == pytest.approx((truth == guess)[known].mean())
    assert [row["pixels"] for row in found.figures["classes"]] == [int((truth == k).sum()) for k in range(4)]


@pytest.mark.parametrize("name", ["background", "Background", "bg", "_background_"])
def test_one_object_before_a_background_is_scored_alone(name: str):
    assert segmentation.metric((name, "cell")) == "iou"
    assert segmentation.metric(("cell", name)) == segmentation.metric((name, "cell", "dust")) == "miou"


def test_miou_is_that_of_torchmetrics():
    metrics = pytest.importorskip("torchmetrics.classification")
    for seed, absent in ((9, None), (10, 1)):
        guess, truth = masks_with_void(seed, absent)
        metric = metrics.MulticlassJaccardIndex(4, average="macro", ignore_index=VOID)
        wanted = float(metric(torch.from_numpy(guess), torch.from_numpy(truth)))
        assert segmentation_score(guess, truth, ("a", "b", "c", "d")).figure.value == pytest.approx(wanted)


def test_the_iou_of_one_object_is_that_of_the_field_and_says_nothing_of_its_background():
    guess, truth = masks_with_void(11)
    guess, truth = guess % 2, np.where(truth == VOID, VOID, truth % 2)
    found = segmentation_score(guess, truth, ("background", "leaf"))
    known = truth != VOID
    assert found.figures["iou"] == pytest.approx(jaccard_score(truth[known], guess[known]))
    assert "miou" not in found.figures
    metrics = pytest.importorskip("torchmetrics.classification")
    metric = metrics.BinaryJaccardIndex(ignore_index=VOID)
    assert found.figure.value == pytest.approx(float(metric(torch.from_numpy(guess), torch.from_numpy(truth))))


def test_masks_that_show_nothing_to_score_are_refused():
    truth = np.full((3, SIDE, SIDE), VOID)
    with pytest.raises(DataError, match="nothing to score"):
        segmentation_score(np.zeros_like(truth), truth, ("sky", "road"))
    with pytest.raises(DataError, match="nothing to score"):
        segmentation_score(np.zeros_like(truth), np.zeros_like(truth), ("background", "leaf"))


def test_an_image_without_the_object_is_right_where_none_is_answered():
    truth = np.zeros((3, SIDE, SIDE), int)
    truth[0, :4] = 1
    guess = truth.copy()
    guess[2, 0, 0] = 1
    assert segmentation_score(guess, truth, ("background", "leaf")).each.tolist() == [1, 1, 0]


def test_logits_of_another_size_are_brought_to_that_of_the_masks():
    truth = torch.zeros(1, SIDE, SIDE, dtype=torch.long)
    truth[:, :, SIDE // 2 :] = 1
    small = torch.nn.functional.one_hot(truth[:, ::4, ::4], 2).permute(0, 3, 1, 2).float()
    assert segmentation.score(segmentation.tally(small, truth), ("a", "b"), {}).figure.value == 1
    assert float(segmentation.loss(20 * small, truth)) < 1e-6
    truth[:, 0] = VOID
    assert float(segmentation.loss(20 * small, truth)) < 1e-6
    assert float(segmentation.loss(small, torch.full_like(truth, VOID))) == 0, "no pixel, no loss"


# -------------------------------------------------------------------------------------------------- several labels


def test_average_precision_is_sklearns_with_ties():
    rng = np.random.default_rng(12)
    for levels in (2, 4, 1000):
        for share in (0.05, 0.5, 0.95):
            p, truth = rng.integers(0, levels, 50) / levels, rng.random(50) < share
            truth[0] = True
            found = multi_label.average_precision(p, truth.astype(float), np.ones((1, 50)))[0]
            assert found == pytest.approx(average_precision_score(truth, p))
    assert np.isnan(multi_label.average_precision(p, np.zeros(50), np.ones((1, 50)))[0])


def test_the_mean_is_over_labels_that_some_image_has():
    rng = np.random.default_rng(13)
    p, truth = rng.random((40, K)), (rng.random((40, K)) < 0.3).astype(float)
    truth[:, 1] = 0
    found = multi_label.score(np.stack([p, truth], 2), ("a", "b", "c"), {}).figures
    wanted = [average_precision_score(truth[:, k], p[:, k]) for k in (0, 2)]
    assert found["map"] == pytest.approx(np.mean(wanted))
    assert found["labels"][1]["ap"] is None
    assert found["labels"][1]["recall"] is None
    assert found["exact_match"] == pytest.approx(((p >= 0.5) == (truth > 0)).all(1).mean())
    assert found["hamming_loss"] == pytest.approx(((p >= 0.5) != (truth > 0)).mean())
    with pytest.raises(DataError, match="none of these images has any"):
        multi_label.score(np.stack([p, 0 * truth], 2), ("a", "b", "c"), {})


@pytest.mark.parametrize("levels", [4, 10_000])
def test_a_threshold_has_the_best_f1_that_a_search_finds(levels: int):
    rng = np.random.default_rng(14)
    for _ in range(20):
        truth = rng.random(25) < rng.uniform(0.1, 0.9)
        truth[:2] = True, False
        p = np.round(np.clip(0.5 * rng.random(25) + 0.3 * truth, 0, 1) * levels) / levels
        (threshold,) = multi_label.settings(np.stack([p, truth], 1)[:, None])["thresholds"]
        best = max(2 * (truth & (p >= t)).sum() / (truth.sum() + (p >= t).sum()) for t in p)
        assert f1_score(truth, p >= threshold) == pytest.approx(best)
        assert 0 < threshold < 1


def test_a_label_that_all_or_none_have_keeps_the_threshold_of_one_half():
    tallies = np.stack([np.full((6, 2), 0.9), np.stack([np.zeros(6), np.ones(6)], 1)], 2)
    assert multi_label.settings(tallies)["thresholds"] == [0.5, 0.5]


@pytest.mark.parametrize("strength", [1e-3, 1.0])
def test_heads_of_labels_are_sklearns_logistic_regressions(strength: float):
    rng = np.random.default_rng(15)
    features = (rng.normal(size=(60, 5)) * 3 + 1).astype(np.float32)
    labels = (features[:, :2] - 1 + rng.normal(0, 3, (60, 2)) > 0).astype(np.float32)
    head = multi_label.solve(torch.from_numpy(features), torch.from_numpy(labels), strength)
    found = torch.sigmoid(head(torch.from_numpy(features))).detach().numpy()
    scaled = (features - features.mean(0)) / features.std(ddof=1)
    for k in range(2):
        peer = LogisticRegression(C=strength, tol=1e-8, max_iter=2000).fit(scaled, labels[:, k])
        assert found[:, k] == pytest.approx(peer.predict_proba(scaled)[:, 1], abs=2e-3)


def test_labels_that_cannot_be_learned_are_told():
    values = np.array([[1, 0, 0], [1, 0, 1]], np.uint8)
    notes = multi_label.check(LabelSets(("a", "b", "c"), values), LabelSets(("a", "b", "c"), values))
    assert notes == [
        "no training image has 'b': that cannot be learned.",
        "every training image has 'a': that cannot be learned.",
    ]
    with pytest.raises(DataError, match="the same labels"):
        multi_label.check(LabelSets(("a", "b"), values[:, :2]), LabelSets(("a", "b"), values[:, :2]))


# ------------------------------------------------------------------------------------------------------- a number


def test_errors_and_explained_variance_are_sklearns():
    rng = np.random.default_rng(16)
    truth = rng.normal(1000, 5, 50)
    guess = truth + rng.normal(0, 4, 50)
    found = regression.score(np.stack([guess, truth], 1), ("x",), {"mean": 999.0, "half_width": 6.0}).figures
    assert found["mae"] == pytest.approx(mean_absolute_error(truth, guess))
    assert found["rmse"] == pytest.approx(math.sqrt(((truth - guess) ** 2).mean()))
    assert found["r2"] == pytest.approx(r2_score(truth, guess))
    assert found["mean_mae"] == pytest.approx(np.abs(truth - 999).mean())
    assert found["mae_lowered"] == pytest.approx(found["mean_mae"] - found["mae"])
    assert found["coverage"] == pytest.approx((np.abs(truth - guess) <= 6).mean())
    assert found["coverage_low"] < found["coverage"] < found["coverage_high"]


def test_no_variance_is_explained_where_there_is_none():
    found = regression.score(np.array([[1.0, 2.0], [2.5, 2.0]]), ("x",), {}).figures
    assert found["mae"] == 0.75
    assert (found["r2"], found["r2_low"], found["r2_high"]) == (None, None, None)


@pytest.mark.parametrize("wide", [4, 90])
def test_heads_of_numbers_are_sklearns_ridge(wide: int):
    rng = np.random.default_rng(17)
    features = rng.normal(2, 1, (40, wide)).astype(np.float32)
    numbers = (features[:, :1] * 3 + rng.normal(50, 1, (40, 1))).astype(np.float32)
    centred = features - features.mean(0)
    for strength in (0.01, 1.0, 100.0):
        head = regression.solve(torch.from_numpy(features), torch.from_numpy(numbers), strength)
        alpha = (centred**2).sum(1).mean() / strength
        peer = Ridge(alpha=alpha, solver="svd").fit(features.astype(np.float64), numbers[:, 0])
        found = head(torch.from_numpy(features)).detach().numpy()[:, 0]
        assert found == pytest.approx(peer.predict(features), rel=1e-4)
        assert head.weight.detach().numpy()[0] == pytest.approx(peer.coef_, abs=1e-4)


@pytest.mark.parametrize("n", [9, 25, 60])
def test_intervals_hold_the_truth_as_often_as_they_promise(n: int):
    """Of a normal error the share that an interval holds is known, and its law over sets of validation images too.

    That is Beta(r, n + 1 - r) with r = ceil(0.9 (n + 1)), whose mean is between 0.9 and 0.9 + 1 / (n + 1).
    """
    rng, sets = np.random.default_rng(18), 20
    held = []
    for _ in range(sets):
        truth = rng.normal(size=n)
        half = regression.settings(np.stack([truth + rng.normal(size=n), truth], 1))["half_width"]
        held.append(math.erf(half / math.sqrt(2)))
    rank = math.ceil(0.9 * (n + 1))
    law = beta(rank, n + 1 - rank)
    assert 0.9 <= law.mean() < 0.9 + 1 / (n + 1)
    assert abs(np.mean(held) - law.mean()) < 4 * law.std() / math.sqrt(sets)


def test_too_few_images_give_no_interval_and_say_so():
    assert regression.settings(np.ones((8, 2))) == {"half_width": None}
    assert regression.settings(np.ones((9, 2))) == {"half_width": 0.0}
    few, enough = (Numbers("age", np.arange(float(n))) for n in (8, 9))
    assert regression.check(enough, few) == ["8 validation images are too few for intervals: 90 % need 9."]
    assert regression.check(enough, enough) == []
    with pytest.raises(DataError, match="age is 3 for every training image"):
        regression.check(Numbers("age", np.full(4, 3.0)), enough)
