"""Files as they are opened to be read, ours and foreign ones: regular ones only, and no more JSON than any of ours."""

from __future__ import annotations

import contextlib
import io
import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from .errors import DamagedFile

MAX_CONTAINERS = 400_000  # lists and objects in one JSON text


@contextlib.contextmanager
def open_regular(path: Path) -> Iterator[BinaryIO]:
    """A with-block with a regular file; DamagedFile for what is missing or none, and where the disk fails in between.

    A FIFO would be waited for without end.
    """
    opened = _opened(path)
    try:
        with opened as handle:
            yield handle
    except OSError as error:
        raise DamagedFile(f"{path} cannot be read: {error.strerror or error}.") from error


def _opened(path: Path) -> BinaryIO:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise DamagedFile(f"{path} is not a file.")
        return path.open("rb")
    except FileNotFoundError:
        raise DamagedFile(f"{path} is missing.") from None
    except (OSError, ValueError) as error:
        raise DamagedFile(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.") from error


def read_regular(path: Path) -> bytes:
    """The bytes of a regular file; DamagedFile for what is missing or none: a device may never end."""
    with open_regular(path) as handle:
        return handle.read()


def read_regular_text(path: Path, errors: str = "strict") -> str:
    """The text of a regular file in UTF-8, with ends of lines as ``read_text`` has them. ValueError for other bytes."""
    with open_regular(path) as handle, io.TextIOWrapper(handle, "utf-8-sig", errors) as text:
        return text.read()


def parse_bounded(text: str) -> Any:
    """The JSON value of a text; ValueError where it holds more lists and objects than any of ours, or deeper ones.

    Each costs memory out of proportion to its two characters.
    """
    if text.count("[") + text.count("{") > MAX_CONTAINERS:
        raise ValueError("it holds too many lists")
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("its lists lie too deep in each other") from None
