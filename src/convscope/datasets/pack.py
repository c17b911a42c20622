"""The file that packed images lie in: their pixels, then a trailer with a hash of each block, so that rot is seen.

    pixels      uint8 (M, S, S, 3), the images that could be read, in order
    trailer     one sealed JSON object: how many, how large, the blocks' hashes, and why images were left out
    8 bytes     the trailer's length

Pixels and trailer are one file, so a kill cannot leave one without the other. The hash is XXH3 (Collet), which keeps up
with memory: it is for rot, not against an attacker, who could write a trailer too.
"""

from __future__ import annotations

import hashlib
import os
import struct
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import xxhash

from ..errors import DamagedFile
from ..reading import open_regular, parse_bounded
from ..schemas import Schema, check_schema
from ..storage import MAX_JSON, SEAL, seal_of, to_json

BLOCK_BYTES = 8 * 2**20
THREADS = min(4, os.cpu_count() or 1)


class _Trailer(Schema):
    images: int
    size: int
    hashes: list[str]
    bad: list[tuple[int, str]]
    seal: str


@dataclass(frozen=True)
class Pack:
    """How many images lie in a file, and the reason of each that does not, by its place among all."""

    images: int
    bad: dict[int, str]

    def pixels(self, path: Path, size: int) -> np.ndarray:
        """The pixels, mapped: uint8 (M, S, S, 3). DamagedFile where the file cannot be."""
        try:
            return np.memmap(path, np.uint8, "r", shape=(self.images, size, size, 3))
        except OSError as error:
            raise DamagedFile(f"{path} cannot be read: {str(error.strerror or error).rstrip('.')}.") from error


@dataclass
class Packer:
    """Write a file of packed images of ``size`` pixels a side: ``put`` each, then ``end``."""

    size: int
    images: int = 0
    bad: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._whole = hashlib.sha256()
        self._block = xxhash.xxh3_128()
        self._hashes: list[str] = []

    def put(self, pixels: np.ndarray, handle: BinaryIO) -> None:
        """Write one image."""
        self._whole.update(pixels.data)
        self._block.update(pixels.data)
        handle.write(pixels.data)
        self.images += 1
        if self.images % _images_a_block(self.size) == 0:
            self._end_block()

    def _end_block(self) -> None:
        self._hashes.append(self._block.hexdigest())
        self._block = xxhash.xxh3_128()

    def leave_out(self, i: int, reason: str) -> None:
        """Note that image ``i`` of all cannot be read."""
        self.bad[i] = reason

    def end(self, handle: BinaryIO) -> str:
        """Write the trailer; returns the SHA-256 of the whole file."""
        if self.images % _images_a_block(self.size):
            self._end_block()
        said: dict[str, Any] = {"images": self.images, "size": self.size, "hashes": self._hashes}
        said["bad"] = [[i, reason] for i, reason in self.bad.items()]
        text = to_json({**said, SEAL: seal_of(said)}).encode()
        tail = text + struct.pack("<Q", len(text))
        self._whole.update(tail)
        handle.write(tail)
        return self._whole.hexdigest()

    def pack(self) -> Pack:
        """What was written."""
        return Pack(self.images, dict(self.bad))


def _images_a_block(size: int) -> int:
    return max(1, BLOCK_BYTES // (size * size * 3))


def read_pack(path: Path, count: int, size: int) -> Pack | None:
    """The pack of ``count`` images in a file, every block compared with its hash; None where it is not whole."""
    try:
        said = _read_trailer(path)
        bad = dict(said.bad)
        whole = said.size == size and said.images + len(bad) == count and all(0 <= i < count for i in bad)
        pack = Pack(said.images, bad)
        return pack if whole and said.images and check_blocks(pack.pixels(path, size), said.hashes) else None
    except (DamagedFile, OSError, ValueError, KeyError):
        return None


def _read_trailer(path: Path) -> _Trailer:
    """The trailer; DamagedFile, ValueError or OSError where there is none."""
    with open_regular(path) as handle:
        end = handle.seek(-8, os.SEEK_END)
        (length,) = struct.unpack("<Q", handle.read(8))
        if length > min(end, MAX_JSON):
            raise ValueError("it has no trailer")
        handle.seek(end - length)
        box = parse_bounded(handle.read(length).decode())
    said = check_schema(_Trailer, _tuples(box), path, "a pack of images")
    if box.pop(SEAL) != seal_of(box) or end - length != said.images * said.size**2 * 3:
        raise ValueError("its trailer was altered")
    return said


def _tuples(box: Any) -> Any:
    """The trailer with its pairs as tuples, as the schema has them."""
    if isinstance(box, dict) and isinstance(box.get("bad"), list):
        return {**box, "bad": [tuple(pair) if isinstance(pair, list) else pair for pair in box["bad"]]}
    return box


def check_blocks(pixels_MSS3: np.ndarray, hashes: list[str]) -> bool:
    """Tell whether every block of the pixels has its hash."""
    step = _images_a_block(pixels_MSS3.shape[1])
    starts = range(0, len(pixels_MSS3), step)
    if len(starts) != len(hashes):
        return False
    with ThreadPoolExecutor(THREADS) as pool:
        found = pool.map(lambda start: xxhash.xxh3_128_hexdigest(pixels_MSS3[start : start + step].data), starts)
        return list(found) == hashes
