"""Average precision of found boxes, as COCO has it, with the bootstrap's interval, and what a threshold makes of them.

Boxes are matched once, in each image by itself (matching.py); a bootstrap sample only says how often an image counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from ..errors import DataError
from .matching import AREAS, HALF, THREE_QUARTERS, Matches
from .task import Score, ends, interval_of, resamples

RECALLS = np.linspace(0, 1, 101)  # where precision is read off, to the last bit as COCO has them
AT_ONCE = 2**19  # weights of boxes in memory: so many samples are made of them at a time
THRESHOLD = 0.5  # where nothing was found
STEPS = 50  # thresholds of the curve


@dataclass(frozen=True)
class _Ranked:
    """The n found boxes of one class in N images, the best score first; of equal ones those of the first image.

    ``right`` and ``counted`` are bool (A, T, n), ``positives`` (N, A). An image that counts twice holds all its boxes
    twice, one set after the other. Only where some have equal scores can that be told from each box twice: there each
    of the ``copy`` 0, 1, ... is a box of its own, and elsewhere -1 stands for all of them.
    """

    image: np.ndarray
    copy: np.ndarray
    right: np.ndarray
    counted: np.ndarray
    positives: np.ndarray

    def weights(self, weights_RN: np.ndarray) -> np.ndarray:
        """How often each box counts (R, n) where the images do so ``weights_RN`` times."""
        weights_Rn = weights_RN[:, self.image]
        split = np.flatnonzero(self.copy >= 0)
        if len(split):
            weights_Rn[:, split] = weights_Rn[:, split] > self.copy[split]
        return weights_Rn


def ap(matches: Sequence[Matches] | np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Average precision (K, A, T) of each class, in each range of areas, at each overlap.

    The mean over 101 recalls of the best precision that is reached there or at a higher one. ``weights`` (N,) says how
    often each image counts. NaN for a class that has no true box in a range.
    """
    weights_1N = np.ones((1, len(matches))) if weights is None else np.asarray(weights, np.float64)[None]
    ranked = _ranked(matches, range(len(AREAS)), int(weights_1N.max()))
    return np.stack([_of_samples(one, weights_1N)[0] for one in ranked])


def _ranked(matches: Sequence[Matches] | np.ndarray, ranges: Sequence[int], most: int) -> list[_Ranked]:
    """The boxes of each class with the outcomes in these ranges of areas, for weights of images up to ``most``."""
    image = np.repeat(np.arange(len(matches)), [len(one.scores) for one in matches])
    labels, scores = (np.concatenate([getattr(one, name) for one in matches]) for name in ("labels", "scores"))
    counted = ~np.concatenate([one.ignored[ranges] for one in matches], -1)
    right = counted & np.concatenate([one.hit[ranges] for one in matches], -1)
    positives = np.stack([one.positives[ranges] for one in matches])
    order = np.lexsort((-scores, labels))
    ends_of_classes = np.searchsorted(labels[order], np.arange(positives.shape[2] + 1))
    ranked = []
    for k, (start, end) in enumerate(pairwise(ends_of_classes)):
        own = order[start:end]
        place, copy = _copies(scores[own], image[own], np.logical_or.reduce(right[..., own], (0, 1)), most)
        own = own[place]
        ranked.append(_Ranked(image[own], copy, right[..., own], counted[..., own], positives[..., k]))
    return ranked


