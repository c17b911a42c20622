"""What a file tells of the boxes in an image, whatever its format; and the same in pixels of the upright image."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..images.headers import Header
from ..visible import visible
from .boxes import ImageBoxes
from .masks import SAME_SHAPE, shape_error

SHOWN = 3  # names in a note
ROUNDING = 0.5  # pixels by which a box may reach over the edge of its image and nothing is said


@dataclass(frozen=True)
class ToldBoxes:
    """The boxes of an image as its file has them.

    ``corners`` float64 (n, 4), left, top, right, bottom, are pixels of an image of ``size`` (width, height), or of the
    upright image where no size is told; if ``relative``, shares of the sides of the upright image. ``labels`` int64
    (n,) and ``crowd`` bool (n,) as those of `ImageBoxes`.
    """

    corners: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray
    size: tuple[int, int] | None = None
    relative: bool = False


@dataclass(frozen=True)
class Remark:
    """What a reader left out, cut or took for something: its ``kind``, and the files or boxes by name.

    ``one`` and ``many`` say it of one of them and of several: "box is flat", "boxes are flat".
    """

    kind: str
    names: tuple[str, ...]
    one: str
    many: str

    @property
    def note(self) -> tuple[str, ...]:
        """The sentence with the first few names; none without names."""
        return named_note(self.names, self.one, self.many)


@dataclass(frozen=True)
class ToldImages:
    """Images with the boxes that a folder's files tell of them, or why these cannot be used.

    ``parts`` is str (N,), as `Unsplit.given`; ``how`` says what was taken for what. ``unnamed`` are the images, by
    place, whose boxes cannot be used because the class of one has no name.
    """

    names: tuple[str, ...]
    images: tuple[Path, ...]
    told: tuple[ToldBoxes | str, ...]
    parts: np.ndarray
    how: str
    notes: tuple[str, ...] = ()
    remarks: tuple[Remark, ...] = ()
    unnamed: frozenset[int] = frozenset()


@dataclass(frozen=True)
class PlacedBoxes:
    """The boxes of an image upright, and the labels of those that were left out or cut on the way there."""

    boxes: ImageBoxes
    flat: np.ndarray
    outside: np.ndarray
    cut: np.ndarray


def placed(told: ToldBoxes, header: Header) -> PlacedBoxes | None:
    """The boxes in pixels of the upright image, within it; None where they are of an image of another shape."""
    upright = header.upright_size
    with np.errstate(over="ignore"):
        corners = told.corners * np.array(2 * upright) if told.relative else _of_size(told, header)
    if corners is None:
        return None
    sides = np.array(2 * upright, np.float64)
    inside = np.clip(corners, 0.0, sides)
    flat = ~_has_area(corners)
    outside = ~flat & ~_has_area(inside)
    cut = ~flat & ~outside & (np.abs(inside - corners).max(1, initial=0.0) > ROUNDING)
    kept = ~flat & ~outside
    boxes = ImageBoxes(upright, inside[kept], told.labels[kept], told.crowd[kept])
    return PlacedBoxes(boxes, told.labels[flat], told.labels[outside], told.labels[cut])


def _has_area(corners: np.ndarray) -> np.ndarray:
    return (corners[:, 0] < corners[:, 2]) & (corners[:, 1] < corners[:, 3])


def _of_size(told: ToldBoxes, header: Header) -> np.ndarray | None:
    """Corners in pixels of the upright image; they turn with it where their size is that of the stored one."""
    stored, upright = (header.width, header.height), header.upright_size
    size = told.size or upright
    turns = stored != upright and size != upright and shape_error(size, stored) <= SAME_SHAPE
    if turns and size != stored and shape_error(size, upright) <= SAME_SHAPE:
        turns = False  # nearly square: nothing tells, and most tools show an image upright
    if not turns and shape_error(size, upright) > SAME_SHAPE:
        return None
    corners = _turned(told.corners, size, header.orientation) if turns else told.corners
    now = size[::-1] if turns else size
    return corners * np.array([upright[0] / now[0], upright[1] / now[1]] * 2)


def _turned(corners: np.ndarray, size: tuple[int, int], orientation: int) -> np.ndarray:
    """Corners on an image of ``size`` (width, height) once an EXIF orientation that swaps sides is applied.

    Of 5 to 8, 6 is a quarter turn clockwise and 8 one the other way; 5 mirrors at the diagonal and 7 at the other one.
    """
    left, top, right, bottom = corners.T
    width, height = size
    across = (height - bottom, height - top) if orientation in (6, 7) else (top, bottom)
    down = (width - right, width - left) if orientation in (7, 8) else (left, right)
    return np.stack([across[0], down[0], across[1], down[1]], axis=1)


# -------------------------------------------------------------------------------------------- what the readers share


def named_note(names: Iterable[str], one: str, many: str) -> tuple[str, ...]:
    """A sentence with the number of names and the first few; none without names: "2 boxes are flat: a.jpg, b.jpg."."""
    found = list(names)
    if not found:
        return ()
    different = list(dict.fromkeys(found))
    shown = ", ".join(map(visible, different[:SHOWN])) + (", ..." if len(different) > SHOWN else "")
    return (f"{f'1 {one}' if len(found) == 1 else f'{len(found):,} {many}'}: {shown}.",)


def by_stem(images: Iterable[Path]) -> dict[str, list[Path]]:
    """Images by their names without the ending."""
    found: dict[str, list[Path]] = {}
    for image in images:
        found.setdefault(image.stem, []).append(image)
    return found


def by_name(images: Iterable[Path]) -> dict[str, list[Path]]:
    """Images by their names."""
    found: dict[str, list[Path]] = {}
    for image in images:
        found.setdefault(image.name, []).append(image)
    return found


def listed_parts(
    images: Sequence[Path], lists: Mapping[str, Collection[Path]], where: str, otherwise: np.ndarray
) -> tuple[np.ndarray, tuple[str, ...]]:
    """The part whose list has each image, ``otherwise`` (str (N,)) that of an image in none; and notes.

    ``where`` says where the lists are from. An image in two lists is for testing rather than validation, and for that
    rather than training.
    """
    held = [[part for part in ("test", "val", "train") if image in lists.get(part, ())] for image in images]
    told = np.array([parts[0] if parts else str(part) for parts, part in zip(held, otherwise, strict=True)], "U5")
    if lists.get("train") and "train" not in told:
        note = f"all training images of {where} are also in another part of it: they are split by content."
        return np.array([""] * len(images), "U5"), (note,)
    twice = named_note(
        [image.name for image, parts in zip(images, held, strict=True) if len(parts) > 1],
        f"image stands in two parts of {where} and is not trained on",
        f"images stand in two parts of {where} and are not trained on",
    )
    nowhere = named_note(
        [image.name for image, part in zip(images, told, strict=True) if not part],
        f"image stands in no part of {where} and is put into one by its content",
        f"images stand in no part of {where} and are put into one by their content",
    )
    return told, (*twice, *nowhere)
