"""Decoding: any image, safely, into upright RGB. The only place where a foreign file meets a decoder.

Whatever is wrong with a file becomes a `ImageError` with a reason in a few words.
"""

from __future__ import annotations

import os
import re
import stat
import struct
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from PIL import Image, ImageFile
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.WebPImagePlugin import WebPImageFile

from ..errors import ImageError
from .containers import MB, NoReader, TooMuch, inspect
from .decoding_budget import BUDGET
from .decoding_cost import IN_PYTHON, MAX_COST, cost, decoder_of
from .file_names import EXTENSIONS, reads_heic
from .headers import Header, header_of
from .members import Member
from .netpbm import quick
from .places import InMemory, OnDisk
from .png import without_damaged_comments
from .quiet import silence_libraries
from .tiff import Tiff
from .upright import BACKGROUND, upright_rgb

__all__ = ["BACKGROUND", "DRAFT_MARGIN", "EXTENSIONS", "MAX_PIXELS", "MAX_SIDE", "decode", "guarded", "upright_rgb"]

T = TypeVar("T")
MAX_PIXELS = 50_000_000
MAX_SIDE = 65_535  # pixels
MAX_RUN_LENGTHS = 16_000_000  # pixels of a BMP in run lengths, which Pillow reads in Python
FEW_BITS = {"L;2": 85, "L;4": 17}  # by what Pillow multiplies the greys of two and four bits
DRAFT_MARGIN = 2  # a JPEG decoded at a reduced scale keeps both sides at least this many times the side asked for

# The first bytes of a file decide what it is; the reader is called itself because Image.open warns, and refuses huge
# images without saying their size.
_READERS = {
    "JPEG": (rb"\xff\xd8\xff", JpegImageFile),  # the multi-image MPO of cameras too: its first image
    "PNG": (rb"\x89PNG\r\n\x1a\n", PngImageFile),
    "WEBP": (rb"RIFF....WEBP", WebPImageFile),
    "GIF": (rb"GIF8[79]a", GifImageFile),
    "BMP": (rb"BM", BmpImageFile),
    "TIFF": (rb"II[*+]\0|MM\0[*+]|MM\*\0|II\0\*", Tiff),
    "PPM": (rb"P[0-6fy]", PpmImageFile),
    "AVIF": (rb"....ftyp(avi[fs]|(mif1|msf1|miaf).{4}(.{4}){0,12}?avi[fs])", AvifImageFile),
}
_HEIC = re.compile(rb"....ftyp(hei|hev|mif1|msf1)", re.DOTALL)
_REFUSED = {
    "EPS": rb"%!PS|\xc5\xd0\xd3\xc6",
    "PDF": rb"%PDF",
    "SVG": rb"(\xef\xbb\xbf)?\s*(<\?xml[^>]*>\s*)?<svg",
    "JPEG XL": rb"\xff\x0a|\0\0\0\x0cJXL ",
    "JPEG 2000": rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51",
    "PSD": rb"8BPS",
    "ICO": rb"\0\0[\1\2]\0",
}
_PAGE = re.compile(
    rb"(\xef\xbb\xbf)?\s*(<!--.{0,200}?-->\s*)?<(!doctype\s+html|html|head|body)\b", re.IGNORECASE | re.DOTALL
)
# What Pillow says of whole files of a kind that it has no reader for.
_NO_READER = re.compile(r"(?:Unsupported|cannot handle) (BMP (?!Palette).*|[0-9]+-(?:bit|layer) .*)")
_PILLOW_WARNINGS = ("ignore", None, Warning, re.compile(r"PIL\."), 0)


