"""What the header of an image says of it, before its pixels are touched."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
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
        _read_late_chunks(image)
    width, height = image.size
    tables: dict[int, Any] = getattr(image, "quantization", None) or {}
    bits = getattr(image, "tag_v2", {}).get(_BITS, (8,))
    most = max(bits) if isinstance(bits, tuple) and bits else 8
    return Header(
        format=kind,
        mode=image.mode,
        width=width,
        height=height,
        orientation=orientation(image),
        alpha=image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info,
        deep=image.mode in DEEP or (isinstance(most, int) and most > 8),
        coarseness=sum(tables[min(tables)]) if tables else 0,
    )


def _read_late_chunks(image: Any) -> None:
    """Put the EXIF and texts of a PNG that stand behind its pixels into its ``info``, as Pillow does once it decodes.

    The file is read no further than to its last chunk, and its pixels are passed over.
    """
    stream, file = image.png, image.fp
    start, counted = file.tell(), stream.text_memory
    for name, place, size in list(_late_chunks(file)):
        file.seek(place)
        try:
            stream.call(name, place, size)
        except UnicodeDecodeError:  # where Pillow stops, too
            break
    file.seek(start)
    stream.text_memory = counted  # counted again when it decodes


def _late_chunks(file: IO[bytes]) -> Iterator[tuple[bytes, int, int]]:
    """Yield the name, place and size of the content of each chunk behind the pixels that may tell an orientation."""
    late = False
    end = file.seek(0, os.SEEK_END)
    file.seek(8)
    while len(head := file.read(8)) == 8:
        size, name = struct.unpack(">I4s", head)
        place = file.tell()
        if name == b"IEND" or place + size > end:
            break
        late |= name == b"IDAT"
        if late and name in (b"eXIf", b"tEXt", b"zTXt", b"iTXt"):
            yield name, place, size
        file.seek(place + size + 4)
