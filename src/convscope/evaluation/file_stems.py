"""How files are called that are made of images: by the image, and each by its own name."""

from __future__ import annotations

from pathlib import Path

from ..storage import shortened


def stem_of(name: str, taken: set[str]) -> str:
    """A file name for what is made of an image: its own without the ending, with a number where another has it."""
    plain = shortened(Path(name).stem.replace("/", "_") or "image")
    stem = next(s for s in (plain, *(f"{plain}-{n}" for n in range(2, len(taken) + 3))) if s.casefold() not in taken)
    taken.add(stem.casefold())
    return stem
