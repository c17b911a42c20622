"""Pictures as one block of uint8: hashed by content, decoded by threads, memory-mapped from a file keyed by content."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ..errors import DataError, PictureError, StorageError
from ..images import Preprocess
from ..storage import cache_folder, commit, file_hash

if TYPE_CHECKING:
    from .dataset import Progress, Unsplit

THREADS = min(8, os.cpu_count() or 1)
BLOCK = 256  # pictures decoded between two writes


def digests(unsplit: Unsplit, progress: Progress | None = None) -> np.ndarray:
    """The SHA-256 of every picture's content, uint8 (N, 32): of its file, or of its pixels when it has none."""
    if unsplit.arrays is not None:
        flat = np.ascontiguousarray(unsplit.arrays).reshape(len(unsplit.labels), -1)
        raw = b"".join(hashlib.sha256(row.data).digest() for row in flat)
    else:
        with ThreadPoolExecutor(THREADS) as pool:
            done = []
            for digest in pool.map(_digest, unsplit.files):
                done.append(digest)
                if progress:
                    progress("reading", len(done), len(unsplit.files))
        raw = b"".join(done)
    return np.frombuffer(raw, np.uint8).reshape(-1, 32)


def _digest(path: Path) -> bytes:
    """The hash of a file; what cannot be opened is told when it is decoded, and hashed by its name until then."""
    try:
        if path.is_file():
            return bytes.fromhex(file_hash(path))
    except OSError:
        pass
    return hashlib.sha256(b"unreadable" + os.fsencode(path)).digest()


def keys(digests_N32: np.ndarray) -> np.ndarray:
    """The first eight bytes of each hash as uint64 (N,): a picture's name wherever randomness or a split needs one."""
    return np.ascontiguousarray(digests_N32[:, :8]).view("<u8").reshape(-1).astype(np.uint64)


def pictures(
    unsplit: Unsplit,
    digests_N32: np.ndarray,
    preprocess: Preprocess,
    bad_pictures: str,
    progress: Progress | None,
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Every picture fitted to the size: (uint8 (M, S, S, 3), the indices kept, notes).

    Arrays are fitted in memory. Files are decoded once into the cache and memory-mapped afterwards.
    """
    size = preprocess.size
    everything = np.arange(len(digests_N32))
    if unsplit.arrays is not None:
        if unsplit.arrays.shape[1:3] == (size, size):
            return unsplit.arrays, everything, ()
        fitted = (preprocess.picture(Image.fromarray(a)) for a in unsplit.arrays)
        return np.stack(list(fitted)), everything, ()
    name = hashlib.sha256(preprocess.decoding_key().encode() + digests_N32.tobytes()).hexdigest()
    path = cache_folder() / "pictures" / f"{name[:40]}.u8"
    if not _whole(path, len(digests_N32), size):
        bad = _decode_all(unsplit, preprocess, path, progress)
        if bad and bad_pictures == "error":
            raise _bad_error(bad, len(digests_N32))
        if bad:
            kept = np.setdiff1d(everything, [i for i, _ in bad])
            if not len(kept):
                raise _bad_error(bad, len(digests_N32))
            notes = (f"{len(bad)} pictures cannot be read and are left out: {_first(bad)}.",)
            fitted, _, _ = pictures(unsplit.take(kept), digests_N32[kept], preprocess, "error", progress)
            return fitted, kept, notes
    return np.memmap(path, np.uint8, "r", shape=(len(digests_N32), size, size, 3)), everything, ()


def _whole(path: Path, count: int, size: int) -> bool:
    return path.is_file() and path.stat().st_size == count * size * size * 3


def _decode_all(
    unsplit: Unsplit, preprocess: Preprocess, path: Path, progress: Progress | None
) -> list[tuple[int, PictureError]]:
    """Decode every file into ``path``; where some fail nothing is committed and they are returned."""
    bad: list[tuple[int, PictureError]] = []

    def write(handle) -> str:
        digest = hashlib.sha256()
        for i, result in _decoded(unsplit, preprocess, progress):
            if isinstance(result, PictureError):
                bad.append((i, result))
            else:
                digest.update(result.data)
                handle.write(result.data)
        if bad:
            raise _Abandoned
        return digest.hexdigest()

    try:
        commit(path, write)
    except _Abandoned:
        pass
    except StorageError as error:
        raise StorageError(f"{error} Set CONVSCOPE_CACHE to a folder with room.") from error
    return bad


def _decoded(
    unsplit: Unsplit, preprocess: Preprocess, progress: Progress | None
) -> Iterator[tuple[int, np.ndarray | PictureError]]:
    """(index, fitted picture or the reason why there is none) in order, decoded by threads a block ahead."""

    def one(i: int) -> np.ndarray | PictureError:
        try:
            return np.ascontiguousarray(preprocess.picture(unsplit.files[i], unsplit.origin(i)))
        except PictureError as error:
            return error

    with ThreadPoolExecutor(THREADS) as pool:
        for start in range(0, len(unsplit.files), BLOCK):
            index = range(start, min(start + BLOCK, len(unsplit.files)))
            yield from zip(index, pool.map(one, index), strict=True)
            if progress:
                progress("decoding", index.stop, len(unsplit.files))


class _Abandoned(Exception):
    """Some pictures could not be read, so the packed file would have holes."""


def _first(bad: list[tuple[int, PictureError]]) -> str:
    shown = "; ".join(str(error) for _, error in bad[:5])
    return shown + (f"; and {len(bad) - 5} more" if len(bad) > 5 else "")


def _bad_error(bad: list[tuple[int, PictureError]], total: int) -> DataError:
    count = (
        f"{len(bad)} of {total} pictures cannot be read" if len(bad) > 1 else f"1 of {total} pictures cannot be read"
    )
    return DataError(f"{count}: {_first(bad)}. Mend or remove them, or leave them out with --bad-pictures skip.")
