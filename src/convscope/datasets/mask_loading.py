"""The images that have a mask, as a loader returns them: their parts, their groups, and masks that can be used."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from ..errors import DataError
from ..progress import Progress
from ..recipes import Source
from .folder import IMAGE_SIZE
from .mask_coding import Coding, find_coding
from .mask_folders import SHOWN, Pairing
from .masks import ALL_VOID, Masks, examined
from .part_names import parts_of_folders
from .patterns import groups_of_paths
from .unsplit import Unsplit


def load_masked(
    root: Path, pairing: Pairing, source: Source | None = None, skip: bool = False, progress: Progress | None = None
) -> Unsplit:
    """The paired images with their masks as targets, their parts as folders say.

    Images whose mask cannot be used are left out with a note if ``skip``, else DataError names them.
    """
    unsplit, masks = paired(root, pairing, coding_of(root, pairing), source)
    return _usable(unsplit, masks, skip, progress)


def coding_of(root: Path, pairing: Pairing, strict: bool = True) -> Coding:
    """What the values of these masks mean; DataError as `find_coding` raises it."""
    files = [mask for _, mask in pairing.pairs if isinstance(mask, Path)]
    return find_coding(files, root, strict) if files else _of_outlines(pairing.names)


def paired(root: Path, pairing: Pairing, coding: Coding, source: Source | None = None) -> tuple[Unsplit, Masks]:
    """All paired images and their masks, usable or not."""
    images = tuple(image for image, _ in pairing.pairs)
    masks = Masks(coding.names, images, tuple(mask for _, mask in pairing.pairs), coding)
    unsplit = Unsplit(
        name=root.resolve().name or str(root),
        class_names=("image",),
        labels=np.zeros(len(images), np.int64),
        given=parts_of_folders(images, root),
        image_size=IMAGE_SIZE,
        files=images,
        root=root,
        notes=(f"{pairing.told}.", *pairing.notes, *coding.notes),
        targets=masks,
    )
    if source is not None and source.group is not None:
        paths = [path.relative_to(root).as_posix() for path in images]
        unsplit = replace(unsplit, groups=groups_of_paths(paths, source.group))
    return unsplit, masks


def _usable(unsplit: Unsplit, masks: Masks, skip: bool, progress: Progress | None) -> Unsplit:
    """The images whose masks can be used. An all-void mask is always left out: it says nothing."""
    masks, faults = examined(masks, progress)
    unsplit = replace(unsplit, targets=masks)
    void = {i for i, told in faults.items() if told.endswith(ALL_VOID)}
    hard = [told for i, told in faults.items() if i not in void]
    if len(faults) == len(masks):
        raise DataError(f"none of the {len(masks)} masks can be used: {'; '.join(list(faults.values())[:SHOWN])}.")
    if hard and not skip:
        more = f"; and {len(hard) - SHOWN} more" if len(hard) > SHOWN else ""
        raise DataError(
            f"{len(hard)} of {len(masks)} masks cannot be used: {'; '.join(hard[:SHOWN])}{more}. Mend or remove them; "
            "transfer leaves them out with --bad-images skip."
        )
    if not faults:
        return unsplit
    kept = np.array([i for i in range(len(masks)) if i not in faults])
    told = "; ".join(list(faults.values())[:SHOWN]) + ("; ..." if len(faults) > SHOWN else "")
    many = "1 image is" if len(faults) == 1 else f"{len(faults)} images are"
    note = f"{many} left out for the mask: {told}."
    return replace(unsplit.take(kept), notes=(*unsplit.notes, note))


def _of_outlines(names: tuple[str, ...]) -> Coding:
    count = np.arange(len(names))
    return Coding(names, count.astype(np.int64), count.astype(np.uint8))
