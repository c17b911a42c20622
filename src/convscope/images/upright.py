"""From any decoded image to a new, upright RGB one, without more memory than the two of them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from PIL import Image

from .containers import TooMuch, inspect_exif
from .tiff import brightest, unsigned_32, white_is_zero

BACKGROUND = (255, 255, 255)  # what lies behind transparent pixels
STRIP = 1 << 20  # pixels that are converted at a time where a conversion needs more room than its result
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def upright_rgb(
    image: Image.Image, *, spent: bool = False, stretch: bool = False, stored: int | None = None
) -> Image.Image:
    """Any Pillow image as a new RGB image, upright, without metadata; the rules are those of `decode`.

    A ``spent`` image is closed as soon as it is not needed; ``stretch`` spreads its range, as `decode` says.
    ``stored`` is the orientation that its header was found to tell; unless given, the image is asked.
    """
    _scale_transparency(image)
    image.load()
    turn = TURNS.get(orientation(image) if stored is None else stored)
    rgb = _rgb(image, stretch)
    if spent and rgb is not image:
        image.close()
    if stretch:
        rgb = _stretched(rgb)
    upright = rgb.transpose(turn) if turn is not None else rgb.copy() if rgb is image else rgb
    upright.info.clear()  # an orientation left in here would be applied again by the next reader
    return upright


def orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; one that is unreadable, or none of these, is 1: upright."""
    try:
        block = image.info.get("exif")
        if isinstance(block, bytes):
            inspect_exif(block)
        told = int(Image.Image.getexif(image).get(0x0112, 1))  # a PNG's own decodes all pixels first
    except (TooMuch, MemoryError):
        return 1
    except Exception:  # whatever a broken EXIF block makes its parser raise, the image is as it stands
        return 1
    return told if told in TURNS else 1


def _scale_transparency(image: Image.Image) -> None:
    """Pillow brings the pixels of a PNG of 2, 4 or 16 bits to 8, but not its transparent colour."""
    colour = image.info.get("transparency")
    layout = image.tile[0][3] if getattr(image, "tile", None) else None
    if layout in ("L;2", "L;4") and isinstance(colour, int):
        image.info["transparency"] = min(colour * (85 if layout == "L;2" else 17), 255)
    elif layout == "RGB;16B" and isinstance(colour, tuple):
        image.info["transparency"] = tuple(value >> 8 for value in colour)


def _strips(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """Yield the top row and the pixels of each strip."""
    rows = max(1, STRIP // image.width)
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def _stretched(rgb: Image.Image) -> Image.Image:
    """Spread what lies between the darkest and the brightest value of all channels over 0 to 255."""
    used = [place % 256 for place, count in enumerate(rgb.histogram()) if count]
    low, high = min(used), max(used)
    if low == high or (low, high) == (0, 255):
        return rgb
    table = [round((min(max(v, low), high) - low) * (255.0 / (high - low))) for v in range(256)]
    return rgb.point(table * 3)


def _rgb(image: Image.Image, stretch: bool) -> Image.Image:
    deep = image.mode in ("I", "F") or image.mode.startswith("I;16")
    if not deep and image.mode == "RGB" and "transparency" not in image.info:
        return image
    if not deep and not image.has_transparency_data:
        return image.convert("RGB")
    canvas = Image.new("RGB", image.size, BACKGROUND)
    if deep:
        scale = _Scale(image, stretch)
        for top, strip in _strips(image):
            canvas.paste(Image.fromarray(scale(strip)).convert("RGB"), (0, top))
        return canvas
    for top, strip in _strips(image):
        rgba = strip.convert("LA").convert("RGBA") if strip.mode == "La" else strip.convert("RGBA")
        canvas.paste(rgba, (0, top), mask=rgba.getchannel("A"))
    return canvas


class _Scale:
    """From the values of a 16-bit, 32-bit or float grey image to uint8; `decode` states the rule."""

    def __init__(self, image: Image.Image, stretch: bool) -> None:
        self.unsigned = image.mode == "I" and unsigned_32(image)
        self.inverted, self.white = white_is_zero(image), brightest(image)
        self.low, self.high = np.inf, -np.inf
        for _, strip in _strips(image):
            values = self._values(strip)
            finite = np.isfinite(values) if image.mode == "F" else np.True_
            self.low = min(self.low, values.min(where=finite, initial=self._end(values, "max")))
            self.high = max(self.high, values.max(where=finite, initial=self._end(values, "min")))
        self.colour = image.info.get("transparency")
        self.sixteen = image.mode != "F" and self.low >= 0 and self.high <= self.white
        if stretch and self.low < self.high:
            self.sixteen = False
        elif image.mode == "F" and self.low >= 0 and self.high <= 1:
            self.low, self.high = 0.0, 1.0
        self.low, self.high = float(self.low), float(self.high)

    def _values(self, strip: Image.Image) -> np.ndarray:
        values = np.asarray(strip)
        return values.view(np.uint32) if self.unsigned else values

    @staticmethod
    def _end(values: np.ndarray, which: str) -> float | int:
        """Return the largest or the smallest value there is."""
        if values.dtype.kind == "f":
            return np.inf if which == "max" else -np.inf
        return getattr(np.iinfo(values.dtype), which)

    def __call__(self, strip: Image.Image) -> np.ndarray:
        values = self._values(strip)
        grey = self._of_white(values) if self.sixteen else self._of_range(values)
        if self.inverted:
            grey = 255 - grey
        if isinstance(self.colour, int) and values.dtype.kind != "f":
            grey[values == self.colour] = BACKGROUND[0]
        if values.dtype.kind == "f":
            grey[~np.isfinite(values)] = 0
        return grey

    def _of_white(self, values: np.ndarray) -> np.ndarray:
        """Return round(255 v / white), exactly."""
        return ((values.astype(np.uint32) * 255 + self.white // 2) // self.white).astype(np.uint8)

    def _of_range(self, values: np.ndarray) -> np.ndarray:
        if values.dtype.kind == "f":
            values = np.where(np.isfinite(values), values, self.low)
        span = self.high - self.low or 1.0
        return np.rint((values.astype(np.float64) - self.low) * (255.0 / span)).astype(np.uint8)
