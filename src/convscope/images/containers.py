"""What a file asks for before and beside its pixels, counted before a decoder reads it.

Decoders collect comments block by block, walk chunks in Python, believe the counts in tags, and go over all pixels
for each scan. Each format is walked here over its own structure, by lengths alone, and refused where that is more than
any photograph has. What is broken in other ways is left to the decoder, which says what it is.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import struct
from collections.abc import Iterator
from typing import BinaryIO

MB = 1 << 20
MAX_METADATA = 32 * MB  # bytes beside the pixels; a camera's notes and a depth map are some 10 MB
MAX_SEGMENTS = 4_000  # of a JPEG before its pixels, each of up to 64 KB
MAX_JUNK = 1 << 16  # bytes between the segments of a JPEG, and around the numbers in the header of a PPM
MAX_SCANS = 64  # of a JPEG; encoders make about ten
MAX_CHUNKS = 200_000  # of a PNG: 4 KB each are 800 MB
MAX_BLOCKS = 40_000  # of 255 bytes, before the first image of a GIF
MAX_COMMENT = MB  # of a GIF, whose blocks are put together one by one
MAX_TAGS = 4_000  # in one directory of a TIFF, or of an EXIF block
MAX_VALUES = 200_000  # numbers in a tag that is read: 50 million pixels in tiles of 16 x 16 have as many
MAX_OTHER_VALUES = 10_000  # numbers in other tags
MAX_WEBP = 128 * MB  # a WebP is read as a whole, an animation too
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # neither a byte 255 of the pixels nor a restart
PPM_COMMENT = re.compile(rb"#[^\r\n]*")
_PPM_HEADER = re.compile(rb"P[14](\s+\S+){2}\s|P[^14]\w*(\s+\S+){3}\s")
_VALUE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_PLAIN = (1, 2, 7)  # bytes, text, anything: kept as they are
_DIRECTORIES = (34665, 34853, 40965)  # EXIF, GPS and interoperability: directories in another
_LAST_READ = 34675  # tags up to the colour profile decide how pixels are read


class TooMuch(ValueError):
    """A file that asks for more than an image needs; the reason is what is said of it."""


class NoReader(ValueError):
    """A whole file of a kind that nothing here reads; ``kind`` is that kind in a few words."""

    def __init__(self, kind: str) -> None:
        super().__init__(f"of a kind that cannot be read ({kind})")


def inspect(format_name: str, file: BinaryIO) -> bool:
    """Refuse, as TooMuch, a file whose structure asks for too much; broken ones pass.

    Return whether its pixels come in several scans, so that the decoder keeps all coefficients until the last.
    """
    with contextlib.suppress(struct.error, IndexError, OverflowError):  # cut short: the decoder says so
        return bool(_INSPECTORS.get(format_name, lambda file: None)(file))
    return False


def _take(file: BinaryIO, count: int) -> bytes:
    taken = file.read(count)
    if len(taken) < count:
        raise IndexError
    return taken


def _beside(size: int) -> None:
    if size > MAX_METADATA:
        raise TooMuch(f"too large: more than {MAX_METADATA // MB} MB beside its pixels")


# --- JPEG -------------------------------------------------------------------------------------------------------------


def _jpeg(file: BinaryIO) -> bool:
    exif, components, progressive, in_scans = [], 0, False, False
    for marker, content in _jpeg_segments(file):
        if marker == 0xE1 and content.startswith(b"Exif\0\0"):
            exif.append(content[6:])
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            components, progressive = content[5], marker in (0xC2, 0xC6, 0xCA, 0xCE)
        in_scans = marker == 0xDA and (progressive or content[0] < components)
        if in_scans and _jpeg_scans(file.read()) > MAX_SCANS:
            raise TooMuch(f"too large: its pixels are refined in more than {MAX_SCANS} scans")
    inspect_exif(b"".join(exif))
    return in_scans


def _jpeg_segments(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Yield the marker and the content of each segment up to the first scan, where the file then stands."""
    file.seek(2)
    beside = 0
    for _ in range(MAX_SEGMENTS):
        marker = _jpeg_marker(file)
        if marker == 0xD9:
            return
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:
            continue
        content = _take(file, max(0, struct.unpack(">H", _take(file, 2))[0] - 2))
        beside += len(content)
        _beside(beside)
        yield marker, content
        if marker == 0xDA:
            return
    raise TooMuch(f"too large: more than {MAX_SEGMENTS} segments before its pixels")


def _jpeg_marker(file: BinaryIO) -> int:
    """Return the next marker; what stands before it is junk or padding."""
    last = _take(file, 1)
    for _ in range(MAX_JUNK):
        byte = _take(file, 1)
        if last == b"\xff" and byte not in (b"\xff", b"\0"):
            return byte[0]
        last = byte
    raise TooMuch("corrupt: too much between its segments")


def _jpeg_scans(rest: bytes) -> int:
    """Count the scans, the first one included, in what follows the header of the first."""
    scans, at = 1, 0
    for _ in range(64 * MAX_SCANS):
        found = _MARKER.search(rest, at)
        if not found or found.group() == b"\xff\xd9":
            return scans
        scans += found.group() == b"\xff\xda"
        at = found.end()
        if rest[at - 1] >= 0xC0 and rest[at - 1] != 0xD8:
            at += max(2, struct.unpack_from(">H", rest, at)[0])
    return MAX_SCANS + 1


# --- PNG and GIF ------------------------------------------------------------------------------------------------------


