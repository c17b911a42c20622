"""Decoding: any image, safely, into upright RGB. The only place where a foreign file meets a decoder.

Whatever is wrong with a file becomes a `ImageError` with a reason in a few words.
"""

from __future__ import annotations

import io
import os
import re
import stat
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import jpeg_factory
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from ..errors import ImageError

MAX_PIXELS = 50_000_000
BACKGROUND = (255, 255, 255)  # what lies behind transparent pixels
DRAFT_MARGIN = 2  # a JPEG decoded at a reduced scale keeps both sides at least this many times the side asked for
# fmt: off
EXTENSIONS = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".gif", ".bmp", ".tif", ".tiff",
    ".ppm", ".pgm", ".pbm", ".pnm", ".pfm",
})
# fmt: on

# The first bytes of a file decide what it is; the reader is called itself because Image.open warns, and refuses huge
# images without saying their size.
_READERS = {
    "JPEG": (rb"\xff\xd8\xff", jpeg_factory),  # the multi-image MPO of cameras too: its first image
    "PNG": (rb"\x89PNG\r\n\x1a\n", PngImageFile),
    "WEBP": (rb"RIFF....WEBP", WebPImageFile),
    "GIF": (rb"GIF8[79]a", GifImageFile),
    "BMP": (rb"BM", BmpImageFile),
    "TIFF": (rb"II[*+]\0|MM\0[*+]|MM\*\0|II\0\*", TiffImageFile),
    "PPM": (rb"P[0-6fy]", PpmImageFile),
}
_REFUSED = {
    "EPS": rb"%!PS|\xc5\xd0\xd3\xc6",
    "PDF": rb"%PDF",
    "SVG": rb"(\xef\xbb\xbf)?\s*(<\?xml[^>]*>\s*)?<svg",
    "HEIC": rb"....ftyp(hei|hev|mif1|msf1)",
    "AVIF": rb"....ftypavi",
    "JPEG XL": rb"\xff\x0a|\0\0\0\x0cJXL ",
    "JPEG 2000": rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51",
    "PSD": rb"8BPS",
    "ICO": rb"\0\0[\1\2]\0",
}
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_PILLOW_WARNINGS = ("ignore", None, Warning, re.compile(r"PIL\."), 0)


def decode(source: Path | bytes, *, where: str | None = None, at_least: int | None = None) -> Image.Image:
    """The image in a file, or in its bytes, as a loaded and upright RGB image; of an animation the first frame.

    What it is is told by its content, never by its name. Its pixels are not touched when the header says more than
    `MAX_PIXELS`. Its EXIF orientation is applied once; an unreadable one counts as none. Transparency is laid on
    `BACKGROUND`. 16-bit pixels, and 32-bit integers that all lie in 0..65535, are divided by 257; other integers are
    stretched from their own minimum and maximum to 0..255; floats are multiplied by 255 when all lie in 0..1 and else
    stretched the same way; a NaN or an infinity is black. CMYK in a JPEG is read inverted, as Adobe writes it.

    ``at_least``, a side in pixels, lets a JPEG be decoded at 1/2, 1/4 or 1/8 of its size as long as both sides stay
    `DRAFT_MARGIN` times that long. ``where`` names the image in errors; the default is its path.
    Raises ImageError, and nothing else, for anything that is not an image we can read.
    """
    name = where or (str(source) if isinstance(source, str | os.PathLike) else "image")
    with _opened(source, name) as file:
        return guarded(lambda: _decoded(file, name, at_least), name)


def guarded(work, name: str) -> Image.Image:
    """Tell what ``work`` returns; whatever a decoder raises in it becomes a ImageError."""
    if warnings.filters[:1] != [_PILLOW_WARNINGS]:  # what they say is in the error or of no matter to the pixels
        warnings.filterwarnings("ignore", module=r"PIL\.")
    try:
        return work()
    except ImageError:
        raise
    except Exception as error:
        raise ImageError(name, _reason(error)) from error


@contextmanager
def _opened(source: Path | bytes, name: str) -> Iterator[BinaryIO]:
    """The file, open for reading; what is no regular file is refused unopened: opening a FIFO waits for ever."""
    if not isinstance(source, str | os.PathLike):
        yield io.BytesIO(source)
        return
    try:
        if not stat.S_ISREG(os.stat(source).st_mode):
            raise ImageError(name, "not a file")
        file = open(source, "rb")  # noqa: SIM115 - closed below; the errors of opening are told apart from those within
    except (FileNotFoundError, NotADirectoryError):
        raise ImageError(name, "does not exist") from None
    except PermissionError:
        raise ImageError(name, "cannot be opened: permission denied") from None
    except (OSError, ValueError) as error:
        raise ImageError(name, f"cannot be opened: {getattr(error, 'strerror', None) or error}".lower()) from None
    with file:
        yield file


