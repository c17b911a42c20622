"""Pickles and archives that ask for more than there is, each made into a file when it is wanted."""

from __future__ import annotations

import gzip
import pickle
import struct
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

MB = 1 << 20
FOLDER = "cifar-10-batches-py"
Maker = Callable[[Path], object]


def _bytes(make: Callable[[], bytes]) -> Maker:
    return lambda path: path.write_bytes(make())


def _length(code: bytes, size: int, count: int) -> bytes:
    return b"\x80\x05" + code + count.to_bytes(size, "little") + b"abc."


def _array(shape: bytes, order: bytes, raw: bytes, code: bytes = b"u1") -> bytes:
    """The opcodes of an array as NumPy pickles it, with what is asked for in it."""

    def text(t: bytes) -> bytes:
        return b"X" + struct.pack("<I", len(t)) + t

    dtype = (
        b"cnumpy\ndtype\n"
        + text(code)
        + b"\x89\x88\x87R(K\x03"
        + text(order)
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    )
    start = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"
    return start + b"(K\x01" + shape + dtype + b"\x89" + raw + b"tb"


def _table(data: bytes, labels: bytes) -> bytes:
    return b"\x80\x03}(U\x04data" + data + b"U\x06labels" + labels + b"u."


def _encodes(times: int) -> bytes:
    text = b"X" + struct.pack("<I", MB) + b"a" * MB + b"q\x00"
    again = b"h\x01h\x00h\x02\x86R"
    return b"\x80\x02c_codecs\nencode\nq\x01X\x06\0\0\0latin1q\x02" + b"](" + text + again * times + b"e."


def _doubled(times: int, top: bytes) -> bytes:
    """A tuple of itself twice, so many times: small in memory, endless for who walks it."""
    return b"\x80\x02}" + b")q\x00" + b"".join(b"h\x00h\x00\x86q\x00" for _ in range(times)) + top


def _raw(count: int) -> bytes:
    return b"B" + struct.pack("<I", count) + bytes(count)


def _shape(*sides: int) -> bytes:
    return b"(" + b"".join(b"\x8a\x09" + side.to_bytes(9, "little", signed=True) for side in sides) + b"t"


_LABELS = b"](" + b"K\x01" * 10 + b"e"
_ROWS = _raw(30720)