def decode(
    source: Path | bytes, *, where: str | None = None, at_least: int | None = None, stretch: bool = False
) -> Image.Image:
    """The image in a file, or in its bytes, as a loaded and upright RGB image; of an animation the first frame.

    What it is is told by its content, never by its name. Its pixels are not touched when the header says more than
    `MAX_PIXELS`, a side of more than `MAX_SIDE`, or so much beside the pixels, or so many bytes for them, that decoding
    would take more than half a gigabyte or many seconds. Its EXIF orientation is applied once; an unreadable one counts
    as none. A colour profile is not applied. Transparency is laid on `BACKGROUND`. Grey pixels of 16 bits, and 32-bit
    integers that all lie in 0..65535, are divided by 257; of colours of 16 bits the upper 8 count. Other integers are
    stretched from their own minimum and maximum to 0..255; floats are multiplied by 255 when all lie in 0..1 and else
    stretched the same way; a NaN or an infinity is black. White is 4095 in a TIFF of 12 bits; one that says that its
    zero is white is turned over, at any depth. CMYK in a JPEG is read inverted, as Adobe writes it. Of a PNG, a wrong
    checksum is passed over, with its chunk, where no pixel needs the chunk.

    ``at_least``, a side in pixels, lets a JPEG be decoded at 1/2, 1/4 or 1/8 of its size as long as both sides stay
    `DRAFT_MARGIN` times that long. With ``stretch`` the darkest value of the image becomes 0 and the brightest 255, of
    the three channels together, at the depth that the file has for grey, and at 8 bits for colours, of which Pillow
    gives no more; one of a single value stays as it is. What was transparent counts as `BACKGROUND`.
    ``where`` names the image in errors; the default is its path. Threads that decode at
    once share a budget of memory and wait for it.
    Raises ImageError, and nothing else, for anything that is not an image we can read.
    """
    with decoded(source, where=where, at_least=at_least, stretch=stretch) as image:
        return image


@contextmanager
def decoded(
    source: Path | bytes | Image.Image,
    *,
    where: str | None = None,
    at_least: int | None = None,
    stretch: bool = False,
) -> Iterator[Image.Image]:
    """The image of `decode` within the block, at whose end its memory goes back to the budget.

    A Pillow image counts too: it is loaded and made upright RGB. No thread may open a second one within the block.
    """
    with examined(source, where=where, at_least=at_least, stretch=stretch) as (_, image):
        yield image


@contextmanager
def examined(
    source: Path | bytes | Image.Image,
    *,
    where: str | None = None,
    at_least: int | None = None,
    stretch: bool = False,
) -> Iterator[tuple[Header, Image.Image]]:
    """What the header says, beside the image of `decoded`; a Pillow image says its mode and size."""
    with ExitStack() as held:
        if isinstance(source, Image.Image):
            name = where or "image"
            header = Header(source.format or "", source.mode, *source.size)
            held.enter_context(BUDGET.holding(cost(source, source.size, in_scans=False)))
            yield header, guarded(lambda: upright_rgb(source, stretch=stretch), name)
            return
        name = where or (str(source) if isinstance(source, str | os.PathLike) else "image")
        with _opened(source, name) as file:
            found = guarded(lambda: _decoded(file, name, held, at_least, stretch), name)
        yield found


def read_header(source: Path | bytes, where: str | None = None) -> Header:
    """What a file's header says of its image, none of whose pixels are decoded. Raises ImageError."""
    name = where or (str(source) if isinstance(source, str | os.PathLike) else "image")

    def read(file: BinaryIO) -> Header:
        kind, reader = _reader(file.read(512), name)
        inspect(kind, file)
        if kind == "PNG":
            file = without_damaged_comments(file)
        return header_of(_header(reader, file), kind)

    with _opened(source, name) as file:
        return guarded(lambda: read(file), name)


