"""The options of loading a dataset."""

from dataclasses import dataclass, fields

from ..images.preprocess import Preprocess
from ..options import DataRoot, Fitting, ProgressOption, SourceOptions
from ..recipes import Source
from .folder import Need


@dataclass(frozen=True, kw_only=True)
class DatasetOptions(Fitting, DataRoot, ProgressOption):
    """A dataset as it is asked for."""

    preprocess: Preprocess | None = None
    """Images as a classifier takes them: it stands for size, fit and stretch, and keeps its mean and std."""
    fold: str | None = None
    """Validate on one of so many folds, such as 2/5, of what is for training and validation."""
    recorded_in: str | None = None
    """The run whose record names the data where no user did: a path is then read only if a user named it before."""
    need: Need = "training"
    """What the images are wanted for: training, classes, or images."""

    def source(self) -> Source:
        """How images and labels are read."""
        said = {field.name: getattr(self, field.name) for field in fields(SourceOptions)}
        return Source(**{name: None if value is None else str(value) for name, value in said.items()})
