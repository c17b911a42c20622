"""Where the parts of an image's file lie, and its lengths, sizes and counts: what a mutation moves or alters.

Read from whole files of our own making; of a file that is none, fewer parts are found.
"""

from __future__ import annotations

import contextlib
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

JPEG_SIZES = (0xC0, 0xC1, 0xC2)  # the segments that tell the size and the channels
CONTAINERS = {b"meta": 4, b"iprp": 0, b"ipco": 0, b"moov": 0, b"trak": 0, b"mdia": 0, b"minf": 0, b"stbl": 0}


@dataclass(frozen=True)
class Part:
    """A part of a file: where it begins and ends."""

    start: int
    end: int


@dataclass(frozen=True)
class Number:
    """A whole number in a file: where it stands, how many bytes it has, and which end comes first."""

    place: int
    size: int
    order: str = "big"


def _parsed(walk: Callable[[bytes], Iterator[Part | Number]], raw: bytes) -> list[Part | Number]:
    found: list[Part | Number] = []
    with contextlib.suppress(struct.error, IndexError):
        found.extend(walk(raw))
    return [one for one in found if (one.end if isinstance(one, Part) else one.place + one.size) <= len(raw)]


def parts_of(kind: str, raw: bytes) -> list[Part]:
    """The parts of a file of a format, such as the chunks of a PNG."""
    return [one for one in _parsed(_WALKS.get(kind, _nothing), raw) if isinstance(one, Part)]


def numbers_of(kind: str, raw: bytes) -> list[Number]:
    """The lengths, sizes, counts and places that a file of a format tells."""
    return [one for one in _parsed(_WALKS.get(kind, _nothing), raw) if isinstance(one, Number)]


def _nothing(raw: bytes) -> Iterator[Part | Number]:
    yield from ()


def _png(raw: bytes) -> Iterator[Part | Number]:
    place = 8
    while place < len(raw):
        size, name = struct.unpack_from(">I4s", raw, place)
        yield Part(place, place + 12 + size)
        yield Number(place, 4)
        if name == b"IHDR":
            yield from (Number(place + 8, 4), Number(place + 12, 4), *(Number(place + 16 + i, 1) for i in range(5)))
        if name in (b"acTL", b"fcTL"):
            yield from (Number(place + 8 + i, 4) for i in range(0, size - 3, 4))
        place += 12 + size


def _jpeg(raw: bytes) -> Iterator[Part | Number]:
    place = 2
    while place < len(raw) - 3:
        marker, size = raw[place + 1], struct.unpack_from(">H", raw, place + 2)[0]
        end = place + 2 + size
        if marker == 0xDA:  # its pixels too, up to the next marker
            while end < len(raw) - 1 and (raw[end] != 0xFF or raw[end + 1] in (0, *range(0xD0, 0xD8))):
                end += 1
        yield Part(place, end)
        yield Number(place + 1, 1)
        yield Number(place + 2, 2)
        if marker in JPEG_SIZES:
            yield from (Number(place + 4, 1), Number(place + 5, 2), Number(place + 7, 2))
        if marker in (*JPEG_SIZES, 0xDA, 0xDB, 0xC4, 0xDD):
            yield from (Number(i, 1) for i in range(place + 4, min(place + 24, place + 2 + size)))
        place = end


def _gif(raw: bytes) -> Iterator[Part | Number]:
    yield from (Number(6, 2, "little"), Number(8, 2, "little"), Number(10, 1), Number(11, 1))
    place = 13 + (3 << ((raw[10] & 7) + 1) if raw[10] & 128 else 0)
    yield Part(13, place)
    while raw[place] != 0x3B:
        start = place
        if raw[place] == 0x2C:
            yield from (Number(place + i, 2, "little") for i in (1, 3, 5, 7))
            flags = raw[place + 9]
            place += 10 + (3 << ((flags & 7) + 1) if flags & 128 else 0)
            yield Number(start + 9, 1)
            yield Number(place, 1)
            place += 1
        else:
            place += 2
        while raw[place]:
            yield Number(place, 1)
            place += 1 + raw[place]
        place += 1
        yield Part(start, place)


