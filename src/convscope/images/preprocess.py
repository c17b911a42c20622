"""Images as numbers: fit an RGB image to a square, turn it into a normalised tensor and back.

`Preprocess` is the frozen description that travels with a classifier, so that training and prediction see one image.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch
from PIL import Image

from ..errors import DamagedFile, DataError, UnknownName, UsageError
from .decoding import BACKGROUND, DRAFT_MARGIN, MAX_PIXELS, examined

MAX_SIZE = 2048  # pixels a side of what a network is given
LEAST_STD, LARGEST_VALUE = 1e-4, 1e4  # of mean and std: beyond, float32 overflows in a network
PAD_COLOUR = (128, 128, 128)  # what surrounds an image that is fitted whole


def _crop(rgb: Image.Image, size: int, how: Image.Resampling) -> Image.Image:
    """The shorter side becomes ``size``; of the longer one the middle stays."""
    side = min(rgb.size)
    left, top = (rgb.width - side) // 2, (rgb.height - side) // 2  # whole pixels: no blur when only cutting
    return rgb.resize((size, size), how, box=(left, top, left + side, top + side))


def _pad(rgb: Image.Image, size: int, how: Image.Resampling) -> Image.Image:
    """The longer side becomes ``size``; the rest of the square is `PAD_COLOUR`."""
    longest = max(rgb.size)
    width, height = (max(1, (2 * side * size + longest) // (2 * longest)) for side in rgb.size)
    canvas = Image.new("RGB", (size, size), PAD_COLOUR)
    scaled = rgb.resize((width, height), how)
    canvas.paste(scaled, ((size - width) // 2, (size - height) // 2))
    return canvas


def _squash(rgb: Image.Image, size: int, how: Image.Resampling) -> Image.Image:
    """Both sides become ``size``, whatever that does to the shapes."""
    if size * rgb.height > MAX_PIXELS:  # Pillow resizes rows first, which makes a thin tall image huge
        rgb = rgb.resize((rgb.width, size), how)
    return rgb.resize((size, size), how)


def _centre(rgb: Image.Image, share: float) -> Image.Image:
    """The square in the middle whose side is this share of the shorter side, in whole pixels."""
    side = max(1, round(share * min(rgb.size)))
    left, top = (rgb.width - side) // 2, (rgb.height - side) // 2
    return rgb.crop((left, top, left + side, top + side))


FITS = {"crop": _crop, "pad": _pad, "squash": _squash}
INTERPOLATIONS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@dataclasses.dataclass(frozen=True)
class Preprocess:
    """How an image becomes a tensor: fitted to ``size`` x ``size`` pixels by ``fit``, then (x / 255 - mean) / std.

    ``fit`` is "crop" (shorter side to size, centre cut out), "pad" (the whole image on grey) or "squash" (both sides
    to size). ``mean`` and ``std`` are per channel, in units of pixel values 0..1. ``interpolation`` is "bilinear" or
    "bicubic"; ``centre`` below 1 looks, with fit "crop", at the middle square only whose side is that share of the
    shorter one, as many pretrained networks were evaluated. ``stretch`` spreads each image's own range over all of
    0..255 before it is fitted: its darkest value becomes 0 and its brightest 255, as `decode` has it. ``version``
    counts changes of the rules in this module.
    Raises UsageError for values that make no sense.
    """

    size: int
    fit: str = "crop"
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.25, 0.25, 0.25)
    version: int = 1
    interpolation: str = "bilinear"
    centre: float = 1.0
    stretch: bool = False

    def __post_init__(self) -> None:
        if type(self.size) is not int or not 1 <= self.size <= MAX_SIZE:
            raise UsageError(f"an image's size is a whole number of pixels from 1 to {MAX_SIZE}, not {self.size!r}.")
        if not isinstance(self.fit, str) or self.fit not in FITS:
            raise UnknownName("fit", str(self.fit), FITS)
        if type(self.version) is not int or self.version != 1:
            raise UsageError(f"preprocess version {self.version!r} is not known here. Known: 1.")
        if not isinstance(self.interpolation, str) or self.interpolation not in INTERPOLATIONS:
            raise UnknownName("interpolation", str(self.interpolation), INTERPOLATIONS)
        share = self.centre if type(self.centre) in (int, float) else 0
        if not 0 < share <= 1 or (share < 1 and self.fit != "crop"):
            raise UsageError(f"centre is a share above 0 and up to 1, below 1 with fit crop only, not {self.centre!r}.")
        if type(self.stretch) is not bool:
            raise UsageError(f"stretch is true or false, not {self.stretch!r}.")
        for name in ("mean", "std"):
            object.__setattr__(self, name, _three_numbers(name, getattr(self, name)))
        if not LEAST_STD <= min(self.std) <= max(self.std) <= LARGEST_VALUE:
            raise UsageError(f"std must be from {LEAST_STD:g} to {LARGEST_VALUE:g} in each channel, not {self.std}.")
        if max(abs(value) for value in self.mean) > LARGEST_VALUE:
            raise UsageError(f"mean must lie within {LARGEST_VALUE:g} of 0 in each channel, not {self.mean}.")

    def fit_image(self, source: Path | bytes | Image.Image, where: str | None = None) -> np.ndarray:
        """The fitted pixels, uint8 (size, size, 3). An image of exactly that size keeps every pixel as it is.

        Raises ImageError, with ``where`` as the name, as `decode` does. A Pillow image given in place of a file has
        all its pixels already, so a large JPEG comes out slightly different from its file, which is decoded smaller.
        """
        return self.fit_sized(source, where)[0]

    def fit_sized(
        self, source: Path | bytes | Image.Image, where: str | None = None
    ) -> tuple[np.ndarray, tuple[int, int]]:
        """The pixels of ``fit_image``, and the width and height of the upright image that they come from."""
        least = math.ceil(self.size / self.centre)
        with examined(source, where=where, at_least=least, stretch=self.stretch) as (header, rgb):
            whole = sorted(rgb.size) == sorted((header.width, header.height))  # else a JPEG decoded smaller
            return np.array(self.fit_array(rgb)), rgb.size if whole else header.upright_size

    def fit_array(self, rgb: Image.Image) -> Image.Image:
        """An RGB image of any size as one of size x size."""
        if self.centre < 1:
            rgb = _centre(rgb, self.centre)
        if rgb.size == (self.size, self.size):
            return rgb
        return FITS[self.fit](rgb, self.size, INTERPOLATIONS[self.interpolation])

    def normalise(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        """uint8 (B, 3, H, W) -> float32 of the same shape and memory format: (x / 255 - mean) / std."""
        scale = _per_channel([1 / (255 * std) for std in self.std], images_BCHW.device)
        shift = _per_channel([-mean / std for mean, std in zip(self.mean, self.std, strict=True)], images_BCHW.device)
        return images_BCHW.to(torch.float32, copy=True).mul_(scale).add_(shift)

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON values; `from_dict` gives an equal Preprocess back."""
        return {**dataclasses.asdict(self), "mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Preprocess:
        """The Preprocess that `to_dict` wrote. Raises DamagedFile for other keys or impossible values."""
        known = {field.name for field in dataclasses.fields(cls)}
        if isinstance(values, dict):  # written before these were there
            values = {"interpolation": "bilinear", "centre": 1.0, "stretch": False, **values}
        if not isinstance(values, dict) or set(values) != known:
            raise DamagedFile(f"a preprocess has exactly the keys {', '.join(sorted(known))}, not {str(values)[:200]}.")
        try:
            return cls(**values)
        except (UsageError, TypeError) as error:
            raise DamagedFile(f"the preprocess is damaged: {error}") from error

    def decoding_key(self) -> str:
        """A text that is equal for two Preprocess exactly when they make the same uint8 image of every file."""
        rules = f"background={BACKGROUND} pad={PAD_COLOUR} draft={DRAFT_MARGIN} pillow={PIL.__version__}"
        usual = (self.interpolation, self.centre) == ("bilinear", 1.0)
        how = "" if usual else f"interpolation={self.interpolation} centre={self.centre!r} "
        how += "stretch " if self.stretch else ""
        return f"image version={self.version} size={self.size} fit={self.fit} {how}{rules}"


def _three_numbers(name: str, values: Any) -> tuple[float, float, float]:
    try:
        red, green, blue = (float(value) for value in values if not isinstance(value, str))
    except (TypeError, ValueError):
        red = green = blue = math.nan
    if not all(map(math.isfinite, (red, green, blue))):
        raise UsageError(f"{name} must be three finite numbers, one for each of red, green and blue, not {values!r}.")
    return red, green, blue


def _per_channel(values: list[float], device: torch.device) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64).to(torch.float32).view(1, 3, 1, 1).to(device)


