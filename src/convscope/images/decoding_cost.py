"""How many bytes of memory an image takes on its way to RGB, told from its header."""

from __future__ import annotations

from PIL import Image

MAX_COST = 464 << 20  # bytes: with Python, NumPy and Pillow themselves the process stays below 512 MB
WHOLE = ("WEBP", "AVIF", "HEIF")  # formats whose decoders hold all of an image several times
RGB = 4  # bytes a pixel: Pillow keeps a fourth beside red, green and blue
WEBP = 17  # measured: two canvases of the animation, the bytes of a frame and the image
IN_PYTHON = ("ppm", "ppm_plain")  # Pillow's decoders that go over the numbers of an image one by one
_PLANES, _ROWS, _BITS, _SAMPLES, _TILE_WIDTH, _TILE_LENGTH = 284, 278, 258, 277, 322, 323


def cost(image: Image.Image, full_size: tuple[int, int], in_scans: bool) -> int:
    """Return the peak while this image is decoded and converted.

    ``full_size`` is that before a JPEG was scaled down, ``in_scans`` whether its pixels come in several scans.
    The pixels themselves stand there twice at the end: as the format has them, and as RGB.
    """
    own = _pixels(image.size) * _bytes_a_pixel(image.mode)
    if image.format in WHOLE:
        return _pixels(image.size) * WEBP
    extra = 0
    if in_scans:
        extra = 2 * _samples(image, full_size)
    if image.format == "TIFF" and getattr(image, "use_load_libtiff", False):
        extra = _strip(image, full_size)
    kept = 0
    if decoder_of(image) in IN_PYTHON:  # the numbers, as bytes, beside what becomes of them
        kept = _pixels(image.size) * (2 if image.mode == "I" else 3)
    if decoder_of(image) == "bmp_rle":
        extra = 2 * _pixels(image.size)
    return kept + max(own + extra, own + RGB * _pixels(image.size))


def decoder_of(image: Image.Image) -> str:
    """Return Pillow's name of what decodes the pixels; none when they are there already."""
    tiles = getattr(image, "tile", [])
    return tiles[0][0] if tiles else ""


def _pixels(size: tuple[int, int]) -> int:
    return size[0] * size[1]


def _bytes_a_pixel(mode: str) -> int:
    if mode in ("1", "L", "P"):
        return 1
    return 2 if mode.startswith("I;16") else 4


def _samples(image: Image.Image, size: tuple[int, int]) -> int:
    """Return how many coefficients a JPEG of several scans has, all of which are kept until the last."""
    layers = [(across, down) for _, across, down, _ in getattr(image, "layer", [])]
    most = max((across * down for across, down in layers), default=0) or 1
    return int(_pixels(size) * sum(across * down for across, down in layers) / most)


def _strip(image: Image.Image, size: tuple[int, int]) -> int:
    """Return the bytes of a strip or tile of a compressed TIFF, of which one is held at a time."""
    tags = getattr(image, "tag_v2", {})

    def number(tag: int, default: int) -> int:
        value = tags.get(tag, default)
        value = value[0] if isinstance(value, tuple) and value else value
        return value if isinstance(value, int) else default

    width, height = size
    depth = number(_BITS, 1) * (1 if number(_PLANES, 1) == 2 else number(_SAMPLES, 1))
    if _TILE_WIDTH in tags:
        return number(_TILE_WIDTH, width) * number(_TILE_LENGTH, height) * depth // 8
    return width * min(height, number(_ROWS, height)) * depth // 8
