"""TIFF files: their kinds of pixels in words, and those that Pillow reads once it is told of them in other tags."""

from __future__ import annotations

from typing import Any

from PIL import ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from .containers import NoReader

_BITS, _COMPRESSION, _COLOURS, _SAMPLES, _FORMAT = 258, 259, 262, 277, 339
_WHITE_IS_ZERO, _BLACK_IS_ZERO = 0, 1
MOST_KINDS = 4  # depths and formats of one image that a sentence tells: a damaged header may say hundreds
_FORMATS = {1: "integers", 2: "signed integers", 3: "floats", 4: "untyped values", 5: "complex integers", 6: "complex"}
_COLOUR_NAMES = {
    2: "RGB",
    3: "colours of a palette",
    4: "a mask",
    5: "CMYK",
    6: "YCbCr",
    8: "Lab",
    9: "Lab",
    10: "Lab",
    32803: "a camera's raw pixels",
    32844: "logarithms",
    32845: "logarithms",
    34892: "a camera's raw pixels",
}
_NATIVE = {"I;32BS": "I;32NS", "I;16BS": "I;16NS", "F;32BF": "F;32NF"}  # libtiff has swapped their bytes


class Tiff(TiffImageFile):
    """Pillow's reader, which says of what it cannot read of what kind it is, as NoReader.

    It reads grey pixels of more than 8 bits whose white is zero as if black were: `white_is_zero` tells it of the tags,
    which stay as they are in the file. Its size and its pixels are those of the file too: Pillow's own are turned by
    the EXIF orientation, as of no other format.
    """

    def _setup(self) -> None:
        kept = {tag: self.tag_v2[tag] for tag in (_COLOURS, _FORMAT) if tag in self.tag_v2}
        self._retell()
        try:
            super()._setup()
        except (KeyError, OSError, SyntaxError) as error:
            for tag, value in kept.items():
                self.tag_v2[tag] = value
            raise self._no_reader(error) from error
        for tag, value in kept.items():
            self.tag_v2[tag] = value
        self._size = self._tile_size
        if self.use_load_libtiff:
            self.tile = [tile._replace(args=_in_native_order(tile.args)) for tile in self.tile]

    def load_end(self) -> None:
        """Leave the pixels as they are stored."""

    def _retell(self) -> None:
        """Put other tags in place of those that Pillow has no reader for, with the same pixels."""
        if max(_numbers(self.tag_v2, _BITS, 1)) <= 8 or max(_numbers(self.tag_v2, _SAMPLES, 1)) > 1:
            return
        if white_is_zero(self):
            self.tag_v2[_COLOURS] = _BLACK_IS_ZERO
        if unsigned_32(self) and self.tag_v2.prefix == b"MM":
            self.tag_v2[_FORMAT] = 2

    def _no_reader(self, error: Exception) -> Exception:
        """Tell a kind that there is no reader for from a file that is broken."""
        if isinstance(error, KeyError) and error.args == (self.tag_v2.get(_COMPRESSION),):
            return NoReader(f"compression {error.args[0]}")
        said = str(error)
        if "Photo files" in said:
            return NoReader("Windows Media Photo")
        if said in ("unknown pixel mode", "unknown data organization", "Invalid value for samples per pixel"):
            bits, colours = _numbers(self.tag_v2, _BITS, 1), _numbers(self.tag_v2, _COLOURS, _BLACK_IS_ZERO)
            if max(bits) > 0 and (max(colours) <= 10 or colours[0] in _COLOUR_NAMES):
                return NoReader(_in_words(self.tag_v2))
        return error


def _in_native_order(args: Any) -> Any:
    return (_NATIVE.get(args[0], args[0]), *args[1:])


def _numbers(tags: Any, tag: int, otherwise: int) -> tuple[int, ...]:
    """Return the whole numbers in a tag."""
    value = tags.get(tag, otherwise)
    found = tuple(v for v in (value if isinstance(value, tuple) else (value,)) if isinstance(v, int))
    return found or (otherwise,)


def _in_words(tags: Any) -> str:
    bits, formats = _numbers(tags, _BITS, 1), _numbers(tags, _FORMAT, 1)
    samples, colours = _numbers(tags, _SAMPLES, 1)[0], _numbers(tags, _COLOURS, _BLACK_IS_ZERO)[0]
    depth = "-, ".join(str(b) for b in sorted(set(bits))[:MOST_KINDS]) + "-bit"
    kind = " and ".join(_FORMATS.get(f, f"format {f}") for f in sorted(set(formats))[:MOST_KINDS])
    what = [f"{depth} {kind}".replace("complex integers", "complex"), _COLOUR_NAMES.get(colours, "")]
    usual = {2: 3, 5: 4, 6: 3, 8: 3}.get(colours, 1)
    what.append(f"{samples} values a pixel" if samples != usual else "")
    return ", ".join(part for part in what if part)


def white_is_zero(image: Any) -> bool:
    """Tell whether a TIFF's tags say that its zero is white; a tag that is not there says nothing."""
    tags = getattr(image, "tag_v2", None)
    return tags is not None and tags.get(_COLOURS) == _WHITE_IS_ZERO


def unsigned_32(image: Any) -> bool:
    """Tell whether a TIFF's pixels are whole numbers of 32 bits without a sign, which Pillow has in signed ones."""
    tags = getattr(image, "tag_v2", None)
    return tags is not None and _numbers(tags, _BITS, 1) == (32,) and _numbers(tags, _FORMAT, 1) == (1,)


def brightest(image: ImageFile.ImageFile | Any) -> int:
    """Return the value of white in grey pixels of up to 16 bits: 4095 where a TIFF says that they have 12."""
    tags = getattr(image, "tag_v2", None)
    return 4095 if tags is not None and _numbers(tags, _BITS, 16) == (12,) else 65535
