"""Image files of kinds that Pillow reads and does not write, each made of its pixels byte by byte.

Pixels are given as numbers (H, W) or (H, W, channels) of the depth that the file is to have.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np

# Adam7: the first row and column of each pass, and how far its rows and columns lie apart.
PASSES = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
PNG_HEAD = b"\x89PNG\r\n\x1a\n"
GREY, RGB, PALETTE, GREY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6  # the kinds of a PNG


def chunk(name: bytes, content: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(values: np.ndarray, kind: int, bits: int, *, interlaced: bool = False, more: bytes = b"") -> bytes:
    """A PNG of any kind and depth; ``more`` are chunks before its pixels, the palette among them."""
    height, width = values.shape[:2]
    parts = [values]
    if interlaced:
        parts = [values[top::down, left::across] for top, left, down, across in PASSES]
    body = b"".join(_rows(part, bits) for part in parts if part.size)
    head = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, interlaced)
    return PNG_HEAD + chunk(b"IHDR", head) + more + chunk(b"IDAT", zlib.compress(body)) + chunk(b"IEND", b"")


def _rows(values: np.ndarray, bits: int) -> bytes:
    """Rows of samples, the first bits first, each after a byte that says that nothing is filtered."""
    flat = values.reshape(len(values), -1)
    rows = (row.astype(">u2").tobytes() if bits == 16 else packed(row, bits) for row in flat)
    return b"".join(b"\0" + row for row in rows)


def packed(row: np.ndarray, bits: int) -> bytes:
    """Samples of 1, 2, 4 or 8 bits in as few bytes as hold them, the first in the highest bits."""
    places = np.arange(bits - 1, -1, -1)
    return np.packbits(((row[:, None].astype(np.uint8) >> places) & 1).ravel()).tobytes()


def bmp(values: np.ndarray, bits: int, *, palette: np.ndarray | None = None, masks: tuple[int, ...] = ()) -> bytes:
    """A BMP of indices (H, W) of 1, 4 or 8 bits with a palette (n, 3), or of whole pixels of 16 bits."""
    raw = b"".join(
        (row.astype("<u2").tobytes() if bits == 16 else packed(row, bits)).ljust(
            (len(row) * bits + 31) // 32 * 4, b"\0"
        )
        for row in values[::-1]
    )
    return _bmp(values.shape, bits, 3 if masks else 0, raw, palette, masks)


def bmp_in_runs(values: np.ndarray, bits: int, palette: np.ndarray) -> bytes:
    """A BMP of indices (H, W) of 4 or 8 bits, in run lengths."""
    raw = b""
    for row in values[::-1].tolist():
        start = 0
        for place in range(1, len(row) + 1):
            if place == len(row) or row[place] != row[start] or place - start == 254:
                raw += bytes([place - start, row[start] * (17 if bits == 4 else 1)])
                start = place
        raw += b"\0\0"
    return _bmp(values.shape, bits, 2 if bits == 4 else 1, raw + b"\0\1", palette, ())


def _bmp(  # noqa: PLR0913 - the fields of its header
    shape: tuple[int, ...],
    bits: int,
    compression: int,
    raw: bytes,
    palette: np.ndarray | None,
    masks: tuple[int, ...],
) -> bytes:
    table = b"".join(struct.pack("<BBBx", *colour[::-1].tolist()) for colour in ([] if palette is None else palette))
    count = len(table) // 4
    head = struct.pack("<IiiHHIIiiII", 40, shape[1], shape[0], 1, bits, compression, len(raw), 2835, 2835, count, 0)
    head += struct.pack(f"<{len(masks)}I", *masks)
    start = 14 + len(head) + len(table)
    return b"BM" + struct.pack("<IHHI", start + len(raw), 0, 0, start) + head + table + raw


def tiff(  # noqa: PLR0913 - tags of the file
    values: np.ndarray,
    *,
    order: str = "<",
    deflated: bool = False,
    tile: int = 0,
    planes: bool = False,
    more: tuple[tuple[int, int, int], ...] = (),
) -> bytes:
    """A TIFF of whole numbers or floats (H, W) or (H, W, C), in one strip, or in square tiles, or plane by plane.

    ``more`` are tags: number, type and value.
    """
    height, width = values.shape[:2]
    samples = values.shape[2] if values.ndim > 2 else 1
    layers = [values[..., i] for i in range(samples)] if planes else [values]
    blocks = [block for layer in layers for block in (_tiles(layer, tile) if tile else [layer])]
    stored = [block.astype(block.dtype.newbyteorder(order)).tobytes() for block in blocks]
    stored = [zlib.compress(block) for block in stored] if deflated else stored
    kind = 3 if values.dtype.kind == "f" else 1
    tags: dict[int, tuple[int, tuple[int, ...]]] = {
        256: (3, (width,)),
        257: (3, (height,)),
        258: (3, (values.dtype.itemsize * 8,) * samples),
        259: (3, (8 if deflated else 1,)),
        262: (3, (1 if samples < 3 else 2,)),
        277: (3, (samples,)),
        284: (3, (2 if planes else 1,)),
        339: (3, (kind,) * samples),
    }
    places, sizes = (324, 325) if tile else (273, 279)
    tags |= {322: (3, (tile,)), 323: (3, (tile,))} if tile else {278: (3, (height,))}
    tags |= {places: (4, (0,) * len(stored)), sizes: (4, tuple(map(len, stored)))}
    tags |= {number: (form, (value,)) for number, form, value in more}
    start = len(_directory(tags, order))
    at = [start + sum(map(len, stored[:i])) for i in range(len(stored))]
    tags[places] = (4, tuple(at))
    return _directory(tags, order) + b"".join(stored)


def _tiles(layer: np.ndarray, side: int) -> list[np.ndarray]:
    height, width = layer.shape[:2]
    room = [(0, -height % side), (0, -width % side), *[(0, 0)] * (layer.ndim - 2)]
    padded = np.pad(layer, room)
    rows, columns = range(0, height, side), range(0, width, side)
    return [np.ascontiguousarray(padded[y : y + side, x : x + side]) for y in rows for x in columns]


def _directory(tags: dict[int, tuple[int, tuple[int, ...]]], order: str) -> bytes:
    """The head of a TIFF with its one directory, and the numbers that do not fit into it."""
    start = 8 + 2 + 12 * len(tags) + 4
    table = beyond = b""
    for number, (form, content) in sorted(tags.items()):
        raw = struct.pack(f"{order}{len(content)}{'H' if form == 3 else 'I'}", *content)
        if len(raw) > 4:
            table += struct.pack(order + "HHII", number, form, len(content), start + len(beyond))
            beyond += raw + bytes(len(raw) % 2)
        else:
            table += struct.pack(order + "HHI", number, form, len(content)) + raw.ljust(4, b"\0")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, len(tags))
    return head + table + bytes(4) + beyond
