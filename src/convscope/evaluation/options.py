"""The options of evaluate, predict and adopt."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from ..options import (
    ArchitectureOptions,
    Device,
    Hiring,
    OwnCode,
    Part,
    Places,
    PretrainedWeights,
    ProgressOption,
    SourceOptions,
    Views,
)


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(SourceOptions, OwnCode, PretrainedWeights, Device, Places, ProgressOption):
    """An evaluation as it is asked for."""

    part: Part | None = None
    """train, val, test or all; test for the data it was trained on and data that came with a test part, else all."""
    limit: int | None = None
    """Take so many images, stratified."""
    views: Views = "none"
    """none, flip, shift or flip-shift: score the mean over mirrored and shifted copies too."""
    masks: Path | None = None
    """Segmentation: the folder of masks, or a COCO file, where it cannot be told from the data."""


@dataclass(frozen=True, kw_only=True)
class PredictOptions(OwnCode, Hiring, PretrainedWeights, Device, Places, ProgressOption):
    """A prediction as it is asked for."""

    top: int = 5
    """How many answers an image."""
    views: Views = "none"
    """none, flip, shift or flip-shift: answer by the mean over mirrored and shifted copies."""
    min_probability: float | None = None
    """Answer --unknown where the likeliest class has less than this probability, of 0 to 1."""
    coverage: float | None = None
    """Answer --unknown to images that are less familiar than this share of validation images, such as 0.95."""
    known: str | None = None
    """For --coverage: a dataset, folder or table of images that are familiar (default: those it was trained on)."""
    unknown: str | None = None
    """What is answered instead of a class (default: none of these); given by itself it asks for --coverage 0.95."""
    csv: Path | None = None
    """Write the answers to this file as comma-separated values; - prints them."""
    copy_to: Path | None = None
    """Copy each image into a folder of its answer in here; nothing is moved or written over."""
    links: Annotated[bool, Parameter(negative=())] = False
    """With --copy-to: link images instead of copying them."""
    masks_to: Path | None = None
    """Segmentation: write each mask, and the image under its mask, into this folder."""
    boxes_to: Path | None = None
    """Detection: write each image with its boxes, YOLO's text of them, and COCO's JSON of all into this folder."""
    tile: Annotated[bool, Parameter(negative=())] = False
    """Segmentation, detection: look at an image larger than the network's input in overlapping tiles of that size."""
    standard_input: Annotated[bytes | None, Parameter(parse=False)] = None
    """The bytes of the image that is called -."""


@dataclass(frozen=True, kw_only=True)
class Adopting(ArchitectureOptions, Places):
    """A network from elsewhere as it is brought along, but for what Python may say otherwise than in files."""

    weights: Path | None = None
    """Its weights: a safetensors file, or one that torch.save wrote of a state dict (.pth, .pt)."""
    input_size: int | None = None
    """Side of its images in pixels (default: as the library's own weights of that name have it)."""
    mean: tuple[float, float, float] | None = None
    """What is taken off the red, green and blue values, of 0 to 1."""
    std: tuple[float, float, float] | None = None
    """What they are then divided by."""
    fit: Literal["crop", "pad", "squash"] | None = None
    """crop (the middle), pad (the whole image with borders) or squash: how images become square."""
    centre: float | None = None
    """With crop: the share of the shorter side that is looked at, such as 0.875."""
    interpolation: Literal["bilinear", "bicubic"] | None = None
    """How images are resized."""
    name: str | None = None
    """The run's name (default: the network's)."""


@dataclass(frozen=True, kw_only=True)
class AdoptOptions(Adopting):
    """A network from elsewhere as the command line brings it along."""

    classes: str | None = None
    """What its outputs mean, in their order: a file with one name a line, a JSON list, a folder, or a dataset."""
    preprocess: Path | None = None
    """Hugging Face's preprocessor_config.json or timm's config.json: how it takes images."""


@dataclass(frozen=True, kw_only=True)
class CompareOptions(SourceOptions, OwnCode, Device, Places, ProgressOption):
    """A comparison as it is asked for."""

    data: str | None = None
    """What to compare on: a dataset, folder or table (default: the runs' own test images)."""
    part: Part | None = None
    """train, val, test or all; test for the data they were trained on and data that came with a test part, else all."""
    limit: int | None = None
    """Take so many images, stratified."""
