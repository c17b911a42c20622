"""Small images of every kind that is read, each a file of our own making."""

from __future__ import annotations

import functools
import io
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageCms, PngImagePlugin

from torture.written_images import (
    GREY,
    GREY_ALPHA,
    PALETTE,
    RGB,
    RGB_ALPHA,
    bmp,
    bmp_in_runs,
    chunk,
    png,
    tiff,
)

WIDTH, HEIGHT = 44, 36  # pixels; no multiple of a block, so that the last ones are in part
TURNED = 6  # the EXIF orientation of those that are turned


def waves(seed: int, channels: int = 3, most: int = 255) -> np.ndarray:
    """Smooth numbers 0..most (H, W, channels), unlike those of another seed, with an edge in them."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH] / 8.0
    layers = [np.sin(x * random.uniform(0.3, 1.5) + y * random.uniform(0.3, 1.5) + i) for i in range(channels)]
    values = np.stack(layers, 2)
    values[8:20, 10:30] *= -1
    return np.rint((values + 1) / 2 * most).astype(np.uint16 if most > 255 else np.uint8)


def image(seed: int, mode: str = "RGB") -> Image.Image:
    """The waves as an image of Pillow's."""
    return Image.fromarray(waves(seed)).convert(mode)


def saved(held: Image.Image, kind: str, **options: object) -> bytes:
    """The file that Pillow writes."""
    file = io.BytesIO()
    held.save(file, kind, **options)
    return file.getvalue()


def exif(orientation: int = TURNED) -> bytes:
    """An EXIF block that says this orientation."""
    block = Image.Exif()
    block[0x0112] = orientation
    block[0x010F] = "convscope"
    return block.tobytes()


