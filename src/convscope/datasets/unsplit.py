"""What a loader returns: images, arrays or files, with labels, not yet split."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ..errors import DataError
from ..visible import visible
from .file_list import FileList
from .shard_files import ShardFiles
from .targets import Targets


@dataclass(frozen=True)
class Unsplit:
    """What a loader returns: exactly one of ``arrays`` (uint8 (N, h, w, 3)) and ``files`` holds the images."""

    name: str
    class_names: tuple[str, ...]
    labels: np.ndarray
    given: np.ndarray  # str (N,): "train", "val", "test" or ""
    image_size: int  # pixels, when none is asked for
    arrays: np.ndarray | None = None
    files: Sequence[Path] = ()
    root: Path | None = None
    origins: Callable[[int], str] | None = None
    validation: int | None = None  # images of "train" that become "val", when a dataset fixes their number
    mirror: bool = True
    notes: tuple[str, ...] = field(default=())
    groups: np.ndarray | None = None  # str (N,): images of one group stay on one side; "" is a group of its own
    sides: Mapping[str, str] = field(default_factory=dict)  # parts of images by key, in hexadecimal, however they split
    called_before: Mapping[str, str] = field(default_factory=dict)  # names that classes had, with those they have now
    targets: Targets | None = None  # what is asked of each image, where that is not its one class
    digests: np.ndarray | None = None  # uint8 (N, 32), where reading took the hash of each image already

    def __post_init__(self) -> None:
        """Write out control characters in names, once for all that shows them: a folder may be called anything."""
        names = tuple(map(visible, self.class_names))
        if len(set(names)) < len(set(self.class_names)):
            raise DataError(f"{self.name}: two classes differ in a control character only; rename one.")
        object.__setattr__(self, "class_names", names)
        object.__setattr__(self, "name", visible(self.name))

    def take(self, index: np.ndarray) -> Unsplit:
        """The images at ``index``, in that order."""
        origins = self.origin
        return replace(
            self,
            labels=self.labels[index],
            given=self.given[index],
            arrays=None if self.arrays is None else self.arrays[index],
            files=_taken(self.files, index),
            origins=lambda i: origins(int(index[i])),
            groups=None if self.groups is None else self.groups[index],
            targets=None if self.targets is None else self.targets.take(index),
            digests=None if self.digests is None else self.digests[index],
        )

    def origin(self, i: int) -> str:
        """Tell where image ``i`` came from, in words."""
        if self.origins is not None:
            return visible(self.origins(i))
        if not self.files:
            return f"{self.name} image {i}"
        path = self.files[i]
        return visible(str(path.relative_to(self.root) if self.root and path.is_relative_to(self.root) else path))


def _taken(files: Sequence[Path], index: np.ndarray) -> Sequence[Path]:
    if isinstance(files, (FileList, ShardFiles)):
        return files.take(index)
    return tuple(files[i] for i in index) if files else ()


def alike(names: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of names that differ in letter case or in how an accent is written alone; some file systems merge them."""
    seen: dict[str, str] = {}
    pairs = [(seen.setdefault(unicodedata.normalize("NFC", name).casefold(), name), name) for name in names]
    return [(first, name) for first, name in pairs if first != name]