def _png(file: BinaryIO) -> None:
    end = file.seek(0, os.SEEK_END)
    file.seek(8)
    beside = pixels = needed = 0
    for _ in range(MAX_CHUNKS):
        size, name = struct.unpack(">I4s", _take(file, 8))
        if name == b"IHDR":
            width, height, bits, kind = struct.unpack(">IIBB", _take(file, 10))
            needed = height * (width * bits * {2: 3, 4: 2, 6: 4}.get(kind, 1) // 8 + 2)
            size -= 10
        there = min(size, end - file.tell())  # a damaged length is no size
        if name == b"IDAT":
            pixels += there
        elif name not in (b"IHDR", b"fdAT"):
            beside += there
        _beside(beside)
        if pixels > needed + needed // 8 + MB:
            raise TooMuch("too large: more bytes of pixels than its size needs")
        if name == b"IEND":
            return
        file.seek(size + 4, os.SEEK_CUR)
    raise TooMuch(f"too large: more than {MAX_CHUNKS:,} chunks")


def _gif(file: BinaryIO) -> None:
    file.seek(10)
    flags = _take(file, 3)[0]
    file.seek(3 << ((flags & 7) + 1) if flags & 128 else 0, os.SEEK_CUR)
    comment = label = 0
    for _ in range(MAX_BLOCKS):
        size = _take(file, 1)[0]  # of a block, or within no extension what begins here
        if not label and size in (0x2C, 0x3B):
            return  # the first image, or the end
        if not label:
            label = _take(file, 1)[0] if size == 0x21 else 0
            continue
        file.seek(size, os.SEEK_CUR)
        comment += size if label == 0xFE else 0
        label = label if size else 0
        if comment > MAX_COMMENT:
            break
    raise TooMuch("too large: too much before its first image")


# --- TIFF and EXIF ----------------------------------------------------------------------------------------------------


def _tiff(file: BinaryIO) -> None:
    _directory(file, strict=False)


def inspect_exif(block: bytes) -> None:
    """Refuse, as TooMuch, an EXIF block whose tags hold more than they describe."""
    block = block.removeprefix(b"Exif\0\0")
    with contextlib.suppress(struct.error, IndexError, OverflowError):
        if block[:2] in (b"II", b"MM"):
            _directory(io.BytesIO(block), strict=True)


def _directory(file: BinaryIO, *, strict: bool) -> None:
    """Walk the first directory and those within it; ``strict`` where tags of every kind are unpacked."""
    end = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = _take(file, 8)
    order = "<" if head[:2] == b"II" else ">"
    big = 43 in head[2:4]
    first = struct.unpack(order + "Q", _take(file, 8))[0] if big else struct.unpack(order + "I", head[4:])[0]
    waiting, beside = [(first, strict)], 0
    for _ in range(8):
        if not waiting:
            return
        offset, narrow = waiting.pop()
        if offset > end:
            raise IndexError
        file.seek(offset)
        for tag, kind, values, place in _entries(file, order, big):
            size = values * _VALUE_BYTES.get(kind, 0)
            if size + place > end and size > (8 if big else 4):
                continue  # not in the file: what decoders pass over
            _few_values(tag, kind, values, narrow)
            beside += size
            _beside(beside)
            if tag in _DIRECTORIES:
                waiting.append((_directory_place(order, big, kind, place), True))
    raise TooMuch("too large: directories of tags in one another")


def _directory_place(order: str, big: bool, kind: int, place: int) -> int:
    """Return where a directory within another stands: a short number fills half its field."""
    if kind != 3:
        return place
    field = struct.pack(order + ("Q" if big else "I"), place)
    return struct.unpack(order + "H", field[:2])[0]


def _entries(file: BinaryIO, order: str, big: bool) -> Iterator[tuple[int, int, int, int]]:
    """Yield the tag, the type, the number of values and the place of each entry of the directory that begins here."""
    entry = struct.Struct(order + ("HHQQ" if big else "HHII"))
    count = struct.unpack(order + ("Q" if big else "H"), _take(file, 8 if big else 2))[0]
    table = file.read(entry.size * min(count, MAX_TAGS + 1))
    if len(table) > entry.size * MAX_TAGS:
        raise TooMuch(f"too large: more than {MAX_TAGS:,} tags")
    yield from entry.iter_unpack(table[: len(table) // entry.size * entry.size])


def _few_values(tag: int, kind: int, values: int, narrow: bool) -> None:
    """Refuse a tag that is read as numbers and holds more of them than there is use for."""
    most = MAX_OTHER_VALUES if narrow or kind in (5, 10) else MAX_VALUES
    if kind in _VALUE_BYTES and kind not in _PLAIN and values > most and (narrow or tag <= _LAST_READ):
        raise TooMuch(f"too large: {values:,} numbers in the tag {tag}")


# --- the others -------------------------------------------------------------------------------------------------------


def _webp(file: BinaryIO) -> None:
    if file.seek(0, os.SEEK_END) > MAX_WEBP:
        raise TooMuch(f"too large: a WebP file of more than {MAX_WEBP // MB} MB")


def _ppm(file: BinaryIO) -> None:
    """Refuse a header that is looked through byte by byte and does not end."""
    file.seek(0)
    head = file.read(MAX_JUNK)
    if len(head) == MAX_JUNK and not _PPM_HEADER.match(PPM_COMMENT.sub(b"", head)):
        raise TooMuch("too large: no size within its first 64 KB")


_INSPECTORS = {"JPEG": _jpeg, "PNG": _png, "GIF": _gif, "TIFF": _tiff, "WEBP": _webp, "PPM": _ppm}
