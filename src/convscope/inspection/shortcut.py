"""The shortcut check: can the class be told without looking at what the image shows?

A small model is given how each image is stored (format, mode, sides, quality), and another its mean colour; both are
cross-validated, with copies on one side. Beside that, limits are compared: where one class never has a dark pixel and
all others do, somebody made it brighter. Networks find such things before anything else (Geirhos and others 2020).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .findings import Finding, first
from .survey import Survey

MOST_IMAGES = 4000  # that the small models see, evenly spread
LEAST_OF_A_CLASS = 10
FOLDS = 5
TREES = 30
SURE, LIKELY = 0.9, 0.75  # the area under the curve of one class against the rest, from which it is a shortcut
STORED = ("width", "height", "orientation", "alpha", "deep", "frames", "coarseness", "bordered")
COLOURS = ("red", "green", "blue", "colour")
LIMIT_GAP = 2.0  # grey values that a class's darkest or brightest pixel lies off those of all others
LIMIT_IMAGES = 20
SHARED = 0.02  # of a class's images that may lie beyond its limit, by accident
FEW_BEYOND = 1e-6  # the chance that as many images as a class has would all lie within the limit, were they as others


@dataclass(frozen=True)
class Told:
    """How well one class is told from the rest: the area under the curve with its 95 % interval."""

    label: int
    area: float
    low: float
    high: float


def shortcut_findings(survey: Survey, groups_N: np.ndarray) -> Iterator[Finding]:
    """What gives a class away; ``groups_N`` numbers images so that copies have one number."""
    good = survey.good
    labels = survey.unsplit.labels[good]
    counts = np.bincount(labels, minlength=len(survey.unsplit.class_names))
    known = np.flatnonzero(counts >= LEAST_OF_A_CLASS)
    index = good[np.isin(labels, known)]
    if len(known) < 2:
        return
    yield from _limits(survey, index, known, groups_N)
    index = index[:: max(1, -(-len(index) // MOST_IMAGES))]
    for kind, features, words in (
        ("stored", _stored(survey.rows[index]), "how images are stored (format, mode, sides, quality)"),
        ("colour", _columns(survey.rows[index], COLOURS), "the mean colour of an image"),
    ):
        told = told_apart(features, survey.unsplit.labels[index], groups_N[index])
        yield from _by_model(survey, kind, words, told, index)


def _by_model(survey: Survey, kind: str, words: str, told: list[Told], index: np.ndarray) -> Iterator[Finding]:
    names = survey.unsplit.class_names
    areas = {names[t.label]: [round(v, 3) for v in (t.area, t.low, t.high)] for t in told}
    best = max(told, key=lambda t: t.low, default=None)
    if best is None:
        return
    sentence = (
        f"{words} alone tells {names[best.label]!r} from the other classes: area under the curve {best.area:.2f} "
        f"[{best.low:.2f}, {best.high:.2f}], where 0.5 is chance."
    )
    details = {"what": kind, "area_by_class": areas}
    if kind == "colour":
        if best.low >= SURE:
            advice = "natural for ripe fruit or the sea; else it is the light or the camera: look."
            yield Finding("shortcut-colour", "doubt", sentence, len(index), advice, (names[best.label],), details)
        return
    caught = [t for t in told if t.low >= SURE]
    if best.low < LIKELY:
        return
    details["differs_in"] = _differing(survey.rows[index], survey.unsplit.labels[index] == best.label)
    sentence = f"{sentence} {details['differs_in']}"
    advice = "save all images in one way, size and quality, or a network learns that instead of what they show."
    grade = "fault" if caught else "doubt"
    yield Finding(
        "shortcut", grade, sentence.strip(), len(index), advice, first([names[t.label] for t in caught]), details
    )


def _stored(rows: np.ndarray) -> np.ndarray:
    """How images are stored, one column for each format and mode beside the numbers."""
    parts = [_columns(rows, STORED), (rows["width"] / np.maximum(rows["height"], 1))[:, None]]
    parts += [(rows[n][:, None] == np.unique(rows[n])[None]).astype(np.float64) for n in ("format", "mode")]
    return np.concatenate(parts, 1)


def _columns(rows: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    return np.stack([rows[name].astype(np.float64) for name in names], 1)


def told_apart(features_NF: np.ndarray, labels_N: np.ndarray, groups_N: np.ndarray) -> list[Told]:
    """How well each class is told from the rest by a forest on these features, cross-validated with whole groups."""
    from sklearn.ensemble import ExtraTreesClassifier
    from sklearn.model_selection import StratifiedKFold

    classes = np.unique(labels_N)
    _, firsts, group_N = np.unique(groups_N, return_index=True, return_inverse=True)
    count = min(FOLDS, int(np.bincount(labels_N[firsts]).max()))
    if count < 2 or (features_NF == features_NF[:1]).all():
        return []
    chance = np.zeros((len(labels_N), len(classes)))
    folds = StratifiedKFold(count, shuffle=True, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a class with fewer groups than folds
        for _, tested in folds.split(firsts, labels_N[firsts]):
            held_out = np.isin(group_N, tested)
            train, test = np.flatnonzero(~held_out), np.flatnonzero(held_out)
            forest = ExtraTreesClassifier(TREES, min_samples_leaf=3, class_weight="balanced", random_state=0)
            forest.fit(features_NF[train], labels_N[train])
            columns = np.searchsorted(classes, forest.classes_)
            chance[test[:, None], columns] = forest.predict_proba(features_NF[test])
    return [_area(chance[:, k], labels_N == label, int(label)) for k, label in enumerate(classes)]


def _area(scores_N: np.ndarray, mine_N: np.ndarray, label: int) -> Told:
    """The area under the curve with the interval of Hanley and McNeil (1982)."""
    from scipy.stats import rankdata

    ours, others = int(mine_N.sum()), int((~mine_N).sum())
    area = float((rankdata(scores_N)[mine_N].sum() - ours * (ours + 1) / 2) / (ours * others))
    one, two = area / (2 - area), 2 * area**2 / (1 + area)
    spread = area * (1 - area) + (ours - 1) * (one - area**2) + (others - 1) * (two - area**2)
    error = 1.96 * float(np.sqrt(max(spread, 0.0) / (ours * others)))
    return Told(label, area, max(0.0, area - error), min(1.0, area + error))


def _differing(rows: np.ndarray, mine: np.ndarray) -> str:
    """The plainest difference between how a class and the rest are stored, in words."""
    for name, word in (("format", "format"), ("mode", "mode")):
        values, counts = np.unique(rows[name][mine], return_counts=True)
        most = values[counts.argmax()]
        share, others = counts.max() / mine.sum(), (rows[name][~mine] == most).mean()
        if share > 0.9 and others < 0.5:
            return f"{share:.0%} of its images have the {word} {most}, and {others:.0%} of the others."
    best, told = 0.0, ""
    for name in (*STORED, "width", "height"):
        ours, theirs = rows[name][mine].astype(float), rows[name][~mine].astype(float)
        gap = abs(np.median(ours) - np.median(theirs)) / (np.std(np.concatenate([ours, theirs])) + 1e-9)
        if gap > best:
            best, told = gap, f"Its median {name} is {np.median(ours):g}, of the others {np.median(theirs):g}."
    return told


def _limits(survey: Survey, index: np.ndarray, known: np.ndarray, groups_N: np.ndarray) -> Iterator[Finding]:
    """A class whose darkest or brightest pixels end where those of no other class do."""
    labels, names = survey.unsplit.labels[index], survey.unsplit.class_names
    for column, sign, word in (("darkest", 1.0, "darker"), ("brightest", -1.0, "brighter")):
        values = sign * survey.rows[column][index].astype(np.float64)
        limits = {int(c): float(np.quantile(values[labels == c], SHARED)) for c in known}
        for label in known:
            mine = np.unique(groups_N[index][labels == label])  # copies and frames are one
            if len(mine) < LIMIT_IMAGES:
                continue
            others = max(limit for c, limit in limits.items() if c != label)
            beyond = float((values[labels != label] < limits[int(label)]).mean())
            by_chance = (1 - beyond) ** len(mine)
            if limits[int(label)] < others + LIMIT_GAP or by_chance > FEW_BEYOND:
                continue
            limit = sign * limits[int(label)]
            yield Finding(
                "shortcut",
                "fault",
                f"{1 - SHARED:.0%} of the images of {names[label]!r} have no pixel {word} than {limit:.0f} of 255, "
                f"which "
                f"{beyond:.0%} of the others have: that class was made {'brighter' if sign > 0 else 'darker'}.",
                len(mine),
                "undo what was done to that class, or do it to all.",
                (names[label],),
                {"what": column, "limit": limit},
            )