PICKLES: dict[str, Maker] = {
    name: _bytes(make)
    for name, make in {
        "a memo of two billion places": lambda: b"Nr\xff\xff\xff\x7f.",
        "a memo of 18 million places": lambda: b"\x80\x02Nr\xff\xff\x1f\x01.",
        "a memo place in digits": lambda: b"Np2000000000\n.",
        "a memo place of a million digits": lambda: b"Np" + b"1" * MB + b"\n.",
        "a place in the memo that is empty": lambda: b"j\xff\xff\xff\x7f.",
        "one text encoded 6,000 times": lambda: _encodes(6_000),
        "one text encoded 3 times": lambda: _encodes(3),
        "byte array of 2^62": lambda: _length(b"\x96", 8, 1 << 62),
        "byte array of 2^33": lambda: _length(b"\x96", 8, 1 << 33),
        "byte array of 2^63 - 1": lambda: _length(b"\x96", 8, (1 << 63) - 1),
        "bytes of 2^62": lambda: _length(b"\x8e", 8, 1 << 62),
        "bytes of 2^32 - 1": lambda: _length(b"B", 4, (1 << 32) - 1),
        "bytes of Python 2 of less than nothing": lambda: _length(b"T", 4, (1 << 32) - 1),
        "text of 2^62": lambda: _length(b"\x8d", 8, 1 << 62),
        "text of 2^32 - 1": lambda: _length(b"X", 4, (1 << 32) - 1),
        "number of 2^31 bytes": lambda: _length(b"\x8b", 4, (1 << 31) - 1),
        "number of 60 MB": lambda: b"\x80\x02\x8b" + struct.pack("<I", 60 * MB) + b"\x7f" * 60 * MB + b".",
        "number of 4 million digits": lambda: b"L" + b"7" * 4_000_000 + b"L\n.",
        "whole number of 4 million digits": lambda: b"I" + b"7" * 4_000_000 + b"\n.",
        "float of 4 million digits": lambda: b"F" + b"7" * 4_000_000 + b"\n.",
        "a frame of 2^62": lambda: b"\x80\x04\x95" + struct.pack("<Q", 1 << 62) + b"N.",
        "a frame of 2^33": lambda: b"\x80\x04\x95" + struct.pack("<Q", 1 << 33) + b"N.",
        "millions of frames": lambda: b"\x80\x04" + (b"\x95" + bytes(8)) * 6_000_000 + b"N.",
        "twice the top, 30 million times": lambda: b"N" + b"2" * 30 * MB + b".",
        "up and down": lambda: b"N" + b"20" * 15 * MB + b".",
        "nothing to take": lambda: b"0" * MB + b".",
        "a mark taken twice": lambda: b"(11.",
        "a persistent name": lambda: b"Pname\n.",
        "a persistent object": lambda: b"NQ.",
        "an extension": lambda: b"\x80\x02\x82\x01.",
        "a far extension": lambda: b"\x80\x02\x84\xff\xff\xff\x7f.",
        "30 million lists in one another": lambda: b"]" * 20 * MB + b"a" * 20 * MB + b".",
        "30 million tuples in one another": lambda: b")" + b"\x85" * 30 * MB + b".",
        "a deep tuple as a key": lambda: b"}" + b")" + b"\x85" * 200_000 + b"Ns.",
        "an endless tuple as a key": lambda: _doubled(100, b"Ns."),
        "an endless tuple in a set": lambda: _doubled(100, b"0\x8f(h\x00\x90."),
        "an endless frozen set": lambda: b"\x80\x04((h\x00\x91.",
        "an endless tuple as labels": lambda: (
            b"\x80\x02"
            + _doubled(100, b"").removeprefix(b"\x80\x02}")
            + b"0"
            + _table(_array(_shape(10, 3072), b"|", _ROWS), b"h\x00").removeprefix(b"\x80\x03")
        ),
        "40 million times nothing": lambda: b"(" + b"N" * 40 * MB + b"l.",
        "30 million tables": lambda: b"(" + b"}" * 30 * MB + b"l.",
        "30 million sets": lambda: b"\x80\x04(" + b"\x8f" * 30 * MB + b"l.",
        "30 million marks": lambda: b"(" * 30 * MB + b".",
        "30 million memos": lambda: b"\x80\x04N" + b"\x94" * 30 * MB + b".",
        "a million arrays of one buffer": lambda: (
            b"\x80\x03" + b"(" + _raw(30720) + b"q\x00" + _array(_shape(10, 3072), b"|", b"h\x00") * 100_000 + b"l."
        ),
        "an array of 2^70 sides": lambda: _table(_array(_shape(1 << 62, 1 << 62), b"|", _ROWS), _LABELS),
        "an array of less than nothing": lambda: _table(_array(_shape(-1, 3072), b"|", _ROWS), _LABELS),
        "an empty array of endless rows": lambda: _table(_array(_shape(1 << 62, 0), b"|", _raw(0)), _LABELS),
        "an array of a million axes": lambda: _table(_array(b"(" + b"K\x01" * MB + b"t", b"|", _raw(1)), _LABELS),
        "an order that is a shape": lambda: _table(
            _array(
                _shape(
                    1,
                ),
                b"(30720,)",
                _ROWS,
            ),
            _LABELS,
        ),
        "an order that is a type": lambda: _table(_array(_shape(10, 3072), b"O,", _ROWS), _LABELS),
        "an order of 30 MB": lambda: _table(_array(_shape(10, 3072), b"(" * 30 * MB, _ROWS), _LABELS),
        "pointers": lambda: _table(
            _array(
                _shape(
                    3840,
                ),
                b"|",
                _ROWS,
                b"O8",
            ),
            _LABELS,
        ),
        "text of four bytes a character": lambda: (
            b"\x80\x02X" + struct.pack("<I", 60 * MB) + b"\xf0\x9f\x98\x80" + b"a" * (60 * MB - 4) + b"."
        ),
        "line of four bytes a character": lambda: b"V\\U0001f600" + b"a" * 60 * MB + b"\n.",
        "escapes without an end": lambda: b"S'" + b"\\x41" * 15 * MB,
        "a name of 60 MB": lambda: b"c" + b"a" * 60 * MB + b"\nb\n.",
        "a name of two lines": lambda: b"\x80\x04\x8c\x04a\nb\x1b\x8c\x03\xe2\x80\xae\x93.",
        "an instance": lambda: b"(icollections\ndeque\n.",
        "an object": lambda: b"(ccollections\ndeque\no.",
        "a new object": lambda: b"\x80\x02cnumpy\nndarray\n)\x81.",
        "a buffer from elsewhere": lambda: b"\x80\x05\x97.",
        "a list that is restored": lambda: b"]}b.",
        "bytes that are called": lambda: b"C\x01a)R.",
        "a list in itself": lambda: _table(_array(_shape(10, 3072), b"|", _ROWS), b"]q\x07(" + b"h\x07" * 10 + b"e"),
        "60 MB of images": lambda: _table(
            _array(_shape(20_000, 3072), b"|", _raw(20_000 * 3072)), b"(" + b"K\x01" * 20_000 + b"l"
        ),
        "no byte": lambda: b"",
        "60 MB of noughts": lambda: bytes(60 * MB),
    }.items()
}