def stored_values(source: Path | bytes, where: str | None = None) -> tuple[Header, Image.Image]:
    """The image as its file holds it: of a palette the indices, nothing turned upright or made a colour.

    For images whose values are numbers and no brightness. The same files are refused as by `decode`, with ImageError.
    """
    name = where or (str(source) if isinstance(source, str | os.PathLike) else "image")
    with ExitStack() as held, _opened(source, name) as file:
        header, image = guarded(lambda: _allowed_image(file, name, held, None), name)
        layout = image.tile[0][3] if image.tile else None
        guarded(image.load, name)
        return header, image.point([v // FEW_BITS[layout] for v in range(256)]) if layout in FEW_BITS else image


def has_frames(source: Path | bytes) -> bool:
    """Tell whether a GIF, PNG, TIFF or WebP holds more than the one image that is read; what is damaged does not."""

    def animated(file: BinaryIO) -> bool:
        kind, reader = _reader(file.read(512), "image")
        if kind not in ("GIF", "PNG", "TIFF", "WEBP"):
            return False
        inspect(kind, file)
        return bool(getattr(_header(reader, file), "is_animated", False))

    try:
        with _opened(source, "image") as file:
            return guarded(lambda: animated(file), "image")
    except ImageError:
        return False


def guarded(work: Callable[[], T], name: str) -> T:
    """Tell what ``work`` returns; whatever a decoder raises in it becomes a ImageError."""
    silence_libraries()
    if warnings.filters[:1] != [_PILLOW_WARNINGS]:  # what they say is in the error or of no matter to the pixels
        warnings.filterwarnings("ignore", module=r"PIL\.")
    try:
        return work()
    except ImageError:
        raise
    except (TooMuch, NoReader) as error:
        raise ImageError(name, str(error)) from error
    except Exception as error:
        reason, passing = _reason(error)
        raise ImageError(name, reason, passing=passing) from error


@contextmanager
def _opened(source: Path | bytes, name: str) -> Iterator[BinaryIO]:
    """The file, open for reading; what is no regular file is refused unopened: opening a FIFO waits for ever."""
    if not isinstance(source, str | os.PathLike):
        yield InMemory(source)
        return
    if isinstance(source, Member):
        yield InMemory(_bytes_of(source, name))
        return
    try:
        if not stat.S_ISREG(os.stat(source).st_mode):
            raise ImageError(name, "not a file", passing=True)
        file = open(source, "rb", buffering=0)  # noqa: SIM115 - closed below; its errors are told apart from those within
    except (FileNotFoundError, NotADirectoryError):
        raise ImageError(name, "does not exist", passing=True) from None
    except PermissionError:
        raise ImageError(name, "cannot be opened: permission denied", passing=True) from None
    except (OSError, ValueError) as error:
        reason = f"cannot be opened: {getattr(error, 'strerror', None) or error}".lower()
        raise ImageError(name, reason, passing=True) from None
    buffered = OnDisk(file)
    try:
        yield buffered
    finally:
        with suppress(OSError):  # of a file that was read, closing has nothing to tell
            buffered.close()


def _bytes_of(member: Member, name: str) -> bytes:
    try:
        return member.read_bytes()
    except OSError as error:
        raise ImageError(name, f"cannot be read: {error.strerror or error}", passing=True) from None


def _decoded(
    file: BinaryIO, name: str, held: ExitStack, at_least: int | None, stretch: bool
) -> tuple[Header, Image.Image]:
    """Decode the file once it is allowed."""
    header, image = _allowed_image(file, name, held, at_least)
    return header, upright_rgb(image, spent=True, stretch=stretch, stored=header.orientation)


def _allowed_image(
    file: BinaryIO, name: str, held: ExitStack, at_least: int | None
) -> tuple[Header, ImageFile.ImageFile]:
    """The image of a file once its header, its structure and the budget, which ``held`` gives back, allow decoding."""
    kind, reader = _reader(file.read(512), name)
    in_scans = inspect(kind, file)
    if kind == "PNG":
        file = without_damaged_comments(file)
    image = _header(reader, file)
    full_size = _allowed(image)
    if kind == "PNG":  # Pillow decodes pixels without looking at their checksums; verifying uses the image up
        image.verify()
        image = _header(reader, file)
    header = header_of(image, kind)
    if at_least:
        image.draft(None, (DRAFT_MARGIN * at_least, DRAFT_MARGIN * at_least))
    needed = cost(image, full_size, in_scans)
    if needed > MAX_COST:
        width, height = full_size
        raise TooMuch(f"too large: {width} x {height} {kind} takes {needed // MB} MB to decode, over {MAX_COST // MB}")
    held.enter_context(BUDGET.holding(needed))
    if decoder_of(image) in IN_PYTHON:
        image = _header(reader, quick(file))
        if image.size != full_size:
            raise ValueError("its header says two sizes")
    return header, image


def _allowed(image: Image.Image) -> tuple[int, int]:
    """Return the size, unless it is too large."""
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise TooMuch(f"too large: {width} x {height} is over {MAX_PIXELS // 1_000_000} million pixels")
    if max(width, height) > MAX_SIDE:
        raise TooMuch(f"too large: {width} x {height} has a side over {MAX_SIDE:,} pixels")
    if decoder_of(image) == "bmp_rle" and width * height > MAX_RUN_LENGTHS:
        raise TooMuch(
            f"too large: {width} x {height} in run lengths is over {MAX_RUN_LENGTHS // 1_000_000} million pixels"
        )
    return width, height


def _reader(head: bytes, name: str) -> tuple[str, Any]:
    """The format of a file that begins with ``head``, and its reader."""
    if not head:
        raise ImageError(name, "empty file")
    for kind, (magic, reader) in _READERS.items():
        if re.match(magic, head, re.DOTALL):
            return kind, reader
    if _HEIC.match(head):
        return "HEIC", _heic_reader(name)
    if head.startswith(b"version https://git-lfs"):
        raise ImageError(name, "a pointer of Git LFS and not the image itself: run git lfs pull")
    if _PAGE.match(head):
        raise ImageError(
            name, "a web page and not the image itself: it was not found, or asks to log in; fetch it again"
        )
    for format_name, magic in _REFUSED.items():
        if re.match(magic, head, re.DOTALL):
            raise ImageError(name, f"format {format_name} is not allowed")
    raise ImageError(name, "not an image (PNG, JPEG, WEBP, AVIF, GIF, BMP, TIFF or PPM)")


def _heic_reader(name: str) -> Any:
    """The reader of HEIC, which is LGPL and has to be installed beside."""
    if not reads_heic():
        raise ImageError(name, "format HEIC is read with pip install 'convscope[heic]', which is not installed")
    from pillow_heif.as_plugin import HeifImageFile

    return HeifImageFile


def _header(reader, file: BinaryIO) -> ImageFile.ImageFile:
    """The image with only its header read. A WebP that is shorter than it says is told here: its decoder only fails."""
    file.seek(0)
    if reader is WebPImageFile:
        promised = int.from_bytes(file.read(8)[4:], "little") + 8
        if file.seek(0, os.SEEK_END) < promised:
            raise EOFError
        file.seek(0)
    return reader(file, "")


def _reason(error: Exception) -> tuple[str, bool]:
    """Tell what a decoder raised, in a few printable words, and whether the machine is to blame and not the bytes."""
    if isinstance(error, Image.DecompressionBombError):
        return f"too large: over {MAX_PIXELS // 1_000_000} million pixels", False
    if isinstance(error, MemoryError):
        return "cannot be read: not enough memory", True
    if isinstance(error, OSError) and error.errno is not None:
        return f"cannot be read: {(error.strerror or 'input/output error').lower()}", True
    text = " ".join("".join(c if c.isprintable() else " " for c in str(error)).split())[:80]
    short = isinstance(error.__cause__ or error, EOFError | IndexError | struct.error)
    if short or re.search("truncated|not enough image data|end of file|incomplete", text, re.IGNORECASE):
        return "truncated", False
    if unread := _NO_READER.match(text):
        return str(NoReader(unread[1])), False
    if text == "not identified by this driver":  # what Pillow says of a header without a mode or a size
        return "corrupt: its header tells no size", False
    return f"corrupt: {text or type(error).__name__}", False
