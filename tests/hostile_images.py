"""Images that ask for too much, and large ones that do not, each made into a file when it is wanted."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

MB = 1 << 20
Maker = Callable[[Path], object]


def _bytes(make: Callable[[], bytes]) -> Maker:
    return lambda path: path.write_bytes(make())


def _picture(width: int, height: int, **channels: int) -> np.ndarray:
    """Flat blocks with some noise: what a photograph of that size costs, made quickly."""
    shape = (height, width, channels.get("channels", 3))
    rows = np.random.default_rng(0).integers(0, 256, (64, *shape[1:]), np.uint8)
    return np.tile(rows, (height // 64 + 1, 1, 1))[:height]


def _saved(array: np.ndarray, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind, **options)
    return buffer.getvalue()


def _small(kind: str, **options: object) -> bytes:
    return _saved(_picture(64, 64), kind, **options)


# --- JPEG -------------------------------------------------------------------------------------------------------------


def _segment(marker: int, content: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def _jpeg(before: bytes = b"", **options: object) -> bytes:
    whole = _small("JPEG", **options)
    return whole[:2] + before + whole[2:]


def _scans(count: int, width: int, height: int) -> bytes:
    """A progressive JPEG whose last scan, of no bit, is said again and again."""
    whole = _saved(np.zeros((height, width, 3), np.uint8), "JPEG", progressive=True)
    last = whole.rindex(b"\xff\xda")
    return whole[:last] + whole[last:-2] * count + whole[-2:]


def _exif(entries: bytes, count: int, more: bytes = b"") -> bytes:
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", count) + entries + bytes(4) + more


def _split_exif(block: bytes) -> bytes:
    content = block[6:]
    pieces = [content[i : i + 65_000] for i in range(0, len(content), 65_000)]
    return b"".join(_segment(0xE1, b"Exif\0\0" + piece) for piece in pieces)


# --- PNG, GIF, TIFF, WebP ---------------------------------------------------------------------------------------------


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _png(before: bytes) -> bytes:
    whole = _small("PNG")
    return whole[:33] + before + whole[33:]


def _png_zeros(width: int, height: int, bits: int, kind: int, behind: bytes = b"") -> bytes:
    row = 1 + width * bits * {0: 1, 2: 3, 6: 4}[kind] // 8
    packer = zlib.compressobj(1)
    body = b"".join(packer.compress(bytes(row)) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", body + behind) + _chunk(b"IEND", b"")


def _gif(before: bytes) -> bytes:
    whole = _saved(_picture(64, 64)[..., 0], "GIF")
    start = 13 + (3 << ((whole[10] & 7) + 1) if whole[10] & 128 else 0)
    return whole[:start] + before + whole[start:]


def _blocks(label: int, size: int, count: int) -> bytes:
    return b"!" + bytes([label]) + (bytes([size]) + b"a" * size) * count + b"\0"


def _tiff(entries: dict[int, tuple[int, int, int]], behind: bytes = b"", start: int = 8) -> bytes:
    """A TIFF of these tags: type, number of values, and value or place."""
    tags = {256: (4, 1, 64), 257: (4, 1, 64), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1)}
    tags |= {273: (4, 1, 4096), 277: (3, 1, 1), 278: (4, 1, 64), 279: (4, 1, 4096)} | entries
    table = b"".join(struct.pack("<HHII", tag, *tags[tag]) for tag in sorted(tags))
    head = b"II*\0" + struct.pack("<I", start) + struct.pack("<H", len(tags)) + table + bytes(4)
    return head.ljust(4096, b"\0") + bytes(4096) + behind


def _tiff_of(array: np.ndarray, **options: object) -> bytes:
    return _saved(array, "TIFF", **options)


def _bmp_run_lengths(width: int, height: int, body: bytes) -> bytes:
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(body), 0, 0, 256, 0)
    offset = 14 + 40 + 1024
    return b"BM" + struct.pack("<IHHI", offset + len(body), 0, 0, offset) + head + bytes(1024) + body


def _webp(before: bytes) -> bytes:
    whole = _small("WEBP", exif=b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0")
    body = whole[12:] + before
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def _riff(name: bytes, data: bytes) -> bytes:
    return name + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)


_RATIONALS = b"".join(struct.pack("<HHII", tag, 5, 1_500_000, 40) for tag in (282, 283))

ASKING: dict[str, Callable[[], bytes]] = {
    "TIFF of 1 x 49,000,000": lambda: _tiff({256: (4, 1, 1), 257: (4, 1, 49_000_000), 258: (3, 1, 16), 259: (3, 1, 8)}),
    "PNG of 49,000,000 x 1": lambda: _png_zeros(49_000_000, 1, 16, 2),
    "PNG of 50 million pixels of 16 bits": lambda: _png_zeros(7000, 7000, 16, 6),
    "PNG with 30 MB behind its pixels": lambda: _png_zeros(64, 64, 8, 2, bytes(30 * MB)),
    "PNG with 100 MB of text": lambda: _png(_chunk(b"tEXt", b"a\0" + b"b" * MB) * 100),
    "PNG with a bomb of text": lambda: _png(_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(512 * MB)))),
    "PNG with 2 million chunks": lambda: _png(_chunk(b"prVt", b"") * 2_500_000),
    "PNG with 2 million empty pieces of pixels": lambda: _png(_chunk(b"IDAT", b"") * 2_500_000),
    "PPM with a comment of 30 MB": lambda: b"P6\n#" + b"a" * 30 * MB + b"\n64 64 255\n" + bytes(64 * 64 * 3),
    "PPM with a comment within its number": lambda: b"P6\n64 64 255#" + b"a" * 30 * MB + b"\n" + bytes(64 * 64 * 3),
    "PFM with a comment of 30 MB": lambda: b"Pf\n64 64 1#" + b"a" * 30 * MB + b"\n" + bytes(64 * 64 * 4),
    "PPM with 30 MB of blanks": lambda: b"P6\n" + b" " * 30 * MB + b"64 64 255\n" + bytes(64 * 64 * 3),
    "plain PPM of 40 million numbers": lambda: b"P3 4000 3400 255\n" + b"7 " * 41_000_000,
    "plain PPM of comments": lambda: b"P3 4000 3400 255\n" + b"#\n" * 15 * MB,
    "plain PBM of blanks": lambda: b"P1 7000 7000\n" + b" " * 31 * MB,
    "plain PGM of one number": lambda: b"P2 7000 7000 255\n" + b"7" * 30 * MB,
    "PPM of 16 bits and 50 million pixels": lambda: b"P6 7000 7000 65535\n" + bytes(7000 * 7000 * 6),
    "GIF with a comment of 30 MB": lambda: _gif(_blocks(0xFE, 255, 120_000)),
    "GIF with 10 million comments": lambda: _gif(_blocks(0xFE, 1, 1) * 6_000_000),
    "GIF with 30 MB of an application": lambda: _gif(_blocks(0xFF, 255, 120_000)),
    "GIF with 15 MB of small blocks": lambda: _gif(_blocks(0xFF, 1, 15_000_000)),
    "GIF with 30 MB of nothing": lambda: _gif(bytes(30 * MB)),
    "JPEG with 2 million segments": lambda: _jpeg(_segment(0xFE, b"") * 7_500_000),
    "JPEG with 60 MB of segments": lambda: _jpeg(_segment(0xE5, bytes(65_000)) * 1_000),
    "JPEG with 30 MB of junk": lambda: _jpeg(_segment(0xFE, b"") + b"a" * 30 * MB),
    "JPEG with 30 MB of padding": lambda: _jpeg(b"\xff" * 30 * MB),
    "JPEG of 60 scans": lambda: _scans(50, 7000, 6000),
    "JPEG with 30 MB of EXIF": lambda: _jpeg(_split_exif(_exif(b"", 0, bytes(30 * MB)))),
    "JPEG of 2,000 scans": lambda: _scans(2_000, 7000, 7000),
    "JPEG with 3 million fractions": lambda: _jpeg(_split_exif(_exif(_RATIONALS, 2, bytes(12 * MB)))),
    "JPEG of 50 million pixels in full colour and scans": lambda: _saved(
        np.zeros((7070, 7070, 3), np.uint8), "JPEG", progressive=True, subsampling=0
    ),
    "TIFF of 65,535 tags of 30 MB": lambda: (
        b"II*\0\x08\0\0\0\xff\xff"
        + b"".join(struct.pack("<HHII", tag, 7, 30 * MB, 8) for tag in range(65_535))
        + bytes(31 * MB)
    ),
    "TIFF with 7 million strips": lambda: _tiff({273: (4, 7 * MB, 8192), 278: (4, 1, 1)}, bytes(28 * MB)),
    "TIFF with 30 million bits a sample": lambda: _tiff({258: (3, 15 * MB, 8192)}, bytes(30 * MB)),
    "TIFF with a tile of 65,535 x 65,535": lambda: _tiff(
        {259: (3, 1, 8), 322: (4, 1, 65_520), 323: (4, 1, 65_520), 324: (4, 1, 8192), 325: (4, 1, 1000)}, bytes(1000)
    ),
    "TIFF with fractions in a directory": lambda: _tiff(
        {34665: (4, 1, 8192)}, struct.pack("<HHHII", 1, 33434, 5, 3_000_000, 8300) + bytes(24 * MB + 4096)
    ),
    "TIFF whose directory holds itself": lambda: _tiff({34665: (4, 1, 8)}),
    "BMP of 50 million run lengths": lambda: _bmp_run_lengths(7000, 7000, b"\x01\x07" * 15 * MB),
    "BMP of ends of lines": lambda: _bmp_run_lengths(65_000, 700, b"\x01\x07\0\0" * 700),
    "WebP of 50 million pixels": lambda: _saved(np.zeros((7000, 7000, 3), np.uint8), "WEBP", lossless=True, method=0),
    "WebP with 3 million fractions": lambda: _webp(_riff(b"EXIF", _exif(_RATIONALS, 2, bytes(12 * MB)))),
    "PNG with 3 million fractions": lambda: _png(_chunk(b"eXIf", _exif(_RATIONALS, 2, bytes(12 * MB))[6:])),
    "WebP of 200 MB": lambda: _webp(_riff(b"XXXX", bytes(200 * MB))),
}

FINE: dict[str, Callable[[], bytes]] = {
    "TIFF of 48 megapixels, 16 bits grey": lambda: _tiff_of(
        np.random.default_rng(0).integers(0, 65536, (6000, 8000), np.uint16)
    ),
    "TIFF of 48 megapixels, 16 bits grey, deflated": lambda: _tiff_of(
        np.tile(np.arange(8000, dtype=np.uint16), (6000, 1)), compression="tiff_adobe_deflate"
    ),
    "TIFF of 48 megapixels, floats": lambda: _tiff_of(np.zeros((6000, 8000), np.float32)),
    "TIFF of 48 megapixels with transparency": lambda: _tiff_of(_picture(8000, 6000, channels=4)),
    "PNG of 24 megapixels and 40 MB": lambda: _saved(_picture(6000, 4000) & np.uint8(0xF3), "PNG", compress_level=1),
    "PNG of 48 megapixels, 16 bits": lambda: _png_zeros(8000, 6000, 16, 2),
    "JPEG of 48 megapixels": lambda: _saved(_picture(8000, 6000), "JPEG", quality=80),
    "JPEG of 48 megapixels in scans": lambda: _saved(_picture(8000, 6000), "JPEG", quality=50, progressive=True),
    "JPEG with 10 MB of notes": lambda: _jpeg(
        _split_exif(_exif(struct.pack("<HHII", 37500, 7, 10 * MB, 100), 1, bytes(10 * MB + 200)))
    ),
    "JPEG with 10 MB of a depth map": lambda: _jpeg(_segment(0xE1, bytes(65_000)) * 160),
    "PPM of 48 megapixels": lambda: b"P6 8000 6000 255\n" + bytes(8000 * 6000 * 3),
    "PGM of 48 megapixels, 12 bits": lambda: b"P5 8000 6000 4095\n" + bytes(8000 * 6000 * 2),
    "plain PPM of 3 megapixels": lambda: b"P3 2000 1500 255\n" + b"71 " * 9_000_000,
    "WebP of 24 megapixels": lambda: _saved(_picture(6000, 4000) & np.uint8(0xF0), "WEBP", quality=80, method=0),
    "BMP of 48 megapixels": lambda: _saved(np.zeros((6000, 8000, 3), np.uint8), "BMP"),
    "GIF of 48 megapixels": lambda: _saved(_picture(8000, 6000)[..., 0], "GIF"),
    "a photograph turned": lambda: _saved(
        _picture(8000, 6000, channels=4),
        "PNG",
        compress_level=1,
        exif=b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0",
    ),
}

IMAGES: dict[str, Maker] = {name: _bytes(make) for name, make in {**ASKING, **FINE}.items()}
