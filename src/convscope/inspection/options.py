"""The options of the doctor."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ..options import DataRoot, ProgressOption, Runs, SourceOptions


@dataclass(frozen=True, kw_only=True)
class DoctorOptions(SourceOptions, DataRoot, Runs, ProgressOption):
    """An examination as it is asked for."""

    labels: Annotated[bool | None, Parameter(negative="--no-labels")] = None
    """Look for wrong labels with a pretrained network (default: up to 3,000 images, which takes about a minute)."""
    backbone: str = "lite0"
    """The network whose features judge labels: a name of `convscope models --pretrained`."""
    weights: Path | None = None
    """A safetensors file to take the backbone's weights from."""
    limit: int | None = None
    """Examine so many images, stratified."""
