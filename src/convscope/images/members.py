"""Images that lie within a larger file: a Member is a path like any other, whose bytes are a stretch of a shard."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any, Protocol

MAX_MEMBER = 1 << 29  # bytes that one image may have: it is read whole

_Path = type(Path())


class Stretched(Protocol):
    """A file of which any stretch can be read; OSError where that fails."""

    def read(self, start: int, length: int) -> bytes: ...


class Member(_Path):  # pyrefly: ignore[invalid-inheritance]
    """The path of a shard, with the name that an image has in it; only its bytes come from there, and nothing else."""

    shard: Stretched
    start: int
    length: int

    @classmethod
    def of(cls, name: str, shard: Stretched, start: int, length: int) -> Member:
        """The image of ``length`` bytes from ``start`` on in a shard."""
        made = cls(name)
        made.shard, made.start, made.length = shard, start, length
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        """How a process elsewhere is told of it: as the path that it is, and where its bytes are."""
        return Member.of, (str(self), self.shard, self.start, self.length)

    def read_bytes(self) -> bytes:
        """The bytes of the image. Raises OSError."""
        if self.length > MAX_MEMBER:
            raise OSError(f"it has {self.length >> 20:,} MB, over {MAX_MEMBER >> 20}")
        return self.shard.read(self.start, self.length)

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """What is known of it as of a file: that it is one, and its size."""
        return os.stat_result((stat.S_IFREG | 0o444, 0, 0, 1, 0, 0, self.length, 0, 0, 0))
