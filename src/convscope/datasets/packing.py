"""Images as one block of uint8: hashed by content, decoded by threads, memory-mapped from a file keyed by content."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from PIL import Image

from ..cache import cache_folder
from ..errors import DataError, ImageError, StorageError
from ..images.members import Member
from ..images.preprocess import Preprocess
from ..storage import check_free, commit, file_hash
from .file_index import FileIndex, find_index, is_large
from .file_list import FileList
from .pack import Pack, Packer, read_pack
from .remote import RemotePath

if TYPE_CHECKING:
    from ..progress import Progress
from .unsplit import Unsplit

THREADS = min(8, os.cpu_count() or 1)
BLOCK = 256  # images that the threads are given at a time
IN_MEMORY = 256 * 2**20  # bytes
MOST_AT_ONCE = 64 * 2**20  # bytes of a file that is hashed and decoded in one read
TOLD = 10**9  # bytes to be written that are told beforehand
FEW = 0.1  # of all files that are hashed before it is known whether they are packed already


def digests(unsplit: Unsplit, progress: Progress | None = None) -> np.ndarray:
    """The SHA-256 of every image's content, uint8 (N, 32): of its file, or of its pixels when it has none.

    Of very many files those are read that are new, or changed since they were read last.
    """
    if unsplit.digests is not None:
        return unsplit.digests
    if unsplit.arrays is not None:
        flat = np.ascontiguousarray(unsplit.arrays).reshape(len(unsplit.labels), -1)
        raw = b"".join(hashlib.sha256(row.data).digest() for row in flat)
        return np.frombuffer(raw, np.uint8).reshape(-1, 32)
    if not is_large(unsplit):
        return _file_digests(unsplit.files, progress)
    index = find_index(unsplit, progress)
    return _completed(index, unsplit, progress)


def _file_digests(files: Sequence[Path], progress: Progress | None) -> np.ndarray:
    found = np.zeros((len(files), 32), np.uint8)
    with ThreadPoolExecutor(THREADS) as pool:
        for start in range(0, len(files), BLOCK):  # handed over at once, a million files fill the memory
            raw = b"".join(pool.map(file_digest, files[start : start + BLOCK]))
            found[start : start + BLOCK] = np.frombuffer(raw, np.uint8).reshape(-1, 32)
            if progress:
                progress("reading", min(start + BLOCK, len(files)), len(files))
    return found


def _completed(index: FileIndex, unsplit: Unsplit, progress: Progress | None) -> np.ndarray:
    """All hashes, those that the index does not know taken from the files."""
    new = np.flatnonzero(~index.known)
    if len(new):
        files = unsplit.take(new).files
        found = _file_digests(files, progress)
        index.learn(new, found, _were_read(files, found))
    return np.ascontiguousarray(index.rows["digest"])


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
    return _unreadable(os.fsencode(called or path))


def _unreadable(path: bytes) -> bytes:
    return hashlib.sha256(b"unreadable" + path).digest()


def _were_read(files: Sequence[Path], digests_N32: np.ndarray) -> np.ndarray:
    """Which hashes are of contents, bool (N,), and not of the names of files that could not be opened."""
    paths = files.paths() if isinstance(files, FileList) else map(os.fsencode, files)
    return np.array([row.tobytes() != _unreadable(path) for row, path in zip(digests_N32, paths, strict=True)], bool)


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
    path = _place(digests_N32, preprocess)
    pack = read_pack(path, count, size)
    if pack is None or not all(still_bad(i, unsplit, preprocess) for i in pack.bad):
        pack = _Packing(unsplit, preprocess, bad_images == "skip", progress).write(path)
    return _kept(pack, path, unsplit, size, bad_images == "skip")


def read_and_fitted(
    unsplit: Unsplit, preprocess: Preprocess, bad_images: str, progress: Progress | None
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray, tuple[str, ...]]]:
    """The hashes of very many files, uint8 (N, 32), and what `fitted_images` gives; each file is read once for both."""
    index, skip = find_index(unsplit, progress), bad_images == "skip"
    if index.known.mean() >= 1 - FEW:
        found = _completed(index, unsplit, progress)
        return found, fitted_images(unsplit, found, preprocess, bad_images, progress)
    packing = _Packing(unsplit, preprocess, skip, progress, np.zeros((len(unsplit.files), 32), np.uint8))
    packing.write(_place(index.rows["digest"], preprocess))
    assert packing.digests is not None
    index.learn(np.arange(len(unsplit.files)), packing.digests, _were_read(unsplit.files, packing.digests))
    path = _place(packing.digests, preprocess)
    return packing.digests, _kept(packing.packer.pack(), path, unsplit, preprocess.size, skip)


def _place(digests_N32: np.ndarray, preprocess: Preprocess) -> Path:
    """Where the packed images of such contents are."""
    name = hashlib.sha256(preprocess.decoding_key().encode() + digests_N32.tobytes()).hexdigest()
    return cache_folder() / "images" / f"{name[:40]}.u8"


def _kept(
    pack: Pack, path: Path, unsplit: Unsplit, size: int, skip: bool
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """The pixels of a pack, the indices of its images, and a note of those that are left out."""
    bad, count = pack.bad, len(unsplit.labels)
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


@dataclass
class _Packing:
    """The packing of every image: those that cannot be read are noted with their reasons.

    With ``skip`` the others are committed; without, or where there are no others, nothing is. Where ``digests`` (N, 32)
    are to be found too, they are taken from the bytes that are decoded, and name the file.
    """

    unsplit: Unsplit
    preprocess: Preprocess
    skip: bool
    progress: Progress | None
    digests: np.ndarray | None = None

    def __post_init__(self) -> None:
        self.packer = Packer(self.preprocess.size)

    def write(self, path: Path) -> Pack:
        """Decode every image into ``path``, or beside it under the name that the contents give it."""
        size = len(self.unsplit.labels) * self.preprocess.size**2 * 3
        name = None if self.digests is None else lambda: _place(self.digests, self.preprocess).name
        try:
            check_free(path.parent, size, f"what is made of the images, at {self.preprocess.size} pixels,")
            commit(path, lambda handle: self._put_all(handle, size), name)
        except _Abandoned:
            pass
        except StorageError as error:
            raise StorageError(
                f"{error} Set CONVSCOPE_CACHE to a folder with room, or take a smaller --image-size."
            ) from error
        return self.packer.pack()

    def _put_all(self, handle: BinaryIO, size: int) -> str:
        """Write the images in order, decoded by threads a block ahead."""
        count, what = len(self.unsplit.labels), "decoding"
        if size >= TOLD and self.progress:
            what = f"decoding, {size / 1e9:.3g} GB into {cache_folder()}"
            self.progress(what, 0, count)
        for i, result in _decoded(count, self._fit, what, self.progress):
            if isinstance(result, ImageError):
                self.packer.leave_out(i, result.reason)
            else:
                self.packer.put(result, handle)
        if self.packer.bad and (not self.skip or len(self.packer.bad) == count):
            raise _Abandoned
        return self.packer.end(handle)

    def _fit(self, i: int) -> np.ndarray | ImageError:
        if self.digests is None:
            return _fit(i, self.unsplit, self.preprocess)
        path = self.unsplit.files[i]
        content = _content(path)
        digest = file_digest(path) if content is None else hashlib.sha256(content).digest()
        self.digests[i] = np.frombuffer(digest, np.uint8)
        return _fit(i, self.unsplit, self.preprocess, content)


def _content(path: Path) -> bytes | None:
    """The bytes of a file of usual size; None of any other, and where it cannot be read."""
    try:
        if path.is_file() and path.stat().st_size <= MOST_AT_ONCE:
            return path.read_bytes()
    except OSError:
        pass
    return None


def _fit(i: int, unsplit: Unsplit, preprocess: Preprocess, content: bytes | None = None) -> np.ndarray | ImageError:
    source = unsplit.files[i] if unsplit.arrays is None else Image.fromarray(unsplit.arrays[i])
    try:
        return np.ascontiguousarray(preprocess.fit_image(content or source, unsplit.origin(i)))
    except ImageError as error:
        return error


def decode_in_order(
    unsplit: Unsplit, preprocess: Preprocess, progress: Progress | None
) -> Iterator[tuple[int, np.ndarray | ImageError]]:
    """(index, fitted image or the reason why there is none) in order, decoded by threads a block ahead."""
    return _decoded(len(unsplit.labels), lambda i: _fit(i, unsplit, preprocess), "decoding", progress)


def _decoded(
    count: int, fit: Callable[[int], np.ndarray | ImageError], what: str, progress: Progress | None
) -> Iterator[tuple[int, np.ndarray | ImageError]]:
    with ThreadPoolExecutor(THREADS) as pool:
        for start in range(0, count, BLOCK):
            index = range(start, min(start + BLOCK, count))
            yield from zip(index, pool.map(fit, index), strict=True)
            if progress:
                progress(what, index.stop, count)


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
