"""PNG files whose comments are damaged and whose pixels are not."""

from __future__ import annotations

import os
import struct
import zlib
from bisect import bisect_left
from typing import BinaryIO, cast

from .containers import MAX_CHUNKS

_FOR_PIXELS = (b"ihdr", b"plte", b"idat", b"trns", b"iend")  # whatever the case: a flipped bit makes one the other
_ANIMATION = (b"acTL", b"fcTL", b"fdAT")  # where one is damaged none can be followed
_PASSED_OVER = b"sKIP"  # a name that no reader knows, and that says that a reader need not


def without_damaged_comments(file: BinaryIO) -> BinaryIO:
    """Return the file; where the checksum of a chunk that no pixel needs is wrong, one that hides this chunk.

    Such are text, EXIF, sizes, times, colour profiles, what an animation adds, and all others that the standard lets a
    reader pass over, except transparency.
    """
    try:
        hidden = _damaged(file)
    except (struct.error, IndexError):  # cut short: the decoder says so
        hidden = {}
    file.seek(0)
    return cast("BinaryIO", _Changed(file, hidden)) if hidden else file


def _damaged(file: BinaryIO) -> dict[int, bytes]:
    """The bytes to read in place of those at each place: another name for the chunk, and its checksum."""
    animation, wrong = [], []
    for place, size, name in _chunks(file):
        if not (name.isalpha() and name[0] & 32) or name.lower() in _FOR_PIXELS:
            continue
        if name in _ANIMATION:
            animation.append((place, size))
        content = b"" if name in _ANIMATION and size > 64 else file.read(size)
        if len(content) == size and zlib.crc32(name + content) != struct.unpack(">I", file.read(4))[0]:
            wrong.append((place, size, name))
    hide = {(place, size) for place, size, name in wrong}
    if any(name in _ANIMATION for *_, name in wrong):
        hide |= set(animation)
    return dict(change for place, size in sorted(hide) for change in _hiding(file, place, size))


def _chunks(file: BinaryIO):
    """Yield where each chunk begins, its size and its name, with the file at its content."""
    end = file.seek(0, os.SEEK_END)
    place = 8
    for _ in range(MAX_CHUNKS):
        file.seek(place)
        size, name = struct.unpack(">I4s", file.read(8))
        if name == b"IEND" or place + 12 + size > end:
            return
        yield place, size, name
        place += 12 + size


def _hiding(file: BinaryIO, place: int, size: int) -> list[tuple[int, bytes]]:
    file.seek(place + 8)
    checksum = zlib.crc32(file.read(size), zlib.crc32(_PASSED_OVER))
    return [(place + 4, _PASSED_OVER), (place + 8 + size, struct.pack(">I", checksum))]


class _Changed:
    """A file that is read with other bytes in a few places."""

    def __init__(self, file: BinaryIO, changes: dict[int, bytes]) -> None:
        self._file, self._changes, self._places = file, changes, sorted(changes)
        self.seek, self.tell, self.close = file.seek, file.tell, file.close

    def read(self, count: int = -1) -> bytes:
        """Read as a file does."""
        start = self._file.tell()
        raw = self._file.read(count)
        first = bisect_left(self._places, start - 3)
        if first == len(self._places) or self._places[first] >= start + len(raw):
            return raw
        changed = bytearray(raw)
        for place in self._places[first:]:
            if place >= start + len(raw):
                break
            for offset, byte in enumerate(self._changes[place], place - start):
                if 0 <= offset < len(raw):
                    changed[offset] = byte
        return bytes(changed)
