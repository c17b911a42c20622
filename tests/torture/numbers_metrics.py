"""What is counted of answers: shares, intervals, calibration and tests, against formulas and the field's libraries."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from scipy import stats
from scipy.special import softmax
from sklearn import metrics as peer

from convscope.classifying import calibration, metrics
from convscope.classifying.intervals import bootstrap, over_seeds, paired_test, wilson
from convscope.explanation.boxes import box_overlap
from convscope.explanation.overlap import Truth, mask_overlaps
from convscope.studies import judging
from convscope.tasks.paired import paired_figure
from slow_figures import bin_means, by_coins, by_formula, gaps_of
from torture.numbers_compare import Check, Random, apart, drawn, first, size

TIED = "tiny, denormal"  # logits whose probabilities are all alike


def scored(random: Random, least: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Logits (N, K) of any kind, with ties now and then, and labels; some all right, some all wrong."""
    n, classes = size(random, least, 60), size(random, 2, 7)
    logits = drawn(random, n, classes).numpy()
    logits = logits.round() if random.random() < 0.2 else logits
    labels = random.integers(0, classes, n)
    aim = random.random()
    if aim < 0.2:
        labels = logits.argmax(1)
    elif aim < 0.3:
        labels = (logits.argmax(1) + 1) % classes
    return logits, labels


def near(found: object, right: object, what: str, allowed: float = 1e-9) -> str:
    """Figures are of float64: they agree to nine digits."""
    return apart(found, right, what, allowed, scale=1.0)


def top_k(random: Random) -> str:
    logits, labels = scored(random)
    k, hits = size(random, 1, 8), 0
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        order = sorted(range(len(row)), key=lambda c: (-row[c], c))
        hits += label in order[:k]
    found = metrics.top_k(logits, labels, k)
    right = (hits / len(labels), *by_formula(hits, len(labels)))
    return near((found.value, found.low, found.high), right, f"top-{k}")


def cross_entropy(random: Random) -> str:
    logits, labels = scored(random)
    each = []
    for row, label in zip(logits.astype(float), labels, strict=True):
        top = row.max()
        each.append(top - row[label] + math.log(math.fsum(np.exp(row - top))))
    return apart(metrics.cross_entropy(logits, labels), math.fsum(each) / len(each), "the cross-entropy", 1e-9, 1.0)


def per_class(random: Random) -> str:
    logits, labels = scored(random)
    names, guesses = [str(k) for k in range(logits.shape[1])], logits.argmax(1)
    for k, row in enumerate(metrics.per_class(logits, labels, names)):
        true, said = labels == k, guesses == k
        both, n = int((true & said).sum()), int(true.sum())
        if row.n != n or (not n and row.recall is not None):
            return f"class {k} has {row.n} images and not {n}"
        if n:
            right = (both / max(1, said.sum()), both / n, 2 * both / (n + said.sum()), *by_formula(both, n))
            found = (row.precision, row.recall, row.f1, row.recall_low, row.recall_high)
            if flaw := near(found, right, "precision, recall and F1"):
                return flaw
    right = peer.confusion_matrix(labels, guesses, labels=range(len(names)))
    return near(metrics.confusion(logits, labels), right, "the confusion")


def balanced_accuracy(random: Random) -> str:
    logits, labels = scored(random)
    found, guesses = metrics.balanced_accuracy(logits, labels, 3), logits.argmax(1)
    hits = int((guesses == labels).sum())
    if hits in (0, len(labels)):
        return near((found.low, found.high), by_formula(hits, len(labels)), "the interval of all right or none")
    recalls = [np.mean(guesses[labels == k] == k) for k in np.unique(labels)]
    return near(found.value, np.mean(recalls), "balanced accuracy")


