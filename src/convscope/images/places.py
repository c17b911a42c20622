"""Files that are read alike from a disk and from memory, wherever a damaged one sends its reader."""

from __future__ import annotations

import io
import os


class OnDisk(io.BufferedReader):
    """A file in which a place beyond its end is its end: file systems call far ones an error, each from its own on."""

    def seek(self, place: int, whence: int = os.SEEK_SET, /) -> int:
        """Go to a place. Raises ValueError for one before the file's beginning."""
        end = os.fstat(self.fileno()).st_size
        return super().seek(_within(place, whence, self.tell(), end))


class InMemory(io.BytesIO):
    """The bytes of a file, with the same places."""

    def seek(self, place: int, whence: int = os.SEEK_SET, /) -> int:
        """Go to a place. Raises ValueError for one before the file's beginning."""
        return super().seek(_within(place, whence, self.tell(), self.getbuffer().nbytes))


def _within(place: int, whence: int, here: int, end: int) -> int:
    """Return the place from the beginning, and no more than the end."""
    place += {os.SEEK_SET: 0, os.SEEK_CUR: here, os.SEEK_END: end}[whence]
    if place < 0:
        raise ValueError("it names a place before its beginning")
    return min(place, end)
