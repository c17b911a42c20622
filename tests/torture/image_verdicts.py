"""Whether what every way of reading made of an image is one verdict: the judge of `mutated_images`."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from torture.image_ways import SIZE, hashed

SECONDS = 2.0  # of computing, in one way
MEGABYTES = 512.0  # beyond what the process has before
ALIKE = 1e-4  # that probabilities of two processes differ by at most
NEEDS_PIXELS = ("decode", "decode its bytes", "training", "its bytes fitted", "the doctor", "as a mask")
OF_ALL = (*NEEDS_PIXELS, "the doctor's pass", "packing", "predict", "the page")
REASON = re.compile(
    r"(empty file|truncated|not an image \(.*\)|corrupt: .+|too large: .+|of a kind that cannot be read \(.+\)"
    r"|format [A-Z 0-9]+ is not allowed|a web page and not the image itself: .+|a pointer of Git LFS .+)"
)


@dataclass
class Seen:
    """What came of an image: in each way {"ok"}, {"no"} or {"broke"}; and what it cost."""

    ways: dict[str, dict[str, Any]]
    seconds: float = 0.0
    megabytes: float = 0.0
    noise: str = ""
    died: str = ""


def flaw_of(seen: Seen, *, whole: bool) -> str:
    """What is wrong, in a sentence; nothing where all is well. A ``whole`` image has to be read."""
    if seen.died:
        return seen.died
    for way, found in seen.ways.items():
        if "broke" in found:
            return f"{way} breaks down: {found['broke']}"
        if isinstance(found.get("ok"), str) and len(found["ok"]) != 64:
            return f"{way} gives {found['ok']}"
    if missing := [way for way in OF_ALL if way not in seen.ways]:
        return f"not tried: {', '.join(missing)}"
    if seen.noise:
        return f"it is not quiet: {seen.noise}"
    if seen.seconds > SECONDS:
        return f"it takes {seen.seconds:.1f} s"
    if seen.megabytes > MEGABYTES:
        return f"it takes {seen.megabytes:.0f} MB"
    reason = seen.ways["decode"].get("no")
    return _refusal(seen.ways, reason, whole) if reason is not None else _reading(seen.ways)


def _refusal(ways: dict[str, dict[str, Any]], reason: str, whole: bool) -> str:
    """What is wrong with the refusals of an image that decoding refuses."""
    if whole:
        return f"a whole image is refused: {reason}"
    if not REASON.fullmatch(reason) or len(reason) > 160:
        return f"refused without one of the reasons: {reason}"
    if ways["decode"]["passing"]:
        return f"the machine is blamed for its bytes: {reason}"
    for way in OF_ALL:
        if "no" not in ways[way]:
            return f"decode says {reason!r}, and {way} reads it"
        if ways[way]["no"] not in (reason, None):
            return f"decode says {reason!r}, and {way} {ways[way]['no']!r}"
    header = ways["the header"].get("no")
    return f"decode says {reason!r}, and its header {header!r}" if header not in (reason, None) else ""


def _reading(ways: dict[str, dict[str, Any]]) -> str:
    """What is wrong with an image that decoding reads."""
    for way, found in ways.items():
        if "no" in found:
            return f"decode reads it, and {way} says {found['no']!r}"
    pixels, width, height = ways["decode"]["ok"]
    if ways["decode its bytes"]["ok"] != [pixels, width, height]:
        return "its bytes give other pixels than its file"
    fitted, *size = ways["training"]["ok"]
    if size != [width, height]:
        return f"it is {width} x {height}, and {size[0]} x {size[1]} once fitted"
    page = np.frombuffer(base64.b64decode(ways["the page"]["ok"]["pixels"]), np.uint8).reshape(SIZE, SIZE, 3)
    others = {"its bytes fitted": ways["its bytes fitted"]["ok"][0], "packing": ways["packing"]["ok"]}
    for way, found in {**others, "the page": hashed(page)}.items():
        if found != fitted:
            return f"{way} gives other pixels than training"
    header = ways["the header"]["ok"]
    if header[2:] != [width, height]:
        return f"it is {width} x {height}, and its header says {header[2]} x {header[3]}"
    for way in ("the doctor", "the doctor's pass"):
        if ways[way]["ok"] != header:
            return f"its header says {header}, and {way} {ways[way]['ok']}"
    return _answers(dict(ways["predict"]["ok"]), dict(ways["the page"]["ok"]["top"]))


def _answers(predicted: dict[str, float], page: dict[str, float]) -> str:
    """What is wrong with two answers: (class, probability), the first five of them."""
    both = predicted.keys() & page.keys()
    if len(both) < len(predicted) - 1 or any(abs(predicted[name] - page[name]) > ALIKE for name in both):
        return f"predict answers {predicted}, and the page {page}"
    return ""
