"""The one way bytes reach disk, and the one way they are trusted again.

Commit protocol: a temporary file beside the target, flush and fsync, re-read and compare its hash, rename over the
target, fsync the folder. A kill or a power cut at any moment leaves the old content or the new, never a mixture; the
temporary file that a kill leaves is swept away by whoever writes into that folder next.
What can be made again (``write_derived``) is written whole too, but without waiting for the disk.
JSON is sealed: its last key, in a file of lines the last key of each line, is a hash of all before it, so that a number
that rots is seen before it is used.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import re
import shutil
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from .errors import DamagedFile, StorageError
from .portable import shortened
from .processes import is_alive, machine_mark
from .reading import open_regular, parse_bounded
from .visible import visible_json

FORMAT = 3  # of runs, checkpoints, classifiers and exports: raised when a key or what it means changes
MAX_JSON = 64 * 2**20  # bytes
SEAL = "seal"  # the last key of a JSON file, and of each line of one
FOLLOWED = "+"  # behind the seal of a line that is not the last, so that a file that lost its last lines is seen
# What fsync of a folder says on file systems that have no such thing: CIFS, shared folders of virtual machines, FUSE.
_NO_SUCH_THING = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EISDIR)
# What temporary_beside makes: the process, the mark of its machine, and chance. Earlier versions left out the mark.
_TEMPORARY = re.compile(r"\..+\.tmp-([0-9]{1,9})-([0-9a-f]{4})?[0-9a-f]{8}")
SWEPT_EVERY = 60.0  # seconds
_ABANDONED = 24 * 3600.0  # seconds after which a temporary file of another machine is nobody's any more


def sha256(data: bytes | memoryview) -> str:
    """The SHA-256 of ``data`` as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def storage_error(path: Path, error: OSError) -> StorageError:
    reason = {
        errno.ENOSPC: "the disk is full",
        errno.EDQUOT: "the disk quota is used up",
        errno.EFBIG: "the file would be larger than is allowed here",
        errno.EROFS: "the file system is read-only",
        errno.EACCES: "permission denied",
        errno.EPERM: "permission denied",
    }.get(error.errno or 0, error.strerror or str(error))
    return StorageError(f"cannot write {path}: {reason}. What was there before is untouched.")


def expanded(path: str | Path) -> Path:
    """The path with ``~`` as the home folder, unless a file of that very name is there, or nobody has that home."""
    plain = Path(path)
    try:
        return plain if plain.exists() else plain.expanduser()
    except (OSError, RuntimeError):
        return plain


def make_folder(path: Path) -> Path:
    """Create ``path`` and its parents where missing, to last; StorageError in one sentence where that fails."""
    try:
        return _lasting_folder(path)
    except OSError as error:
        raise storage_error(path, error) from error


def _lasting_folder(path: Path) -> Path:
    if not path.is_dir():
        made = [folder for folder in (path, *path.parents) if not folder.exists()]
        path.mkdir(parents=True, exist_ok=True)
        for folder in made:
            _sync_name(folder)
    return path


def check_free(folder: Path, size: int, what: str) -> None:
    """StorageError, before any work is done, where the disk of a folder has not ``size`` bytes free for ``what``.

    The folder need not be there yet, and what a kill left in it is swept first. Where the disk cannot be asked, the
    writing itself will tell.
    """
    _sweep(folder)
    try:
        place = next(p for p in (folder, *folder.absolute().parents) if os.path.exists(p))
        free = shutil.disk_usage(place).free
    except (OSError, StopIteration):
        return
    if free < size:
        raise StorageError(f"{folder} has {free >> 20} MiB free; {what} needs {-(-size >> 20)} MiB.")


def _sync_name(path: Path) -> None:
    """Make the new name of ``path`` in its folder outlast a power cut."""
    if os.name == "nt":  # there a folder cannot be opened
        return
    try:
        handle = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        if error.errno not in _NO_SUCH_THING:
            raise


