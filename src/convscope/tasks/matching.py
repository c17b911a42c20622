"""Which found boxes of one image are right, as COCO counts them (Lin et al. 2014): figures are made of nothing else.

What is kept of an image is small, so that a thousand bootstrap samples of images need no box to be matched again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Intersections over union, from which on a found box is right: 0.50, 0.55, ... 0.95, to the last bit as COCO has them.
OVERLAPS = np.linspace(0.5, 0.95, 10)
HALF, THREE_QUARTERS = 0, 5  # the places of 0.50 and 0.75
AREAS = ("all", "small", "medium", "large")
BOUNDS = np.array([[0, 1e10], [0, 32**2], [32**2, 96**2], [96**2, 1e10]])  # in pixels, both ends within
MOST = 100  # found boxes of a class in an image; those with lower scores are left out


@dataclass(frozen=True)
class FoundBoxes:
    """What was found in an image: ``corners`` float64 (n, 4), ``labels`` int64 (n,), and ``scores`` (n,), all finite.

    Corners are left, top, right, bottom in pixels of the image.
    """

    corners: np.ndarray
    labels: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True)
class TrueBoxes:
    """What is there: ``corners`` (m, 4) as those of found boxes, ``labels`` (m,), and which hold a ``crowd`` (m,).

    A crowd holds any number of objects: boxes found in it are neither right nor wrong.
    """

    corners: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray


@dataclass(frozen=True)
class Matches:
    """What every figure needs of one image, for its n found boxes that count: by class, in each the best score first.

    ``hit`` and ``ignored`` bool (A, T, n), for each range of AREAS and each of OVERLAPS: whether a box has its true
    box, and whether it is left out, because that one is or because it lies outside the range. ``positives`` int (A, K):
    the true boxes of each class that count. ``kept`` (n,) says which of the found boxes these are. At an overlap of
    one half, ``doubled`` (n,) are those that lie on a true box which a better score has already found, and ``missed``
    (m,) the true boxes that nothing has found.
    """

    labels: np.ndarray
    scores: np.ndarray
    hit: np.ndarray
    ignored: np.ndarray
    positives: np.ndarray
    kept: np.ndarray
    doubled: np.ndarray
    missed: np.ndarray

    @property
    def right(self) -> np.ndarray:
        """Which found boxes (n,) are right at an overlap of one half."""
        return self.hit[0, HALF] & ~self.ignored[0, HALF]

    @property
    def false(self) -> np.ndarray:
        """Which found boxes (n,) lie on nothing of their class, at an overlap of one half."""
        return ~(self.hit[0, HALF] | self.ignored[0, HALF] | self.doubled)


def matched(found: FoundBoxes, truth: TrueBoxes, classes: int) -> Matches:
    """Give each found box a true box of its class, the best score first, where they overlap enough."""
    kept = _best(found.labels, found.scores)
    corners, labels = found.corners[kept], found.labels[kept]
    crowd = truth.crowd.astype(bool)
    left_out_Am = _outside(areas(truth.corners)) | crowd
    overlaps_nm = overlap(corners, truth.corners, crowd)
    overlaps_nm[labels[:, None] != truth.labels] = 0.0
    match_ATn = _matched(overlaps_nm, left_out_Am, crowd)
    hit = match_ATn >= 0
    area = np.arange(len(AREAS))[:, None, None]
    ignored = np.where(hit, _at(left_out_Am, area, match_ATn), _outside(areas(corners))[:, None])
    positives = np.stack([np.bincount(truth.labels[~out], minlength=classes) for out in left_out_Am])
    missed = ~left_out_Am[0]
    missed[match_ATn[0, HALF][hit[0, HALF]]] = False
    doubled = ~hit[0, HALF] & ~ignored[0, HALF] & (overlaps_nm >= OVERLAPS[HALF]).any(1)
    return Matches(labels, found.scores[kept], hit, ignored, positives, kept, doubled, missed)


def areas(corners_n4: np.ndarray) -> np.ndarray:
    """The area (n,) of each box in square pixels."""
    return (corners_n4[:, 2] - corners_n4[:, 0]) * (corners_n4[:, 3] - corners_n4[:, 1])


def overlap(found_n4: np.ndarray, true_m4: np.ndarray, crowd_m: np.ndarray) -> np.ndarray:
    """Intersection over union (n, m) of boxes; with a crowd, the part of the found box that lies in it."""
    low = np.maximum(found_n4[:, None, :2], true_m4[None, :, :2])
    high = np.minimum(found_n4[:, None, 2:], true_m4[None, :, 2:])
    both = np.clip(high - low, 0.0, None).prod(-1)
    own = np.broadcast_to(areas(found_n4)[:, None], both.shape)
    whole = np.where(crowd_m, own, own + areas(true_m4) - both)
    return np.divide(both, whole, out=np.zeros_like(both), where=both > 0)


def _best(labels_n: np.ndarray, scores_n: np.ndarray) -> np.ndarray:
    """The index of the best MOST of each class, by class and falling score; of equal ones the first."""
    order = np.lexsort((-scores_n, labels_n))
    ordered = labels_n[order]
    rank = np.arange(len(order)) - np.searchsorted(ordered, ordered)
    return order[rank < MOST]


def _outside(areas_n: np.ndarray) -> np.ndarray:
    """Which areas lie outside each of the ranges (A, n)."""
    return (areas_n < BOUNDS[:, :1]) | (areas_n > BOUNDS[:, 1:])


def _at(values_Am: np.ndarray, area: np.ndarray, place: np.ndarray) -> np.ndarray:
    """The values at places, of which -1 is none; False where there are no values."""
    return values_Am[area, place] if values_Am.shape[1] else np.zeros(place.shape, bool)


def _matched(overlaps_nm: np.ndarray, left_out_Am: np.ndarray, crowd_m: np.ndarray) -> np.ndarray:
    """The true box of each found box, int (A, T, n); -1 where there is none.

    Of the free true boxes that overlap enough the one that does most, the last of equals; one that is left out only
    where no other is. Found boxes that have no true box in common are matched at the same time.
    """
    match_ATn = np.full((len(AREAS), len(OVERLAPS), len(overlaps_nm)), -1)
    taken_ATm = np.zeros((len(AREAS), len(OVERLAPS), len(crowd_m)), bool)
    box, true = np.nonzero(overlaps_nm >= OVERLAPS[0])
    if not len(box):
        return match_ATn
    order = np.lexsort((-true, -overlaps_nm[box, true], box))
    box, true = box[order], true[order]
    some, first, count = np.unique(box, return_index=True, return_counts=True)
    near_sC = np.zeros((len(some), count.max()), np.intp)  # candidates of each, the best first
    much_sC = np.zeros(near_sC.shape)  # how much they overlap; 0 where there is no further candidate
    place = np.repeat(np.arange(len(some)), count), np.arange(len(box)) - np.repeat(first, count)
    near_sC[place], much_sC[place] = true, overlaps_nm[box, true]
    turns = _turns(np.split(true, first[1:]), crowd_m)
    for turn in range(turns.max() + 1):
        now = np.flatnonzero(turns == turn)
        near, much = near_sC[now, : count[now].max()], much_sC[now, : count[now].max()]
        fits = (much >= OVERLAPS[:, None, None]) & (~taken_ATm[:, :, near] | crowd_m[near])
        better = fits & ~left_out_Am[:, near][:, None]
        fits = np.where(better.any(-1, keepdims=True), better, fits)
        at = np.nonzero(fits.any(-1))
        chosen = near[at[2], fits.argmax(-1)[at]]
        match_ATn[at[0], at[1], some[now][at[2]]] = chosen
        taken_ATm[at[0], at[1], chosen] = True
    return match_ATn


def _turns(candidates: list[np.ndarray], crowd_m: np.ndarray) -> np.ndarray:
    """When each box is matched: after all before it that have a candidate in common, which is not a crowd."""
    turns, following = np.zeros(len(candidates), np.intp), np.zeros(len(crowd_m), np.intp)
    for i, near in enumerate(candidates):
        alone = near[~crowd_m[near]]
        if len(alone):
            turns[i] = following[alone].max()
            following[alone] = turns[i] + 1
    return turns
