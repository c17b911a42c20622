"""Images on object storage, s3:// and whatever else fsspec reads: fetched when they are asked for, and kept nowhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ..errors import ConvscopeError, DataError, ImageError, UnreachableError, UsageError, one_line
from ..images.file_names import is_image_name
from .folder import IMAGE_SIZE, Need
from .shard_places import store_of
from .unsplit import Unsplit

MARK = "://"
HERE = ("file:", "local:")  # schemes whose paths begin with a slash
LARGEST = 1 << 30  # bytes of an image that are fetched
S = TypeVar("S")


class RemotePath(type(Path())):  # pyrefly: ignore[invalid-inheritance] - the kind of this system, as Python 3.11 wants it
    """A file's address as a path, so that it has a name, a suffix and folders; ``url`` is the address."""

    @property
    def url(self) -> str:
        """The address, with the two slashes that a path makes one."""
        scheme, *rest = self.parts
        return f"{scheme}//{'/' if scheme in HERE else ''}{'/'.join(rest)}"

    def fetched(self) -> bytes:
        """What the file holds. ImageError where it cannot be fetched."""
        try:
            system, place = store_of(self.url)
            size = system.size(place)
            if size is not None and size > LARGEST:
                raise ImageError(self.url, f"{size:,} bytes are no image")
            return system.cat_file(place)
        except ConvscopeError:
            raise
        except Exception as error:  # of as many kinds as there are libraries for storage
            gone = isinstance(error, FileNotFoundError)
            reason = "no such file" if gone else f"cannot be fetched: {one_line(error)}"
            raise ImageError(self.url, reason, passing=not gone) from None


def contents(source: S) -> S | bytes:
    """What to decode an image from: the bytes of one that is elsewhere, else as it is. Raises ImageError."""
    elsewhere: Any = source
    return elsewhere.fetched() if isinstance(source, RemotePath) else source


def load_remote(url: str, need: Need = "training") -> Unsplit:
    """The images below an address, of the class that their folder says.

    Raises UsageError, UnreachableError, or DataError where there are none.
    """
    if need != "images":
        raise UsageError(
            f"{url} is elsewhere and names no shard, which can be read there; features and predict read images there, "
            "and for anything else copy them here, and name their folder."
        )
    files = remote_files(url)
    root = RemotePath(url.rstrip("/"))
    folders = [str(file.parent.relative_to(root)) if file.is_relative_to(root) else "." for file in files]
    names = tuple(sorted(set(folders)))
    number = {name: k for k, name in enumerate(names)}
    labels = np.array([number[folder] for folder in folders], np.int64)
    return Unsplit(url, names, labels, np.full(len(files), "", "U5"), IMAGE_SIZE, files=tuple(files), root=root)


def remote_files(url: str) -> Sequence[RemotePath]:
    """The images at an address: one, those below it, or those of a pattern, by name."""
    try:
        system, place = store_of(url)
        pattern = any(mark in place for mark in "*?[")
        found = system.glob(place) if pattern else system.find(place)
    except ConvscopeError:
        raise
    except Exception as error:  # of as many kinds as there are libraries for storage
        raise UnreachableError(f"{url} cannot be listed: {one_line(error)}.") from None
    scheme = url.split(MARK)[0]
    files = [RemotePath(f"{scheme}{MARK}{name}") for name in sorted(map(str, found)) if is_image_name(name)]
    if not files:
        raise DataError(f"{url} holds no image.")
    return files
