"""What the header of an image says of it, before its pixels are touched."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import IO, Any

from PIL import Image

from .upright import orientation

DEEP = ("I;16", "I;16B", "I;16L", "I;16N", "I", "F")  # modes of more than 8 bits a channel
_BITS = 258  # the tag of a TIFF that holds the bits of each sample


@dataclass(frozen=True)
class Header:
    """What a file is: ``format`` ("JPEG"), Pillow's ``mode``, sides in pixels as stored, and what is special in it."""

    format: str
    mode: str
    width: int
    height: int
    orientation: int = 1  # of EXIF, 1 to 8; 1 is upright
    alpha: bool = False
    deep: bool = False  # more than 8 bits a channel
    coarseness: int = 0  # the sum of a JPEG's first quantisation table: larger is a lower quality; 0 of others

    @property
    def upright_size(self) -> tuple[int, int]:
        """Width and height once its orientation is applied."""
        return (self.height, self.width) if self.orientation >= 5 else (self.width, self.height)


def header_of(image: Image.Image, kind: str) -> Header:
    """Read the header of an image whose pixels are not loaded yet."""
    if kind == "PNG":
        _find_late_exif(image)
    width, height = image.size
    tables: dict[int, Any] = getattr(image, "quantization", None) or {}
    bits = getattr(image, "tag_v2", {}).get(_BITS, (8,))
    most = max(bits) if isinstance(bits, tuple) and bits else 8
    return Header(
        format=kind,
        mode=image.mode,
        width=width,
        height=height,
        orientation=1 if kind == "PNG" and "exif" not in image.info else orientation(image),
        alpha=image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info,
        deep=image.mode in DEEP or (isinstance(most, int) and most > 8),
        coarseness=sum(tables[min(tables)]) if tables else 0,
    )


def _find_late_exif(image: Image.Image) -> None:
    """Put the EXIF of a PNG that stands behind its pixels into its ``info``, as Pillow does once it decodes them."""
    file = getattr(image, "fp", None)
    if file is None:
        return
    start = file.tell()
    block = _last_exif(file)
    file.seek(start)
    if block:
        image.info["exif"] = b"Exif\0\0" + block


def _last_exif(file: IO[bytes]) -> bytes:
    """The content of the last eXIf chunk; empty without one. The file is read no further than to its last chunk."""
    found = b""
    file.seek(8)
    while len(head := file.read(8)) == 8:
        size, name = struct.unpack(">I4s", head)
        if name == b"IEND":
            break
        if name == b"eXIf":
            found = file.read(size)
            size = 0
        file.seek(size + 4, os.SEEK_CUR)
    return found
