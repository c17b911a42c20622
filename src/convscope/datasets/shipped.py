"""Images as a worker elsewhere is told of them: paths or arrays, and no more of a dataset."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..images.members import Member
from ..images.preprocess import Preprocess
from .dataset import Undecoded
from .remote import RemotePath, contents
from .shard_places import LocalShard, RemoteShard
from .unsplit import Unsplit


@dataclass(frozen=True)
class Shipped:
    """The images of a dataset: exactly one of ``paths``, and ``arrays`` uint8 (N, h, w, 3), holds them.

    Paths are as they were given, and lead from ``folder``: a worker may run in another one.
    """

    paths: Sequence[Path] = ()
    arrays: np.ndarray | None = None
    folder: str = ""

    @classmethod
    def of(cls, unsplit: Unsplit) -> Shipped:
        """The images of a dataset, not yet split."""
        return cls(unsplit.files, unsplit.arrays, os.getcwd())

    def path(self, i: int) -> Path:
        """The file of image ``i``."""
        return seen_from(self.folder, self.paths[i])

    def source(self, i: int) -> Path | bytes | Image.Image:
        """Tell what to decode image ``i`` from. Raises ImageError for one elsewhere that cannot be fetched."""
        return contents(self.path(i)) if self.arrays is None else Image.fromarray(self.arrays[i])

    def files(self, index: np.ndarray) -> Sequence[str]:
        """The files of the images at ``index`` that a worker must see."""
        return files_opened([self.path(int(i)) for i in index] if self.paths else [])


def seen_from(folder: str, path: Path) -> Path:
    """The path of an image that leads from ``folder``, wherever the process runs that opens it."""
    if isinstance(path, Member):
        shard = path.shard
        if isinstance(shard, LocalShard):
            shard = replace(shard, path=os.path.join(folder, shard.path))
        return path.of(str(path), shard, path.start, path.length)
    return path if isinstance(path, RemotePath) else Path(folder, path)


def files_opened(paths: Iterable[Path]) -> list[str]:
    """The files of this machine that are opened for the images at these paths: of those in shards, the shards."""
    opened = (path.shard if isinstance(path, Member) else path for path in paths)
    return [
        str(each.path if isinstance(each, LocalShard) else each)
        for each in opened
        if not isinstance(each, RemotePath | RemoteShard)
    ]


@dataclass(frozen=True)
class ShippedPixels:
    """Images uint8 (N, S, S, 3) of a dataset: in memory, mapped from a file of this name, or decoded when asked for."""

    held: np.ndarray | None = None
    mapped: tuple[str, int, tuple[int, ...]] | None = None  # a file, where in it they begin, and their shape
    decoded: tuple[Shipped, Preprocess] | None = None

    @classmethod
    def of(cls, images: Any) -> ShippedPixels:
        """The images of a Dataset. What is mapped is sent as the name of its file: a worker maps it too."""
        if isinstance(images, Undecoded):
            return cls(decoded=(Shipped.of(images.listed.unsplit), images.preprocess))
        if isinstance(images, np.memmap) and images.filename is not None and images.flags.c_contiguous:
            path = os.path.abspath(os.fspath(images.filename))
            if images.shape == np.memmap(path, np.uint8, "r", images.offset, images.shape).shape:
                return cls(mapped=(path, images.offset, images.shape))
        return cls(held=np.asarray(images))

    def __getitem__(self, index: np.ndarray) -> np.ndarray:
        """The images at ``index``, uint8 (B, S, S, 3)."""
        if self.held is not None:
            return self.held[index]
        if self.mapped is not None:
            path, offset, shape = self.mapped
            return np.memmap(path, np.uint8, "r", offset, shape)[index]
        assert self.decoded is not None
        shipped, preprocess = self.decoded
        return np.stack([preprocess.fit_image(shipped.source(int(i))) for i in index])

    def files(self, index: np.ndarray) -> Sequence[str]:
        """The files that the images at ``index`` are read from."""
        if self.mapped is not None:
            return [self.mapped[0]]
        return self.decoded[0].files(index) if self.decoded is not None else []
