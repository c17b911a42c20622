"""Masks of images: the class of each pixel, from mask files or from polygons."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from ..errors import DataError
from ..images.decoding import MAX_PIXELS, read_header
from ..images.headers import Header
from ..images.placing import fit_mask
from ..images.preprocess import Preprocess
from ..progress import Progress
from .mask_coding import VOID, Coding, mask_codes, values_of
from .packing import THREADS, file_digest
from .polygons import Outlines, draw_outlines

ALL_VOID = "all of it is void"
SAME_SHAPE = 0.03  # by how much the aspect of a mask may differ from its image's


@dataclass(frozen=True)
class Masks:
    """The masks of N images: ``sources`` are files, or the outlines of the objects in an image.

    ``coding`` says which class a value in a file is; classes go by their place in ``names``, VOID is none.
    """

    names: tuple[str, ...]
    images: tuple[Path, ...]
    sources: tuple[Path | Outlines, ...]
    coding: Coding
    present: np.ndarray | None = None  # bool (N, K): which classes have pixels in which mask, once they were read
    task: ClassVar[str] = "segmentation"

    def __len__(self) -> int:
        return len(self.sources)

    def take(self, index: np.ndarray) -> Masks:
        """Those of some of the images."""
        places = np.arange(len(self))[index].tolist()
        return replace(
            self,
            images=tuple(self.images[i] for i in places),
            sources=tuple(self.sources[i] for i in places),
            present=None if self.present is None else self.present[places],
        )

    def digests(self) -> np.ndarray:
        """A hash of each mask: of its file, or of its outlines; and of what values mean."""
        with ThreadPoolExecutor(THREADS) as pool:
            raw = list(pool.map(_digest, self.sources))
        said = repr((self.names, self.coding.codes.tolist(), self.coding.classes.tolist())).encode()
        return np.frombuffer(b"".join(hashlib.sha256(said + one).digest() for one in raw), np.uint8).reshape(-1, 32)

    def counts(self, index: np.ndarray) -> dict[str, int]:
        """In how many of the images each class has pixels."""
        if self.present is None:
            raise ValueError("the masks were not read: see examined")
        return {name: int(n) for name, n in zip(self.names, self.present[index].sum(0), strict=True)}

    def told(self, i: int) -> str:
        """The classes in a mask, once it was read."""
        if self.present is None:
            return "a mask"
        return ", ".join(self.names[k] for k in np.flatnonzero(self.present[i])) or "no class"

    def read(self, i: int) -> np.ndarray:
        """The classes of the pixels of image ``i``, upright: uint8 (h, w), VOID where nobody says.

        The size is that of the mask, whose image may have another one of the same shape. DataError or ImageError.
        """
        header = read_header(self.images[i])
        source = self.sources[i]
        if isinstance(source, Outlines):
            _check_outlined(self.images[i], source.size, header)
            return draw_outlines(source, header)
        stored = (header.width, header.height)
        codes = mask_codes(source, header.orientation if _fits_stored(source, stored, header.upright_size) else 1)
        _check_shape(source, (codes.shape[1], codes.shape[0]), header.upright_size)
        return self.coding.decode(codes, str(source))

    def fitted(self, i: int, preprocess: Preprocess) -> np.ndarray:
        """The mask as the network sees its image: uint8 (S, S), VOID where the square holds no image."""
        return fit_mask(self.read(i), read_header(self.images[i]).upright_size, preprocess, VOID)

    def all_fitted(self, index: Sequence[int] | np.ndarray, preprocess: Preprocess) -> np.ndarray:
        """The masks of several images: uint8 (n, S, S)."""
        with ThreadPoolExecutor(THREADS) as pool:
            return np.stack(list(pool.map(lambda i: self.fitted(int(i), preprocess), index)))


def examined(masks: Masks, progress: Progress | None = None) -> tuple[Masks, dict[int, str]]:
    """The masks, all of them read once, with the classes that each holds; and why some cannot be used, by image.

    A mask cannot be read, has another shape than its image, holds what stands for no class, or says nothing at all.
    """
    present, faults = np.zeros((len(masks), len(masks.names)), bool), {}
    with ThreadPoolExecutor(THREADS) as pool:
        for i, found in enumerate(pool.map(lambda i: _classes_or_fault(masks, i), range(len(masks)))):
            if isinstance(found, str):
                faults[i] = found
            else:
                present[i, found] = True
            if progress:
                progress("masks", i + 1, len(masks))
    return replace(masks, present=present), faults


def _classes_or_fault(masks: Masks, i: int) -> np.ndarray | str:
    try:
        values = values_of(masks.read(i))
    except DataError as error:
        return str(error).rstrip(".")
    known = values[values != VOID]
    return known if len(known) else f"{masks.sources[i]}: {ALL_VOID}"


def _digest(source: Path | Outlines) -> bytes:
    return file_digest(source) if isinstance(source, Path) else hashlib.sha256(repr(source).encode()).digest()


def _fits_stored(mask: Path, stored: tuple[int, int], upright: tuple[int, int]) -> bool:
    """Whether a mask without an orientation of its own was drawn on the image as it is stored, and so turns with it."""
    if stored == upright:
        return True
    header = read_header(mask)
    size = (header.width, header.height)
    return shape_error(size, stored) <= shape_error(size, upright)


def _check_shape(mask: Path, size: tuple[int, int], image: tuple[int, int]) -> None:
    if shape_error(size, image) > SAME_SHAPE:
        told = f"{size[0]} x {size[1]}, and its image is {image[0]} x {image[1]}"
        raise DataError(f"{mask}: the mask is {told}: another shape.")


def _check_outlined(image: Path, size: tuple[int, int], header: Header) -> None:
    """Outlines are of an image of that shape, upright or as it is stored."""
    shapes = (header.upright_size, (header.width, header.height))
    if size[0] * size[1] > MAX_PIXELS or min(shape_error(size, shape) for shape in shapes) > SAME_SHAPE:
        told = f"{size[0]} x {size[1]}, and its image is {header.upright_size[0]} x {header.upright_size[1]}"
        raise DataError(f"{image}: the outlines are of an image of {told}.")


def shape_error(size: tuple[int, int], other: tuple[int, int]) -> float:
    """By how much the aspects of two sizes differ, beyond what a pixel's rounding does."""
    wide, high = size[0] * other[1], size[1] * other[0]
    rounding = max(other) + max(size)
    return max(0, abs(wide - high) - rounding) / max(wide, high)
