"""CIFAR-10 (Krizhevsky 2009) in its official Python layout: a folder, or its .tar.gz.

The files are pickles. They are read by an unpickler that can build NumPy arrays and nothing else.
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import io
import os
import pickle
import tarfile
import urllib.request
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..cache import cache_folder
from ..errors import DataError, UnreachableError
from ..progress import Progress
from ..storage import commit
from .unsplit import Unsplit

FOLDER = "cifar-10-batches-py"
ARCHIVE = "cifar-10-python.tar.gz"
URL = f"https://www.cs.toronto.edu/~kriz/{ARCHIVE}"
ARCHIVE_SHA256 = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
TRAIN_FILES = tuple(f"data_batch_{i}" for i in range(1, 6))
VALIDATION = 5_000
MAX_FILE = 64 * 2**20  # bytes; an official file is 31 MB
DOWNLOAD_TIMEOUT = 15  # seconds without an answer


class _Dtype:
    """Stands in for numpy.dtype: remembers what was asked for and makes nothing of it."""

    def __init__(self, code: bytes | str, *_: Any) -> None:
        self.code = code.decode("ascii") if isinstance(code, bytes) else code
        self.order = "|"

    def __setstate__(self, state: Any) -> None:
        self.order = state[1].decode("ascii") if isinstance(state[1], bytes) else state[1]


class _Array:
    """Stands in for numpy.ndarray, whose own way of restoring itself trusts what the file says of sizes and types."""

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, raw = state
        if not isinstance(dtype, _Dtype) or dtype.code not in ("u1", "i1", "i2", "i4", "i8"):
            raise pickle.UnpicklingError("it holds an array that is not of bytes or whole numbers")
        if min(shape, default=0) < 0:
            raise pickle.UnpicklingError("it holds an array of a negative size")
        self.values = np.frombuffer(raw, dtype.order + dtype.code).reshape(shape, order="F" if fortran else "C")


class _ArraysOnly(pickle.Unpickler):
    """Builds stand-ins of arrays and the plain values of the pickle language; everything else is refused."""

    def find_class(self, module: str, name: str) -> Any:
        if name == "_reconstruct" and module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            return lambda *_: _Array()
        if module == "numpy" and name in ("ndarray", "dtype"):
            return _Dtype if name == "dtype" else _Array
        if (module, name) == ("_codecs", "encode"):
            return _encode
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no array needs")


def _encode(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it asks for the encoding {encoding}")
    return text.encode("latin1")


def read_batch(data: bytes, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (n, 32, 32, 3) and labels int64 (n,) of one official file; DataError where it is anything else."""
    try:
        box = _ArraysOnly(io.BytesIO(data), encoding="bytes").load()
    except Exception as error:  # a hostile pickle may raise anything
        raise _not_cifar(where, str(error) or type(error).__name__) from None
    if not isinstance(box, dict) or not {b"data", b"labels"} <= set(box):
        raise _not_cifar(where, "it is no table with 'data' and 'labels'")
    rows, labels = getattr(box[b"data"], "values", None), _numbers(box[b"labels"])
    if not isinstance(rows, np.ndarray) or rows.dtype != np.uint8 or rows.ndim != 2 or rows.shape[1] != 3072:
        raise _not_cifar(where, "its images are not rows of 3072 bytes")
    if not len(rows):
        raise _not_cifar(where, "it holds no image")
    if labels is None or labels.shape != (len(rows),) or labels.min() < 0 or labels.max() > 9:
        raise _not_cifar(where, f"its labels are not {len(rows)} numbers from 0 to 9")
    return rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), labels.astype(np.int64)


def _not_cifar(where: str, reason: str) -> DataError:
    return DataError(f"{where} is not a CIFAR-10 file: {reason}.")


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
    batches = [(name, *read_batch(read(name), name)) for name in (*TRAIN_FILES, "test_batch")]
    given = np.concatenate([np.full(len(y), "test" if n == "test_batch" else "train") for n, _, y in batches])
    places = [(name, i) for name, _, y in batches for i in range(len(y))]
    return Unsplit(
        name="cifar10",
        class_names=CLASSES,
        labels=np.concatenate([y for _, _, y in batches]),
        given=given,
        image_size=32,
        arrays=np.ascontiguousarray(np.concatenate([x for _, x, _ in batches])),
        origins=lambda i: "{}[{}]".format(*places[i]),
        validation=VALIDATION,
    )


Reader = Callable[[str], bytes]


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
            return lambda name, folder=folder: _read(folder / name)
    for archive in (root / ARCHIVE, root):
        if archive.is_file():
            return _archive_reader(archive)
    return None


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_FILE:
            raise DataError(f"{path} is larger than any CIFAR-10 file.")
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None


def _archive_reader(path: Path) -> Reader:
    """Read members from the archive without unpacking anything onto the disk."""
    wanted = {f"{FOLDER}/{name}": name for name in (*TRAIN_FILES, "test_batch")}
    found: dict[str, bytes] = {}
    try:
        with gzip.open(path) as unzipped, tarfile.open(fileobj=unzipped, mode="r|") as archive:
            for member in archive:
                name = wanted.get(member.name.removeprefix("./"))
                handle = archive.extractfile(member) if name and member.isreg() and member.size <= MAX_FILE else None
                if name and handle:
                    found[name] = handle.read()
            while unzipped.read(1 << 20):  # the checksum of the archive stands at its end
                pass
    except (tarfile.TarError, OSError, EOFError, ValueError, zlib.error) as error:
        raise DataError(f"{path} is not the CIFAR-10 archive: {error}.") from None
    missing = set(wanted.values()) - set(found)
    if missing:
        raise DataError(f"{path} is not the CIFAR-10 archive: {min(missing)} is missing from it.")
    return lambda name: found[name]


def _download(progress: Progress | None) -> Reader:
    target = cache_folder() / "data" / ARCHIVE
    try:
        with urllib.request.urlopen(URL, timeout=DOWNLOAD_TIMEOUT) as answer:
            total = int(answer.headers.get("Content-Length") or 0)
            commit(target, lambda handle: _copy(answer, handle, total, progress))
    except (OSError, http.client.HTTPException) as error:
        raise _unreachable(error) from None
    return _archive_reader(target)


def _unreachable(error: Exception) -> UnreachableError:
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error or type(error).__name__
    return UnreachableError(
        f"CIFAR-10 is not on this machine and cannot be downloaded ({reason}): put {FOLDER}/ or {ARCHIVE} into a "
        f"folder and name it with --data-root DIR, or set CONVSCOPE_DATA to it, "
        f"or put it into {cache_folder() / 'data'}."
    )


def _copy(answer: Any, handle: Any, total: int, progress: Progress | None) -> str:
    digest, done = hashlib.sha256(), 0
    while block := _received(answer):
        digest.update(block)
        handle.write(block)
        done += len(block)
        if progress:
            progress("downloading", done, total)
    if digest.hexdigest() != ARCHIVE_SHA256:
        raise UnreachableError(
            f"{URL} answered with {done:,} bytes that are not the CIFAR-10 archive; nothing was kept."
        )
    return digest.hexdigest()


def _received(answer: Any) -> bytes:
    """The next bytes; a line that goes dead in between is told as such, and not as a disk that fails."""
    try:
        return answer.read(1 << 20)
    except (OSError, http.client.HTTPException) as error:
        raise _unreachable(error) from None
