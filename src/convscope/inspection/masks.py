"""Folders that hold masks, which are no images to classify: one of few values for each image of another folder."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..datasets.mask_folders import bare
from .findings import Finding, are, counted, first
from .survey import Survey

FEW_LEVELS = 40  # distinct grey values of a mask that was not compressed
IN_TWO = 0.985  # the share of pixels near the two commonest greys in a mask that was compressed
COLOURLESS = 3.0  # values that the channels of a grey image are apart, on average
MOST = 0.8  # of a folder's images that must look like masks, and have an image of their name
CALLED = re.compile(r"mask|truth|annot|label|segment|(^|[\W_])(gt|seg|mattes?|alphas?)([\W_]|$)", re.IGNORECASE)

ADVICE = {
    True: "move them out of the data; the corrections file leaves them out.",
    False: "move them out of the data.",
}


@dataclass(frozen=True)
class MaskFolder:
    """A folder of masks, and the folder whose images they are of: ``paired`` of those at ``index`` have one there.

    ``named`` says whether names call them masks too: black and white scans may have the numbers of photographs.
    """

    masks: str
    images: str
    index: tuple[int, ...]
    paired: int
    named: bool

    @property
    def count(self) -> int:
        return len(self.index)

    @property
    def within(self) -> bool:
        """Whether the masks lie among the images they are of."""
        return self.masks == self.images


def looks_like_mask(rows: np.ndarray) -> np.ndarray:
    """Which rows of a survey are of an image with few values, as no photograph has, bool (N,)."""
    grey = rows["colour"] < COLOURLESS
    flat = (rows["levels"] <= FEW_LEVELS) & ~np.isin(rows["format"], ("JPEG", "WEBP", "AVIF", "HEIC"))
    few = rows["levels"] <= FEW_LEVELS
    return rows["readable"] & ((grey & (few | (rows["in_two"] >= IN_TWO))) | flat)


def mask_folders(survey: Survey) -> list[MaskFolder]:
    """The folders, as far as files have them, that hold masks of another folder's images, or of their own."""
    if not survey.unsplit.files:
        return []
    by_folder: dict[str, list[int]] = defaultdict(list)
    root = survey.unsplit.root
    for i, path in enumerate(survey.unsplit.files):
        inside = root is not None and path.is_relative_to(root)
        by_folder[str(path.parent.relative_to(root)) if inside and root else str(path.parent)].append(i)
    masked = looks_like_mask(survey.rows)
    images = {
        name: {bare(survey.unsplit.files[i].stem) for i in ins if not masked[i]} for name, ins in by_folder.items()
    }
    found = []
    for folder, members in by_folder.items():
        mine = [i for i in members if masked[i]]
        if not mine:
            continue
        stems = {bare(survey.unsplit.files[i].stem) for i in mine}
        shared = {name: len(stems & theirs) for name, theirs in images.items() if theirs}
        best = max(shared, key=lambda name: shared[name], default=None)
        if (
            best is not None
            and shared[best] >= MOST * len(stems)
            and len(mine) >= MOST * _expected(members, mine, best == folder)
        ):
            found.append(MaskFolder(folder, best, tuple(mine), shared[best], _is_called(folder, survey, mine)))
    return found


def _is_called(folder: str, survey: Survey, mine: list[int]) -> bool:
    """Whether a folder's name, or what is added to the names of its files, says that they are masks."""
    added = sum(bare(survey.unsplit.files[i].stem) != survey.unsplit.files[i].stem.casefold() for i in mine)
    return CALLED.search(folder) is not None or added >= MOST * len(mine)


def _expected(members: list[int], mine: list[int], within: bool) -> int:
    """How many masks a folder holds at most: all of its images, or half of them where images lie beside."""
    return len(mine) if within else len(members)


def mask_findings(survey: Survey) -> Iterator[Finding]:
    """A sentence for each folder of masks."""
    for folder in mask_folders(survey):
        own = folder.within
        place = f"in {folder.masks!r}" if own else f"{folder.masks!r} holds masks of the images in {folder.images!r}"
        told = (
            f"{counted(folder.count, 'image')} {place} {are(folder.count)} masks of others there"
            if own
            else f"{place}: {folder.paired:,} of {folder.count:,} have an image of their name there"
        )
        yield Finding(
            "masks",
            "fault" if folder.named else "doubt",
            f"{told} (few values, as no photograph has).",
            folder.count,
            f"a mask is no image to classify: if they are masks, {ADVICE[own and folder.named]}",
            first([folder.masks, folder.images]),
            {"masks": folder.masks, "images": folder.images, "paired": folder.paired},
        )
