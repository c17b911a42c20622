"""Whole folders: derived files that take their name in one step, and a run from elsewhere, which holds files alone."""

from __future__ import annotations

import contextlib
import ctypes
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

from .errors import DamagedFile, StorageError
from .portable import shortened
from .storage import discard, read_json, storage_error, temporary_beside

_AT_FDCWD, _RENAME_EXCHANGE, _RENAME_SWAP = -100, 2, 2  # of Linux's and macOS's C library


@contextlib.contextmanager
def fresh_folder(path: Path) -> Iterator[Path]:
    """A with-block that fills a temporary folder and puts it in the place of ``path`` with one rename.

    For derived images, which can be made again: no fsync. An older folder of that name is replaced, and stays as it
    was when anything fails. Where the system cannot exchange two folders in one step, a kill between the two renames
    leaves the old one under another name, and ``mend_folder`` gives it back.
    """
    temporary, old = temporary_beside(path), _aside(path)
    try:
        mend_folder(path)
        temporary.mkdir(parents=True)
        yield temporary
        if not path.is_dir() or not _exchange(temporary, path):
            _replace_folder(temporary, path, old)
        discard(old)
    except OSError as error:
        raise storage_error(path, error) from error
    except StorageError as error:
        if str(temporary) not in str(error):
            raise
        raise _told_of(path, temporary, error) from error
    finally:
        discard(temporary)


def _told_of(path: Path, temporary: Path, error: StorageError) -> StorageError:
    """The same error, of the folder itself: of the file that it names nothing is left."""
    if isinstance(error.__cause__, OSError):
        return storage_error(path, error.__cause__)
    return StorageError(str(error).replace(str(temporary), str(path)))


def _aside(path: Path) -> Path:
    """Tell where an older folder is put while the new one takes its name."""
    return path.with_name(f".{shortened(path.name)}.old")


def mend_folder(path: Path) -> None:
    """Give a folder its name back that a kill left aside."""
    if not path.exists() and _aside(path).is_dir():
        os.replace(_aside(path), path)


def _replace_folder(new: Path, path: Path, old: Path) -> None:
    """Rename twice: the old folder aside, the new one into its place, or the old one back."""
    discard(old)
    try:
        if path.is_dir():
            os.replace(path, old)
        os.replace(new, path)
    except BaseException:  # an interrupt too
        if old.exists() and not path.exists():
            os.replace(old, path)
        raise


def _exchange(one: Path, other: Path) -> bool:
    """Exchange the names of two folders in one step; False where the system has no such thing.

    Linux has it since 3.15 (renameat2 with RENAME_EXCHANGE, on most file systems), macOS since 10.12 (renamex_np).
    """
    try:
        library = ctypes.CDLL(None, use_errno=True)
        if sys.platform == "darwin":
            return library.renamex_np(os.fsencode(one), os.fsencode(other), _RENAME_SWAP) == 0
        place = ctypes.c_int(_AT_FDCWD)
        return library.renameat2(place, os.fsencode(one), place, os.fsencode(other), _RENAME_EXCHANGE) == 0
    except (OSError, AttributeError, TypeError):  # Windows, or a C library without it
        return False


def check_own_files(folder: Path) -> None:
    """DamagedFile for a link in a run, which from somebody else's may lead to any file of this machine; and for a pipe
    or a device, which whoever opens it waits for without end.
    """
    for place, folders, files in os.walk(folder):
        for path in (Path(place) / name for name in (*folders, *files)):
            try:
                mode = path.lstat().st_mode
            except FileNotFoundError:  # a temporary file of a training that goes on
                continue
            if stat.S_ISLNK(mode):
                raise DamagedFile(f"{path} is a link, and a run holds its own files: copy it there.")
            if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
                raise DamagedFile(f"{path} is no file, and a run holds files alone: remove it.")


def numbered_folder(parent: Path, stem: str, record: str, key: str, value: str) -> Path:
    """The folder in ``parent`` of what is called ``stem``; a number behind the name tells others of that name apart.

    It is the first whose file ``record`` says this ``value`` under the ``key``, or nothing of it, or is not there.
    """
    number = 1
    while True:
        folder = parent / (stem if number == 1 else f"{stem}-{number}")
        try:
            before = read_json(folder / record).get(key, value)
        except (DamagedFile, OSError):
            return folder
        if before == value:
            return folder
        number += 1
