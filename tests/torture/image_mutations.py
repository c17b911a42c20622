"""What is done to an image's file: each mutation makes other bytes of it, by random numbers alone."""

from __future__ import annotations

import contextlib
import itertools
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from torture.image_structure import numbers_of, parts_of, with_checksums
from torture.written_images import chunk

EXTREMES = (0, 1, 2, 3, 7, 8, 9, 16, 127, 128, 255, 256, 4095, 7000, 16384, 32767, 32768, 40000, 65535, 65536)
EXTREMES += (1 << 20, (1 << 24) - 1, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, (1 << 64) - 1)


@dataclass(frozen=True)
class Given:
    """The file that is changed, its format, another file, and where chance comes from."""

    raw: bytes
    kind: str
    other: bytes
    random: np.random.Generator

    def place(self, most: int | None = None) -> int:
        """A place within the file; often near its head, where the numbers are."""
        end = max(1, len(self.raw) if most is None else most)
        return int(self.random.integers(0, min(end, 64) if self.random.random() < 0.4 else end))

    def span(self) -> tuple[int, int]:
        """A part of the file, whatever lies there: mostly a short one."""
        start = self.place()
        length = int(self.random.geometric(0.5 ** float(self.random.integers(1, 9))))
        return start, min(len(self.raw), start + length)


def flipped_bits(given: Given) -> bytes:
    changed = bytearray(given.raw)
    for _ in range(int(given.random.integers(1, 9))):
        changed[given.place()] ^= 1 << int(given.random.integers(0, 8))
    return bytes(changed)


def other_bytes(given: Given) -> bytes:
    changed = bytearray(given.raw)
    for _ in range(int(given.random.integers(1, 17))):
        changed[given.place()] = int(given.random.choice([0, 255, given.random.integers(0, 256)]))
    return bytes(changed)


def cut_short(given: Given) -> bytes:
    return given.raw[: given.place()]


def filled_range(given: Given) -> bytes:
    start, end = given.span()
    return given.raw[:start] + bytes([int(given.random.choice([0, 0, 255]))]) * (end - start) + given.raw[end:]


def range_left_out(given: Given) -> bytes:
    start, end = given.span()
    return given.raw[:start] + given.raw[end:]


def range_twice(given: Given) -> bytes:
    start, end = given.span()
    return given.raw[:end] + given.raw[start:end] * int(given.random.integers(1, 4)) + given.raw[end:]


def part_left_out(given: Given) -> bytes:
    parts = parts_of(given.kind, given.raw)
    if not parts:
        return range_left_out(given)
    part = parts[given.random.integers(len(parts))]
    return given.raw[: part.start] + given.raw[part.end :]


def part_twice(given: Given) -> bytes:
    parts = parts_of(given.kind, given.raw)
    if not parts:
        return range_twice(given)
    part, behind = (parts[i] for i in given.random.integers(len(parts), size=2))
    times = int(given.random.choice([1, 1, 2, 300]))
    return given.raw[: behind.end] + given.raw[part.start : part.end] * times + given.raw[behind.end :]


def parts_swapped(given: Given) -> bytes:
    parts = sorted(parts_of(given.kind, given.raw), key=lambda part: part.start)
    pairs = [(a, b) for a, b in itertools.pairwise(parts) if a.end <= b.start]
    if not pairs:
        return range_left_out(given)
    first, second = pairs[given.random.integers(len(pairs))]
    raw = given.raw
    between = raw[first.end : second.start]
    swapped = raw[second.start : second.end] + between + raw[first.start : first.end]
    return raw[: first.start] + swapped + raw[second.end :]