def _zeros_deflated(megabytes: int) -> bytes:
    """So many megabytes of zeros as the middle of a deflate stream."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    piece = packer.compress(bytes(64 * MB)) + packer.flush(zlib.Z_FULL_FLUSH)
    return piece * (megabytes // 64)


def _gzip(*pieces: bytes | int) -> bytes:
    """A gzip file of these bytes, with so many megabytes of zeros for a number, and then a wrong checksum."""
    if not any(isinstance(piece, int) for piece in pieces):
        return gzip.compress(b"".join(piece for piece in pieces if isinstance(piece, bytes)), 1)
    body = b""
    for piece in pieces:
        if isinstance(piece, int):
            body += _zeros_deflated(piece)
        else:
            packer = zlib.compressobj(9, zlib.DEFLATED, -15)
            body += packer.compress(piece) + packer.flush(zlib.Z_FULL_FLUSH)
    return b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + body + b"\x03\0" + bytes(8)


def _header(name: str, size: int, kind: bytes = b"0", link: str = "") -> bytes:
    """One header of a tar file, its size in base 256 where it is large."""
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = size, kind, link
    return info.tobuf(tarfile.GNU_FORMAT)


def _member(name: str, data: bytes, kind: bytes = b"0") -> bytes:
    return _header(name, len(data), kind) + data + bytes(-len(data) % 512)


def _sparse_endless() -> bytes:
    """An old GNU sparse member whose table of holes goes on and on."""
    block = bytearray(_header(f"{FOLDER}/data_batch_1", 0, b"S"))
    block[482] = 1
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    more = bytearray(512)
    more[:504] = (b"00000000001\0" + b"00000000001\0") * 21
    more[504] = 1
    return bytes(block) + bytes(more) * 200_000


def _pax(records: bytes) -> bytes:
    return _member("PaxHeader", records, b"x")


def _six(data: bytes) -> bytes:
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    return b"".join(_member(f"{FOLDER}/{name}", data) for name in names)


def _valid(count: int) -> bytes:
    return pickle.dumps({b"data": np.zeros((count, 3072), np.uint8), b"labels": [1] * count}, protocol=3)


def _endless_file(path: Path) -> None:
    with open(path, "wb") as file:
        file.write(_gzip(_member("a", b"")))
        file.truncate(1 << 40)


_BATCH = f"{FOLDER}/data_batch_1"
ARCHIVES: dict[str, Maker] = {
    "a file of 2^40 bytes": _endless_file,
    **{
        name: _bytes(make)
        for name, make in {
            "a member of 2^62": lambda: _gzip(_header("other", 1 << 62)),
            "a batch of 2^62": lambda: _gzip(_header(_BATCH, 1 << 62)),
            "a member of less than nothing": lambda: _gzip(_header("other", -512)),
            "nothing but 8 GB of zeros": lambda: _gzip(8192),
            "a member of 8 GB of zeros": lambda: _gzip(_header("other", 8192 * MB), 8192),
            "a batch of 8 GB of zeros": lambda: _gzip(_header(_BATCH, 8192 * MB), 8192),
            "a batch of 64 MB of zeros": lambda: _gzip(_header(_BATCH, 64 * MB), 64),
            "six batches of 60 MB of noughts": lambda: gzip.compress(_six(bytes(60 * MB)), 1),
            "six batches of 20,000 images": lambda: gzip.compress(_six(_valid(20_000)), 1),
            "six batches of a text encoded 6,000 times": lambda: gzip.compress(_six(_encodes(6_000)), 1),
            "an extended header of 2^62": lambda: _gzip(_header("x", 1 << 62, b"x")),
            "an extended header of 4 GB": lambda: _gzip(_header("x", 4096 * MB, b"x"), 4096),
            "a global header of 4 GB": lambda: _gzip(_header("g", 4096 * MB, b"g"), 4096),
            "an extended header of a number of 20 MB": lambda: _gzip(_pax(b"9" * 20 * MB + b" a=b\n")),
            "a million records in an extended header": lambda: _gzip(
                _pax(b"6 a=b\n" * 3_000_000), _member(_BATCH, b"")
            ),
            "extended headers 20,000 deep": lambda: _gzip(_pax(b"6 a=b\n") * 20_000),
            "a long name of 2^62": lambda: _gzip(_header("L", 1 << 62, b"L")),
            "a long name of 4 GB": lambda: _gzip(_header("L", 4096 * MB, b"L"), 4096),
            "a long link of 4 GB": lambda: _gzip(_header("K", 4096 * MB, b"K"), 4096),
            "long names 20,000 deep": lambda: _gzip(_member("L", b"name\0", b"L") * 20_000),
            "holes without an end": lambda: _gzip(_sparse_endless()),
            "holes in a header": lambda: _gzip(
                _pax(b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n34 GNU.sparse.realsize=99999999999\n"),
                _member(_BATCH, b"999999999\n" + b"1\n" * 4_000_000),
            ),
            "holes in a list": lambda: _gzip(
                _pax(b"%d GNU.sparse.map=" % (20 + 2 * 5_000_000 + 6) + b"1," * 5_000_000 + b"\n"), _member(_BATCH, b"")
            ),
            "a hundred thousand members": lambda: _gzip(_header("a", 0) * 100_000),
            "a hundred thousand links": lambda: _gzip(_header("a", 0, b"2", "a") * 100_000),
            "a hundred thousand hard links": lambda: _gzip(_header("a", 1 << 60, b"1", "b") * 100_000),
            "a batch that links to itself": lambda: _gzip(
                _header(_BATCH, 0, b"1", _BATCH) + _header(_BATCH, 0, b"2", _BATCH)
            ),
            "a batch that is a device": lambda: _gzip(_header(_BATCH, 0, b"3")),
            "a batch a thousand times": lambda: _gzip(_member(_BATCH, _valid(1_000)) * 400),
            "a file name of 60 MB": lambda: b"\x1f\x8b\x08\x08\0\0\0\0\0\xff" + b"a" * 60 * MB,
            "a comment of 60 MB": lambda: b"\x1f\x8b\x08\x10\0\0\0\0\0\xff" + b"a" * 60 * MB,
            "a million gzip files": lambda: gzip.compress(b"") * 2_000_000,
            "200 MB of zeros behind": lambda: _gzip(_member("a", b"")) + bytes(200 * MB),
            "a wrong checksum": lambda: _gzip(_member("a", b""))[:-8] + bytes(8),
            "a header of noise": lambda: gzip.compress(bytes(range(256)) * 2),
            "cut short": lambda: _gzip(_member(_BATCH, b"a" * 4096))[:60],
            "no gzip": lambda: _member(_BATCH, b""),
            "no byte": lambda: b"",
        }.items()
    },
}
