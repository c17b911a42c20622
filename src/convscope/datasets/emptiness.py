"""Whether fitted images hold anything: how much of 0..255 they use, and whether a channel or image is of one value."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..images.decoding import BACKGROUND
from ..images.preprocess import PAD_COLOUR, Preprocess

LOOKED_AT = 512  # images, evenly spread over the training part
BLOCK = 64
FLAT = 2  # values between the darkest and the brightest that noise makes of one colour
NARROW = 32  # values that an image spans; docs/log.md says what fewer cost
CHANNELS = ("red", "green", "blue")


@dataclass(frozen=True)
class Spans:
    """The darkest and the brightest value of each channel of each image, int (N, 3) both; borders do not count."""

    low: np.ndarray
    high: np.ndarray

    def widths(self) -> np.ndarray:
        """How many values an image spans in the channel in which it spans most, int (N,)."""
        return (self.high - self.low).max(axis=1)


def spans(images: np.ndarray, index: np.ndarray, bordered: bool = False) -> Spans:
    """Look at up to `LOOKED_AT` of the images uint8 (N, S, S, 3) at ``index``; ``bordered`` ones stand on a border."""
    chosen = index[:: max(1, -(-len(index) // LOOKED_AT))]
    low, high = np.empty((len(chosen), 3), int), np.empty((len(chosen), 3), int)
    for start in range(0, len(chosen), BLOCK):
        block = np.asarray(images[chosen[start : start + BLOCK]])
        inside = (block != np.array(PAD_COLOUR)).any(axis=3, keepdims=True) if bordered else np.True_
        low[start : start + BLOCK] = block.min(axis=(1, 2), where=inside, initial=255)
        high[start : start + BLOCK] = block.max(axis=(1, 2), where=inside, initial=0)
    nothing = (high < low).any(axis=1)  # but border
    low[nothing] = high[nothing] = PAD_COLOUR
    return Spans(low, high)


def emptiness_notes(images: np.ndarray, index: np.ndarray, preprocess: Preprocess) -> tuple[str, ...]:
    """Say of the images at ``index`` what is missing in them; nothing where they hold something."""
    if not len(index):
        return ()
    found = spans(images, index, preprocess.fit == "pad")
    said = _said(found)
    if not said:
        return ()
    hint = "; train with --stretch, which spreads each image's range over all of it"
    return (said.removesuffix(".") + ("" if preprocess.stretch or said.endswith(".") else hint) + ".",)


def _said(found: Spans) -> str:
    """The first thing that is missing; with a full stop where stretching is no help."""
    widths, low, high = found.widths(), found.low.min(axis=0), found.high.max(axis=0)
    if not (high - low).any():
        white = ", on which what is transparent was laid" if tuple(low) == BACKGROUND else ""
        colour = str(low[0]) if len(set(low.tolist())) == 1 else ", ".join(map(str, low))
        return f"every pixel of all images has the colour {colour} of 255{white}: there is nothing in them to learn"
    flat = float((widths <= FLAT).mean())
    if flat > 0.5:
        return f"{flat:.0%} of the images are of one colour each: a network sees nothing else in them"
    if np.median(widths) < NARROW:
        first, last = low.min(), high.max()
        if last - first < NARROW:
            return f"the images use grey values {first} to {last} of 255: a network sees little of them"
        return f"most images span {int(np.median(widths))} of 255 values or fewer: a network sees little of them"
    still = [i for i in range(3) if high[i] - low[i] <= FLAT]
    if still:
        names = " and ".join(CHANNELS[i] for i in still)
        values = " and ".join(str(high[i]) for i in still)
        return f"{names} {'is' if len(still) == 1 else 'are'} {values} of 255 in all images: nothing can be seen there."
    return ""