def _copies(scores_n: np.ndarray, image_n: np.ndarray, right_n: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """The order of boxes with the copies of those that need them, and which copy each is."""
    new = np.ones(len(scores_n), bool)
    new[1:] = (np.diff(scores_n) != 0) | (np.diff(image_n) != 0)
    equals = np.cumsum(new) - 1
    split = ((np.bincount(equals) > 1) & (np.bincount(equals, right_n) > 0))[equals]
    if most < 2 or not split.any():
        return np.arange(len(scores_n)), np.full(len(scores_n), -1)
    times = np.where(split, most, 1)
    place = np.repeat(np.arange(len(scores_n)), times)
    copy = np.arange(len(place)) - np.repeat(np.cumsum(times) - times, times)
    order = np.lexsort((place, copy, equals[place]))
    place, copy = place[order], copy[order]
    return place, np.where(split[place], copy, -1)


def _of_samples(one: _Ranked, weights_RN: np.ndarray) -> np.ndarray:
    """Average precision (R, A, T) of a class in R samples; NaN in those without a true box."""
    draws, (ranges, overlaps, n) = len(weights_RN), one.right.shape
    found = np.full((draws, ranges, overlaps), np.nan)
    positives_RA = weights_RN @ one.positives
    size = max(1, AT_ONCE // max(1, n))
    for a in range(ranges):
        steps = [_Steps.of(one.right[a, t], one.counted[a, t]) for t in range(overlaps)]
        for start in range(0, draws, size):
            some = slice(start, start + size)
            weights = one.weights(weights_RN[some])
            taken, positives = np.cumsum(weights, 1), positives_RA[some, a]
            needed = _needed(positives)
            for t, step in enumerate(steps):
                value = step.read_off(weights, taken, needed)
                found[some, a, t] = np.where(positives > 0, value, np.nan)
    return found


def _needed(positives_R: np.ndarray) -> np.ndarray:
    """How many right boxes it takes to reach each of RECALLS, (R, 101): by the very quotient that COCO compares."""
    there = np.maximum(positives_R, 1.0)[:, None]
    needed = np.maximum(np.floor(RECALLS * there) - 1, 0.0)
    for _ in range(3):
        needed += needed / there < RECALLS
    return needed


@dataclass(frozen=True)
class _Steps:
    """Where recall steps up along n ranked boxes: at E runs of right ones, between which there is a wrong one.

    Within a run precision only rises, so its end says all. ``hits``: the right boxes; ``last``: which of them end a
    run, and ``place`` (E,) where; ``ignored``: the boxes that do not count, and ``before`` (E,) how many come first.
    """

    hits: np.ndarray
    last: np.ndarray
    place: np.ndarray
    ignored: np.ndarray
    before: np.ndarray

    @classmethod
    def of(cls, right_n: np.ndarray, counted_n: np.ndarray) -> _Steps:
        """The steps along boxes of which some are right, and some do not count."""
        hits, ignored = np.flatnonzero(right_n), np.flatnonzero(~counted_n)
        wrong = np.cumsum(counted_n & ~right_n)[hits]
        last = np.flatnonzero(np.append(np.diff(wrong) > 0, True)[: len(hits)])
        return cls(hits, last, hits[last], ignored, np.searchsorted(ignored, hits[last]))

    def read_off(self, weights_Rn: np.ndarray, taken_Rn: np.ndarray, needed_RQ: np.ndarray) -> np.ndarray:
        """The mean of the best precision at each recall (R,), for boxes that count so often, and their running sum."""
        if not len(self.hits):
            return np.zeros(len(weights_Rn))
        found = np.cumsum(weights_Rn[:, self.hits], 1)[:, self.last]
        taken = taken_Rn[:, self.place]
        if len(self.ignored):
            left = np.cumsum(weights_Rn[:, self.ignored], 1)
            taken -= np.concatenate([np.zeros((len(left), 1)), left], 1)[:, self.before]
        best = np.zeros((len(found), len(self.last) + 1))  # at the end 0, for what recall is never reached
        np.divide(found, taken, out=best[:, :-1], where=taken > 0)
        best = np.maximum.accumulate(best[:, ::-1], 1)[:, ::-1]
        row = np.arange(len(found))[:, None]
        apart = row * (needed_RQ.max() + 1)  # so all rows are searched at once
        first = np.searchsorted((found + apart).ravel(), needed_RQ + apart) - row * len(self.last)
        return best[row, first].mean(1)


@dataclass(frozen=True)
class _Answers:
    """The found boxes of all images that count at an overlap of one half, and how many are there, (N, K)."""

    image: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    right: np.ndarray
    positives: np.ndarray

    @classmethod
    def of(cls, matches: Sequence[Matches] | np.ndarray) -> _Answers:
        """The answers in some images."""
        image = np.repeat(np.arange(len(matches)), [len(one.scores) for one in matches])
        labels, scores, right = (
            np.concatenate([getattr(one, name) for one in matches]) for name in ("labels", "scores", "right")
        )
        counted = ~np.concatenate([one.ignored[0, HALF] for one in matches])
        positives = np.stack([one.positives[0] for one in matches])
        return cls(image[counted], labels[counted], scores[counted], right[counted], positives)

    def counts(self, threshold: float, by: np.ndarray, size: int) -> np.ndarray:
        """Right boxes and given boxes at a threshold, (size, 2), by the image or the class of each."""
        given = self.scores >= threshold
        both = [np.bincount(by[given & self.right], minlength=size), np.bincount(by[given], minlength=size)]
        return np.stack(both, 1)

    def along(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Each score that some box has, falling, with the right and the given boxes at that threshold."""
        order = np.argsort(-self.scores, kind="stable")
        last = np.append(np.diff(self.scores[order]) != 0, True)[: len(order)]
        return self.scores[order][last], np.cumsum(self.right[order])[last], np.arange(1, len(order) + 1)[last]


def settings(matches: Sequence[Matches] | np.ndarray) -> dict[str, Any]:
    """The threshold, from which on a found box is given: the score with the best F1 over all classes of these images.

    Right is what overlaps by one half; of equally good scores the highest.
    """
    if not len(matches):
        return {"threshold": THRESHOLD}
    answers = _Answers.of(matches)
    scores, right, given = answers.along()
    if not len(scores):
        return {"threshold": THRESHOLD}
    return {"threshold": float(scores[np.argmax(2 * right / (given + answers.positives.sum()))])}


def score(
    matches: np.ndarray, names: tuple[str, ...], settings: Mapping[str, Any], groups: np.ndarray | None = None
) -> Score:
    """Average precision at an overlap of one half with the bootstrap's interval, over images or groups of them.

    ``matches`` (N,) holds Matches. DataError without images, and where none has a true box that counts.
    """
    if not len(matches):
        raise DataError("no images to evaluate")
    answers = _Answers.of(matches)
    if not answers.positives.any():
        raise DataError("none of these images has a box that counts, so there is nothing to score.")
    n, threshold = len(matches), float(settings.get("threshold", THRESHOLD))
    whole_KAT, weights = ap(matches), resamples(n, groups)
    drawn_KRT = np.stack([_of_samples(one, weights)[:, 0] for one in _ranked(matches, [0], int(weights.max()))])
    whole, drawn = _mean(whole_KAT), _mean(drawn_KRT)
    half = interval_of(whole[0, HALF], drawn[:, HALF], n)
    overall = interval_of(whole[0].mean(), drawn.mean(-1), n)
    by_class, there = answers.counts(threshold, answers.labels, len(names)), answers.positives.sum(0)
    rows = [
        {
            "name": name,
            "boxes": int(there[k]),
            "images": int((answers.positives[:, k] > 0).sum()),
            **ends("ap50", interval_of(whole_KAT[k, 0, HALF], drawn_KRT[k, :, HALF], n)),
            "ap": _number(whole_KAT[k, 0].mean()),
            **_rates(by_class[k], there[k]),
        }
        for k, name in enumerate(names)
    ]
    figures = {
        **ends("ap50", half),
        "n": n,
        "boxes": int(there.sum()),
        **ends("ap", overall),
        "ap75": _number(whole[0, THREE_QUARTERS]),
        **{f"ap_{area}": _number(whole[a].mean()) for a, area in enumerate(AREAS) if a},
        "classes": rows,
        "threshold": threshold,
        **_rates(by_class.sum(0), there.sum()),
        "f1": float(2 * by_class[:, 0].sum() / (by_class[:, 1].sum() + there.sum())),
        "curve": _curve(answers),
    }
    right, given = answers.counts(threshold, answers.image, n).T
    either = given + answers.positives.sum(1)
    each = np.divide(2.0 * right, either, out=np.ones(n), where=either > 0)  # nothing there, nothing given: right
    return Score(half, figures, each, groups)


def _mean(values: np.ndarray) -> np.ndarray:
    """The mean of (K, ...) over the classes that have true boxes; NaN where none has."""
    known = np.isfinite(values)
    count = known.sum(0)
    return np.divide(np.where(known, values, 0.0).sum(0), count, out=np.full(count.shape, np.nan), where=count > 0)


def _number(value: float) -> float | None:
    """A figure as JSON holds it."""
    return float(value) if np.isfinite(value) else None


def _rates(counts_2: np.ndarray, there: int) -> dict[str, float | None]:
    """Precision and recall of right and given boxes; None where nothing is given, or nothing is there."""
    right, given = counts_2
    return {
        "precision": float(right / given) if given else None,
        "recall": float(right / there) if there else None,
    }


def _curve(answers: _Answers) -> dict[str, list[float | None]]:
    """Precision and recall at STEPS thresholds, evenly from the lowest score to the highest; empty without boxes."""
    scores, right, given = answers.along()
    if not len(scores):
        return {"threshold": [], "precision": [], "recall": []}
    thresholds = np.linspace(scores[-1], scores[0], STEPS)
    last = np.searchsorted(-scores, -thresholds, side="right") - 1  # the lowest score that is given
    precision, recall = right[last] / given[last], right[last] / answers.positives.sum()
    return {"threshold": thresholds.tolist(), "precision": precision.tolist(), "recall": recall.tolist()}
