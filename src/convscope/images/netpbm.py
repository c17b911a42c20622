"""The Netpbm files that Pillow reads number by number in Python, made into those it reads at once.

These are the plain ones, whose pixels are written in digits, and the binary ones whose brightest value is neither 255
nor 65535. The pixels come out the same; 16 million of them take a second and not half a minute.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from .containers import MAX_JUNK, MB, PPM_COMMENT, TooMuch

MAX_PLAIN = 32 * MB  # bytes of digits: some ten million of them
MAX_COMMENTS = 10_000
PIECE = MB
_NUMBER = rb"(?:\s|#[^\r\n]*[\r\n])*([0-9]{1,10})(?=\s)"
_SIZE = re.compile(rb"P([1-6])(?=\s)" + _NUMBER + _NUMBER)
_BRIGHTEST = re.compile(_NUMBER)
_SPACE = re.compile(rb"\s")


def quick(file: BinaryIO) -> BinaryIO:
    """Return such an image as a file that is read at once. Raises TooMuch and ValueError."""
    file.seek(0)
    head = file.read(MAX_JUNK)
    size = _SIZE.match(head)
    last = _BRIGHTEST.match(head, size.end()) if size and size[1] not in (b"1", b"4") else size
    if not size or not last:
        raise ValueError("its header is no size")
    kind, width, height = (int(number) for number in size.groups())
    brightest = int(last[1]) if last is not size else 1
    if not 0 < brightest < 65536:
        raise ValueError("its brightest value is none")
    count = width * height * (3 if kind in (3, 6) else 1)
    deep = brightest > 255 and kind in (2, 5)
    file.seek(last.end() + 1 if kind > 3 else last.end())
    if kind == 1:
        pixels = _bits(file, count)
    else:
        values = _plain(file, count) if kind < 4 else _binary(file, count, 2 if brightest > 255 else 1)
        pixels = _scaled(values, brightest, deep, strict=kind < 4)
    layout = (6 if kind in (3, 6) else 5, width, height, 65535 if deep else 255)
    return io.BytesIO(b"P%d %d %d %d\n" % layout + pixels)


def _text(file: BinaryIO) -> bytes:
    text = file.read(MAX_PLAIN + 1)
    if len(text) > MAX_PLAIN:
        raise TooMuch(f"too large: more than {MAX_PLAIN // MB} MB of digits")
    if text.count(b"#") > MAX_COMMENTS:
        raise TooMuch(f"too large: more than {MAX_COMMENTS:,} comments")
    return PPM_COMMENT.sub(b"", text) if b"#" in text else text


def _bits(file: BinaryIO, count: int) -> bytes:
    """Return a plain image of two colours as grey: a 1 is black."""
    digits = _text(file).translate(None, b" \t\n\v\f\r")[:count]
    if digits.translate(None, b"01"):
        raise ValueError("a pixel of two colours is neither 0 nor 1")
    if len(digits) < count:
        raise ValueError("not enough image data")
    return digits.translate(bytes.maketrans(b"01", b"\xff\0"))


def _plain(file: BinaryIO, count: int) -> Iterator[np.ndarray]:
    """Yield the numbers that are written in digits, piece by piece."""
    text, start = _text(file), 0
    while count:
        gap = _SPACE.search(text, start + PIECE)
        end = gap.end() if gap else len(text)
        piece = text[start:end]
        if start == len(text):
            raise ValueError("not enough image data")
        if piece.translate(None, b"0123456789 \t\n\v\f\r"):
            raise ValueError("a pixel is no number")
        values = np.zeros(0, np.int64) if piece.isspace() else np.fromstring(piece, np.int64, sep=" ")[:count]
        yield values
        start, count = end, count - len(values)


def _binary(file: BinaryIO, count: int, size: int) -> Iterator[np.ndarray]:
    """Yield the numbers of one byte, or of two, piece by piece."""
    while count:
        raw = file.read(min(count * size, PIECE))
        if len(raw) < min(count * size, PIECE):
            raise ValueError("not enough image data")
        yield np.frombuffer(raw, np.uint8 if size == 1 else ">u2")
        count -= len(raw) // size


def _scaled(values: Iterator[np.ndarray], brightest: int, deep: bool, *, strict: bool) -> bytearray:
    """Return numbers up to ``brightest`` as bytes, or as pairs of bytes; larger ones are refused, or as bright."""
    most = 65535 if deep else 255
    table = np.minimum(np.rint(np.arange(65536) / brightest * most), most).astype(">u2" if deep else np.uint8)
    scaled = bytearray()
    for piece in values:
        if strict and piece.size and (piece.max() > brightest or piece.min() < 0):
            raise ValueError("a pixel is brighter than its header allows")
        scaled += table[piece].tobytes()
    return scaled
