"""The options of loading a dataset."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..images.preprocess import Preprocess
from ..options import DataRoot, Fitting, ProgressOption
from ..recipes import Source
from .folder import Need


@dataclass(frozen=True, kw_only=True)
class DatasetOptions(Fitting, DataRoot, ProgressOption):
    """A dataset as it is asked for."""

    preprocess: Preprocess | None = None
    """Images as a classifier takes them: it stands for size, fit and stretch, and keeps its mean and std."""
    fold: str | None = None
    """Validate on one of so many folds, such as 2/5, of what is for training and validation."""
    stream: bool = False
    """Decode images anew whenever they are used, instead of packing them first."""
    recorded_in: str | None = None
    """The run whose record names the data where no user did: a path is then read only if a user named it before."""
    need: Need = "training"
    """What the images are wanted for: training, classes, or images."""
    renamed: Mapping[str, str] | None = None
    """What merge and rename say, as a table of old names and new ones."""

    sides: Mapping[str, str] | None = None
    """Parts of images, by the first 8 bytes of their hash in hexadecimal, that stand above how they would be split."""

    def reading(self) -> dict[str, Any]:
        """How images and labels are read, with the table itself where it is given."""
        said = super().reading()
        return said | ({} if self.renamed is None else {"renamed": dict(self.renamed)})

    def source(self) -> Source:
        """How images and labels are read."""
        said = self.reading()
        said |= {name: str(value) for name, value in said.items() if isinstance(value, Path)}
        return Source(**said)
