"""What is asked of an image where that is not one class of several: labels, a number, or a mask, for each image.

A dataset whose images have one class each has no targets: its labels say all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol

import numpy as np


class Targets(Protocol):
    """The targets of N images. ``names`` are those of the classes, or of the one number; ``task`` is one of TASKS."""

    task: ClassVar[str]

    @property
    def names(self) -> tuple[str, ...]:
        """Of what is told of an image."""
        ...

    def __len__(self) -> int: ...

    def take(self, index: np.ndarray) -> Targets:
        """Those of some of the images, in that order."""
        ...

    def digests(self) -> np.ndarray:
        """A SHA-256 of what is asked of each image, uint8 (N, 32)."""
        ...

    def counts(self, index: np.ndarray) -> dict[str, int]:
        """How many of the images at ``index`` have each of the names."""
        ...

    def told(self, i: int) -> str:
        """What is asked of image ``i``, in a few words."""
        ...


@dataclass(frozen=True)
class LabelSets:
    """Several labels an image, or none: ``values`` is uint8 (N, K), 1 where image n has label k."""

    names: tuple[str, ...]
    values: np.ndarray
    task: ClassVar[str] = "multi_label"

    def __len__(self) -> int:
        return len(self.values)

    def take(self, index: np.ndarray) -> LabelSets:
        """Those of some of the images."""
        return replace(self, values=self.values[index])

    def digests(self) -> np.ndarray:
        """A hash of each image's labels, by name."""
        return _digests(["\0".join(n for n, v in zip(self.names, row, strict=True) if v) for row in self.values])

    def counts(self, index: np.ndarray) -> dict[str, int]:
        """How many of the images have each label."""
        return {name: int(n) for name, n in zip(self.names, self.values[index].sum(0), strict=True)}

    def told(self, i: int) -> str:
        """The labels of an image."""
        return ", ".join(self.names[k] for k in np.flatnonzero(self.values[i])) or "no label"


@dataclass(frozen=True)
class Numbers:
    """A number an image: ``values`` is float64 (N,), all of them finite, and ``name`` that of their column."""

    name: str
    values: np.ndarray
    task: ClassVar[str] = "regression"

    @property
    def names(self) -> tuple[str, ...]:
        """The one name."""
        return (self.name,)

    def __len__(self) -> int:
        return len(self.values)

    def take(self, index: np.ndarray) -> Numbers:
        """Those of some of the images."""
        return replace(self, values=self.values[index])

    def digests(self) -> np.ndarray:
        """A hash of each number."""
        return _digests([repr(float(value)) for value in self.values])

    def counts(self, index: np.ndarray) -> dict[str, int]:
        """How many of the images have a number: all."""
        return {self.name: len(index)}

    def told(self, i: int) -> str:
        """The number of an image."""
        return f"{self.values[i]:.6g}"


def _digests(texts: Sequence[str]) -> np.ndarray:
    raw = b"".join(hashlib.sha256(text.encode(errors="surrogatepass")).digest() for text in texts)
    return np.frombuffer(raw, np.uint8).reshape(-1, 32)
