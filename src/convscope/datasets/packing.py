"""Images as one block of uint8: hashed by content, decoded by threads, memory-mapped from a file keyed by content."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ..cache import cache_folder
from ..errors import DataError, ImageError, StorageError
from ..images.members import Member
from ..images.preprocess import Preprocess
from ..storage import check_free, commit, file_hash
from .pack import Pack, Packer, read_pack
from .remote import RemotePath

if TYPE_CHECKING:
    from ..progress import Progress
from .unsplit import Unsplit

THREADS = min(8, os.cpu_count() or 1)
BLOCK = 256  # images that the threads are given at a time
IN_MEMORY = 256 * 2**20  # bytes


def digests(unsplit: Unsplit, progress: Progress | None = None) -> np.ndarray:
    """The SHA-256 of every image's content, uint8 (N, 32): of its file, or of its pixels when it has none."""
    if unsplit.digests is not None:
        return unsplit.digests
    if unsplit.arrays is not None:
        flat = np.ascontiguousarray(unsplit.arrays).reshape(len(unsplit.labels), -1)
        raw = b"".join(hashlib.sha256(row.data).digest() for row in flat)
    else:
        with ThreadPoolExecutor(THREADS) as pool:
            done: list[bytes] = []
            for start in range(0, len(unsplit.files), BLOCK):  # handed over at once, a million files fill the memory
                done += pool.map(file_digest, unsplit.files[start : start + BLOCK])
                if progress:
                    progress("reading", len(done), len(unsplit.files))
        raw = b"".join(done)
    return np.frombuffer(raw, np.uint8).reshape(-1, 32)


def file_digest(path: Path, called: Path | None = None) -> bytes:
    """The hash of a file; what cannot be opened is told when it is decoded, and hashed by its name until then.

    ``called`` is that name, where the path that leads there is another."""
    try:
        if isinstance(path, Member):
            return hashlib.sha256(path.read_bytes()).digest()
        if isinstance(path, RemotePath):
            return hashlib.sha256(path.fetched()).digest()
        if path.is_file():
            return bytes.fromhex(file_hash(path))
    except (OSError, ImageError):
        pass
    return hashlib.sha256(b"unreadable" + os.fsencode(called or path)).digest()


def keys(digests_N32: np.ndarray) -> np.ndarray:
    """The first eight bytes of each hash as uint64 (N,): an image's name wherever randomness or a split needs one."""
    return np.ascontiguousarray(digests_N32[:, :8]).view("<u8").reshape(-1).astype(np.uint64)


