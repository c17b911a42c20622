"""How files are called that are made of images: by the image, and each by its own name."""

from __future__ import annotations

from pathlib import Path

from ..portable import merged_name, shortened


def stem_of(name: str, taken: set[str]) -> str:
    """A file name for what is made of an image: its own without the ending, with a number where another has it."""
    plain = shortened(Path(name).stem.replace("/", "_") or "image")
    numbered = (plain, *(f"{plain}-{n}" for n in range(2, len(taken) + 3)))
    stem = next(stem for stem in numbered if merged_name(stem) not in taken)
    taken.add(merged_name(stem))
    return stem
