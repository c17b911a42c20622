"""What a network's logits are worth, as numbers with intervals.

Every function here is pure: (logits, labels) in, numbers out, the same to the last digit each time. Logits are
(N, K) tensors or arrays, N images by K classes; labels are (N,) class indices. Rates are fractions from 0 to 1 and
intervals cover 95 %. A class is guessed when its logit is the largest; among equal logits the lower index wins.
Every function of logits raises DataError when there are no images, when labels do not fit, or when a logit is
not a finite number.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from scipy.special import log_softmax

from ..errors import DataError
from .intervals import Interval, bootstrap, wilson

CONFUSION_LIMIT = 1000  # more classes than this make a matrix that nobody can read and no JSON file should hold
MISTAKES_KEPT = 25
SHARES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5)  # of the images, the surest first
CONFUSED_KEPT = 100  # pairs of classes that are told in place of such a matrix
ROWS_AT_ONCE = 4096  # float64 copies are made for this many images at a time, of many classes for fewer
VALUES_AT_ONCE = ROWS_AT_ONCE * 1024

Array = np.ndarray | torch.Tensor


@dataclass(frozen=True)
class ClassScore:
    """One class against the rest; all but ``name`` and ``n`` are None where the labels hold no such image."""

    name: str
    n: int
    precision: float | None = None
    recall: float | None = None
    f1: float | None = None
    recall_low: float | None = None
    recall_high: float | None = None


@dataclass(frozen=True)
class CalibrationBin:
    """The images whose confidence falls in one bin; None where it is empty; low, high: Wilson, of the accuracy."""

    confidence: float | None
    accuracy: float | None
    count: int
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Calibration:
    """The expected calibration error and its bins, bin m of M holding confidences in (m/M, (m+1)/M]."""

    ece: float
    bins: tuple[CalibrationBin, ...]


@dataclass(frozen=True)
class Covered:
    """The ``n`` surest images, a ``share`` of all: how many are right, with Wilson's interval.

    ``least`` is the smallest probability among them: as a threshold it keeps them, and what is equal to the last.
    """

    share: float
    least: float
    n: int
    top1: float
    top1_low: float
    top1_high: float


@dataclass(frozen=True)
class Mistake:
    """Image ``index`` of class ``truth``, taken for ``guess`` with softmax ``probability``."""

    index: int
    truth: int
    guess: int
    probability: float


@dataclass(frozen=True)
class Confused:
    """So many images of class ``truth`` were taken for ``guess``, of ``of`` of that class."""

    truth: int
    guess: int
    n: int
    of: int


@dataclass(frozen=True)
class Evaluation:
    """All that is known of one classifier on one split. ``confusion`` has one row per true class, or is None.

    ``confused`` holds the commonest mistakes, whatever the number of classes.
    """

    n: int
    classes: tuple[str, ...]
    top1: Interval
    top5: Interval
    top5_k: int
    loss: float
    balanced_accuracy: Interval
    scores: tuple[ClassScore, ...]
    confusion: tuple[tuple[int, ...], ...] | None
    confused: tuple[Confused, ...]
    calibration: Calibration
    coverage: tuple[Covered, ...]
    mistakes: tuple[Mistake, ...]

    def to_json(self) -> dict[str, object]:
        """Plain numbers, strings, lists and None, in a stable order; ``classes`` holds the scores of each class."""
        flat: dict[str, object] = {"n": self.n}
        for name in ("top1", "top5", "balanced_accuracy"):
            interval: Interval = getattr(self, name)
            flat |= {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}
        return flat | {
            "top5_k": self.top5_k,
            "loss": self.loss,
            "ece": self.calibration.ece,
            "confidence": self.top1.confidence,
            "classes": [asdict(score) for score in self.scores],
            "confusion": None if self.confusion is None else [list(row) for row in self.confusion],
            "confused": [asdict(pair) for pair in self.confused],
            "calibration": [asdict(b) for b in self.calibration.bins],
            "coverage": [asdict(row) for row in self.coverage],
            "mistakes": [asdict(mistake) for mistake in self.mistakes],
        }


def top_k(logits_NK: Array, labels_N: Array, k: int) -> Interval:
    """Tell how often the label is among the k best classes, with Wilson's interval; k is clamped to K.

    A label counts when fewer than k classes come before it: those with a larger logit, and those with an equal
    logit and a lower index. So a network that gives every class the same logit is not right by chance.
    """
    if k < 1:
        raise ValueError(f"top-{k}: k is at least 1")
    logits, labels = checked(logits_NK, labels_N)
    columns, hits = np.arange(logits.shape[1]), 0
    for rows in slices(logits):
        own = np.take_along_axis(logits[rows], labels[rows, None], axis=1)
        before = (logits[rows] > own) | ((logits[rows] == own) & (columns < labels[rows, None]))
        hits += int((before.sum(axis=1) < k).sum())
    return wilson(hits, len(labels))


def cross_entropy(logits_NK: Array, labels_N: Array) -> float:
    """The mean cross-entropy in nats, in float64; the sum is exact, so the order of the images does not matter."""
    logits, labels = checked(logits_NK, labels_N)
    losses: list[float] = []
    for rows in slices(logits):
        likely = log_softmax(logits[rows].astype(np.float64), axis=1)
        chosen = np.take_along_axis(likely, labels[rows, None], axis=1)
        losses += (-chosen[:, 0]).tolist()
    return math.fsum(losses) / len(losses) + 0.0  # never -0.0


def per_class(logits_NK: Array, labels_N: Array, class_names: Sequence[str]) -> tuple[ClassScore, ...]:
    """Precision, recall (with Wilson's interval) and F1 of each class; a class never guessed has precision 0."""
    from sklearn.metrics import precision_recall_fscore_support  # slow to import

    logits, labels = checked(logits_NK, labels_N)
    if len(class_names) != logits.shape[1]:
        raise DataError(f"{len(class_names)} class names do not fit a network of {logits.shape[1]} classes")
    guesses = logits.argmax(axis=1)
    table = precision_recall_fscore_support(labels, guesses, labels=np.arange(len(class_names)), zero_division=0)
    precisions, recalls, f1s, counts = (np.asarray(column) for column in table)
    hits = np.bincount(labels[guesses == labels], minlength=len(class_names))
    scores = []
    for name, precision, recall, f1, n, hit in zip(class_names, precisions, recalls, f1s, counts, hits, strict=True):
        if n == 0:
            scores.append(ClassScore(name, 0))
            continue
        interval = wilson(int(hit), int(n))
        scores.append(ClassScore(name, int(n), float(precision), float(recall), float(f1), interval.low, interval.high))
    return tuple(scores)


def balanced_accuracy(logits_NK: Array, labels_N: Array, seed: int = 0) -> Interval:
    """The mean recall of the classes present, with a bootstrap interval over images.

    Where every image is right, or none is, resampling shows no spread at all although a few images prove
    little; Wilson's interval over all images stands in then, and ``method`` says which it was.
    """
    logits, labels = checked(logits_NK, labels_N)
    n, classes = logits.shape
    right = logits.argmax(axis=1) == labels
    if right.all() or not right.any():
        return wilson(int(right.sum()), n)
    codes = 2 * labels + right

    def statistic(indices: np.ndarray) -> float:
        wrong, hits = np.bincount(codes[indices], minlength=2 * classes).reshape(classes, 2).T
        present = wrong + hits > 0
        return float(np.mean(hits[present] / (wrong + hits)[present]))

    return bootstrap(statistic, n, seed)


def confusion(logits_NK: Array, labels_N: Array) -> np.ndarray | None:
    """Counts (K, K) int64, rows the truth and columns the guess; None above 1000 classes."""
    logits, labels = checked(logits_NK, labels_N)
    classes = logits.shape[1]
    if classes > CONFUSION_LIMIT:
        return None
    pairs = labels * classes + logits.argmax(axis=1)
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes).astype(np.int64)


