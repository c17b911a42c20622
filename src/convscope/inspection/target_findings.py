"""What labels and numbers say: labels that tell nothing, numbers far outside the rest or standing for a missing one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..datasets.targets import LabelSets, Numbers, Targets
from .class_names import FEW, UNEVEN, times_fewer
from .findings import Finding, counted, first, some
from .survey import Survey

UNLABELLED = 0.5  # of the images that have no label, from which one should look
TOGETHER = 3  # images that two labels share, from which it is no chance that they are always together
FAR = 8.0  # robust deviations from the median, from which a number is far outside the rest
MANY = 0.05  # of the numbers: where more are far outside, they are spread so
MISSING = frozenset({0, -1, 99, 999, 9999, 99999, -9, -99, -999, -9999, -99999})  # what is written for "none"
REPEATED, OFTEN = 3, 0.01  # images, and their share, that must have such a number
OFTENER = 4  # times oftener than any other number
MAD = 1.4826  # median deviation of a normal distribution, in standard deviations


def target_findings(survey: Survey) -> Iterator[Finding]:
    """Sentences about the labels or the numbers of all images."""
    targets = survey.unsplit.targets
    if isinstance(targets, LabelSets):
        yield from _labels(survey, targets)
    elif isinstance(targets, Numbers):
        yield from _numbers(survey, targets)


def target_rows(targets: Targets | None) -> list[dict[str, object]]:
    """What each label has, or how numbers are spread."""
    if isinstance(targets, LabelSets):
        count = max(1, len(targets))
        rows = targets.counts(np.arange(len(targets))).items()
        return [{"name": name, "images": n, "share": round(n / count, 6)} for name, n in rows]
    if isinstance(targets, Numbers) and len(targets):
        names = ("least", "quarter", "middle", "three_quarters", "most")
        spread = np.quantile(targets.values, (0, 0.25, 0.5, 0.75, 1)).tolist()
        told = {"name": targets.name, "images": len(targets), **dict(zip(names, spread, strict=True))}
        return [told | {"mean": float(targets.values.mean()), "deviation": float(targets.values.std())}]
    return []


# ------------------------------------------------------------------------------------------------------------- labels


def _labels(survey: Survey, targets: LabelSets) -> Iterator[Finding]:
    values, names = targets.values.astype(bool), targets.names
    images = values.sum(0)
    for kind, which, told, advice in (
        ("labels-unseen", images == 0, "that no image has", "take the columns out, or nothing is learned of them."),
        ("labels-everywhere", images == len(values), "that every image has", "take them out: they tell nothing."),
    ):
        if which.any():
            found = [names[k] for k in np.flatnonzero(which)]
            sentence = f"{counted(len(found), 'label')} {told}: {some([*map(repr, found)])}."
            yield Finding(kind, "doubt", sentence, len(found), advice, first(found))
    yield from _together(values, names, images)
    none = np.flatnonzero(~values.any(1))
    if len(none):
        share = len(none) / len(values)
        where = survey.names(none)
        advice = "look whether they were labelled at all." if share > UNLABELLED else ""
        sentence = f"{counted(len(none), 'image')} ({share:.0%}) without any label: {some(where)}."
        yield Finding("no-label", "doubt" if share > UNLABELLED else "note", sentence, len(none), advice, first(where))
    if (values.sum(1) == 1).all():
        sentence = "every image has exactly one label, so they are classes of which one is right."
        yield Finding("one-label", "doubt", sentence, len(values), "use --task classification.")
    yield from _label_balance(names, images)


def _together(values_NK: np.ndarray, names: tuple[str, ...], images_K: np.ndarray) -> Iterator[Finding]:
    both = values_NK.astype(np.int64).T @ values_NK.astype(np.int64)
    same = (both == images_K[:, None]) & (both == images_K) & (images_K >= TOGETHER) & (images_K < len(values_NK))
    pairs = [f"{names[a]!r} and {names[b]!r}" for a, b in np.argwhere(np.triu(same, 1))]
    if pairs:
        told = f"{counted(len(pairs), 'pair')} of labels always together: {some(pairs)}."
        advice = "keep one of each pair if they are one thing: nothing tells them apart here."
        yield Finding("labels-together", "doubt", told, len(pairs), advice, first(pairs))


def _label_balance(names: tuple[str, ...], images_K: np.ndarray) -> Iterator[Finding]:
    seen = np.flatnonzero(images_K)
    if len(seen) < 2:
        return
    most, least = seen[images_K[seen].argmax()], seen[images_K[seen].argmin()]
    ratio = images_K[most] / images_K[least]
    told = (
        f"the commonest label, {names[most]!r}, has {images_K[most]:,} images, the rarest, {names[least]!r}, "
        f"{images_K[least]:,}{times_fewer(ratio)}."
    )
    advice = "read the figures by label, not their mean alone." if ratio >= UNEVEN else ""
    grade = "doubt" if ratio >= UNEVEN else "note"
    yield Finding("balance", grade, told, len(seen), advice, (), {"ratio": round(float(ratio), 2)})
    few = [names[k] for k in seen if images_K[k] < FEW]
    if few:
        told = f"{counted(len(few), 'label')} with fewer than {FEW} images: {some([*map(repr, few)])}."
        yield Finding("few-images", "doubt", told, len(few), "add images: fifty a label are a beginning.", first(few))


# ------------------------------------------------------------------------------------------------------------ numbers


def _numbers(survey: Survey, targets: Numbers) -> Iterator[Finding]:
    values = targets.values
    different, counts = np.unique(values, return_counts=True)
    if len(different) == 1 and len(values) > 1:
        told = f"every image has the number {different[0]:g}: there is nothing to learn."
        yield Finding("constant", "fault", told, len(values), "name another column with --label-column.")
        return
    stands_for_none = _for_none(different, counts)
    if stands_for_none is not None:
        where = survey.names(np.flatnonzero(values == stands_for_none))
        told = (
            f"{counted(len(where), 'image')} of {len(values):,} have the number {stands_for_none:g}, which may stand "
            f"for a missing one: {some(where)}."
        )
        advice = "if it does, leave these cells empty: they would be learned as they stand."
        yield Finding("number-repeats", "doubt", told, len(where), advice, first(where))
    usual = values if stands_for_none is None else values[values != stands_for_none]
    far = np.flatnonzero(_far(values, usual) & (values != stands_for_none))
    if len(far):
        order = far[np.argsort(-np.abs(values[far] - np.median(usual)), kind="stable")]
        where = [f"{name} ({values[i]:g})" for i, name in zip(order, survey.names(order), strict=True)]
        told = (
            f"{counted(len(far), 'number')} far outside the rest, half of which lie from "
            f"{np.quantile(usual, 0.25):.4g} to {np.quantile(usual, 0.75):.4g}: {some(where)}."
        )
        advice = "look whether a point or a unit is wrong: one such number outweighs many."
        yield Finding("outliers", "doubt", told, len(far), advice, first(where))
    told = f"{len(different):,} different numbers from {values.min():g} to {values.max():g}."
    yield Finding("numbers", "note", told, len(values))


def _for_none(different: np.ndarray, counts: np.ndarray) -> float | None:
    """A number that stands at an end of all others, far oftener than any, and is one that people write for "none"."""
    most = int(counts.argmax())
    others = np.delete(counts, most)
    often = counts[most] >= max(REPEATED, OFTEN * counts.sum()) and counts[most] >= OFTENER * others.max()
    at_an_end = most in (0, len(different) - 1)
    return float(different[most]) if often and at_an_end and different[most] in MISSING else None


def _far(values: np.ndarray, usual: np.ndarray) -> np.ndarray:
    """Which numbers are far from the rest, as they are and, where all are positive, in their logarithms too."""
    far = _deviations(values, usual) > FAR
    if (usual > 0).all():
        positive = values > 0
        logs = np.log(np.where(positive, values, 1))
        far &= ~positive | (_deviations(logs, np.log(usual)) > FAR)
    return far if far.mean() <= MANY or far.sum() == 1 else np.zeros(len(values), bool)


def _deviations(values: np.ndarray, usual: np.ndarray) -> np.ndarray:
    """How many robust deviations each number is from the median; none where most numbers are the same."""
    middle = np.median(usual)
    spread = MAD * np.median(np.abs(usual - middle))
    return np.abs(values - middle) / spread if spread > 0 else np.zeros(len(values))
