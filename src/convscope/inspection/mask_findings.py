"""What masks say: which cannot be used, which classes hardly occur, and images on which there is nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from .class_names import FEW
from .findings import Finding, Grade, are, counted, first, some
from .mask_survey import MaskSurvey
from .survey import Survey

EMPTY = 0.5  # of the images that show no object, from which one should look
# Each kind of fault with its grade, what it says of so many masks, and the next step.
FAULTS: dict[str, tuple[Grade, str, str]] = {
    "unreadable-masks": ("fault", "cannot be read", "mend or remove them; --bad-images skip leaves them out."),
    "mask-shape": (
        "fault",
        "of another shape than the image: cut, turned, or of another image",
        "draw them again on these images; --bad-images skip leaves them out.",
    ),
    "mask-values": (
        "fault",
        "with values that stand for no class",
        "name each value in the list of classes, or mend the masks.",
    ),
    "void-masks": ("doubt", "void altogether, and left out", "draw them, or remove them."),
}


def mask_use_findings(survey: Survey, found: MaskSurvey) -> Iterator[Finding]:
    """Masks that cannot be used, by the reason; and those of another size, which can."""
    for kind, (grade, told, advice) in FAULTS.items():
        index = [i for i, (named, _) in found.faults.items() if named == kind]
        if index:
            words = [found.faults[i][1] for i in index]
            many = f"{counted(len(index), 'mask')} {'' if told.startswith('cannot') else are(len(index)) + ' '}{told}"
            yield Finding(kind, grade, f"{many}: {some(words, 2)}.", len(index), advice, first(words))
    if found.resized:
        names = survey.names(found.resized)
        count = len(found.resized)
        told = f"{counted(count, 'mask')} {are(count)} of another size than the image, and of its shape: {some(names)}."
        yield Finding("mask-size", "note", told, count, "both are brought to one size here.", first(names))


def object_findings(survey: Survey, found: MaskSurvey) -> Iterator[Finding]:
    """Classes that never occur, or once, and images that show none."""
    good, present = np.flatnonzero(found.good), found.present
    if not len(good):
        return
    yield from class_findings(survey, found.names, present, good, "that no mask holds")
    empty = good[~present[good, int(found.has_background) :].any(1)] if found.has_background else good[:0]
    if len(empty):
        names = survey.names(empty)
        share = len(empty) / len(good)
        told = f"{counted(len(empty), 'image')} ({share:.0%}) without any object: {some(names)}."
        advice = "look whether they were drawn at all." if share > EMPTY else ""
        yield Finding("no-object", "doubt" if share > EMPTY else "note", told, len(empty), advice, first(names))
    yield from _balance(found, present[good].sum(0))


def class_findings(
    survey: Survey, names: Sequence[str], present_NK: np.ndarray, index: np.ndarray, unheld: str
) -> Iterator[Finding]:
    """Classes that no image at ``index`` shows, as ``unheld`` says, or one, or few."""
    images = present_NK[index].sum(0)
    unseen, once, few = (np.flatnonzero(w).tolist() for w in (images == 0, images == 1, (images > 1) & (images < FEW)))
    if unseen:
        told = f"{counted(len(unseen), 'class', 'classes')} {unheld}: {some([repr(names[k]) for k in unseen])}."
        advice = "take them off the list of classes, or nothing is learned of them."
        yield Finding("classes-unseen", "doubt", told, len(unseen), advice, first([names[k] for k in unseen]))
    if once and len(index) > 1:
        where = survey.names(int(index[present_NK[index, k].argmax()]) for k in once)
        told_of = [f"{names[k]!r} ({name})" for k, name in zip(once, where, strict=True)]
        told = f"{counted(len(once), 'class', 'classes')} in one image only: {some(told_of)}."
        advice = "it can be learned or tested, not both: add images."
        yield Finding("class-once", "doubt", told, len(once), advice, first(told_of))
    if few and len(index) >= FEW:
        few_names = [names[k] for k in few]
        told = f"{counted(len(few), 'class', 'classes')} in fewer than {FEW} images: {some([*map(repr, few_names)])}."
        yield Finding(
            "few-images",
            "doubt",
            told,
            len(few),
            "add images: fifty a class are a beginning.",
            first(few_names),
        )


def _balance(found: MaskSurvey, images_K: np.ndarray) -> Iterator[Finding]:
    """How uneven classes are, by pixels and by images."""
    pixels = found.pixels[:, :-1].sum(0)
    seen = np.flatnonzero(pixels)
    if len(seen) < 2:
        told = f"every pixel that has a class is of {found.names[seen[0]]!r}: there is nothing to tell apart."
        yield Finding("balance", "fault", told, 1, "name other masks with --masks, or draw a second class.")
        return
    most, least = seen[pixels[seen].argmax()], seen[pixels[seen].argmin()]
    share = pixels / pixels.sum()
    told = (
        f"{found.names[most]!r} has {share[most]:.3g} of the pixels that have a class, {found.names[least]!r}, the "
        f"rarest, {share[least]:.3g}, in {counted(int(images_K[least]), 'image')}."
    )
    yield Finding("balance", "note", told, len(seen))


def mask_rows(found: MaskSurvey) -> list[dict[str, object]]:
    """What each class has: pixels, their share of all that have one, and images."""
    pixels = found.pixels[:, :-1].sum(0)
    images = found.present.sum(0)
    total = max(1, int(pixels.sum()))
    return [
        {"name": name, "images": int(i), "pixels": int(p), "share": round(int(p) / total, 6)}
        for name, i, p in zip(found.names, images, pixels, strict=True)
    ]
