"""A .tar.gz read member by member, with nothing unpacked onto the disk and no size believed before it is compared.

Python's own reader skips and collects as many bytes as a header says, and reads the names in a gzip header one byte at
a time. This one knows plain headers alone: what an extended header would rename or stretch is none of the files wanted.
"""

from __future__ import annotations

import os
import tarfile
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO

MAX_UNPACKED = 512 * 2**20  # bytes; the official archive unpacks to 186 MB
MAX_MEMBERS = 1_000  # headers, extended ones too; the official archive has 9
MAX_STREAMS = 20_000  # gzip streams one after the other: bgzip makes one for each 64 KB
BLOCK = 512
_PIECE = 1 << 18
_WHOLE = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
_WITHOUT_DATA = (tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE)


class ArchiveRefused(ValueError):
    """An archive that is damaged, or that asks for more than any of the kind."""


def members(path: Path, wanted: Collection[str], largest: int) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the bytes of each wanted file, in the order of the archive, then compare its checksum.

    Raises ArchiveRefused, also for a wanted file of more than ``largest`` bytes, and OSError.
    """
    with open(path, "rb") as handle:
        if os.fstat(handle.fileno()).st_size > MAX_UNPACKED:
            raise ArchiveRefused(f"it is larger than {MAX_UNPACKED >> 20} MB")
        stream = _Unzipped(handle)
        try:
            for name, size in _headers(stream):
                if name not in wanted:
                    stream.skip(size)
                    continue
                if size > largest:
                    raise ArchiveRefused(f"{name} in it is larger than any such file")
                yield name, stream.read(size)
            stream.drain()
        except (tarfile.TarError, UnicodeError) as error:
            raise ArchiveRefused(f"a header in it is damaged ({error})") from error
        except zlib.error as error:
            raise ArchiveRefused("it is damaged, or no gzip file") from error


def _headers(stream: _Unzipped) -> Iterator[tuple[str, int]]:
    """Yield the name and the size of each member; a name of nothing for what is no whole file.

    Who asks for the next has read or skipped as many bytes; the padding is skipped here.
    """
    for _ in range(MAX_MEMBERS):
        block = stream.read(BLOCK, or_nothing=True)
        if not block.strip(b"\0"):
            return
        header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        if header.type == tarfile.GNUTYPE_SPARSE or header.size < 0:
            raise ArchiveRefused("a member in it has holes, or less than nothing")
        size = 0 if header.type in _WITHOUT_DATA else header.size
        yield header.name.removeprefix("./") if header.type in _WHOLE else "", size
        stream.skip(-size % BLOCK)
    raise ArchiveRefused(f"it has more than {MAX_MEMBERS:,} members")


class _Unzipped:
    """The bytes behind a gzip file, of which no more than `MAX_UNPACKED` are ever made."""

    def __init__(self, handle: BinaryIO) -> None:
        self.handle, self.packed, self.inflater = handle, b"", zlib.decompressobj(31)  # 31: with header and checksum
        self.piece, self.at = b"", 0
        self.left, self.streams = MAX_UNPACKED, 1

    def read(self, size: int, *, or_nothing: bool = False) -> bytes:
        """Return as many bytes; with ``or_nothing`` none where the file is at its end."""
        parts = []
        while size:
            part = self._some(size)
            if not part and or_nothing and not parts:
                return b""
            if not part:
                raise ArchiveRefused("it ends too early")
            size -= len(part)
            parts.append(part)
        return b"".join(parts)

    def skip(self, size: int) -> None:
        """Pass over as many bytes; more than can follow are refused at once."""
        if size > self.left + len(self.piece) - self.at:
            raise ArchiveRefused(f"it would unpack to more than {MAX_UNPACKED >> 20} MB")
        while size:
            part = self._some(size)
            if not part:
                raise ArchiveRefused("it ends too early")
            size -= len(part)

    def drain(self) -> None:
        """Pass over the rest, so that its checksum is compared."""
        while self._some(_PIECE):
            pass

    def _some(self, most: int) -> bytes:
        """Return up to as many bytes; none at the end."""
        if self.at == len(self.piece):
            self.piece, self.at = self._inflated(), 0
            self.left -= len(self.piece)
            if self.left < 0:
                raise ArchiveRefused(f"it unpacks to more than {MAX_UNPACKED >> 20} MB")
        part = self.piece[self.at : self.at + most]
        self.at += len(part)
        return part

    def _inflated(self) -> bytes:
        while True:
            if self.inflater.eof and not self._next_stream():
                return b""
            packed = self.packed or self.handle.read(1 << 16)
            piece = self.inflater.decompress(packed, _PIECE)
            self.packed = self.inflater.unused_data if self.inflater.eof else self.inflater.unconsumed_tail
            if piece:
                return piece
            if not packed and not self.inflater.eof:
                raise ArchiveRefused("it ends too early")

    def _next_stream(self) -> bool:
        """Begin the gzip stream that follows another, past the zeros between them; tell whether there is one."""
        self.packed = self.packed.lstrip(b"\0")
        while not self.packed and (more := self.handle.read(1 << 16)):
            self.packed = more.lstrip(b"\0")
        if not self.packed:
            return False
        self.streams += 1
        if self.streams > MAX_STREAMS:
            raise ArchiveRefused(f"it is more than {MAX_STREAMS:,} gzip files in one")
        self.inflater = zlib.decompressobj(31)
        return True
