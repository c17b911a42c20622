"""Zip and tar files that would write outside, link, or unpack to more than there is room for; and torch's tensors."""

from __future__ import annotations

import gzip
import io
import pickle
import struct
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from hostile_cifar import ARCHIVES, FOLDER, MB
from torture.gift import Gift, Yard, chance, escaping, pick, word
from torture.gift_pickles import torch_zip
from torture.gift_readers import ANY, WEIGHTS

SLOW = {
    name for name in ARCHIVES if any(w in name for w in ("60 MB", "six", "a million gzip", "4 GB", "8 GB", "200 MB"))
}
STATE = (
    b"\x80\x02}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storage"
    b"ctorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu%stQ%s%s%s\x89ccollections\nOrderedDict\n)RtRs."
)


def _number(value: int) -> bytes:
    raw = value.to_bytes(9, "little", signed=True)
    return b"\x8a\x09" + raw


def _numbers(values: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(map(_number, values)) + b"t"


def _tensor(rng: np.random.Generator) -> tuple[str, bytes]:
    """The pickle of a tensor that lies elsewhere than in its storage, or is larger."""
    count = pick(rng, [16, 0, -1, 2**31, 2**40, 2**62])
    offset = pick(rng, [0, 0, -1, 15, 2**40, 2**62])
    sides = int(rng.integers(0, 4))
    shape = tuple(pick(rng, [1, 2, 4, 0, -1, 2**20, 2**31, 2**62]) for _ in range(sides))
    steps = tuple(pick(rng, [1, 4, 0, -1, 2**40]) for _ in range(sides + int(chance(rng, 0.2))))
    data = STATE % (_number(count), _number(offset), _numbers(shape), _numbers(steps))
    return f"a tensor {shape} in steps {steps} from {offset} of {count} numbers", data


def _entry(name: str, data: bytes, size: int | None = None, method: int = 8) -> tuple[bytes, bytes]:
    """A member of a zip file as its local header with the data, and as its line in the directory but for the place."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(data) + packer.flush() if method == 8 else data
    raw = name.encode("utf-8", "surrogateescape")
    told = len(data) if size is None else size
    head = struct.pack("<HHHHHIIIHH", 20, 0x800, method, 0, 0x21, zlib.crc32(data), len(packed), told, len(raw), 0)
    return b"PK\x03\x04" + head + raw + packed, b"PK\x01\x02\x14\x03" + head[:-2] + struct.pack(
        "<HHHHI", 0, 0, 0, 0, 0o120777 << 16 if name.endswith("@") else 0o100644 << 16
    )


def _zip(entries: list[tuple[str, bytes, int | None, int]], places: list[int] | None = None) -> bytes:
    """A zip file of such members; ``places`` say where each local header is said to lie."""
    body, lines = b"", []
    for i, (name, data, size, method) in enumerate(entries):
        local, line = _entry(name, data, size, method)
        at = len(body) if places is None else places[i]
        lines.append(line + struct.pack("<I", at & 0xFFFFFFFF) + name.encode("utf-8", "surrogateescape"))
        body += local
    directory = b"".join(lines)
    count = min(len(entries), 0xFFFF)
    return body + directory + b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, count, count, len(directory), len(body), 0)


def _torch_members(rng: np.random.Generator, data: bytes) -> list[tuple[str, bytes, int | None, int]]:
    root = pick(rng, ["archive", word(rng), "a/b"])
    return [(f"{root}/{n}", d, None, 0) for n, d in (("data.pkl", data), ("byteorder", b"little"), ("data/0",
    bytes(64)),
                                                     ("version", b"3\n"))]  # fmt: skip


def zipped(rng: np.random.Generator, folder: Path, yard: Yard) -> Gift:
    """A zip file: as weights, as an archive of arrays or as a data set."""
    told, data = _tensor(rng)
    members = _torch_members(rng, data)
    evil, times = escaping(rng, yard).split("\0\0")[0], int(rng.integers(2, 5000))
    bomb = bytes(int(rng.integers(16, 400)) * MB // 4)
    place = int(rng.integers(0, 400))
    ways: dict[str, Callable[[], bytes]] = {
        told: lambda: _zip(members),
        f"a name {evil[:40]!r}": lambda: _zip([*members, (evil[:60000], b"x", None, 0)]),
        f"a root {evil[:40]!r}": lambda: _zip([(f"{evil[:200]}/{n.split('/')[-1]}", *rest) for n, *rest in members]),
        f"a link to {evil[:40]!r}": lambda: _zip(
            [*members, ("archive/data/0@", evil.encode("utf-8", "replace"), None, 0)]
        ),
        f"data of {len(bomb) >> 20} MB of zeros": lambda: _zip([*members, ("archive/data/1", bomb, None, 8)]),
        f"a pickle of {len(bomb) >> 20} MB": lambda: _zip([("archive/data.pkl", bomb, None, 8), *members[1:]]),
        f"a size of {2**32 - 2 - place}": lambda: _zip(
            [("archive/data.pkl", data, 2**32 - 2 - place, 0), *members[1:]]
        ),
        f"{times} members": lambda: _zip(members + [(f"archive/data/{i}", b"", None, 0) for i in range(times)]),
        f"{times} members of one name": lambda: _zip(members + [("archive/data.pkl", data, None, 0)] * (times % 900)),
        f"members that overlap at {place}": lambda: _zip(members * 3, [place] * (3 * len(members))),
        f"members behind its end by {place}": lambda: _zip(members, [2**31 + place] * len(members)),
        f"a method {place + 20}": lambda: _zip([(n, d, s, place + 20) for n, d, s, _ in members]),
        f"cut after {place + 50} bytes": lambda: _zip(members)[: place + 50],
        f"a byte of {place} changed": lambda: _flipped(_zip(members), place, rng),
        f"a shape told as version {place}": lambda: torch_zip(data, {"version": str(10**place).encode()}),
        f"an order of bytes {place}": lambda: torch_zip(data, {"byteorder": bytes([place % 256]) * (place + 1)}),
    }
    what = pick(rng, sorted(ways))
    path = folder / f"gift{pick(rng, ['.pt', '.pth', '.bin', '.ckpt', '.npz', '.zip', '.pt2'])}"
    path.write_bytes(ways[what]())
    return Gift(f"a zip file with {what}, as {path.suffix}", path, ("batch", *WEIGHTS, *ANY))


def _flipped(data: bytes, place: int, rng: np.random.Generator) -> bytes:
    at = (place * 7919) % len(data)
    return data[:at] + bytes([data[at] ^ int(rng.integers(1, 256))]) + data[at + 1 :]


def _member(rng: np.random.Generator, yard: Yard) -> tuple[tarfile.TarInfo, bytes]:
    """One member that would leave the folder, be a device, or lie about its size."""
    name = pick(rng, [f"{FOLDER}/data_batch_1", escaping(rng, yard)[:90], f"{FOLDER}/{escaping(rng, yard)[:60]}"])
    info = tarfile.TarInfo(name.replace("\0", "0") or "x")
    info.type = pick(rng, [tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE,
                           tarfile.FIFOTYPE, tarfile.DIRTYPE, tarfile.CONTTYPE, tarfile.GNUTYPE_SPARSE, b"x",
                           b"Z"])  # fmt: skip
    info.linkname = escaping(rng, yard)[:90].replace("\0", "0")
    data = bytes(rng.integers(0, 256, int(rng.integers(0, 900)), dtype=np.uint8))
    info.size = pick(rng, [len(data), len(data), 2**33 - 1, 0])
    info.mode, info.uid = 0o6777, 0
    return info, data + bytes(-len(data) % 512)


def tarred(rng: np.random.Generator, folder: Path, yard: Yard) -> Gift:
    """CIFAR's archive with members that would leave the folder, or one that unpacks to more than there is."""
    if chance(rng, 0.1):
        path = folder / f"gift{pick(rng, ['.pt', '.pth', '.tar'])}"
        path.write_bytes(legacy_tar(yard) + bytes(int(rng.integers(0, 9999))))
        return Gift("a tar file of pickles, as torch once wrote", path, WEIGHTS)
    path = folder / pick(rng, ["cifar-10-python.tar.gz", "gift.tar.gz", "gift.tgz", "gift.tar"])
    readers = ("cifar10", "weights", *ANY)
    if chance(rng, 0.25):
        what = pick(rng, sorted(ARCHIVES.keys() - SLOW - {"a file of 2^40 bytes"}))
        ARCHIVES[what](path)
        path.write_bytes(path.read_bytes() + bytes(int(rng.integers(0, 4096))))
        return Gift(f"a tar file: {what}", path, readers)
    members = [_member(rng, yard) for _ in range(int(rng.integers(1, 40)))]
    kind = pick(rng, [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
    box = io.BytesIO()
    for info, data in members:
        try:
            box.write(info.tobuf(kind, "utf-8", "surrogateescape") + data)
        except (ValueError, UnicodeError):  # a size or name that this format cannot hold
            box.write(info.tobuf(tarfile.GNU_FORMAT, "utf-8", "replace") + data)
    honest = pickle.dumps({b"data": np.zeros((1, 3072), np.uint8), b"labels": [1]}, 3)
    info = tarfile.TarInfo(f"{FOLDER}/data_batch_1")
    info.size = len(honest)
    box.write(info.tobuf() + honest + bytes(-len(honest) % 512))
    data = box.getvalue() + bytes(1024)
    path.write_bytes(data if path.suffix == ".tar" else gzip.compress(data, 1))
    return Gift(f"a tar file of {members[0][0].name[:40]!r} and {len(members)} more", path, readers)


def legacy_tar(yard: Yard) -> bytes:
    """What torch read before zip files: a tar of pickles."""
    box = io.BytesIO()
    with tarfile.open(fileobj=box, mode="w") as file:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            data = (
                b"cos\nsystem\nX"
                + struct.pack("<I", len(yard.canary) + 6)
                + b"touch "
                + yard.canary.encode()
                + b"\x85R."
            )
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return box.getvalue()
