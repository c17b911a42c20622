"""Where shards lie: what a user writes (a pattern, a folder, a file, an address) as a list of files, in order.

A shard is a tar or a Parquet file. On this machine it is read as a file; elsewhere, by ranges of bytes through fsspec.
"""

from __future__ import annotations

import glob
import itertools
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, cast

from ..errors import ConvscopeError, DataError, UnreachableError, UsageError, one_line
from ..images.file_names import is_image_name
from ..storage import expanded

TAR, PARQUET = ".tar", ".parquet"
COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tar.lz4")
MAX_SHARDS = 100_000
CHUNK, CHUNKS = 8 << 20, 48  # bytes of a remote shard that are fetched at once, and how many of them are kept
# What fsspec may open: stores of objects. Others of its addresses run commands, unpack archives or lead elsewhere.
STORES = ("file", "memory", "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "http", "https")
_FETCHING = tuple(threading.Lock() for _ in range(64))  # by the number of a chunk
_ADDRESS = re.compile(r"([a-z][a-z0-9+]+):/{1,2}(?!/*$)")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_BRACES = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True)
class LocalShard:
    """A shard on this machine, as it was when it was listed: ``size`` in bytes, ``changed`` in nanoseconds."""

    path: str
    size: int
    changed: int

    @property
    def identity(self) -> str:
        """What its index is kept by."""
        return f"{os.path.abspath(self.path)}|{self.size}|{self.changed}"

    def open(self) -> BinaryIO:
        """The shard from its beginning."""
        return open(self.path, "rb", buffering=1 << 20)

    def read(self, start: int, length: int) -> bytes:
        """A stretch of it. OSError where it is not what was listed."""
        with open(self.path, "rb", buffering=0) as handle:
            now = os.fstat(handle.fileno())
            if (now.st_size, now.st_mtime_ns) != (self.size, self.changed):
                raise OSError("its shard was changed since it was listed")
            handle.seek(start)
            found = handle.read(length)  # as a rule all of it; a system may give less at a time
            while found and len(found) < length and (more := handle.read(length - len(found))):
                found += more
            return found


