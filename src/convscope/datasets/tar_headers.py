"""The files in a tar by their headers: names and places of their bytes, none of which are unpacked.

A name is only a name here, and no size is believed before it is compared with the file. What a set of images does not
hold (links, devices, holes, paths that lead elsewhere) is refused and not passed over: it is told, not guessed.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from ..visible import visible

BLOCK = 512
MAX_EXTENDED = 1 << 20  # bytes of one header that renames or stretches the next member
PIECE = 1 << 20
_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
_EXTENDED = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.XGLTYPE)
_LONG = {tarfile.GNUTYPE_LONGNAME: "path", tarfile.GNUTYPE_LONGLINK: "linkpath"}
_LABEL = b"V"  # of a volume: a name and nothing else
_REFUSED = {
    tarfile.LNKTYPE: "a link",
    tarfile.SYMTYPE: "a link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
    tarfile.GNUTYPE_SPARSE: "a file with holes",
    b"M": "the rest of a file of another volume",
}
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}


class TarRefused(ValueError):
    """A tar that is torn, or holds what no set of images holds; the reason is what is said of it."""


@dataclass(frozen=True)
class TarFile:
    """A file in a tar: ``length`` bytes from ``start`` on."""

    name: str
    start: int
    length: int


@dataclass
class _Next:
    """What extended headers say of the member that follows them."""

    said: dict[str, str] = field(default_factory=dict)

    def taken(self) -> dict[str, str]:
        said, self.said = self.said, {}
        return said


def tar_files(handle: BinaryIO, size: int) -> Iterator[TarFile]:
    """The files in a tar of ``size`` bytes, in order; at each the handle stands at its first byte.

    Raises TarRefused and OSError.
    """
    extended, last = _Next(), ""
    while True:
        at = handle.tell()
        block = handle.read(BLOCK)
        if at == 0:
            _refuse_others(block)
        if len(block) < BLOCK:
            behind = f" behind {shown(last)}" if last else ""
            raise TarRefused(f"it ends{behind} without the end mark of a tar: it was cut off; fetch it again")
        if not block.strip(b"\0"):
            break
        header = _header(block, at)
        found = _member(header, handle, size, extended)
        if found is not None:
            last = found.name
            yield found
            handle.seek(found.start + _padded(found.length))
    _check_end(handle)


def shown(name: str) -> str:
    """A member's name in a sentence: on one line, and not without end."""
    told = visible(name)
    return repr(told if len(told) <= 120 else f"{told[:100]}...")


def _refuse_others(start: bytes) -> None:
    """TarRefused for a file that begins as no tar does."""
    for magic, kind in _COMPRESSED.items():
        if start.startswith(magic):
            raise TarRefused(
                f"it is compressed ({kind}), so that no image in it can be found alone: unpack it to a .tar"
            )
    if len(start) == BLOCK and not start.strip(b"\0"):
        raise TarRefused("it begins with zeros: it is empty, or was never written")


def _header(block: bytes, at: int) -> tarfile.TarInfo:
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError) as error:
        if at == 0:
            raise TarRefused("it is no tar") from error
        raise TarRefused(f"the header at byte {at:,} is damaged ({error})") from error


def _member(header: tarfile.TarInfo, handle: BinaryIO, size: int, extended: _Next) -> TarFile | None:
    """The file that a header is of; None for what says something of the next, or has no bytes."""
    if header.type in _EXTENDED or header.type in _LONG:
        _read_extended(header, handle, size, extended)
        return None
    said = extended.taken()
    name = said.get("path", header.name)
    if any(key.startswith("GNU.sparse") for key in said):
        raise TarRefused(f"{shown(name)} in it is a file with holes; a shard holds plain files only")
    if header.type in _REFUSED:
        raise TarRefused(f"{shown(name)} in it is {_REFUSED[header.type]}; a shard holds plain files only")
    if header.type in (tarfile.DIRTYPE, _LABEL) or (header.type == tarfile.AREGTYPE and name.endswith("/")):
        return None
    if header.type not in _FILES:
        raise TarRefused(f"{shown(name)} in it is of a kind that is not known; a shard holds plain files only")
    start, length = handle.tell(), _length(said, header, name)
    if start + length > size:
        raise TarRefused(
            f"{shown(name)} in it should have {length:,} bytes and {max(0, size - start):,} are there: it was cut off; "
            "fetch it again"
        )
    return TarFile(_plain_name(name), start, length)


def _length(said: dict[str, str], header: tarfile.TarInfo, name: str) -> int:
    told = said.get("size", "")
    if told and not (told.isascii() and told.isdecimal() and len(told) < 20):
        raise TarRefused(f"{shown(name)} in it has the size {told[:40]!r}")
    length = int(told) if told else header.size
    if length < 0:
        raise TarRefused(f"{shown(name)} in it has less than no bytes")
    return length


def _plain_name(name: str) -> str:
    """The name without "./" before it; TarRefused for a path that leads out of a folder."""
    parts = name.split("/")
    if name.startswith("/") or ".." in parts or "\0" in name:
        raise TarRefused(f"{shown(name)} in it is a path that leads elsewhere; names in a shard are plain")
    return "/".join(part for part in parts if part not in ("", "."))


def _read_extended(header: tarfile.TarInfo, handle: BinaryIO, size: int, extended: _Next) -> None:
    """Note what a header in several blocks says of the next member."""
    start = handle.tell()
    if not 0 <= header.size <= min(MAX_EXTENDED, size - start):
        raise TarRefused(f"the header at byte {start - BLOCK:,} says that it has {header.size:,} bytes")
    data = handle.read(header.size)
    handle.seek(start + _padded(header.size))
    if header.type in _LONG:
        extended.said[_LONG[header.type]] = data.rstrip(b"\0").decode("utf-8", "surrogateescape")
        return
    said = _records(data, start)
    if header.type != tarfile.XGLTYPE:
        extended.said |= said
    elif {"path", "size"} & said.keys() or any(key.startswith("GNU.sparse") for key in said):
        raise TarRefused("it gives one name or size to all files in it")


def _records(data: bytes, start: int) -> dict[str, str]:
    """The records of a pax header, each "length key=value" and an end of line."""
    found: dict[str, str] = {}
    at = 0
    while at < len(data) and data[at]:
        blank = data.find(b" ", at, at + 8)
        length = int(data[at:blank]) if blank > at and data[at:blank].isdigit() else 0
        record = data[blank + 1 : at + length]
        key, equals, value = record.partition(b"=")
        if not equals or not record.endswith(b"\n") or at + length > len(data):
            raise TarRefused(f"the extended header at byte {start:,} is damaged")
        found[key.decode("utf-8", "replace")] = value[:-1].decode("utf-8", "surrogateescape")
        at += length
    return found


def _check_end(handle: BinaryIO) -> None:
    """TarRefused where something follows the end mark: it would be lost without a word."""
    while piece := handle.read(PIECE):
        if piece.strip(b"\0"):
            raise TarRefused(
                "something follows its end mark: it is two tars one behind the other, or zeros stand in its middle"
            )


def _padded(length: int) -> int:
    return -(-length // BLOCK) * BLOCK