def fitted_images(
    unsplit: Unsplit,
    digests_N32: np.ndarray,
    preprocess: Preprocess,
    bad_images: str,
    progress: Progress | None,
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Every image fitted to the size: (uint8 (M, S, S, 3), the indices kept, notes).

    Files, and arrays that fill more than `IN_MEMORY`, are fitted once into the cache and memory-mapped afterwards.
    """
    size, count = preprocess.size, len(digests_N32)
    everything = np.arange(count)
    if unsplit.arrays is not None and unsplit.arrays.shape[1:3] == (size, size) and not preprocess.stretch:
        return unsplit.arrays, everything, ()
    if unsplit.arrays is not None and count * size * size * 3 <= IN_MEMORY:
        fitted = (preprocess.fit_image(Image.fromarray(a)) for a in unsplit.arrays)
        return np.stack(list(fitted)), everything, ()
    name = hashlib.sha256(preprocess.decoding_key().encode() + digests_N32.tobytes()).hexdigest()
    path = cache_folder() / "images" / f"{name[:40]}.u8"
    skip = bad_images == "skip"
    pack = read_pack(path, count, size)
    if pack is None or not all(still_bad(i, unsplit, preprocess) for i in pack.bad):
        pack = _decode_all(unsplit, preprocess, path, skip, progress)
    bad = pack.bad
    if bad and (not skip or len(bad) == count):
        raise bad_error(bad, unsplit)
    return pack.pixels(path, size), kept_without(bad, count), left_out_note(bad, unsplit)


def kept_without(bad: Mapping[int, str], count: int) -> np.ndarray:
    """The indices of ``count`` images but for the bad ones."""
    everything = np.arange(count)
    return np.setdiff1d(everything, list(bad)) if bad else everything


def left_out_note(bad: Mapping[int, str], unsplit: Unsplit) -> tuple[str, ...]:
    """A sentence about images that are left out because they cannot be read; none where there are none."""
    verb = "image cannot be read and is" if len(bad) == 1 else "images cannot be read and are"
    return (f"{len(bad)} {verb} left out: {first_bad(bad, unsplit)}.",) if bad else ()


def still_bad(i: int, unsplit: Unsplit, preprocess: Preprocess) -> bool:
    """Tell whether an image that could not be read still cannot: the disk may have failed then, or the file be new."""
    return isinstance(_fit(i, unsplit, preprocess), ImageError)


def _decode_all(unsplit: Unsplit, preprocess: Preprocess, path: Path, skip: bool, progress: Progress | None) -> Pack:
    """Decode every image into ``path``, and return what stands there with the reason of each that cannot be read.

    With ``skip`` the others are committed; without, or where there are no others, nothing is.
    """
    packer = Packer(preprocess.size)

    def write(handle) -> str:
        for i, result in decode_in_order(unsplit, preprocess, progress):
            if isinstance(result, ImageError):
                packer.leave_out(i, result.reason)
            else:
                packer.put(result, handle)
        if packer.bad and (not skip or len(packer.bad) == len(unsplit.labels)):
            raise _Abandoned
        return packer.end(handle)

    try:
        check_free(path.parent, len(unsplit.labels) * preprocess.size**2 * 3, "what is made of the images")
        commit(path, write)
    except _Abandoned:
        pass
    except StorageError as error:
        raise StorageError(f"{error} Set CONVSCOPE_CACHE to a folder with room.") from error
    return packer.pack()


def _fit(i: int, unsplit: Unsplit, preprocess: Preprocess) -> np.ndarray | ImageError:
    source = unsplit.files[i] if unsplit.arrays is None else Image.fromarray(unsplit.arrays[i])
    try:
        return np.ascontiguousarray(preprocess.fit_image(source, unsplit.origin(i)))
    except ImageError as error:
        return error


def decode_in_order(
    unsplit: Unsplit, preprocess: Preprocess, progress: Progress | None
) -> Iterator[tuple[int, np.ndarray | ImageError]]:
    """(index, fitted image or the reason why there is none) in order, decoded by threads a block ahead."""
    count = len(unsplit.labels)
    with ThreadPoolExecutor(THREADS) as pool:
        for start in range(0, count, BLOCK):
            index = range(start, min(start + BLOCK, count))
            yield from zip(index, pool.map(lambda i: _fit(i, unsplit, preprocess), index), strict=True)
            if progress:
                progress("decoding", index.stop, count)


class _Abandoned(Exception):
    """Some images could not be read, so the packed file would have holes."""


def first_bad(bad: Mapping[int, str], unsplit: Unsplit) -> str:
    """Name the first images that cannot be read, with their reasons."""
    shown = "; ".join(f"{unsplit.origin(i)}: {reason}" for i, reason in list(bad.items())[:5])
    return shown + (f"; and {len(bad) - 5} more" if len(bad) > 5 else "")


def bad_error(bad: Mapping[int, str], unsplit: Unsplit) -> DataError:
    """The error for images that cannot be read, by their place among all, with the reason of each."""
    return unreadable(len(bad), len(unsplit.labels), first_bad(bad, unsplit))


def unreadable(bad: int, count: int, told: str) -> DataError:
    """The error for so many of ``count`` images that cannot be read, with the way out, where there is one."""
    if bad == count:
        return DataError(f"none of the {count} images can be read: {told}.")
    return DataError(
        f"{bad} of {count} images cannot be read: {told}. Mend or remove them; train, features and transfer leave them "
        f"out with --bad-images skip, which leaves {count - bad}."
    )