def temporary_beside(path: Path) -> Path:
    """A name beside ``path`` for what is being written: swept away when this process is gone.

    What others left there is swept now, at most once a minute in each folder that this process writes into.
    """
    _sweep(path.parent)
    return path.with_name(f".{shortened(path.name)}.tmp-{os.getpid()}-{machine_mark()}{os.urandom(4).hex()}")


def _sweep(folder: Path) -> None:
    _sweep_once(folder, os.getpid(), time.monotonic() // SWEPT_EVERY)


@lru_cache(1000)
def _sweep_once(folder: Path, process: int, minute: float) -> None:
    with contextlib.suppress(OSError):
        sweep_temporaries(folder)


def discard(path: Path) -> None:
    """Remove a temporary file or folder, as far as that can be done."""
    try:
        path.unlink(missing_ok=True)
    except OSError:  # a folder, or what cannot be removed
        with contextlib.suppress(OSError):
            shutil.rmtree(path, ignore_errors=True)


def commit(path: Path, write: Callable[[Any], str], name: Callable[[], str] | None = None) -> None:
    """Write a file by the commit protocol; ``write(handle)`` puts the bytes and returns their SHA-256.

    Where what is written decides what it is called, ``name()`` says so afterwards, in place of the name of ``path``.
    Raises StorageError and removes the temporary file; the file that was there before is untouched.
    """
    temporary = temporary_beside(path)
    try:
        _lasting_folder(path.parent)
        with open(temporary, "wb") as handle:
            expected = write(handle)
            handle.flush()
            os.fsync(handle.fileno())
        if file_hash(temporary) != expected:
            raise StorageError(f"cannot write {path}: the disk gave back other bytes than were written.")
        path = path if name is None else path.with_name(name())
        os.replace(temporary, path)
        try:
            _sync_name(path)
        except OSError as error:
            raise StorageError(f"{path} is written, but may not outlast a power cut: {error.strerror}.") from error
    except OSError as error:
        raise storage_error(path, error) from error
    finally:
        discard(temporary)


def commit_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` by the commit protocol."""

    def write(handle: Any) -> str:
        handle.write(data)
        return sha256(data)

    commit(path, write)


def commit_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8 by the commit protocol.

    What UTF-8 cannot hold, the odd bytes of a file's name, is escaped as JSON escapes it: ``read_json`` gives it back.
    """
    commit_bytes(path, text.encode(errors="backslashreplace"))


def write_derived(path: Path, content: bytes | str) -> None:
    """Write what can be made again, an image or a page: whole or not at all, but without waiting for the disk.

    Raises StorageError; the file that was there before is untouched then.
    """
    temporary = temporary_beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content if isinstance(content, bytes) else content.encode(errors="backslashreplace"))
        os.replace(temporary, path)
    except OSError as error:
        raise storage_error(path, error) from error
    finally:
        discard(temporary)


def to_json(value: Any) -> str:
    """One line of JSON, keys in the order given; a float that is not finite is an error, never ``NaN`` in a file."""
    return visible_json(json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(", ", ": ")))


def finite(value: Any) -> Any:
    """JSON values with null for each number that is none or infinite, which JSON cannot hold."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(v) for key, v in value.items()}
    return [finite(v) for v in value] if isinstance(value, (list, tuple)) else value


def seal_of(value: Mapping[str, Any], before: str = "") -> str:
    """The seal of JSON values: 32 hexadecimal digits that any other value, or another seal ``before``, would change."""
    return sha256(f"{before}{json.dumps(value, allow_nan=False, sort_keys=True)}".encode())[:32]


def commit_json(path: Path, value: Mapping[str, Any]) -> str:
    """Write ``value`` as indented JSON with its seal, by the commit protocol; returns the seal."""
    plain = json.loads(json.dumps(value, allow_nan=False))  # as it will be read
    sealed = {**plain, SEAL: seal_of(plain)}
    commit_text(path, visible_json(json.dumps(sealed, allow_nan=False, ensure_ascii=False, indent=1)) + "\n")
    return sealed[SEAL]


def commit_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write one line of JSON a row by the commit protocol, each sealed with those before it."""
    text, seal = "", ""
    for number, row in enumerate(rows, 1):
        plain = json.loads(json.dumps(row, allow_nan=False))
        seal = seal_of(plain, seal)
        text += to_json({**plain, SEAL: seal + FOLLOWED * (number < len(rows))}) + "\n"
    commit_text(path, text)


def read_json(path: Path) -> dict[str, Any]:
    """What ``commit_json`` wrote; DamagedFile where it is missing, cut, altered or not JSON."""
    box = _parse_json(_read_text(path), path)
    seal = box.pop(SEAL, None)
    if seal is None and "format" in box:
        check_format(path, box["format"], "of convscope")
    if seal != _seal_read(box, "", path):
        raise DamagedFile(f"{path} is damaged: it is not what was written.")
    return box


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The rows of a file written by ``commit_lines``; an absent file has none.

    DamagedFile where a line is altered or gone. Earlier versions marked no line as followed by others: there the last
    ones are missed only where none is left.
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError:  # it may well be there: opening it tells
        pass
    rows, seal, found = [], "", FOLLOWED
    # Not splitlines: JSON leaves the other line ends of Unicode as they are inside a string.
    for number, line in enumerate(_read_text(path).split("\n"), 1):
        if line.strip():  # a tool may have changed the ends of the lines
            row = _parse_json(line, path)
            found = str(row.pop(SEAL, None))
            seal = _seal_read(row, seal, path)
            if found not in (seal, seal + FOLLOWED):
                raise DamagedFile(f"{path} is damaged: line {number} is not what was written.")
            rows.append(row)
    if found.endswith(FOLLOWED):
        raise DamagedFile(f"{path} is damaged: its last lines are gone.")
    return rows


def _seal_read(box: Mapping[str, Any], before: str, path: Path) -> str:
    """The seal that values that were read must have; a number that JSON cannot hold has none."""
    try:
        return seal_of(box, before)
    except (ValueError, RecursionError) as error:
        raise DamagedFile(f"{path} is damaged: {error}.") from error


def _read_text(path: Path) -> str:
    try:
        with open_regular(path) as handle:
            raw = handle.read(MAX_JSON + 1)
            if len(raw) > MAX_JSON:
                raise ValueError("it is larger than any file of convscope's")
            return raw.decode()
    except ValueError as error:
        raise DamagedFile(f"{path} cannot be read: {error}.") from error


def _parse_json(text: str, path: Path) -> dict[str, Any]:
    if not text.strip():
        raise DamagedFile(f"{path} is empty.")
    try:
        box = parse_bounded(text)
    except (ValueError, RecursionError) as error:
        raise DamagedFile(f"{path} cannot be read: {error}.") from error
    if not isinstance(box, dict):
        raise DamagedFile(f"{path} is damaged: it does not hold names and values.")
    return box


def file_hash(path: Path) -> str:
    """The SHA-256 of a file's bytes, read in pieces so that memory stays flat."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def sweep_temporaries(folder: Path) -> int:
    """Remove temporary files that processes which no longer live left in ``folder``; returns how many."""
    removed = 0
    for path in folder.glob(".*.tmp-*"):
        match = _TEMPORARY.fullmatch(path.name)
        if match and _is_left(path, int(match[1]), match[2]):
            discard(path)
            removed += 1
    return removed


def _is_left(path: Path, pid: int, machine: str | None) -> bool:
    """Whether nobody writes a temporary file any more; of processes that cannot be asked for only its age says so."""
    if machine == machine_mark() and os.name != "nt":
        return not is_alive(pid)
    try:
        return time.time() - path.stat().st_mtime > _ABANDONED
    except OSError:  # it took its name just now
        return False


def check_format(path: Path, stored: Any, what: str) -> None:
    """Refuse what is not ``what`` of today's FORMAT: DamagedFile, which says of an earlier one what to do."""
    if isinstance(stored, int) and not isinstance(stored, bool) and 0 < stored < FORMAT:
        raise DamagedFile(
            f"{path} was written by an earlier convscope, in format {stored}, and this one reads format {FORMAT}: make "
            "it again, or use the version that wrote it."
        )
    if stored != FORMAT:
        raise DamagedFile(f"{path} is not {what} of format {FORMAT}.")
