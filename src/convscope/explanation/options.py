"""The options of an explanation: of a network's filters, of its answer to one image, and of where it looks."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ..options import (
    Corrections,
    Device,
    Flag,
    Hiring,
    OwnCode,
    Places,
    PretrainedWeights,
    ProgressOption,
    SubjectOptions,
)


@dataclass(frozen=True, kw_only=True)
class LayerChoice:
    """Which layers."""

    layer: Sequence[str] | None = None
    """A layer, by its name in `convscope models`; more than one by repeating it. Default: every convolution."""


@dataclass(frozen=True, kw_only=True)
class ExplainOptions(LayerChoice, Hiring, SubjectOptions):
    """The filters that get a card, and what stands on it."""

    filter: Sequence[int] | None = None
    """A filter's number; more than one by repeating it. Default: all."""
    count: int = 9
    """Exemplars of each filter."""
    least: Flag = False
    """The least exciting images too."""
    seeds: int = 1
    """Maximized images of each filter, from other noise each; 0 for none."""
    ablate: int = 1_000
    """Validation images on which each filter is silenced; 0 for none."""
    limit: int | None = None
    """Search so many images for exemplars."""
    from_exemplar: Flag = False
    """Begin maximization at the best exemplar instead of noise."""
    seed: int = 0
    """Of the order, the noise and the random moves."""


@dataclass(frozen=True, kw_only=True)
class MapOptions:
    """The maps of one image."""

    target: str | None = None
    """With --image: the class in question, instead of the answer."""
    methods: Annotated[Sequence[str] | None, Parameter(name="--method")] = None
    """With --image: cam, grad-cam, integrated-gradients or occlusion; default: all that the network allows."""
    sanity: Flag = False
    """With --image: randomise the weights layer by layer, and say whether the maps change."""


@dataclass(frozen=True, kw_only=True)
class ImageOptions(MapOptions, LayerChoice, SubjectOptions):
    """One image's answer taken apart."""


@dataclass(frozen=True, kw_only=True)
class LocalizeOptions(Corrections, PretrainedWeights, OwnCode, Device, Places, ProgressOption):
    """Masks and boxes out of class maps, as they are asked for."""

    target: Annotated[str | None, Parameter(name=("--target", "--class"))] = None
    """The class whose map is made (default: the label that an image has, else the network's first answer)."""
    masks: Path | None = None
    """The folder of masks, or a COCO file, to score against, where it cannot be told from the data."""
    object: Sequence[str] | None = None
    """The masks' class that is the object; more than one by repeating it. Default: all but the background."""
    threshold: float | None = None
    """Of 0 to 1: what a pixel of the scaled map reaches that counts (default: chosen by masks, without them 0.2)."""
    limit: int | None = None
    """Take so many images."""
    masks_to: Path | None = None
    """Write each mask, and the image under it, into this folder."""
