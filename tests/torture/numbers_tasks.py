"""Each task's figures, from outputs to scores, against the field's libraries; and heads that are solved at once."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.special import expit
from sklearn import metrics as peer
from torch import Tensor

from convscope.datasets.mask_coding import VOID
from convscope.errors import DataError
from convscope.tasks import detection, matching, multi_label, regression
from convscope.tasks.registry import TASKS
from convscope.tasks.task import resamples
from random_boxes import evaluated, matches_of, random_image
from torture.numbers_compare import Check, Random, apart, drawn, first, size, usual
from torture.numbers_metrics import near

PULL = 1e-2  # of the summed loss, which float32 knows to 1e-6: the root of what it does not


def scored(name: str, outputs: Tensor, targets: Tensor, names: tuple[str, ...]) -> dict:
    """The figures of outputs against targets, tallied in two batches, at the settings found on the same."""
    task, half = TASKS[name], len(outputs) // 2
    parts = [task.tally(outputs[s], targets[s]) for s in (slice(half), slice(half, None)) if len(outputs[s])]
    tallies = np.concatenate(parts)
    found = task.settings(tallies)
    return dict(task.score(tallies, names, found, None).figures) | {"settings": found}


def classification(random: Random) -> str:
    n, classes = size(random, 1, 40), size(random, 2, 6)
    logits, labels = drawn(random, n, classes), torch.from_numpy(random.integers(0, classes, n))
    found = scored("classification", logits, labels, tuple(map(str, range(classes))))
    right = peer.accuracy_score(labels, logits.argmax(1))
    return near(found["top1"], right, "the accuracy")


def f1(truth: np.ndarray, said: np.ndarray) -> float:
    return 2 * (truth & said).sum() / max(1, truth.sum() + said.sum())


def several_labels(random: Random) -> str:
    n, classes = size(random, 2, 40), size(random, 1, 5)
    logits, labels = drawn(random, n, classes), torch.from_numpy(random.integers(0, 2, (n, classes))).float()
    logits = 40 * logits if random.random() < 0.2 else logits  # nearly 1, where neighbours are a digit apart
    labels[0] = 1
    p, truth = expit(logits.double().numpy()), labels.numpy() > 0
    found = scored("multi_label", logits, labels, tuple(map(str, range(classes))))
    each = [peer.average_precision_score(truth[:, k], p[:, k]) for k in range(classes)]
    thresholds = np.array(found["settings"]["thresholds"])
    said = p >= thresholds
    flaw = first(
        near([row["ap"] for row in found["labels"]], each, "average precision"),
        near(found["map"], np.mean(each), "mean average precision"),
        near(found["exact_match"], (said == truth).all(1).mean(), "the share of whole sets"),
        near(found["hamming_loss"], (said != truth).mean(), "the share of wrong labels"),
    )
    if flaw:
        return flaw
    for k in (k for k in range(classes) if not truth[:, k].all()):
        best, here = max(f1(truth[:, k], p[:, k] >= t) for t in np.unique(p[:, k])), f1(truth[:, k], said[:, k])
        if here < best - 1e-12:
            return f"the threshold {thresholds[k]!r} has an F1 of {here}, and another one of {best}"
    return ""


def numbers(random: Random) -> str:
    n = size(random, 2, 40)
    truth = drawn(random, n, 1, but="denormal, constant")
    guess = truth + float(truth.abs().max()) * 0.3 * usual(random, n, 1)
    if float(truth.std()) > 0 and random.integers(2):
        guess = truth + truth.std() * usual(random, n, 1)
    a, b = guess.double().numpy()[:, 0], truth.double().numpy()[:, 0]
    found, error = scored("regression", guess, truth, ("number",)), np.abs(a - b)
    drawn_means = [np.average(error, weights=w) for w in resamples(n, None)]
    low, high = np.quantile(drawn_means, [0.025, 0.975])
    rank = math.ceil(round((n + 1) * regression.COVERAGE, 9))
    wanted = None if rank > n else float(np.sort(error)[rank - 1])
    if (found["settings"]["half_width"] is None) != (wanted is None):
        return f"{n} errors give the half width {found['settings']['half_width']} and not {wanted}"
    spread = float(np.ptp(b))
    right = peer.r2_score(b, a) if spread > 0 else None
    if (found["r2"] is None) != (right is None):
        return f"R2 of numbers from {b.min():.9g} to {b.max():.9g} is {found['r2']} and not {right}"
    return first(
        apart([found["mae"], found["mae_low"], found["mae_high"]], [error.mean(), low, high], "the mean error", 1e-9),
        apart(found["rmse"], math.sqrt(peer.mean_squared_error(b, a)), "the root mean square error", 1e-9),
        "" if right is None else apart(found["r2"], right, "R2", 1e-6, scale=1.0),
        "" if wanted is None else apart(found["settings"]["half_width"], wanted, "the half width", 1e-9),
    )


def pixels(random: Random) -> str:
    n, classes, side = size(random, 1, 5), size(random, 2, 4), size(random, 1, 7)
    logits = drawn(random, n, classes, side, side)
    masks = random.integers(0, classes, (n, side, side))
    masks[random.random(masks.shape) < random.choice([0, 0.3, 0.9])] = VOID
    guess, known = logits.argmax(1).numpy(), masks != VOID
    names = tuple("abcd"[:classes])
    if not known.any():
        try:
            scored("segmentation", logits, torch.from_numpy(masks), names)
        except DataError:
            return ""
        return "masks that show nothing have a score"
    each = []
    for k in range(classes):
        both, either = ((guess == k) & (masks == k))[known].sum(), ((guess == k) | (masks == k))[known].sum()
        each.append(both / either if either else None)
    found = scored("segmentation", logits, torch.from_numpy(masks), names)
    ours = [row["iou"] for row in found["classes"]]
    if [v is None for v in ours] != [v is None for v in each]:
        return f"intersections over unions are {ours} and not {each}"
    there = [v for v in each if v is not None]
    return first(
        near([v for v in ours if v is not None], there, "intersection over union"),
        near(found["miou"], np.mean(there), "its mean"),
        near(found["pixel_accuracy"], (guess == masks)[known].mean(), "the accuracy of pixels"),
    )


def boxes(random: Random) -> str:
    """Average precision at all overlaps, of all areas, and the summary: pycocotools'."""
    classes, levels = size(random, 1, 3), int(random.choice([0, 0, 4]))
    counts = [(size(random, 0, 9), size(random, 0, 14)) for _ in range(size(random, 1, 5))]
    some = [random_image(random, true, found, classes, levels) for true, found in counts]
    matches, names = matches_of(some, classes), tuple(map(str, range(classes)))
    wanted, summary = evaluated("pycocotools", some, classes)
    try:
        found = TASKS["detection"].score(matches, names, TASKS["detection"].settings(matches), None).figures
    except DataError:
        return "" if summary[1] is None else "boxes that count have no score"
    from convscope.tasks.average_precision import ap

    ours = [found[name] for name in ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")]
    as_numbers = [[-1.0 if v is None else v for v in row] for row in (ours, summary)]
    return first(near(ap(matches), wanted, "average precision", 1e-6), near(*as_numbers, "its means", 1e-6))


def overlap_of_boxes(random: Random) -> str:
    """Intersection over union, box by box; boxes without an area, and crowds."""
    n, m = size(random, 0, 5), size(random, 0, 5)

    def corners(count: int) -> np.ndarray:
        low = random.uniform(-5, 20, (count, 2)) * float(random.choice([1, 1e-3, 1e4]))
        return np.concatenate([low, low + random.uniform(0, 20, (count, 2)) * random.integers(0, 2, (count, 2))], 1)

    found, true, crowd = corners(n), corners(m), random.random(m) < 0.3
    right = np.zeros((n, m))
    for i, j in np.ndindex(n, m):
        wide = min(found[i, 2], true[j, 2]) - max(found[i, 0], true[j, 0])
        high = min(found[i, 3], true[j, 3]) - max(found[i, 1], true[j, 1])
        both = max(0.0, wide) * max(0.0, high)
        own, other = ((b[2] - b[0]) * (b[3] - b[1]) for b in (found[i], true[j]))
        right[i, j] = both / (own if crowd[j] else own + other - both) if both else 0.0
    return near(matching.overlap(found, true, crowd), right, "the overlap of boxes")


def decoded(random: Random) -> str:
    """The boxes of outputs: scores, corners, and which the better ones leave, one after the other."""
    classes, side = size(random, 1, 3), 32 * size(random, 1, 2)
    count = sum((side // s) ** 2 for s in (8, 16, 32))
    outputs = usual(random, count, classes + 5) * 2
    outputs[:, -4:] = (outputs[:, -4:] / 2 + 2.5).exp()
    found = detection.decoded(outputs)
    exact = outputs.double().numpy()
    scores = np.sqrt(expit(exact[:, :classes]) * expit(exact[:, classes : classes + 1]))
    where = [((j + 0.5) * s, (i + 0.5) * s) for s in (8, 16, 32) for i in range(side // s) for j in range(side // s)]
    centres = np.array(where)
    corners = np.concatenate([centres - exact[:, -4:-2], centres + exact[:, -2:]], 1).clip(0, side)
    rows = sorted(((-scores[p, k], p, k) for p, k in np.ndindex(scores.shape) if scores[p, k] > 0.05))[:1000]
    kept: list[tuple[float, int, int]] = []
    none = np.zeros(1, bool)
    close = False
    for row in rows:
        _, p, k = row
        shares = [matching.overlap(corners[p : p + 1], corners[q : q + 1], none)[0, 0] for _, q, c in kept if c == k]
        close |= any(abs(s - detection.OVERLAP) < 1e-5 for s in shares)
        if not any(s > detection.OVERLAP for s in shares):
            kept.append(row)
    ordered = [-row[0] for row in rows]
    close |= bool(len(ordered) > 1 and np.diff(ordered).max() > -1e-6)
    if close:  # of scores or overlaps that are nearly the same, float32 may choose the other
        return ""
    kept = kept[: detection.MOST]
    return first(
        apart(found.scores, [-s for s, _, _ in kept], "the scores of boxes"),
        apart(found.labels, [k for _, _, k in kept], "the labels of boxes", 0),
        apart(
            found.corners, corners[[p for _, p, _ in kept]].reshape(-1, 4), "the corners of boxes", scale=float(side)
        ),
    )


def ridge(random: Random) -> str:
    """Ridge regression by its normal equations, in float64."""
    n, channels, strength = size(random, 2, 20), size(random, 1, 12), float(random.choice([1e-3, 1, 100]))
    x, y = usual(random, n, channels) + float(random.choice([0, 5])), usual(random, n, 1)
    head = regression.solve(x, y, strength)
    inputs, level = (x.double() - x.double().mean(0)).numpy(), y.double().mean().item()
    penalty = max((inputs**2).sum() / n, 1e-12) / strength
    weight = np.linalg.solve(inputs.T @ inputs + penalty * np.eye(channels), inputs.T @ (y.double().numpy() - level))
    right = inputs @ weight + level
    return apart(head(x.float()), right, "ridge regression", scale=float(x.abs().max()) * float(np.abs(weight).sum()))


def logistic(random: Random) -> str:
    """Logistic regression a label: at the solution nothing pulls any more, by the gradient in float64."""
    n, channels, labels, strength = size(random, 5, 30), size(random, 1, 8), size(random, 1, 3), 1.0
    x, y = usual(random, n, channels), torch.from_numpy(random.integers(0, 2, (n, labels))).float()
    head = multi_label.solve(x, y, strength)
    mean, deviation = x.double().mean(0).numpy(), x.double().std().item()
    inputs = (x.double().numpy() - mean) / deviation
    weight = head.weight.detach().double().numpy() * deviation
    bias = head.bias.detach().double().numpy() + head.weight.detach().double().numpy() @ mean
    off = expit(inputs @ weight.T + bias) - y.double().numpy()
    pull = np.concatenate([strength * off.T @ inputs + weight, strength * off.sum(0)[:, None]], 1)
    most = float(np.abs(pull).max())
    return "" if most < PULL else f"logistic regression stops where the gradient is {most:.2g}"


# By the name of the task.
FIGURES: dict[str, Check] = {
    "classification": classification,
    "multi_label": several_labels,
    "regression": numbers,
    "segmentation": pixels,
    "detection": boxes,
}

ENTRIES: dict[str, Check] = {
    **{f"figures {name}": check for name, check in FIGURES.items()},
    "metric, overlap of boxes": overlap_of_boxes,
    "metric, boxes of outputs": decoded,
    "layer, ridge regression": ridge,
    "layer, logistic regression": logistic,
}
