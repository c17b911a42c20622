"""What is known of the files of a large folder: the hash of each one's content, while its size and times stand.

Below `LARGE` files contents are hashed whenever a folder is listed, which is quick, and nothing is remembered. From
there on listing reads no file: hashes are taken when a file is read for something else, and kept in the cache with
names, sizes and times, so that the next look only asks for these.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..cache import cache_folder
from ..errors import DamagedFile, StorageError
from ..progress import Progress
from ..reading import read_regular
from ..storage import commit
from .file_list import FileList
from .unsplit import Unsplit

LARGE = 100_000  # files
FRESH = 2_000_000_000  # nanoseconds: a file that changed so shortly before it was read may have changed once more
THREADS = 16  # that ask for sizes and times at once
CHUNK = 2048  # files that one of them asks for
ROW = np.dtype([("name", "<u8"), ("size", "<i8"), ("modified", "<i8"), ("changed", "<i8"), ("digest", "u1", (32,))])
NOTE = (
    "the split is provisional: it goes by names, and by content once every file has been read, so copies may still "
    "stand on two sides."
)


def is_large(unsplit: Unsplit) -> bool:
    """Whether the images are files on this machine, and so many that listing them reads none."""
    many = unsplit.arrays is None and unsplit.digests is None and len(unsplit.files) >= LARGE
    return many and type(unsplit.files[0]) is type(Path())  # and not an address, or a member of a shard


def name_hashes(unsplit: Unsplit) -> np.ndarray:
    """The SHA-256 of each file's path from the root, uint8 (N, 32), in place of its content's."""
    root = unsplit.root or Path()
    if isinstance(unsplit.files, FileList):
        return unsplit.files.name_hashes(root)
    paths = (path.relative_to(root) if path.is_relative_to(root) else path for path in unsplit.files)
    raw = b"".join(hashlib.sha256(os.fsencode(path.as_posix())).digest() for path in paths)
    return np.frombuffer(raw, np.uint8).reshape(-1, 32)


@dataclass(frozen=True)
class FileIndex:
    """Files with their sizes and times (`ROW`, (N,), in the order of the list), and whose hash is ``known`` (N,)."""

    path: Path
    rows: np.ndarray
    known: np.ndarray
    began: int  # nanoseconds: when sizes and times were asked for

    def learn(self, index: np.ndarray, digests_M32: np.ndarray, read_M: np.ndarray) -> None:
        """Take the hashes of files, and keep those that were ``read``; where the cache is full they are read again."""
        self.rows["digest"][index] = digests_M32
        self.known[index] = read_M
        settled = np.maximum(self.rows["modified"], self.rows["changed"]) < self.began - FRESH
        kept = self.rows[self.known & settled & (self.rows["size"] >= 0)]
        before = _read(self.path)
        rows = np.concatenate([kept, before[~np.isin(before["name"], self.rows["name"])]])
        content = np.ascontiguousarray(rows[np.argsort(rows["name"], kind="stable")]).tobytes()
        seal = hashlib.sha256(content).digest()

        def write(handle) -> str:
            handle.write(seal)
            handle.write(content)
            return hashlib.sha256(seal + content).hexdigest()

        with suppress(StorageError):
            commit(self.path, write)


def find_index(unsplit: Unsplit, progress: Progress | None = None) -> FileIndex:
    """What is known of these files, each of which is asked for its size and times."""
    began = time.time_ns()
    rows = np.zeros(len(unsplit.files), ROW)
    rows["name"] = np.ascontiguousarray(name_hashes(unsplit)[:, :8]).view("<u8").reshape(-1)
    starts = range(0, len(rows), CHUNK)
    with ThreadPoolExecutor(THREADS) as pool:
        chunks = pool.map(lambda start: _stats(unsplit.files[start : start + CHUNK]), starts)
        for start, found in zip(starts, chunks, strict=True):
            stop = start + len(found)
            rows["size"][start:stop], rows["modified"][start:stop], rows["changed"][start:stop] = found.T
            if progress:
                progress("looking at files", stop, len(rows))
    whole = os.path.abspath(unsplit.root or Path())
    path = cache_folder() / "files" / f"{hashlib.sha256(os.fsencode(whole)).hexdigest()[:40]}.index"
    return FileIndex(path, rows, _recall(rows, _read(path)), began)


def _stats(files: Sequence[Path]) -> np.ndarray:
    """Sizes and times of some files, int64 (n, 3); a size of -1 where there is no such file."""
    paths = files.paths() if isinstance(files, FileList) else map(os.fspath, files)
    return np.array([_stat(path) for path in paths], np.int64).reshape(-1, 3)


def _stat(path: str | bytes) -> tuple[int, int, int]:
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return -1, 0, 0
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _recall(rows: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Put in the hashes of files that are as they were, and tell which: bool (N,)."""
    if not len(before):
        return np.zeros(len(rows), bool)
    place = np.minimum(np.searchsorted(before["name"], rows["name"]), len(before) - 1)
    found = before[place]
    known = rows["size"] >= 0
    for name in ("name", "size", "modified", "changed"):
        known &= found[name] == rows[name]
    rows["digest"][known] = found["digest"][known]
    return known


def _read(path: Path) -> np.ndarray:
    """The rows of an index, by name; none where there is no index, or not as it was written."""
    try:
        content = read_regular(path)
    except DamagedFile:
        return np.zeros(0, ROW)
    if hashlib.sha256(content[32:]).digest() != content[:32] or (len(content) - 32) % ROW.itemsize:
        return np.zeros(0, ROW)
    return np.frombuffer(content, ROW, offset=32)