def bins(random: Random) -> str:
    """The calibration error, its bins, and the coverage."""
    logits, labels = scored(random)
    chance, right = softmax(logits.astype(float), axis=1).max(1), logits.argmax(1) == labels
    found, gaps = metrics.calibration(logits, labels), []
    if np.abs(chance * 15 - np.round(chance * 15)).min() > 1e-9:  # the border of a bin is anybody's
        for m, one in enumerate(found.bins):
            inside = (chance > m / 15) & (chance <= (m + 1) / 15)
            gaps.append(abs(right[inside].sum() - chance[inside].sum()))
            mine = (one.accuracy, one.confidence) if one.count else (0.0, 0.0)
            wanted = (right[inside].mean(), chance[inside].mean()) if inside.any() else (0.0, 0.0)
            if one.count != inside.sum() or near(mine, wanted, "a bin"):
                return f"bin {m} holds {one.count} images of {mine}, and not {inside.sum()} of {wanted}"
        if flaw := near(found.ece, math.fsum(gaps) / len(labels), "the calibration error"):
            return flaw
    for row in metrics.coverage(logits, labels):
        count = next(k for k in range(1, len(labels) + 1) if k >= Fraction(str(row.share)) * len(labels))
        least = np.sort(chance)[::-1][count - 1]
        if row.n != count or (flaw := near(row.least, least, f"the least of {row.n}")):
            return f"{row.share} of {len(labels)} is {row.n} images, the least {row.least}, not {count}, {least}"
    return ""


def mistakes(random: Random) -> str:
    logits, labels = scored(random)
    chance, guesses = softmax(logits.astype(float), axis=1).max(1), logits.argmax(1)
    most = size(random, 1, 30)
    wrong = [i for i in range(len(labels)) if guesses[i] != labels[i]]
    found = metrics.mistakes_of(logits, labels, most)
    right = sorted((chance[i] for i in wrong), reverse=True)[:most]
    if {m.index for m in found} - set(wrong) or len({m.index for m in found}) != len(found):
        return "what is told as a mistake is none"
    return near([m.probability for m in found], right, "the probabilities of mistakes")


def temperature(random: Random) -> str:
    """No other temperature of a fine grid has a lower cross-entropy than the one that is found."""
    n, classes = size(random, 20, 60), size(random, 2, 5)
    truth, times = random.normal(size=(n, classes)) * 2, float(random.choice([0.3, 1.0, 4.0]))
    labels = (truth + random.gumbel(size=truth.shape)).argmax(1)
    found = calibration.fit_temperature(times * truth, labels)
    if found is None:
        return ""
    grid = [metrics.cross_entropy(times * truth / t, labels) for t in np.geomspace(0.02, 50, 300)]
    here = metrics.cross_entropy(times * truth / found, labels)
    return f"at the temperature {found} the loss is {here}, elsewhere {min(grid)}" if here > min(grid) + 1e-7 else ""


def calibrated(random: Random) -> str:
    """Calibration before and after, by the slow loops of bins; its interval holds the value."""
    logits, labels = scored(random, 5)
    logits = np.clip(logits, -50, 50).astype(float)
    found = calibration.calibrate(logits, labels, 2.0, 10)
    for one, scores in ((found.before, logits), (found.after, logits / 2)):
        gaps = gaps_of(scores, labels)
        right = sum(map(abs, bin_means(gaps, iter(range(len(labels))))))
        if flaw := near(one.value, right, "a calibration error"):
            return flaw
        if not one.low <= one.value <= one.high:
            return f"the calibration error {one.value} is not in its interval {one.low} to {one.high}"
    return ""


def of_shares(random: Random) -> str:
    n = size(random, 1, 5000)
    k = size(random, 0, n)
    found = wilson(k, n)
    return near((found.low, found.high), by_formula(k, n), f"Wilson's interval of {k} in {n}")


def resampled(random: Random) -> str:
    """The bootstrap of a mean: its own resamples, one by one."""
    values, seed = random.normal(size=size(random, 1, 30)), size(random, 0, 99)
    found = bootstrap(lambda index: float(values[index].mean()), len(values), seed, 60)
    generator = np.random.default_rng(seed)
    means = []
    for _ in range(60):
        index = generator.integers(0, len(values), len(values))
        means.append(math.fsum(values[index]) / len(values))
    right = (math.fsum(values) / len(values), *np.quantile(means, [0.025, 0.975]))
    return near((found.value, found.low, found.high), right, "a bootstrap")


def of_seeds(random: Random) -> str:
    n, values = size(random, 2, 9), random.uniform(0.1, 0.9, size(random, 2, 6))
    found = over_seeds(values.tolist(), n)
    mean = math.fsum(values) / len(values)
    seeds = math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1) / len(values)
    images = mean * (1 - mean) / n
    freedom = (seeds + images) ** 2 / (seeds**2 / (len(values) - 1) + images**2 / (n - 1))
    reach = stats.t.ppf(0.975, freedom) * math.sqrt(seeds + images)
    wanted = (mean, max(0.0, mean - reach), min(1.0, mean + reach))
    study, plain = judging.over_seeds(values.tolist()), stats.ttest_1samp(values, 0).confidence_interval(0.99)
    return first(
        near((found.value, found.low, found.high), wanted, "an interval over seeds"),
        near((study.low, study.high), (plain.low, plain.high), "a study's interval over seeds"),
    )


