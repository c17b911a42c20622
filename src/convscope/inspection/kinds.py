"""What kinds of images there are: which cannot be read, which are not what their names say, their modes and sizes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np

from ..datasets.choosing_fit import fit_costs
from .findings import Finding, are, counted, first, some
from .survey import Survey

ENDINGS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "PNG": (".png", ".apng"),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
    "AVIF": (".avif",),
    "HEIC": (".heic", ".heif", ".hif"),
}
_READ_SUFFIXES = {end: kind for kind, ends in ENDINGS.items() for end in ends}
TINY = 16  # pixels of the shorter side, under which an image shows little
FLAT = 8  # values that the widest channel spans, under which an image shows nothing
NEARLY_ALL = 0.98
MODES = {"L": "grey", "1": "black and white", "LA": "grey", "CMYK": "CMYK", "P": "palette", "YCCK": "CMYK"}


def file_findings(survey: Survey) -> Iterator[Finding]:
    """What cannot be read, by reason, and what is named for another format than it has."""
    gone = [i for i in survey.reasons if survey.is_gone(i)]
    if gone:
        verb = "does" if len(gone) == 1 else "do"
        told = (
            f"{len(gone):,} of the {len(survey):,} files that are named {verb} not exist: {some(survey.names(gone))}."
        )
        advice = "name the folder they are in with --images, or take their lines out of the table."
        yield Finding("missing-files", "fault", told, len(gone), advice, first(survey.names(gone)))
    reasons: dict[str, list[int]] = {}
    for i, reason in survey.reasons.items():
        if not survey.is_gone(i):
            reasons.setdefault(_kind_of(reason), []).append(i)
    for reason, index in sorted(reasons.items(), key=lambda item: -len(item[1])):
        names = survey.names(index)
        yield Finding(
            "unreadable",
            "fault",
            f"{counted(len(index), 'image')} cannot be read, {reason}: {some(names)}.",
            len(index),
            "mend or remove them; the corrections file leaves them out.",
            first(names),
            {"reason": reason},
        )


def _kind_of(reason: str) -> str:
    """A reason without what differs from file to file."""
    return reason.split(":")[0] if reason.startswith(("corrupt", "too large")) else reason


def ending_findings(survey: Survey) -> Iterator[Finding]:
    """Images that are named for another format than they have."""
    if not survey.unsplit.files:
        return
    wrong = [
        i
        for i in survey.good
        if _READ_SUFFIXES.get(survey.unsplit.files[i].suffix.lower(), "") != survey.rows["format"][i]
        and survey.unsplit.files[i].suffix not in ("", ".image")
    ]
    if wrong:
        kinds = Counter(f"{survey.rows['format'][i]} named {Path(survey.unsplit.files[i]).suffix}" for i in wrong)
        told = ", ".join(f"{count:,} {what}" for what, count in kinds.most_common(4))
        yield Finding(
            "wrong-ending",
            "doubt",
            f"{counted(len(wrong), 'image')} {are(len(wrong))} of another format than the name says: {told}.",
            len(wrong),
            "it is read by its content here; other programs may fail: rename it.",
            first(survey.names(wrong)),
            {"formats": dict(kinds)},
        )


def image_findings(survey: Survey) -> Iterator[Finding]:
    """Modes, orientations, frames, sizes, and images that show nothing."""
    rows, good = survey.rows, survey.good
    if not len(good):
        return
    yield from _modes(survey)
    for kind, which, told, advice in (
        (
            "orientation",
            rows["orientation"][good] > 1,
            "turned by their EXIF orientation",
            "they are read upright here.",
        ),
        ("alpha", rows["alpha"][good], "with transparency", "it is laid on white."),
        ("deep", rows["deep"][good], "of more than 8 bits a channel", "they are scaled to 8 bits; see --stretch."),
        ("frames", rows["frames"][good], "of several frames or pages", "the first one counts."),
    ):
        if which.any():
            share = _by_class(survey, good, which)
            names = survey.names(good[which])
            sentence = f"{counted(int(which.sum()), 'image')} {told}{share}: {some(names)}."
            yield Finding(kind, "note", sentence, int(which.sum()), advice, first(names))
    flat = blank(survey)
    if len(flat):
        names = survey.names(flat)
        told = f"{counted(len(flat), 'image')} of a single grey or colour: {some(names)}."
        yield Finding("blank", "fault", told, len(flat), "leave them out: they show nothing.", first(names))
    if survey.unsplit.files:
        yield from _sizes(survey)


def blank(survey: Survey) -> np.ndarray:
    """The numbers (M,) of images that show nothing; of deep ones `--stretch` may bring out more."""
    rows, good = survey.rows, survey.good
    return good[(rows["span"][good] < FLAT) & ~rows["deep"][good]]


def _modes(survey: Survey) -> Iterator[Finding]:
    rows, good = survey.rows, survey.good
    modes = [MODES.get(mode, "colour") for mode in rows["mode"][good]]
    counts = Counter(modes)
    if len(counts) > 1:
        told = ", ".join(f"{count:,} {mode}" for mode, count in counts.most_common())
        by_class = {
            name: dict(Counter(m for m, i in zip(modes, good, strict=True) if survey.unsplit.labels[i] == c))
            for c, name in enumerate(survey.unsplit.class_names)
        }
        raw = dict(Counter(rows["mode"][good].tolist()))
        details = {"modes": raw, "by_class": by_class}
        sentence = f"images of several modes: {told}; all are made RGB."
        yield Finding("modes", "note", sentence, len(good), "", (), details)


def _by_class(survey: Survey, index: np.ndarray, which: np.ndarray) -> str:
    """The class that most of them are in, where it is one."""
    labels = survey.unsplit.labels[index]
    counts = np.bincount(labels[which], minlength=len(survey.unsplit.class_names))
    most = int(counts.argmax())
    if len(np.unique(labels)) > 1 and counts[most] >= NEARLY_ALL * counts.sum():
        return f", nearly all in {survey.unsplit.class_names[most]!r}"
    return ""


def _sizes(survey: Survey) -> Iterator[Finding]:
    rows = survey.rows[survey.good]
    wide, high = rows["width"], rows["height"]
    shorter = np.minimum(wide, high)
    small = shorter < TINY
    if small.any() and not small.all():
        names = survey.names(survey.good[small])
        told = f"{counted(int(small.sum()), 'image')} under {TINY} pixels a side: {some(names)}."
        yield Finding("tiny", "doubt", told, int(small.sum()), "look at them: they show little.", first(names))
    if len(np.unique(np.stack([wide, high], 1), axis=0)) == 1:
        sentence = f"all images are {wide[0]} x {high[0]} pixels."
    else:
        sentence = (
            f"sides from {wide.min()} x {high.min()} to {wide.max()} x {high.max()} pixels, half of the images between "
            f"{np.quantile(shorter, 0.25):.0f} and {np.quantile(shorter, 0.75):.0f} on the shorter side."
        )
    sizes = {"width": _spread(wide), "height": _spread(high), "aspect": _spread(wide / high)}
    yield Finding("sizes", "note", sentence, len(rows), "", (), sizes)
    if (wide != high).any():
        costs = fit_costs(np.stack([wide, high], 1).astype(np.float64), rows["kept"].astype(np.float64))
        told = {"fit": costs.choice(), "costs": asdict(costs)}
        yield Finding("fit", "note", costs.sentence(), len(rows), "", (), told)


def _spread(values: np.ndarray) -> list[float]:
    """Least, quarter, middle, three quarters and most."""
    return [round(float(v), 3) for v in np.quantile(values, (0, 0.25, 0.5, 0.75, 1))]