def extreme_numbers(given: Given) -> bytes:
    """Lengths and sizes in headers set to extremes; a PNG mostly has right checksums of them."""
    if given.kind == "PPM":
        return _extreme_words(given)
    numbers = numbers_of(given.kind, given.raw)
    if not numbers:
        return other_bytes(given)
    changed = bytearray(given.raw)
    for number in given.random.choice(len(numbers), min(len(numbers), int(given.random.integers(1, 4))), False):
        place, size, order = numbers[number].place, numbers[number].size, numbers[number].order
        before = int.from_bytes(changed[place : place + size], order)  # type: ignore[arg-type]
        value = int(given.random.choice([before + 1, before - 1, before * 2, -1, -1, -1, -1]))
        value = EXTREMES[given.random.integers(len(EXTREMES))] if value == -1 else value
        changed[place : place + size] = (value % (1 << 8 * size)).to_bytes(size, order)  # type: ignore[arg-type]
    return with_checksums(bytes(changed)) if given.kind == "PNG" and given.random.random() < 0.8 else bytes(changed)


def _extreme_words(given: Given) -> bytes:
    numbers = list(re.finditer(rb"[0-9.]+", given.raw[:40]))[1:]
    if not numbers:
        return other_bytes(given)
    number = numbers[given.random.integers(len(numbers))]
    words = [*(str(value).encode() for value in EXTREMES), b"-1", b"1e9", b"nan", b"", b"0" * 5000 + b"1", b"0x10"]
    return given.raw[: number.start()] + words[given.random.integers(len(words))] + given.raw[number.end() :]


def spliced(given: Given) -> bytes:
    """The head of one file and the tail of another."""
    return given.raw[: given.place()] + given.other[int(given.random.integers(0, len(given.other) + 1)) :]


def inserted(given: Given) -> bytes:
    """A piece of another file within this one."""
    place, (start, end) = given.place(), sorted(given.random.integers(0, len(given.other) + 1, 2).tolist())
    return given.raw[:place] + given.other[start:end] + given.raw[place:]


def appended(given: Given) -> bytes:
    tails = [bytes(5000), given.random.bytes(700), given.other, given.raw, b"\r\n"]
    return given.raw + tails[given.random.integers(len(tails))]


def other_pixels(given: Given) -> bytes:
    """Of a PNG, other bytes where its pixels are packed, packed again; of others, other bytes anywhere."""
    if given.kind != "PNG":
        return other_bytes(given)
    held = [(p, given.raw[p.start + 8 : p.end - 4]) for p in parts_of("PNG", given.raw)]
    held = [(p, content) for p, content in held if given.raw[p.start + 4 : p.start + 8] == b"IDAT"]
    with contextlib.suppress(zlib.error, IndexError):
        unpacked = zlib.decompress(b"".join(content for _, content in held))
        changed = other_bytes(Given(unpacked, "", b"", given.random))
        if given.random.random() < 0.3:
            changed = changed[: int(given.random.integers(len(changed)))]
        first, last = held[0][0].start, held[-1][0].end
        return given.raw[:first] + chunk(b"IDAT", zlib.compress(changed)) + given.raw[last:]
    return other_bytes(given)


def mended_after(given: Given) -> bytes:
    """Other bytes, of which a PNG's checksums know."""
    changed = other_bytes(given)
    return with_checksums(changed) if given.kind == "PNG" else flipped_bits(Given(changed, "", b"", given.random))


MUTATIONS: dict[str, Callable[[Given], bytes]] = {
    "flipped bits": flipped_bits,
    "other bytes": other_bytes,
    "cut short": cut_short,
    "a filled range": filled_range,
    "a range left out": range_left_out,
    "a range twice": range_twice,
    "a part left out": part_left_out,
    "a part twice": part_twice,
    "parts swapped": parts_swapped,
    "extreme numbers": extreme_numbers,
    "extreme numbers again": lambda given: extreme_numbers(
        Given(extreme_numbers(given), given.kind, given.other, given.random)
    ),
    "spliced": spliced,
    "inserted": inserted,
    "appended": appended,
    "other pixels": other_pixels,
    "other bytes, mended": mended_after,
    "untouched, under another name": lambda given: given.raw,
}
UNTOUCHED = "untouched, under another name"
