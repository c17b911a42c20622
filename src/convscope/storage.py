"""The one way bytes reach disk, and the one way they are trusted again.

Commit protocol: a temporary file beside the target, flush and fsync, re-read and compare its hash, rename over the
target, fsync the folder. A kill or a power cut at any moment leaves the old content or the new, never a mixture.
What can be made again (``write_derived``) is written whole too, but without waiting for the disk.
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
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from .errors import DamagedFile, StorageError

FORMAT = 2  # of runs, checkpoints, classifiers and exports: raised when a key or what it means changes
_TEMPORARY = re.compile(r"\..+\.tmp-([0-9]{1,9})-[0-9a-f]{8}")  # what _temporary makes: the process writes into it


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


def make_folder(path: Path) -> Path:
    """Create ``path`` and its parents where missing; StorageError in one sentence where that fails."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(path, error) from error
    return path


def _fsync_folder(path: Path) -> None:
    """Make the new name in the folder of ``path`` outlast a power cut."""
    if os.name == "nt":  # there a folder cannot be opened
        return
    try:
        handle = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise StorageError(f"{path} is written, but may not outlast a power cut: {error.strerror}.") from error


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.tmp-{os.getpid()}-{os.urandom(4).hex()}")


def discard(path: Path) -> None:
    """Remove a temporary file or folder, as far as that can be done."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def commit(path: Path, write: Callable[[Any], str]) -> None:
    """Write a file by the commit protocol; ``write(handle)`` puts the bytes and returns their SHA-256.

    Raises StorageError and removes the temporary file; the file that was there before is untouched.
    """
    temporary = _temporary(path)
    try:
        make_folder(path.parent)
        with open(temporary, "wb") as handle:
            expected = write(handle)
            handle.flush()
            os.fsync(handle.fileno())
        if file_hash(temporary) != expected:
            raise StorageError(f"cannot write {path}: the disk gave back other bytes than were written.")
        os.replace(temporary, path)
        _fsync_folder(path)
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
    temporary = _temporary(path)
    try:
        make_folder(path.parent)
        temporary.write_bytes(content if isinstance(content, bytes) else content.encode(errors="backslashreplace"))
        os.replace(temporary, path)
    except OSError as error:
        raise storage_error(path, error) from error
    finally:
        discard(temporary)


def to_json(value: Any) -> str:
    """One line of JSON, keys in the order given; a float that is not finite is an error, never ``NaN`` in a file."""
    return json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(", ", ": "))


def finite(value: Any) -> Any:
    """JSON values with null for each number that is none or infinite, which JSON cannot hold."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(v) for key, v in value.items()}
    return [finite(v) for v in value] if isinstance(value, (list, tuple)) else value


def commit_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON by the commit protocol."""
    commit_text(path, json.dumps(value, allow_nan=False, ensure_ascii=False, indent=1) + "\n")


def commit_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write one line of JSON a row by the commit protocol."""
    commit_text(path, "".join(to_json(row) + "\n" for row in rows))


def read_json(path: Path) -> Any:
    """The JSON value in ``path``; DamagedFile where it is missing, cut or not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DamagedFile(f"{path} is missing.") from None
    except (ValueError, OSError, RecursionError) as error:
        raise DamagedFile(f"{path} cannot be read: {error}.") from error


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The rows of a file written by ``commit_lines``; an absent file has none."""
    if not path.exists():
        return []
    try:
        # Not splitlines: JSON leaves the other line ends of Unicode as they are inside a string.
        return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    except (ValueError, OSError, RecursionError) as error:
        raise DamagedFile(f"{path} cannot be read: {error}.") from error


def file_hash(path: Path) -> str:
    """The SHA-256 of a file's bytes, read in pieces so that memory stays flat."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


@contextlib.contextmanager
def fresh_folder(path: Path) -> Iterator[Path]:
    """A with-block that fills a temporary folder and puts it in the place of ``path`` with one rename.

    For derived images, which can be made again: no fsync. An older folder of that name is replaced, and stays as it
    was when anything fails.
    """
    temporary, old = _temporary(path), _temporary(path)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        try:
            if path.is_dir():
                os.replace(path, old)
            os.replace(temporary, path)
        except BaseException:  # an interrupt too: what follows discards the old folder
            if old.exists() and not path.exists():
                os.replace(old, path)
            raise
    except OSError as error:
        raise storage_error(path, error) from error
    finally:
        discard(temporary)
        discard(old)


def sweep_temporaries(folder: Path) -> int:
    """Remove temporary files that processes which no longer live left in ``folder``; returns how many."""
    removed = 0
    for path in folder.glob(".*.tmp-*"):
        match = _TEMPORARY.fullmatch(path.name)
        if match and not _alive(int(match[1])):
            discard(path)
            removed += 1
    return removed


def _alive(pid: int) -> bool:
    if os.name == "nt":  # there os.kill ends a process, whatever the signal
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def check_format(path: Path, stored: Any, what: str) -> None:
    """Refuse what is not ``what`` of today's FORMAT: DamagedFile, which says of an earlier one what to do."""
    if isinstance(stored, int) and not isinstance(stored, bool) and 0 < stored < FORMAT:
        raise DamagedFile(
            f"{path} was written by an earlier convscope, in format {stored}, and this one reads format {FORMAT}: make "
            "it again, or use the version that wrote it."
        )
    if stored != FORMAT:
        raise DamagedFile(f"{path} is not {what} of format {FORMAT}.")


def cache_folder() -> Path:
    """Tell where packed images and downloads are kept: ``$CONVSCOPE_CACHE``, else the system's cache folder."""
    from platformdirs import user_cache_path

    chosen = os.environ.get("CONVSCOPE_CACHE")
    return Path(chosen) if chosen else user_cache_path("convscope")