def _webp(raw: bytes) -> Iterator[Part | Number]:
    yield Number(4, 4, "little")
    yield from _riff(raw, 12, len(raw))


def _riff(raw: bytes, place: int, end: int) -> Iterator[Part | Number]:
    while place < end - 7:
        name, size = struct.unpack_from("<4sI", raw, place)
        yield Part(place, place + 8 + size + size % 2)
        yield Number(place + 4, 4, "little")
        if name == b"VP8X":
            yield from (Number(place + 8, 1), Number(place + 12, 3, "little"), Number(place + 15, 3, "little"))
        if name == b"VP8 ":
            yield from (
                Number(place + 8, 3, "little"),
                Number(place + 14, 2, "little"),
                Number(place + 16, 2, "little"),
            )
        if name == b"VP8L":
            yield Number(place + 9, 4, "little")
        if name == b"ANMF":
            yield from (Number(place + 8 + i, 3, "little") for i in range(0, 15, 3))
            yield from _riff(raw, place + 24, place + 8 + size)
        place += 8 + size + size % 2


def _bmp(raw: bytes) -> Iterator[Part | Number]:
    for place, size in ((2, 4), (10, 4), (14, 4), (18, 4), (22, 4), (26, 2), (28, 2), (30, 4), (34, 4), (46, 4)):
        yield Number(place, size, "little")
    start = struct.unpack_from("<I", raw, 10)[0]
    yield from (Part(14, 54), Part(54, start), Part(start, (start + len(raw)) // 2), Part(start, len(raw)))


def _tiff(raw: bytes) -> Iterator[Part | Number]:
    order, end = ("<", "little") if raw[:2] == b"II" else (">", "big")
    big = 43 in raw[2:4]
    first = struct.unpack_from(order + ("Q" if big else "I"), raw, 8 if big else 4)[0]
    yield Number(8 if big else 4, 8 if big else 4, end)
    count = struct.unpack_from(order + ("Q" if big else "H"), raw, first)[0]
    place, length = first + (8 if big else 2), 20 if big else 12
    yield Number(first, 8 if big else 2, end)
    wide = 8 if big else 4
    for _ in range(count):
        yield Part(place, place + length)
        yield from (Number(place, 2, end), Number(place + 2, 2, end))
        yield from (Number(place + 4, wide, end), Number(place + 4 + wide, wide, end))
        if not big:
            yield Number(place + 8, 2, end)
        place += length


def _boxes(raw: bytes) -> Iterator[Part | Number]:
    yield from _boxes_within(raw, 0, len(raw))


def _boxes_within(raw: bytes, place: int, end: int) -> Iterator[Part | Number]:
    while place < end - 7:
        size, name = struct.unpack_from(">I4s", raw, place)
        yield Part(place, place + max(8, size))
        yield Number(place, 4)
        if name == b"ispe":
            yield from (Number(place + 12, 4), Number(place + 16, 4))
        elif name in CONTAINERS:
            yield from _boxes_within(raw, place + 8 + CONTAINERS[name], place + size)
        elif name not in (b"mdat", b"free"):
            yield from (Number(i, 2) for i in range(place + 8, min(place + size - 1, place + 40), 2))
        place += max(8, size)


_WALKS: dict[str, Callable[[bytes], Iterator[Part | Number]]] = {
    "PNG": _png,
    "JPEG": _jpeg,
    "GIF": _gif,
    "WEBP": _webp,
    "BMP": _bmp,
    "TIFF": _tiff,
    "AVIF": _boxes,
    "HEIC": _boxes,
}


def with_checksums(raw: bytes) -> bytes:
    """A PNG whose chunks have the checksums of what is in them, as far as they can be followed."""
    mended, place = bytearray(raw), 8
    while place + 12 <= len(raw):
        end = place + 8 + struct.unpack_from(">I", raw, place)[0]
        if end + 4 > len(raw):
            break
        mended[end : end + 4] = struct.pack(">I", zlib.crc32(raw[place + 4 : end]))
        place = end + 4
    return bytes(mended)