def pairs(random: Random) -> str:
    """McNemar's p in whole numbers, and Newcombe's interval from the four counts."""
    n = size(random, 1, 80)
    a = random.random(n) < random.random()
    b = np.where(random.random(n) < random.random(), a, random.random(n) < 0.5)
    found = paired_test(a, b)
    e, f, g, h = (int(x.sum()) for x in (a & b, a & ~b, ~a & b, ~a & ~b))
    (l1, u1), (l2, u2), p1, p2 = by_formula(e + f, n), by_formula(e + g, n), (e + f) / n, (e + g) / n
    product = (e + f) * (g + h) * (e + g) * (f + h)
    above = e * h - f * g
    above = max(above - n / 2, 0) if above > 0 else above
    phi = above / math.sqrt(product) if product else 0.0
    down = (p1 - l1) ** 2 - 2 * phi * (p1 - l1) * (u2 - p2) + (u2 - p2) ** 2
    up = (p2 - l2) ** 2 - 2 * phi * (p2 - l2) * (u1 - p1) + (u1 - p1) ** 2
    low, high = (p1 - p2 - math.sqrt(max(down, 0))), (p1 - p2 + math.sqrt(max(up, 0)))
    right = (p1 - p2, low, high, by_coins(f, g))
    return near((found.difference, found.low, found.high, found.p), right, "a paired test", 1e-7)


def paired_figures(random: Random) -> str:
    n = size(random, 2, 40)
    a, b = random.normal(size=n), random.normal(size=n)
    groups = random.integers(0, 5, n) if random.integers(2) else None
    found, change = paired_figure(a, b, groups), a - b
    if groups is not None:
        change = np.array([math.fsum(change[groups == g]) / (groups == g).sum() for g in np.unique(groups)])
    p = stats.wilcoxon(change).pvalue
    return near((found.difference, found.p), (math.fsum(change) / len(change), p), "figures compared", 1e-9)


def overlaps(random: Random) -> str:
    """Of masks at each threshold, pixel by pixel; of boxes, pixel by pixel."""
    shape = size(random, 1, 9), size(random, 1, 9)
    values, thresholds = random.random(shape).astype(np.float32), np.arange(10, dtype=np.float32) / 10
    values[random.random(shape) < 0.2] = thresholds[size(random, 0, 9)]
    mask = random.choice([0, 1, 255], shape).astype(np.uint8)
    truth = Truth.of(mask, (1,))
    right = []
    for threshold in thresholds:
        said = {(i, j) for i, j in np.ndindex(shape) if values[i, j] >= threshold and mask[i, j] != 255}
        true = {(i, j) for i, j in np.ndindex(shape) if mask[i, j] == 1}
        right.append(len(said & true) / max(1, len(said | true)))
    if flaw := near(mask_overlaps(values, truth, thresholds), right, "the overlap of masks"):
        return flaw
    corners = random.integers(0, 9, (size(random, 1, 4), 2, 2))
    boxes = [(*c.min(0).tolist(), *(c.max(0) + 1).tolist()) for c in corners]

    def pixels(box: tuple[int, ...]) -> set[tuple[int, int]]:
        return {(i, j) for i in range(box[0], box[2]) for j in range(box[1], box[3])}

    shares = [len(pixels(boxes[0]) & pixels(o)) / len(pixels(boxes[0]) | pixels(o)) for o in boxes[1:]]
    found = box_overlap(boxes[0], np.array(boxes[1:], np.int64).reshape(-1, 4))
    return near(found, max(shares, default=0.0), "the overlap of boxes")


ENTRIES: dict[str, Check] = {
    "metric, top-k": top_k,
    "metric, cross-entropy": cross_entropy,
    "metric, per class and confusion": per_class,
    "metric, balanced accuracy": balanced_accuracy,
    "metric, calibration and coverage": bins,
    "metric, mistakes": mistakes,
    "metric, temperature": temperature,
    "metric, calibrated": calibrated,
    "metric, shares": of_shares,
    "metric, bootstrap": resampled,
    "metric, seeds": of_seeds,
    "metric, pairs": pairs,
    "metric, paired figures": paired_figures,
    "metric, overlaps": overlaps,
}
