"""Paths of many files in little memory: the folders once, the names one after the other in one block of bytes.

A million files take about 40 bytes each and their name; as many `Path` take 300 and more.
"""

from __future__ import annotations

import hashlib
import operator
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import overload

import numpy as np


@dataclass(frozen=True, eq=False)
class FileList(Sequence[Path]):
    """Paths (N,), made when asked for: the name of file ``i``, from ``starts[i]`` to ``ends[i]``, in its folder."""

    folders: tuple[Path, ...]
    places: np.ndarray  # int32 (N,)
    names: bytes
    starts: np.ndarray  # int64 (N,)
    ends: np.ndarray  # int64 (N,)

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, index: int) -> Path: ...
    @overload
    def __getitem__(self, index: slice) -> FileList: ...
    def __getitem__(self, index: int | slice) -> Path | FileList:
        if isinstance(index, slice):
            return self.take(index)
        i = operator.index(index)
        return self.folders[self.places[i]] / self.name(i)

    def __iter__(self) -> Iterator[Path]:
        return map(self.__getitem__, range(len(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(other) == len(self) and all(map(operator.eq, self, other))

    __hash__ = None  # pyrefly: ignore[bad-override]

    def name(self, i: int) -> str:
        """The name of file ``i`` in its folder."""
        return os.fsdecode(self.names[self.starts[i] : self.ends[i]])

    def paths(self) -> Iterator[bytes]:
        """Each path as the system takes it."""
        before = [os.path.join(os.fsencode(folder), b"") for folder in self.folders]
        rows = zip(self.places.tolist(), self.starts.tolist(), self.ends.tolist(), strict=True)
        return (before[k] + self.names[start:end] for k, start, end in rows)

    def take(self, index: np.ndarray | slice) -> FileList:
        """The files at ``index``, in that order."""
        return FileList(self.folders, self.places[index], self.names, self.starts[index], self.ends[index])

    def name_hashes(self, root: Path) -> np.ndarray:
        """The SHA-256 of each file's path from ``root``, uint8 (N, 32): the same wherever the folder lies."""
        before = [os.fsencode(folder.relative_to(root).as_posix()) + b"/" for folder in self.folders]
        rows = zip(self.places.tolist(), self.starts.tolist(), self.ends.tolist(), strict=True)
        raw = b"".join(hashlib.sha256(before[k] + self.names[start:end]).digest() for k, start, end in rows)
        return np.frombuffer(raw, np.uint8).reshape(-1, 32)


@dataclass
class FileListing:
    """A `FileList` that is being written: ``add`` the names in one folder after the other, then ``end``."""

    _folders: list[Path] = field(default_factory=list)
    _counts: list[int] = field(default_factory=list)
    _names: list[bytes] = field(default_factory=list)
    _lengths: list[np.ndarray] = field(default_factory=list)

    def __len__(self) -> int:
        return sum(self._counts)

    def add(self, folder: Path, names: Iterable[str]) -> int:
        """Add files in a folder; returns how many."""
        encoded = [os.fsencode(name) for name in names]
        if encoded:
            self._folders.append(folder)
            self._counts.append(len(encoded))
            self._names.append(b"".join(encoded))
            self._lengths.append(np.array([len(name) for name in encoded], np.int64))
        return len(encoded)

    def join(self, other: FileListing) -> None:
        """Add all that another one holds."""
        self._folders += other._folders
        self._counts += other._counts
        self._names += other._names
        self._lengths += other._lengths

    def end(self) -> FileList:
        """The list."""
        lengths = np.concatenate([np.zeros(0, np.int64), *self._lengths])
        ends = np.cumsum(lengths)
        places = np.repeat(np.arange(len(self._folders), dtype=np.int32), self._counts)
        return FileList(tuple(self._folders), places, b"".join(self._names), ends - lengths, ends)
