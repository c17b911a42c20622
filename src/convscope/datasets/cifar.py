"""CIFAR-10 (Krizhevsky 2009) in its official Python layout: a folder, or its .tar.gz.

The files are pickles. They are read by a machine that can build arrays and plain values and nothing else.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import stat
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..cache import cache_folder
from ..errors import DataError, UnreachableError
from ..progress import Progress
from ..storage import check_free, commit
from .pickled_arrays import PickleRefused
from .safe_archive import ArchiveRefused, members
from .safe_pickle import load
from .unsplit import Unsplit

FOLDER = "cifar-10-batches-py"
ARCHIVE = "cifar-10-python.tar.gz"
URL = f"https://www.cs.toronto.edu/~kriz/{ARCHIVE}"
ARCHIVE_SHA256 = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
ARCHIVE_BYTES = 170_498_071
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
TRAIN_FILES = tuple(f"data_batch_{i}" for i in range(1, 6))
VALIDATION = 5_000
MAX_FILE = 64 * 2**20  # bytes; an official file is 31 MB
MOST_TOLD = 120  # letters of what a server says
MAX_IMAGES = 10_000  # in a file; the official ones hold as many
DOWNLOAD_TIMEOUT = 15  # seconds without an answer
PATIENCE = 60.0  # seconds in which at least SLOWEST bytes come
SLOWEST = 256 * 1024


def read_batch(data: bytes, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (n, 32, 32, 3) and labels int64 (n,) of one official file; DataError where it is anything else."""
    try:
        box = load(data)
    except PickleRefused as error:
        raise _not_cifar(where, str(error)) from None
    if not isinstance(box, dict) or not {b"data", b"labels"} <= set(box):
        raise _not_cifar(where, "it is no table with 'data' and 'labels'")
    rows, labels = getattr(box[b"data"], "values", None), _numbers(box[b"labels"])
    if not isinstance(rows, np.ndarray) or rows.dtype != np.uint8 or rows.ndim != 2 or rows.shape[1] != 3072:
        raise _not_cifar(where, "its images are not rows of 3072 bytes")
    if not len(rows):
        raise _not_cifar(where, "it holds no image")
    if len(rows) > MAX_IMAGES:
        raise _not_cifar(where, f"it holds {len(rows):,} images and not at most {MAX_IMAGES:,}")
    if labels is None or labels.shape != (len(rows),) or labels.min() < 0 or labels.max() > 9:
        raise _not_cifar(where, f"its labels are not {len(rows)} numbers from 0 to 9")
    images = np.ascontiguousarray(rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))  # a copy: the file is let go
    return images, labels.astype(np.int64)


def _not_cifar(where: str, reason: str) -> DataError:
    said = "".join(c if c.isprintable() else "?" for c in reason[:160])
    return DataError(f"{where} is not a CIFAR-10 file: {said}.")


def _numbers(value: Any) -> np.ndarray | None:
    """A flat list of small whole numbers, or an array of them; NumPy would look into nested lists for ever."""
    if isinstance(value, list) and all(type(v) is int and abs(v) < 2**31 for v in value):
        return np.array(value, np.int64)
    return getattr(value, "values", None)


def load_cifar10(data_root: Path | None = None, progress: Progress | None = None) -> Unsplit:
    """CIFAR-10: test = ``test_batch``, validation = the 5,000 training images with the lowest hashes.

    Looked for in ``data_root``, ``$CONVSCOPE_DATA`` and the cache, else downloaded. Raises UnreachableError offline.
    """
    read = _find(data_root) or _download(progress)
    batches = [(name, *read(name)) for name in (*TRAIN_FILES, "test_batch")]
    given = np.concatenate([np.full(len(y), "test" if n == "test_batch" else "train") for n, _, y in batches])
    places = [(name, i) for name, _, y in batches for i in range(len(y))]
    return Unsplit(
        name="cifar10",
        class_names=CLASSES,
        labels=np.concatenate([y for _, _, y in batches]),
        given=given,
        image_size=32,
        arrays=np.concatenate([x for _, x, _ in batches]),
        origins=lambda i: "{}[{}]".format(*places[i]),
        validation=VALIDATION,
    )


Reader = Callable[[str], tuple[np.ndarray, np.ndarray]]


