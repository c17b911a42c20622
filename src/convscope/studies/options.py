"""The options of a study."""

from dataclasses import dataclass

from ..options import Device, Places, ProgressOption
from ..training.options import Size


@dataclass(frozen=True, kw_only=True)
class StudyOptions(Device, Places, ProgressOption):
    """The size of the trainings, and the time they may take; results lie in the folder ``study`` of runs."""

    size: Size = "small"
    """small: digits and shapes, offline, 40 minutes for all; medium and large: CIFAR-10, hours and days."""
    minutes: float | None = None
    """Begin no other training after so many."""
    device: str = "cpu"
    """cpu, auto, cuda, cuda:1, mps."""
