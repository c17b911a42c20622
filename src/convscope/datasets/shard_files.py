"""The images of many shards, as a sequence of paths that are made when asked for: a million would fill the memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import overload

import numpy as np

from ..images.members import Member, Stretched

BLOCK_BYTES = 8 << 20  # of a shard, that a shuffle in blocks keeps together


@dataclass(frozen=True, eq=False)
class ShardFiles(Sequence[Path]):
    """``which`` shard each image lies in, (N,), where, and its name: ``ends`` int64 (N, 2) in the ``names`` of a shard.

    ``places`` are the shards' paths, before the names of their images.
    """

    shards: tuple[Stretched, ...]
    places: tuple[str, ...]
    names: tuple[bytes, ...]
    which: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray
    ends: np.ndarray

    def __len__(self) -> int:
        return len(self.which)

    @overload
    def __getitem__(self, index: int) -> Path: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Path]: ...
    def __getitem__(self, index: int | slice) -> Path | Sequence[Path]:
        """The path of an image, which knows where its bytes are."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        shard = int(self.which[index])
        path = f"{self.places[shard]}/{self.name(index)}"
        return Member.of(path, self.shards[shard], int(self.starts[index]), int(self.lengths[index]))

    def __iter__(self) -> Iterator[Path]:
        return map(self.__getitem__, range(len(self)))

    def name(self, i: int) -> str:
        """What image ``i`` is called in its shard."""
        first, last = self.ends[i]
        return self.names[int(self.which[i])][first:last].decode("utf-8", "surrogateescape")

    def take(self, index: np.ndarray) -> ShardFiles:
        """The images at ``index``, in that order."""
        which, starts, lengths = self.which[index], self.starts[index], self.lengths[index]
        return replace(self, which=which, starts=starts, lengths=lengths, ends=self.ends[index])

    def blocks(self) -> np.ndarray:
        """The number of the block of a shard that each image lies in, int64 (N,): `BLOCK_BYTES` that stand together."""
        most = 1 + int(self.starts.max(initial=0)) // BLOCK_BYTES
        return self.which.astype(np.int64) * most + self.starts // BLOCK_BYTES