def _decoded(file: BinaryIO, name: str, at_least: int | None) -> Image.Image:
    reader = _reader(file.read(512), name)
    image = _header(reader, file)
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ImageError(name, f"too large: {width} x {height} is over {MAX_PIXELS // 1_000_000} million pixels")
    if image.format == "PNG":  # Pillow decodes pixels without looking at their checksums; verifying uses the image up
        image.verify()
        image = _header(reader, file)
    if at_least:
        image.draft(None, (DRAFT_MARGIN * at_least, DRAFT_MARGIN * at_least))
    return upright_rgb(image)


def _reader(head: bytes, name: str):
    """The reader for a file that begins with ``head``."""
    if not head:
        raise ImageError(name, "empty file")
    for magic, reader in _READERS.values():
        if re.match(magic, head, re.DOTALL):
            return reader
    for format_name, magic in _REFUSED.items():
        if re.match(magic, head, re.DOTALL):
            raise ImageError(name, f"format {format_name} is not allowed")
    raise ImageError(name, "not an image (PNG, JPEG, WEBP, GIF, BMP, TIFF or PPM)")


def _header(reader, file: BinaryIO) -> ImageFile.ImageFile:
    """The image with only its header read. A WebP that is shorter than it says is told here: its decoder only fails."""
    file.seek(0)
    if reader is WebPImageFile:
        promised = int.from_bytes(file.read(8)[4:], "little") + 8
        if file.seek(0, os.SEEK_END) < promised:
            raise EOFError
        file.seek(0)
    return reader(file, "")


def _reason(error: Exception) -> str:
    """Tell what a decoder raised, in a few printable words."""
    if isinstance(error, Image.DecompressionBombError):
        return f"too large: over {MAX_PIXELS // 1_000_000} million pixels"
    if isinstance(error, MemoryError):
        return "corrupt: asks for more memory than there is"
    if isinstance(error, OSError) and error.errno is not None:
        return f"cannot be read: {(error.strerror or 'input/output error').lower()}"
    text = " ".join("".join(c if c.isprintable() else " " for c in str(error)).split())[:80]
    short = isinstance(error.__cause__ or error, EOFError | IndexError | struct.error)
    if short or re.search("truncated|not enough image data|end of file|incomplete", text, re.IGNORECASE):
        return "truncated"
    if text == "not identified by this driver":  # what Pillow says of a header without a mode or a size
        return "corrupt: its header tells no size"
    return f"corrupt: {text or type(error).__name__}"


def upright_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow image as a new RGB image, upright, without metadata; the rules are those of `decode`."""
    _scale_transparency(image)
    image.load()
    try:
        turn = _TRANSPOSE.get(int(image.getexif().get(0x0112, 1)))
    except Exception:  # whatever a broken EXIF block makes its parser raise, the image is as it stands
        turn = None
    rgb = _rgb(image)
    upright = rgb.transpose(turn) if turn is not None else rgb.copy() if rgb is image else rgb
    upright.info.clear()  # an orientation left in here would be applied again by the next reader
    return upright


def _scale_transparency(image: Image.Image) -> None:
    """Pillow brings the pixels of a PNG of 2, 4 or 16 bits to 8, but not its transparent colour."""
    colour = image.info.get("transparency")
    layout = image.tile[0][3] if getattr(image, "tile", None) else None
    if layout in ("L;2", "L;4") and isinstance(colour, int):
        image.info["transparency"] = min(colour * (85 if layout == "L;2" else 17), 255)
    elif layout == "RGB;16B" and isinstance(colour, tuple):
        image.info["transparency"] = tuple(value >> 8 for value in colour)


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return Image.fromarray(_eight_bits(image)).convert("RGB")
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if not image.has_transparency_data:
        return image.convert("RGB")
    rgba = image.convert("LA").convert("RGBA") if image.mode == "La" else image.convert("RGBA")
    canvas = Image.new("RGB", image.size, BACKGROUND)
    canvas.paste(rgba, mask=rgba.getchannel("A"))
    return canvas


def _eight_bits(image: Image.Image) -> np.ndarray:
    """The pixels of a 16-bit, 32-bit or float grey image as uint8 (H, W); `decode` states the rule."""
    values = np.asarray(image)
    if image.mode == "F":
        finite = np.isfinite(values)
        low, high = (values.min(where=finite, initial=np.inf), values.max(where=finite, initial=-np.inf))
        low, high = (0.0, 1.0) if low >= 0 and high <= 1 else (float(low), float(high))
        values = np.where(finite, values, low)
    else:
        low, high = int(values.min()), int(values.max())
        if low >= 0 and high <= 65535:
            grey = ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)  # round(v / 257), exactly
            colour = image.info.get("transparency")
            if isinstance(colour, int):
                grey[values == colour] = BACKGROUND[0]
            return grey
    span = float(high) - float(low) or 1.0
    return np.rint((values.astype(np.float64) - low) * (255.0 / span)).astype(np.uint8)
