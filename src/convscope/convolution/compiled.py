"""Loops that Numba compiles when they are first called, and keeps in our cache by processor.

Importing this file imports Numba, and raises ImportError where that is missing.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numba

from ..cache import cache_folder
from ..errors import StorageError
from ..storage import file_hash, make_folder, write_derived

FOLDER = "compiled"  # in our cache
KEPT, HASH = (".nbi", ".nbc"), ".sha256"  # endings of what Numba keeps, and of what we write beside it
OPTIONS: dict[str, Any] = {"nogil": True, "boundscheck": False, "error_model": "numpy"}

config: Any = numba.config
_first = threading.RLock()


class Compiled:
    """A loop that is compiled when it is first called, or found in our cache, by processor.

    What rots there, or cannot be kept, costs only time: what lies there is code, and is run only as it was written.
    """

    def __init__(self, function: Callable[..., None]) -> None:
        self.function = function
        self.loop: Any = None

    def __call__(self, *arguments: Any) -> None:
        if self.loop is not None:
            self.loop(*arguments)
            return
        with _first:  # one thread at a time, for the folder is a setting of Numba's
            if self.loop is None:
                self.loop = self._made(arguments)
                return
        self.loop(*arguments)

    def _made(self, arguments: tuple[Any, ...]) -> Any:
        """The loop, compiled for such arguments, and run."""
        try:
            loop, folder = self._of_cache()
            loop(*arguments)
            if folder is not None:
                _vouch_for(folder)
        except Exception:  # whatever Numba makes of a full disk, a folder without rights, a file cut short
            loop = numba.njit(**OPTIONS)(self.function)
            loop(*arguments)
        return loop

    def _of_cache(self) -> tuple[Any, Path | None]:
        """The loop, and the folder that it is kept in, which is ours alone, for what lies there is run; else None."""
        folder = cache_folder() / FOLDER
        if not folder.exists():
            make_folder(folder).chmod(0o700)
        found = folder.stat()
        ours = not hasattr(os, "getuid") or (found.st_uid == os.getuid() and not found.st_mode & 0o022)
        if not ours or not _without_rotten(folder / _sources()):
            return numba.njit(**OPTIONS)(self.function), None
        before, config.CACHE_DIR = config.CACHE_DIR, str(folder / _sources())
        try:
            return numba.njit(cache=True, **OPTIONS)(self.function), folder / _sources()
        finally:
            config.CACHE_DIR = before


def _kept(folder: Path) -> list[tuple[Path, Path]]:
    """The files that Numba keeps below a folder, each with ours that holds its hash: Numba's have none."""
    files = [path for path in folder.rglob("*") if path.suffix in KEPT]
    return [(path, path.with_name(path.name + HASH)) for path in files]


def _without_rotten(folder: Path) -> bool:
    """Remove what is not as it was written; False where that cannot be done, so that nothing may be read there."""
    try:
        for path, ours in _kept(folder):
            if not ours.is_file() or ours.read_bytes() != file_hash(path).encode():
                path.unlink()
    except OSError:
        return False
    return True


def _vouch_for(folder: Path) -> None:
    """Write the hash of each file that Numba has written since."""
    with suppress(OSError, StorageError):
        for path, ours in _kept(folder):
            if not ours.exists() or ours.stat().st_mtime_ns < path.stat().st_mtime_ns:
                write_derived(ours, file_hash(path))


@cache
def _sources() -> str:
    """A hash of all that loops are compiled from: Numba looks at the file of each loop alone."""
    digest = hashlib.blake2b(digest_size=8)
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