def _find(data_root: Path | None) -> Reader | None:
    roots = [data_root, os.environ.get("CONVSCOPE_DATA"), cache_folder() / "data"]
    for root in (Path(r) for r in roots if r):
        try:
            read = _reader(root)
        except OSError as error:
            raise DataError(f"{root} cannot be read: {error.strerror}.") from None
        if read is not None:
            return read
        if data_root is not None and root == Path(data_root):
            raise DataError(f"{root} holds neither {FOLDER}/ nor {ARCHIVE}.")
    return None


def _reader(root: Path) -> Reader | None:
    """A reader of what lies in ``root``, or is it."""
    for folder in (root / FOLDER, root):
        if (folder / "test_batch").is_file():
            return lambda name, folder=folder: read_batch(_read(folder / name), name)
    for archive in (root / ARCHIVE, root):
        if archive.is_file():
            return _archive_reader(archive)
    return None


def _read(path: Path) -> bytes:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # reading a pipe would wait for ever
            raise DataError(f"{path} is no file.")
        if status.st_size > MAX_FILE:
            raise DataError(f"{path} is larger than any CIFAR-10 file.")
        with open(path, "rb") as file:
            return file.read(MAX_FILE)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None


def _archive_reader(path: Path) -> Reader:
    """Read the archive without unpacking anything onto the disk, one file of it at a time."""
    wanted = {f"{FOLDER}/{name}": name for name in (*TRAIN_FILES, "test_batch")}
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    try:
        for name, data in members(path, wanted, MAX_FILE):
            found[wanted[name]] = read_batch(data, f"{wanted[name]} in {path}")
    except (ArchiveRefused, OSError) as error:
        raise DataError(f"{path} is not the CIFAR-10 archive: {error}.") from None
    missing = set(wanted.values()) - set(found)
    if missing:
        raise DataError(f"{path} is not the CIFAR-10 archive: {min(missing)} is missing from it.")
    return lambda name: found[name]


def _download(progress: Progress | None) -> Reader:
    target = cache_folder() / "data" / ARCHIVE
    check_free(target.parent, ARCHIVE_BYTES, "the archive of CIFAR-10")
    try:
        with urllib.request.urlopen(URL, timeout=DOWNLOAD_TIMEOUT) as answer:
            commit(target, lambda handle: _copy(answer, handle, progress))
    except (OSError, ValueError, http.client.HTTPException) as error:  # ValueError: an address that is none
        if isinstance(error, urllib.error.HTTPError):
            error.close()
        raise _unreachable(error) from None
    return _archive_reader(target)


def _unreachable(error: Exception) -> UnreachableError:
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error or type(error).__name__
    return UnreachableError(
        f"CIFAR-10 is not on this machine and cannot be downloaded ({str(reason)[:MOST_TOLD]}): put {FOLDER}/ or "
        f"{ARCHIVE} into a folder and name it with --data-root DIR, or set CONVSCOPE_DATA to it, "
        f"or put it into {cache_folder() / 'data'}."
    )


def _copy(answer: Any, handle: Any, progress: Progress | None) -> str:
    """Copy the answer; one that is longer than the archive, or comes by drops, is not waited for."""
    digest, done = hashlib.sha256(), 0
    until, wanted = time.monotonic() + PATIENCE, SLOWEST
    while done <= ARCHIVE_BYTES and (block := _received(answer)):
        digest.update(block)
        handle.write(block)
        done += len(block)
        if progress:
            progress("downloading", done, ARCHIVE_BYTES)
        if time.monotonic() > until:
            if done < wanted:
                raise _unreachable(TimeoutError(f"in {PATIENCE:.0f} s came less than {SLOWEST // 1024} KiB"))
            until, wanted = time.monotonic() + PATIENCE, done + SLOWEST
    if digest.hexdigest() != ARCHIVE_SHA256:
        more = "more than " if done > ARCHIVE_BYTES else ""
        raise UnreachableError(
            f"{URL} answered with {more}{min(done, ARCHIVE_BYTES):,} bytes that are not the CIFAR-10 archive; nothing "
            "was kept."
        )
    return digest.hexdigest()


def _received(answer: Any) -> bytes:
    """The next bytes, as they come; a line that goes dead in between is told as such, and not as a disk that fails."""
    try:
        return answer.read1(1 << 20)
    except (OSError, http.client.HTTPException) as error:
        raise _unreachable(error) from None
