"""Ways to the disk as they must not be: each does one thing wrong, and the crash points must find it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from convscope.errors import StorageError
from convscope.processes import machine_mark
from convscope.storage import commit_text, storage_error
from torture.commit_paths import PATHS, CommitPath

FILE = "answers.txt"


def _text(edition: int) -> str:
    return f"edition {edition}\n" * 100


def _under_its_name(folder: Path, edition: int) -> None:
    (folder / FILE).write_text(_text(edition))


def _unsynced(folder: Path, edition: int) -> None:
    temporary = folder / f".{FILE}.tmp-{os.getpid()}-000000000000"
    temporary.write_text(_text(edition))
    os.replace(temporary, folder / FILE)


def _swallowing(folder: Path, edition: int) -> None:
    with contextlib.suppress(StorageError):
        commit_text(folder / FILE, _text(edition))


def _unswallowed(folder: Path, edition: int) -> None:
    """An error of the system's, and none of ours; and what was half written stays."""
    temporary = folder / f".{FILE}.tmp-{os.getpid()}-000000000000"
    with temporary.open("w") as file:
        file.write(_text(edition))
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, folder / FILE)


def _lying(folder: Path, edition: int) -> None:
    """The file has its new content, and the old is said to be there."""
    commit_text(folder / FILE, _text(edition))
    try:
        os.rmdir(folder / "none")
    except FileNotFoundError:
        pass
    except OSError as error:
        raise storage_error(folder / FILE, error) from error


def _leaving(folder: Path, edition: int) -> None:
    """What was half written stays, and is swept by nobody."""
    temporary = folder / f".{FILE}.tmp-1-{machine_mark()}{os.urandom(4).hex()}"  # the first process lives always
    try:
        temporary.write_text(_text(edition))
        os.replace(temporary, folder / FILE)
    except OSError as error:
        raise storage_error(folder / FILE, error) from error


# The way, the call at which it is tried, the fault, and what is to be found.
FAULTY: dict[str, tuple[CommitPath, str, str, str]] = {
    "its own name": (CommitPath(_under_its_name), "write", "kill", "neither the old content nor the new"),
    "its own name, full": (CommitPath(_under_its_name), "write", "ENOSPC", "neither the old content nor the new"),
    "unsynced": (CommitPath(_unsynced), "", "order of calls", "was never synced"),
    "swallowing": (CommitPath(_swallowing), "fsync", "EIO", "announced, and what is there is not the new"),
    "not ours": (CommitPath(_unswallowed), "fsync", "EIO", "fails with OSError, no error of ours"),
    "lying": (CommitPath(_lying), "rmdir", "EACCES", "the sentence is not true"),
    "leaving": (CommitPath(_leaving), "rename", "EIO", "it leaves ."),
    "leaving it for good": (CommitPath(_leaving), "rename", "kill", "the next start leaves ."),
}

WAYS = PATHS | {name: row[0] for name, row in FAULTY.items()}
