"""What the header of an image says of it, before its pixels are touched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

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
    width, height = image.size
    tables: dict[int, Any] = getattr(image, "quantization", None) or {}
    bits = getattr(image, "tag_v2", {}).get(_BITS, (8,))
    most = max(bits) if isinstance(bits, tuple) and bits else 8
    return Header(
        format=kind,
        mode=image.mode,
        width=width,
        height=height,
        orientation=1 if kind == "PNG" and "exif" not in image.info else orientation(image),  # it may stand at its end
        alpha=image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info,
        deep=image.mode in DEEP or (isinstance(most, int) and most > 8),
        coarseness=sum(tables[min(tables)]) if tables else 0,
    )
