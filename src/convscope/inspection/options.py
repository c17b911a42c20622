"""The options of the doctor."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from ..options import DataRoot, Device, Hiring, ProgressOption, Runs, SourceOptions


@dataclass(frozen=True, kw_only=True)
class DoctorOptions(SourceOptions, Hiring, Device, DataRoot, Runs, ProgressOption):
    """An examination as it is asked for."""

    task: Literal["classification", "multi_label", "regression", "segmentation", "detection"] | None = None
    """What is asked of an image: told from the data unless you say so."""
    masks: Path | None = None
    """Segmentation: the folder of masks, or a COCO file, where it cannot be told from the data."""
    labels: Annotated[bool | None, Parameter(negative="--no-labels")] = None
    """Look for wrong labels, or wrong and missing boxes, with a pretrained network (default: up to 3,000 images, or 100
    with boxes, which takes about a minute)."""
    backbone: str = "lite0"
    """The network whose features judge labels: a name of `convscope models --pretrained`."""
    weights: Path | None = None
    """A safetensors file to take the backbone's weights from."""
    limit: int | None = None
    """Examine so many images, stratified."""