class _Writable:
    """The memory of an array under another flag: torch warns of read-only arrays, and warnings cannot be silenced
    for one thread alone."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array  # keeps the memory alive
        interface = array.__array_interface__
        self.__array_interface__ = {**interface, "data": (interface["data"][0], False)}


def to_tensor(images_NHWC: np.ndarray) -> torch.Tensor:
    """uint8 (N, H, W, 3) -> uint8 (N, 3, H, W): a view with channels-last strides, nothing copied.

    Made from a read-only array (a memory-mapped file) the tensor must not be written to: that ends the process.
    """
    if not images_NHWC.flags.writeable:
        images_NHWC = np.asarray(_Writable(images_NHWC))
    return torch.from_numpy(images_NHWC).permute(0, 3, 1, 2)


ChannelTriple = tuple[float, float, float]


def statistics(images_NHWC: np.ndarray, index: np.ndarray) -> tuple[ChannelTriple, ChannelTriple]:
    """Mean and standard deviation of each channel of the images at ``index`` of uint8 (N, H, W, 3), as values 0..1.

    Exact: pixels are counted by value, so the order of the images changes nothing. They are read in blocks, so memory
    stays flat. The deviation is at least 1/255, so that a constant channel can be divided by it. Raises DataError when
    there are none.
    """
    if not len(index) or not images_NHWC.size:
        raise DataError("there are no images to take the mean and standard deviation of.")
    counts = np.zeros((3, 256), np.int64)
    step = max(1, (1 << 20) // (images_NHWC.shape[1] * images_NHWC.shape[2]))
    for start in range(0, len(index), step):
        block = images_NHWC[index[start : start + step]].reshape(-1, 3)
        for channel in range(3):
            counts[channel] += np.bincount(block[:, channel], minlength=256)
    values = np.arange(256, dtype=np.int64)
    return statistics_of_sums(int(counts[0].sum()), counts @ values, counts @ values**2)


def statistics_of_sums(pixels: int, sums_3: np.ndarray, squares_3: np.ndarray) -> tuple[ChannelTriple, ChannelTriple]:
    """The same of so many pixels, from the sums of their values 0..255 and of their squares, int64 (3,) both."""
    each = (_moments(pixels, int(one), int(two)) for one, two in zip(sums_3, squares_3, strict=True))
    means, deviations = zip(*each, strict=True)
    return means, deviations


def _moments(total: int, first: int, second: int) -> tuple[float, float]:
    """Mean and standard deviation of values 0..255, over 255; Python's integers do not overflow."""
    variance = (total * second - first * first) / (total * total)
    return first / (255 * total), max(math.sqrt(variance), 1.0) / 255
