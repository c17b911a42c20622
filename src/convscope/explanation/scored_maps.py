"""The maps of a class against the masks of a dataset, beside guesses that look at no image; and what that says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..classifying.classifier import Classifier
from ..classifying.intervals import SURE
from ..datasets.masks import Masks
from ..errors import DataError
from ..images.placing import resized_mask
from .localizing import Halves, Looked, object_classes
from .overlap import (
    CENTRE,
    MAP,
    THRESHOLDS,
    WHOLE,
    Beyond,
    Found,
    Truth,
    Way,
    beyond,
    found_by,
    found_by_guessing,
    scored_way,
)


@dataclass(frozen=True)
class Judged:
    """What one image is worth at the chosen thresholds: the overlap of its mask and of its box, and what it was
    ``used_for``: "choosing" thresholds, or "scoring"."""

    mask: float
    box: float
    used_for: str


@dataclass(frozen=True)
class Scores:
    """The ways by name with their differences from the map; ``judged`` by the places of images among those looked at.

    ``chosen_by`` tells in words what chose the thresholds, on ``chosen_n`` images.
    """

    ways: dict[str, Way]
    differences: tuple[Beyond, ...]
    judged: dict[int, Judged]
    chosen_by: str
    chosen_n: int

    @property
    def n(self) -> int:
        """Images that are scored."""
        return len(self.ways[MAP].masks)

    def to_json(self) -> dict[str, Any]:
        """All figures, and what they say."""
        return {
            "n": self.n,
            "chosen_by": self.chosen_by,
            "chosen_n": self.chosen_n,
            "ways": [way.to_json() for way in self.ways.values()],
            "differences": [one.to_json() for one in self.differences],
            "sentences": list(self.sentences()),
        }

    def sentences(self) -> tuple[str, str]:
        """Of masks and of boxes: the map's figure, the centred guess's, and whether they differ."""
        ours, guess = self.ways[MAP].to_json(), self.ways[CENTRE].to_json()
        than = next(one for one in self.differences if one.guess == CENTRE)
        told = []
        for key, words, difference in (
            ("iou", "with no mask to learn from, the map covers the object by an IoU of {}", than.masks),
            ("box_accuracy", "its box finds an object (IoU 0.5 or more) in {} of the images", than.boxes),
        ):
            figure = f"{_percent(ours[key])} % [{_percent(ours[f'{key}_low'])}, {_percent(ours[f'{key}_high'])}]"
            sure = difference.p < SURE
            verdict = ("better" if difference.difference > 0 else "worse") if sure else "which may be chance"
            ends = f"[{100 * difference.low:+.1f}, {100 * difference.high:+.1f}]"
            told.append(
                f"{words.format(figure)} (a centred guess: {_percent(guess[key])} %; n = {self.n:,}): "
                f"{100 * difference.difference:+.1f} points {ends}, {verdict}."
            )
        return told[0], told[1]


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def score_maps(  # noqa: PLR0913 - what was looked at, the truth about it, and how it is told
    classifier: Classifier,
    looked: Sequence[Looked],
    masks: Masks,
    halves: Halves,
    objects: Sequence[str] | None,
    threshold: float | None,
    tell: Callable[[str, int, int], None],
) -> Scores:
    """Score maps against masks beside both guesses. Images without an object are left out; DataError without any."""
    thresholds = THRESHOLDS if threshold is None else np.array([threshold], np.float32)
    found: dict[str, list[Found]] = {MAP: [], CENTRE: [], WHOLE: []}
    places: list[int] = []
    for place, one in enumerate(looked):
        truth = truth_of(classifier, masks, one, objects)
        if len(truth.boxes):
            places.append(place)
            found[MAP].append(found_by(one.values(classifier, one.shape), truth, thresholds))
            for name, guess in found_by_guessing(truth).items():
                found[name].append(guess)
        tell("scoring", place + 1, len(looked))
    if not places:
        raise DataError("no mask shows an object, so there is nothing to score.")
    choosing, scored = _sides([looked[place] for place in places], halves)
    used = {MAP: thresholds, CENTRE: THRESHOLDS, WHOLE: THRESHOLDS[:1]}
    ways = {name: scored_way(name, found[name], choosing, scored, used[name]) for name in found}
    mask_at, box_at = (int(np.searchsorted(thresholds, np.float32(at))) for at in (ways[MAP].mask_at, ways[MAP].box_at))
    chose = set(choosing.tolist())
    judged = {
        place: Judged(float(one.masks[mask_at]), float(one.boxes[box_at]), "choosing" if k in chose else "scoring")
        for k, (place, one) in enumerate(zip(places, found[MAP], strict=True))
    }
    chosen_by = halves.told if len(choosing) else "nobody: there are too few images"
    return Scores(ways, beyond(ways), judged, chosen_by if threshold is None else "--threshold", len(choosing))


def truth_of(classifier: Classifier, masks: Masks, one: Looked, objects: Sequence[str] | None) -> Truth:
    """Where the objects of an image are, at the size it is scored at."""
    classes = object_classes(masks, objects, classifier.class_names[one.target])
    return Truth.of(resized_mask(masks.read(one.index), one.shape), classes)


def _sides(looked: Sequence[Looked], halves: Halves) -> tuple[np.ndarray, np.ndarray]:
    """Places of the images that choose and of those that are scored: all are, where one side has none."""
    chooses = np.isin([one.index for one in looked], halves.choosing)
    if chooses.all() or not chooses.any():
        return np.zeros(0, np.int64), np.arange(len(looked))
    return np.flatnonzero(chooses), np.flatnonzero(~chooses)