@functools.cache
def profile() -> bytes:
    """A colour profile."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def profile_as_text(block: bytes) -> bytes:
    """An EXIF block as ImageMagick writes it into a text chunk: its length and its bytes in hexadecimal."""
    digits = block.hex()
    lines = "\n".join(digits[i : i + 72] for i in range(0, len(digits), 72))
    return f"\nexif\n{len(block):8d}\n{lines}\n".encode()


def raw_profile(block: bytes, name: bytes = b"zTXt") -> bytes:
    """The chunk with that text, compressed, or plain as tEXt."""
    text = profile_as_text(block)
    key = b"Raw profile type exif\0"
    return chunk(name, key + (text if name == b"tEXt" else b"\0" + zlib.compress(text)))


def _behind_pixels(whole: bytes, more: bytes) -> bytes:
    return whole[:-12] + more + whole[-12:]


def _ycck() -> bytes:
    """A JPEG whose inks are kept as brightness and colours, as Photoshop writes it: its APP14 says so."""
    inks = Image.merge("CMYK", (*Image.fromarray(waves(7)).convert("YCbCr").split(), image(8, "L")))
    whole = bytearray(saved(inks, "JPEG", quality=95))
    whole[whole.index(b"Adobe") + 11] = 2
    return bytes(whole)


def _pages(kind: str, **options: object) -> bytes:
    frames = [image(seed) for seed in (20, 21, 22)]
    return saved(frames[0], kind, save_all=True, append_images=frames[1:], **options)


def _texts() -> PngImagePlugin.PngInfo:
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Title", "waves")
    texts.add_text("Comment", "long " * 100, zip=True)
    texts.add_itxt("Author", "näme", "de", "Autor")
    return texts


def _colours(count: int) -> bytes:
    return chunk(b"PLTE", np.random.default_rng(count).integers(0, 256, (count, 3), np.uint8).tobytes())


def _colour_table(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, 3), np.uint8)


def _heic(**options: object) -> bytes:
    from pillow_heif import from_pillow

    file = io.BytesIO()
    from_pillow(image(40)).save(file, quality=60, **options)
    return file.getvalue()


def _digits(values: np.ndarray, kind: int) -> bytes:
    words = " ".join(str(v) for v in values.ravel().tolist())
    return f"P{kind}\n# waves\n{values.shape[1]} {values.shape[0]}\n{'' if kind == 1 else '255 '}{words}\n".encode()


Maker = Callable[[], bytes]

_JPEG: dict[str, Maker] = {
    "baseline": lambda: saved(image(1), "JPEG", quality=80),
    "full colour": lambda: saved(image(2), "JPEG", quality=90, subsampling=0),
    "grey": lambda: saved(image(3, "L"), "JPEG"),
    "progressive": lambda: saved(image(4), "JPEG", progressive=True),
    "progressive grey": lambda: saved(image(4, "L"), "JPEG", progressive=True),
    "CMYK": lambda: saved(image(5, "CMYK"), "JPEG"),
    "YCCK": _ycck,
    "turned": lambda: saved(image(6), "JPEG", exif=exif()),
    "with a profile": lambda: saved(image(6), "JPEG", icc_profile=profile(), comment=b"waves"),
    "with restarts": lambda: saved(image(7), "JPEG", restart_marker_blocks=2),
    "of two images": lambda: _pages("MPO"),
    "large": lambda: saved(image(8).resize((208, 176)), "JPEG", quality=60),
    "large progressive": lambda: saved(image(9).resize((208, 176)), "JPEG", quality=60, progressive=True, exif=exif(3)),
}

_PNG: dict[str, Maker] = {
    **{
        f"grey of {bits} bits": lambda bits=bits: png(waves(10, 1, 2**bits - 1)[..., 0], GREY, bits)
        for bits in (1, 2, 4, 8, 16)
    },
    **{
        f"palette of {bits} bits": lambda bits=bits: png(
            waves(11, 1, 2**bits - 1)[..., 0],
            PALETTE,
            bits,
            more=_colours(2**bits) + chunk(b"tRNS", bytes(np.linspace(90, 255, min(2**bits, 16)).astype(np.uint8))),
        )
        for bits in (1, 2, 4, 8)
    },
    "RGB": lambda: saved(image(12), "PNG"),
    "RGB of 16 bits": lambda: png(waves(12, 3, 65535), RGB, 16),
    "RGBA of 16 bits": lambda: png(waves(12, 4, 65535), RGB_ALPHA, 16),
    "grey and alpha": lambda: png(waves(13, 2), GREY_ALPHA, 8),
    "grey and alpha of 16 bits": lambda: png(waves(13, 2, 65535), GREY_ALPHA, 16),
    "RGBA": lambda: png(waves(14, 4), RGB_ALPHA, 8),
    "RGB with a clear colour": lambda: png(waves(14), RGB, 8, more=chunk(b"tRNS", b"\0\x80\0\x80\0\x80")),
    "grey of 16 bits with a clear one": lambda: png(
        waves(14, 1, 65535)[..., 0], GREY, 16, more=chunk(b"tRNS", waves(14, 1, 65535)[0, 0].astype(">u2").tobytes())
    ),
    "grey of 4 bits with a clear one": lambda: png(waves(14, 1, 15)[..., 0], GREY, 4, more=chunk(b"tRNS", b"\0\7")),
    "RGB of 16 bits with a clear colour": lambda: png(
        waves(14, 3, 65535), RGB, 16, more=chunk(b"tRNS", waves(14, 3, 65535)[0, 0].astype(">u2").tobytes())
    ),
    "interlaced": lambda: png(waves(15), RGB, 8, interlaced=True),
    "interlaced of 1 bit": lambda: png(waves(15, 1, 1)[..., 0], GREY, 1, interlaced=True),
    "interlaced of 16 bits": lambda: png(waves(15, 1, 65535)[..., 0], GREY, 16, interlaced=True),
    "animated": lambda: _pages("PNG"),
    "with texts": lambda: saved(image(16), "PNG", pnginfo=_texts(), icc_profile=profile(), dpi=(72, 72)),
    "turned": lambda: saved(image(16), "PNG", exif=exif()),
    "turned behind its pixels": lambda: _behind_pixels(saved(image(16), "PNG"), chunk(b"eXIf", exif()[6:])),
    "turned in a text": lambda: png(waves(17), RGB, 8, more=raw_profile(exif())),
    "turned in a text behind its pixels": lambda: _behind_pixels(saved(image(17), "PNG"), raw_profile(exif(), b"tEXt")),
}

_GIF: dict[str, Maker] = {
    "of 256 colours": lambda: saved(image(18), "GIF"),
    "grey": lambda: saved(image(18, "L"), "GIF", comment=b"waves"),
    "of 4 colours": lambda: saved(image(19).quantize(4), "GIF", interlace=True),
    "animated": lambda: _pages("GIF", duration=40, loop=0),
    "transparent": lambda: saved(image(19).quantize(16), "GIF", transparency=3),
    "transparent and animated": lambda: _pages("GIF", transparency=0, disposal=2),
}

_WEBP: dict[str, Maker] = {
    "lossy": lambda: saved(image(23), "WEBP", quality=70),
    "lossless": lambda: saved(image(23), "WEBP", lossless=True),
    "lossy with alpha": lambda: saved(Image.fromarray(waves(24, 4)), "WEBP", quality=70),
    "lossless with alpha": lambda: saved(Image.fromarray(waves(24, 4)), "WEBP", lossless=True),
    "animated": lambda: _pages("WEBP", duration=40),
    "turned, with a profile": lambda: saved(image(25), "WEBP", exif=exif(), icc_profile=profile()),
}

_BMP: dict[str, Maker] = {
    "of 1 bit": lambda: saved(image(26, "1"), "BMP"),
    "of 4 bits": lambda: bmp(waves(26, 1, 15)[..., 0], 4, palette=_colour_table(16)),
    "of 8 bits": lambda: saved(image(26).quantize(200), "BMP"),
    "of 16 bits": lambda: bmp(waves(27, 1, 0x7FFF)[..., 0], 16),
    "of 16 bits with masks": lambda: bmp(waves(27, 1, 0xFFFF)[..., 0], 16, masks=(0xF800, 0x7E0, 0x1F)),
    "of 24 bits": lambda: saved(image(28), "BMP"),
    "of 32 bits": lambda: saved(Image.fromarray(waves(28, 4)), "BMP"),
    "in runs of 8 bits": lambda: bmp_in_runs(waves(29, 1)[..., 0], 8, _colour_table(256)),
    "in runs of 4 bits": lambda: bmp_in_runs(waves(29, 1, 15)[..., 0], 4, _colour_table(16)),
}

_TIFF: dict[str, Maker] = {
    "RGB": lambda: saved(image(30), "TIFF"),
    "turned": lambda: saved(image(30), "TIFF", exif=exif()),
    "RGBA": lambda: saved(Image.fromarray(waves(31, 4)), "TIFF"),
    "CMYK": lambda: saved(image(31, "CMYK"), "TIFF"),
    "Lab": lambda: saved(image(31).convert("LAB"), "TIFF"),
    "palette": lambda: saved(image(31).quantize(64), "TIFF"),
    "grey of 16 bits": lambda: tiff(waves(32, 1, 65535)[..., 0]),
    "grey of 16 bits, large end first": lambda: tiff(waves(32, 1, 65535)[..., 0], order=">"),
    "grey of 16 bits whose zero is white": lambda: tiff(waves(32, 1, 65535)[..., 0], more=((262, 3, 0),)),
    "floats": lambda: tiff(waves(33, 1)[..., 0].astype(np.float32) / 255),
    "floats, deflated": lambda: saved(
        Image.fromarray(waves(33, 1)[..., 0].astype(np.float32)), "TIFF", compression="tiff_lzw"
    ),
    "whole numbers of 32 bits": lambda: tiff(waves(33, 1, 65535)[..., 0].astype(np.uint32) * 40_000),
    "tiled": lambda: tiff(waves(34), tile=16),
    "tiled and deflated": lambda: tiff(waves(34), tile=16, deflated=True),
    "tiled grey of 16 bits": lambda: tiff(waves(34, 1, 65535)[..., 0], tile=32, order=">", deflated=True),
    "in planes": lambda: tiff(waves(35), planes=True),
    "LZW": lambda: saved(image(35), "TIFF", compression="tiff_lzw"),
    "deflated": lambda: saved(image(35), "TIFF", compression="tiff_adobe_deflate"),
    "JPEG": lambda: saved(image(35), "TIFF", compression="jpeg"),
    "packed bits": lambda: saved(image(35, "L"), "TIFF", compression="packbits"),
    "fax": lambda: saved(image(35, "1"), "TIFF", compression="group4"),
    "of three pages": lambda: _pages("TIFF"),
    "BigTIFF": lambda: saved(image(35), "TIFF", big_tiff=True),
}

_PPM: dict[str, Maker] = {
    "P6": lambda: saved(image(36), "PPM"),
    "P5 of 16 bits": lambda: saved(Image.fromarray(waves(36, 1, 65535)[..., 0]), "PPM"),
    "P4": lambda: saved(image(36, "1"), "PPM"),
    "P3": lambda: _digits(waves(37).reshape(HEIGHT, WIDTH * 3), 3).replace(b"132 36", b"44 36"),
    "P1": lambda: _digits(waves(37, 1, 1)[..., 0], 1),
    "PFM": lambda: saved(Image.fromarray(waves(37, 1)[..., 0].astype(np.float32)), "PPM"),
}

_AVIF: dict[str, Maker] = {
    "RGB": lambda: saved(image(38), "AVIF", quality=60, speed=10),
    "with alpha": lambda: saved(Image.fromarray(waves(38, 4)), "AVIF", quality=60, speed=10),
    "turned, with a profile": lambda: saved(image(39), "AVIF", exif=exif(), icc_profile=profile(), speed=10),
    "animated": lambda: _pages("AVIF", speed=10),
}

_HEIC: dict[str, Maker] = {"RGB": _heic, "turned": lambda: _heic(exif=exif())}

KINDS = {
    "JPEG": (_JPEG, ".jpg"),
    "PNG": (_PNG, ".png"),
    "GIF": (_GIF, ".gif"),
    "WEBP": (_WEBP, ".webp"),
    "BMP": (_BMP, ".bmp"),
    "TIFF": (_TIFF, ".tif"),
    "PPM": (_PPM, ".ppm"),
    "AVIF": (_AVIF, ".avif"),
    "HEIC": (_HEIC, ".heic"),
}


@functools.cache
def images(*formats: str) -> dict[tuple[str, str], bytes]:
    """Every image of these formats as (format, name) and its bytes."""
    return {(kind, name): make() for kind in formats for name, make in KINDS[kind][0].items()}
