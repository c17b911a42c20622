"""Images that hold nothing are told when they are loaded; images that hold something are not."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from convscope.datasets.dataset import Dataset, assemble
from convscope.datasets.digits import load_digits
from convscope.datasets.registry import load_dataset
from convscope.datasets.shapes import load_shapes
from convscope.datasets.unsplit import Unsplit
from convscope.images.decoding import BACKGROUND

SIDE = 24
Draw = Callable[[np.random.Generator], Image.Image]


def deep(low: int, high: int) -> Draw:
    """Noise of 16 bits between two values."""
    return lambda rng: Image.fromarray(rng.integers(low, high + 1, (SIDE, SIDE), dtype=np.uint16))


def noise(low: int, high: int) -> Draw:
    return lambda rng: Image.fromarray(rng.integers(low, high + 1, (SIDE, SIDE, 3), dtype=np.uint8))


def channels(*ranges: tuple[int, int]) -> Draw:
    """Noise of its own range in each channel."""
    return lambda rng: Image.fromarray(
        np.dstack([rng.integers(a, b + 1, (SIDE, SIDE), dtype=np.uint8) for a, b in ranges])
    )


def one_colour(rng: np.random.Generator) -> Image.Image:
    return Image.new("RGB", (SIDE, SIDE), tuple(rng.integers(0, 256, 3).tolist()))


def alpha(colour: tuple[int, int, int]) -> Draw:
    """A disk that stands in the transparency alone."""

    def draw(rng: np.random.Generator) -> Image.Image:
        layer = Image.new("RGBA", (SIDE, SIDE), (*colour, 0))
        x, y = rng.integers(2, 10, 2).tolist()
        ImageDraw.Draw(layer).ellipse((x, y, x + 10, y + 10), fill=(*colour, 255))
        return layer

    return draw


def mostly(rare: Draw, usual: Draw) -> Draw:
    return lambda rng: (rare if rng.random() < 0.15 else usual)(rng)


def offset(rng: np.random.Generator) -> Image.Image:
    """A narrow range that lies elsewhere in each image."""
    low = int(rng.integers(0, 60_000))
    return deep(low, low + 4000)(rng)


def still(rng: np.random.Generator) -> Image.Image:
    return noise(77, 77)(rng)


def palette(rng: np.random.Generator) -> Image.Image:
    image = Image.fromarray(rng.integers(0, 4, (SIDE, SIDE), dtype=np.uint8)).convert("P")
    image.putpalette([9, 9, 9] * 256)
    return image


EMPTY: dict[str, tuple[Draw, str]] = {
    "12 bits of 16": (deep(0, 4095), "grey values 0 to 16 of 255"),
    "10 bits of 16": (deep(0, 1023), "grey values 0 to 4 of 255"),
    "a narrow window of 16 bits": (deep(30_000, 34_000), "grey values 117 to 132 of 255"),
    "the bright end of 16 bits": (deep(64_000, 65_535), "grey values 249 to 255 of 255"),
    "8 bits in 16": (deep(0, 255), "one colour each"),
    "a narrow range elsewhere in each": (offset, "most images span 15 of 255 values"),
    "black": (noise(0, 0), "the colour 0 of 255"),
    "white": (noise(255, 255), "the colour 255 of 255"),
    "one grey": (still, "the colour 77 of 255"),
    "one colour for all": (channels((9, 9), (80, 80), (200, 200)), "the colour 9, 80, 200 of 255"),
    "one colour each": (one_colour, "100% of the images are of one colour each"),
    "nearly one colour": (mostly(noise(0, 255), one_colour), "of the images are of one colour each"),
    "near-black photographs": (noise(0, 9), "grey values 0 to 9 of 255"),
    "near-white scans": (noise(240, 255), "grey values 240 to 255 of 255"),
    "noise of a camera in the dark": (noise(3, 5), "of one colour each"),
    "no blue": (channels((0, 255), (0, 255), (0, 0)), "blue is 0 of 255 in all images"),
    "only green": (channels((0, 0), (0, 255), (0, 0)), "red and blue are 0 and 0 of 255"),
    "full red": (channels((255, 255), (0, 255), (0, 255)), "red is 255 of 255"),
    "a channel of noise": (channels((0, 255), (19, 21), (0, 255)), "green is 21 of 255"),
    "white on transparent": (alpha(BACKGROUND), "on which what is transparent was laid"),
    "all transparent": (
        lambda rng: Image.new("RGBA", (SIDE, SIDE), (*rng.bytes(3), 0)),
        "what is transparent was laid",
    ),
    "a palette of one colour": (palette, "the colour 9 of 255"),
    "a colour cast": (channels((200, 210), (20, 30), (90, 95)), "most images span 10 of 255 values"),
    "pale colours": (channels((225, 250), (230, 254), (240, 255)), "grey values 225 to 255 of 255"),
}


def lines(ink: object, paper: object, width: int = 1, mode: str = "RGB") -> Draw:
    """A few lines on paper."""

    def draw(rng: np.random.Generator) -> Image.Image:
        image = Image.new(mode, (SIDE, SIDE), paper)  # type: ignore[arg-type]
        for _ in range(3):
            ImageDraw.Draw(image).line(rng.integers(0, SIDE, 4).tolist(), fill=ink, width=width)  # type: ignore[arg-type]
        return image

    return draw


def photograph(dark: float, bright: float, mode: str = "RGB") -> Draw:
    """Smooth light with detail."""

    def draw(rng: np.random.Generator) -> Image.Image:
        soft = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)).resize((SIDE, SIDE), 3)
        return Image.fromarray((dark + np.asarray(soft) / 255 * (bright - dark)).astype(np.uint8)).convert(mode)

    return draw


SOUND: dict[str, Draw] = {
    "noise": noise(0, 255),
    "16 bits": deep(0, 65_535),
    "14 bits of 16": deep(0, 16_383),
    "grey in three channels": photograph(0, 255, "L"),
    "photographs": photograph(0, 255),
    "dark photographs with detail": photograph(0, 70),
    "fog": photograph(150, 230),
    "night with one lamp": lines((250, 240, 200), (2, 2, 6)),
    "line drawings": lines((0, 0, 0), BACKGROUND),
    "thin grey pencil": lines((190, 190, 190), (250, 250, 250)),
    "white on black": lines(255, 0, mode="L"),
    "bilevel scans": lines(0, 1, mode="1"),
    "two-colour icons": lines((20, 90, 200), (250, 240, 230), 4),
    "icons of other two colours": lines((200, 10, 10), (240, 240, 250), 4),
    "icons in transparency": alpha((0, 0, 0)),
    "coloured icons in transparency": alpha((30, 60, 200)),
    "some blank pages": mostly(noise(255, 255), lines((0, 0, 0), BACKGROUND)),
    "some one-coloured images": mostly(one_colour, photograph(0, 255)),
    "a weak channel": channels((0, 255), (0, 255), (10, 40)),
    "a palette": lambda rng: photograph(0, 255)(rng).quantize(16),
    "half transparent": lambda rng: Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 4), dtype=np.uint8)),
    "sepia": channels((60, 240), (40, 200), (20, 150)),
}


def loaded(folder: Path, draw: Draw, **options: object) -> Dataset:
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(20):
            draw(rng).save(folder / name / f"{i}.png", pnginfo=comment(f"{name}{i}"))
    return load_dataset(folder, **{"image_size": SIDE, **options})  # type: ignore[arg-type]


def told(data: Dataset) -> list[str]:
    return [note for note in data.notes if "of 255" in note or "one colour" in note]


def comment(text: str) -> object:
    """Something that keeps equal images from being copies of each other."""
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("number", text)
    return info


@pytest.mark.parametrize("fit", ["crop", "pad"])
@pytest.mark.parametrize("name", EMPTY)
def test_images_that_hold_nothing_are_told(name: str, fit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CONVSCOPE_CACHE", str(tmp_path / "cache"))
    draw, said = EMPTY[name]
    wide = (lambda rng: draw(rng).resize((SIDE * 2, SIDE), 0)) if fit == "pad" else draw
    every = loaded(tmp_path / "data", wide, fit=fit).notes
    kind = re.sub("[0-9]+", "[0-9]+", said)  # resizing into a border blurs, and so costs a value or two
    notes = [note for note in every if (re.search(kind, note) if fit == "pad" else said in note)]
    assert len(notes) == 1, every
    assert notes[0].endswith(".")
    assert ("--stretch" in notes[0]) != ("in all images" in notes[0])


@pytest.mark.parametrize("fit", ["crop", "pad"])
@pytest.mark.parametrize("name", SOUND)
def test_images_that_hold_something_are_not(name: str, fit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CONVSCOPE_CACHE", str(tmp_path / "cache"))
    assert not told(loaded(tmp_path / "data", SOUND[name], fit=fit))


def test_built_in_images_are_sound():
    for unsplit in (load_digits(), load_shapes(60)):
        for size in (8, 16, 32):
            assert not told(assemble(unsplit, image_size=size))


def test_stretched_images_are_told_of_no_more(tmp_path: Path):
    rng = np.random.default_rng(0)
    arrays = rng.integers(3, 12, (40, 8, 8, 3), dtype=np.uint8)
    unsplit = Unsplit("ours", ("a", "b"), np.arange(40) % 2, np.full(40, "train"), 8, arrays=arrays)
    assert "grey values 3 to 11 of 255" in " ".join(assemble(unsplit).notes)
    assert "--stretch" in " ".join(assemble(unsplit).notes)
    assert not told(assemble(unsplit, stretch=True))
    constant = Unsplit("ours", ("a", "b"), np.arange(40) % 2, np.full(40, "train"), 8, arrays=np.full_like(arrays, 4))
    assert "--stretch" not in " ".join(assemble(constant, stretch=True).notes)
    assert "nothing in them to learn" in " ".join(assemble(constant, stretch=True).notes)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 255), st.integers(0, 255), st.integers(0, 2**32 - 1))
def test_a_note_is_given_exactly_where_the_range_is_narrow(first: int, second: int, seed: int):
    low, high = sorted((first, second))
    arrays = np.random.default_rng(seed).integers(low, high + 1, (12, 8, 8, 3), dtype=np.uint8)
    arrays[:, 0, 0], arrays[:, 0, 1] = low, high
    unsplit = Unsplit("ours", ("a", "b"), np.arange(12) % 2, np.full(12, "train"), 8, arrays=arrays)
    assert bool(told(assemble(unsplit))) == (high - low < 32)