@dataclass(frozen=True)
class RemoteShard:
    """A shard behind an address; ``version`` is what its store says of its state."""

    path: str
    size: int
    version: str

    @property
    def identity(self) -> str:
        """What its index is kept by."""
        return f"{self.path}|{self.size}|{self.version}"

    def open(self) -> BinaryIO:
        """The shard from its beginning."""
        store, place = store_of(self.path)
        return cast(BinaryIO, store.open(place, "rb", block_size=CHUNK))

    def read(self, start: int, length: int) -> bytes:
        """A stretch of it, out of chunks that are kept for their neighbours. OSError where it cannot be fetched."""
        numbers = range(start // CHUNK, -(-(start + length) // CHUNK))
        try:
            whole = b"".join(self._kept(number) for number in numbers)
        except Exception as error:  # each store has errors of its own
            raise OSError(f"its shard cannot be fetched: {one_line(error)}") from None
        begin = start - numbers.start * CHUNK
        return whole[begin : begin + length]

    def _kept(self, number: int) -> bytes:
        """A chunk; threads that want the same one wait for the first that fetches it."""
        with _FETCHING[number % len(_FETCHING)]:
            return _chunk(self, number)


Shard = LocalShard | RemoteShard


@lru_cache(CHUNKS)
def _chunk(shard: RemoteShard, number: int) -> bytes:
    store, place = store_of(shard.path)
    return cast(bytes, store.cat_file(place, start=number * CHUNK, end=min((number + 1) * CHUNK, shard.size)))


def is_address(data: str) -> bool:
    """Whether what a user writes is an address, such as s3://bucket/train.tar, and no path."""
    return _ADDRESS.match(data) is not None


def is_pattern(data: str) -> bool:
    """Whether what a user writes stands for several files: braces or the signs of a glob, and no file of that name."""
    return any(sign in data for sign in "*?[{") and not os.path.exists(expanded(data))


def is_shards(data: str) -> bool:
    """Whether what a user writes names shards: by address or pattern, a tar, or a folder of nothing else."""
    if is_address(data):
        return _are_shards(data)
    if is_pattern(data):
        return True
    path = expanded(data)
    if not data or not os.path.isdir(path):  # of a name that no path can have too
        return os.path.isfile(path) and path.name.lower().endswith((TAR, *COMPRESSED))
    return bool(shards_in(path))


def _are_shards(address: str) -> bool:
    """Whether shards lie at an address; the names in a place are asked for, if its own does not say it."""
    told = _told(address)
    if any(map(is_shard_name, told)) or is_image_name(address) or any(sign in address for sign in "*?["):
        return any(map(is_shard_name, told))
    store, place = store_of(address)
    with reaching(address):
        return any(is_shard_name(str(name)) for name in store.ls(place, detail=False))


def shards_in(folder: Path) -> list[Path]:
    """The shards of a folder that holds nothing else to train on, or of the folders in it; none of any other.

    A compressed tar counts, so that it is refused by its name.
    """
    held, inner = _listed(folder)
    if held or not inner:
        return [] if inner else [folder / name for name in held]
    found = []
    for name in inner:
        held, deeper = _listed(folder / name)
        if deeper or not held:
            return []
        found += [folder / name / shard for shard in held]
    return found


def _listed(folder: Path) -> tuple[list[str], list[str]]:
    """The names of the shards in a folder and of its folders; none of both where images lie in it, at the first one."""
    files, folders = [], []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    folders.append(entry.name)
                elif is_image_name(entry.name):
                    return [], []
                elif is_shard_name(entry.name):
                    files.append(entry.name)
    except OSError:
        return [], []
    return sorted(files), sorted(folders)


def is_shard_name(name: str) -> bool:
    """Whether a file of that name is taken for a shard."""
    return name.lower().endswith((TAR, PARQUET, *COMPRESSED))


def find_shards(data: str) -> list[Shard]:
    """The shards that a pattern, a folder of shards, a file or an address names, in order; DataError for a missing one.

    Raises UsageError for an address that cannot be read here, UnreachableError for a store that does not answer.
    """
    if is_address(data):
        return [_remote(name) for name in _remote_names(data)]
    path = expanded(data)
    if path.is_dir():
        return [_local(name) for name in shards_in(path)]
    if not is_pattern(data):
        return [_local(path)]
    names = [name for one in _told(str(path)) for name in _globbed(one)]
    missing = [name for name in names if not os.path.exists(name)]
    if missing:
        more = f" and {len(missing) - 3:,} more" if len(missing) > 3 else ""
        shown = ", ".join(map(os.path.basename, missing[:3])) + more
        raise DataError(f"{data} names {len(names):,} shards, and {len(missing):,} are missing: {shown}.")
    return [_local(Path(name)) for name in names]


def _local(path: Path) -> LocalShard:
    _check_name(str(path))
    try:
        found = path.stat()
        if not path.is_file():
            raise DataError(f"{path} is not a file.")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from None
    return LocalShard(str(path), found.st_size, found.st_mtime_ns)


def _check_name(name: str) -> None:
    if name.lower().endswith(COMPRESSED):
        raise DataError(
            f"{name} is compressed, so that no image in it can be found alone: unpack it to a .tar, or into folders."
        )
    if not name.lower().endswith((TAR, PARQUET)):
        raise DataError(f"{name} is no shard: shards are .tar or .parquet files.")


def _globbed(name: str) -> list[str]:
    """The files that a glob names, by name; a plain name itself."""
    if not any(sign in name for sign in "*?["):
        return [name]
    found = sorted(glob.glob(name))
    if not found:
        raise DataError(f"no file matches {name}.")
    return found


def _told(pattern: str) -> list[str]:
    """The names that braces stand for: {000..009} counts, with as many digits; {a,b} chooses."""
    pieces = _BRACES.split(pattern)
    choices = [_choices(piece, pattern) if i % 2 else [piece] for i, piece in enumerate(pieces)]
    count = 1
    for choice in choices:
        count *= len(choice)
    if count > MAX_SHARDS:
        raise UsageError(f"{pattern} names {count:,} shards, more than {MAX_SHARDS:,}.")
    return ["".join(chosen) for chosen in itertools.product(*choices)]


def _choices(inside: str, pattern: str) -> list[str]:
    match = _RANGE.fullmatch(inside)
    if match is None:
        if "," not in inside:
            raise UsageError(f"{pattern}: braces hold a range such as {{000..009}} or names such as {{a,b}}.")
        return inside.split(",")
    first, last = int(match[1]), int(match[2])
    if not 0 <= last - first < MAX_SHARDS:
        raise UsageError(f"{pattern}: the range {inside} names no shards, or more than {MAX_SHARDS:,}.")
    return [str(number).zfill(len(match[1])) for number in range(first, last + 1)]


# --------------------------------------------------------------------------------------------------------- elsewhere


def store_of(address: str) -> tuple[Any, str]:
    """The store of an address and the place in it. Raises UsageError or UnreachableError."""
    kind = address.split(":", 1)[0]
    if kind not in STORES:
        raise UsageError(f"{address} cannot be read: addresses begin with {', '.join(f'{s}://' for s in STORES)}.")
    import fsspec  # torch needs it too

    try:
        return fsspec.core.url_to_fs(address)
    except ImportError as error:
        raise UsageError(f"{address} cannot be read: {one_line(error)}.") from None
    except Exception as error:  # each store has errors of its own
        raise UnreachableError(f"{address} cannot be reached: {one_line(error)}.") from None


def _remote_names(address: str) -> list[str]:
    """The addresses that a pattern stands for; those of all shards in what is no file."""
    names = []
    for one in _told(address):
        store, place = store_of(one)
        is_glob = any(sign in place for sign in "*?[")
        if not is_glob and is_shard_name(one):
            names.append(one)
            continue
        with reaching(one):
            found = sorted(store.glob(place) if is_glob else store.ls(place, detail=False))
        shards = [str(store.unstrip_protocol(name)) for name in found if is_shard_name(str(name))]
        if not shards:
            raise DataError(f"{one} names no shard: shards are .tar or .parquet files.")
        names += shards
    return names


def _remote(address: str) -> RemoteShard:
    _check_name(address)
    store, place = store_of(address)
    with reaching(address):
        said = store.info(place)
    version = "|".join(str(said[key]) for key in ("ETag", "etag", "mtime", "LastModified", "created") if key in said)
    return RemoteShard(address, int(said["size"]), version)


@contextmanager
def reaching(address: str) -> Iterator[None]:
    """A with-block that asks a store: what goes wrong there becomes a DataError or an UnreachableError."""
    try:
        yield
    except (ConvscopeError, ValueError):
        raise
    except FileNotFoundError:
        raise DataError(f"{address} does not exist.") from None
    except Exception as error:  # each store has errors of its own
        raise UnreachableError(f"{address} cannot be reached: {one_line(error)}.") from None