def confused_most(logits_NK: Array, labels_N: Array, most: int = CONFUSED_KEPT) -> tuple[Confused, ...]:
    """The commonest pairs of (truth, guess) that differ, without the matrix; among equal ones the lower classes."""
    logits, labels = checked(logits_NK, labels_N)
    guesses, classes = logits.argmax(axis=1), logits.shape[1]
    wrong = guesses != labels
    pairs, counts = np.unique(labels[wrong] * classes + guesses[wrong], return_counts=True)
    chosen = np.argsort(-counts, kind="stable")[:most]
    of = np.bincount(labels)
    rows = zip(
        (pairs[chosen] // classes).tolist(), (pairs[chosen] % classes).tolist(), counts[chosen].tolist(), strict=True
    )
    return tuple(Confused(truth, guess, n, int(of[truth])) for truth, guess, n in rows)


def calibration(logits_NK: Array, labels_N: Array, bins: int = 15, temperature: float = 1.0) -> Calibration:
    """The expected calibration error over ``bins`` equal bins of confidence (Guo et al. 2017, arXiv:1706.04599).

    Logits are divided by ``temperature``. Confidence is the softmax probability of the guess. The error is the mean
    over images of the distance between accuracy and mean confidence in the image's bin.
    """
    logits, labels = checked(logits_NK, labels_N)
    confidence, right = confidences(logits, temperature=temperature), logits.argmax(axis=1) == labels
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    rows, gaps = [], []
    for m in range(bins):
        inside = place == m
        count, hits = int(inside.sum()), int(right[inside].sum())
        if count == 0:
            rows.append(CalibrationBin(None, None, 0, None, None))
            continue
        mean, accuracy = math.fsum(confidence[inside]) / count, wilson(hits, count)
        rows.append(CalibrationBin(mean, accuracy.value, count, accuracy.low, accuracy.high))
        gaps.append(count * abs(accuracy.value - mean))
    return Calibration(math.fsum(gaps) / len(labels), tuple(rows))


def coverage(logits_NK: Array, labels_N: Array, shares: Sequence[float] = SHARES) -> tuple[Covered, ...]:
    """Accuracy against coverage: of the surest ``shares`` of the images, how many are right (El-Yaniv, Wiener 2010).

    The surest are those with the largest softmax probability; among equal ones the earlier.
    """
    logits, labels = checked(logits_NK, labels_N)
    confidence, right = confidences(logits), logits.argmax(axis=1) == labels
    surest = np.argsort(-confidence, kind="stable")
    rows = []
    for share in shares:
        kept = surest[: max(1, math.ceil(share * len(labels) - 1e-9))]
        found = wilson(int(right[kept].sum()), len(kept))
        rows.append(Covered(share, float(confidence[kept[-1]]), len(kept), found.value, found.low, found.high))
    return tuple(rows)


def evaluate(logits_NK: Array, labels_N: Array, class_names: Sequence[str]) -> Evaluation:
    """Everything above at once, and the 25 most confident mistakes; ``class_names`` are in the order of the logits."""
    logits, labels = checked(logits_NK, labels_N)
    matrix = confusion(logits, labels)
    return Evaluation(
        n=len(labels),
        classes=tuple(class_names),
        top1=top_k(logits, labels, 1),
        top5=top_k(logits, labels, 5),
        top5_k=min(5, logits.shape[1]),
        loss=cross_entropy(logits, labels),
        balanced_accuracy=balanced_accuracy(logits, labels),
        scores=per_class(logits, labels, class_names),
        confusion=None if matrix is None else tuple(tuple(row) for row in matrix.tolist()),
        confused=confused_most(logits, labels),
        calibration=calibration(logits, labels),
        coverage=coverage(logits, labels),
        mistakes=mistakes_of(logits, labels),
    )


def mistakes_of(logits: np.ndarray, labels: np.ndarray, most: int = MISTAKES_KEPT) -> tuple[Mistake, ...]:
    """The ``most`` confident mistakes of logits (N, K) and labels (N,), the most confident first."""
    guesses = logits.argmax(axis=1)
    wrong = np.flatnonzero(guesses != labels)
    probability = confidences(logits, wrong)
    worst = np.argsort(-probability, kind="stable")[:most]
    picks = wrong[worst]
    columns = (picks.tolist(), labels[picks].tolist(), guesses[picks].tolist(), probability[worst].tolist())
    return tuple(Mistake(*row) for row in zip(*columns, strict=True))


def checked(logits_NK: Array, labels_N: Array) -> tuple[np.ndarray, np.ndarray]:
    """Logits as float32 or float64 and labels as int64 arrays, or DataError in words."""
    logits, labels = _array(logits_NK), _array(labels_N).astype(np.int64)
    if logits.dtype != np.float64:
        logits = logits.astype(np.float32, copy=False)  # of 21,000 classes a copy is half a gigabyte
    if len(labels) == 0 or logits.size == 0:
        raise DataError("no images to evaluate")
    if labels.ndim == 2 and labels.shape == logits.shape:
        raise DataError(
            f"labels of shape {labels.shape} are shares of classes, as mixup and cutmix make them; a metric needs one "
            f"class an image, ({len(labels)},): measure on images that are not mixed"
        )
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise DataError(f"logits of shape {logits.shape} and labels of shape {labels.shape} do not go together")
    if bad := sum(int((~np.isfinite(logits[rows]).all(axis=1)).sum()) for rows in slices(logits)):
        raise DataError(f"the network's outputs are NaN or infinite for {bad} of {len(labels)} images")
    if labels.min() < 0 or labels.max() >= logits.shape[1]:
        raise DataError(f"labels {labels.min()} to {labels.max()} do not fit a network of {logits.shape[1]} classes")
    return logits, labels


def _array(values: Array) -> np.ndarray:
    if not isinstance(values, torch.Tensor):
        return np.asarray(values)
    tensor = values.detach().cpu()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()  # numpy knows no bfloat16


def finite(logits_NK: torch.Tensor) -> bool:
    """Whether all are finite numbers; asked some rows at a time, for there may be very many."""
    return all(bool(torch.isfinite(logits_NK[rows]).all()) for rows in slices(logits_NK))


def slices(logits_NK: Array) -> Iterator[slice]:
    """Rows that are worked on at a time."""
    step = max(1, min(ROWS_AT_ONCE, VALUES_AT_ONCE // max(1, math.prod(logits_NK.shape[1:]))))
    return (slice(start, start + step) for start in range(0, len(logits_NK), step))


def confidences(logits: np.ndarray, index: np.ndarray | None = None, temperature: float = 1.0) -> np.ndarray:
    """float64 (N,): the softmax probability of the largest of logits / ``temperature``, of the rows at ``index``."""
    index = np.arange(len(logits)) if index is None else index
    wide = (logits[index[rows]].astype(np.float64) / temperature for rows in slices(logits))
    parts = [np.exp(log_softmax(some, axis=1).max(axis=1)) for some in wide if len(some)]
    return np.concatenate(parts) if parts else np.zeros(0)
