"""The options of features and similar, and those that a transfer shares with them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..options import (
    Cluster,
    DataRoot,
    Device,
    Engines,
    Fitting,
    Flag,
    OwnCode,
    Places,
    PretrainedWeights,
    ProgressOption,
    SourceOptions,
)

EnginesAnywhere = Literal["auto", "local", "torch", "onnxruntime", "ray", "ray-torch", "ray-onnxruntime"]


@dataclass(frozen=True, kw_only=True)
class BackboneOptions(Fitting, Device, DataRoot, ProgressOption):
    """Which pretrained network records the features of which images."""

    backbone: str = "lite0"
    """A name of `convscope models --pretrained`: lite0 needs no network."""
    weights: Path | None = None
    """A safetensors file to take the backbone's weights from."""
    augment: int = 0
    """So many varied copies of each image beside it; they are never scored."""
    level: str = "standard"
    """How the copies are varied: light, standard or strong."""
    engine: Engines = "auto"
    """auto, torch or onnxruntime."""
    seed: int = 0
    """Of whatever is drawn: varied copies, folds, first weights."""


@dataclass(frozen=True, kw_only=True)
class FeaturesOptions(BackboneOptions, Cluster):
    """A recording as it is asked for."""

    engine: EnginesAnywhere = "auto"  # pyrefly: ignore[bad-override] - frozen, so that more may be said of it here
    """auto, torch or onnxruntime; ray, ray-torch or ray-onnxruntime: the same, by workers on a cluster."""
    layer: str | None = None
    """Record this layer instead of what the last linear layer is given: the mean of its map over places."""
    maps: Flag = False
    """Keep whole feature maps: of the layer, or the last one."""
    dtype: Literal["float32", "float16"] = "float32"
    """float32 or float16, which halves the disk."""
    parquet: Path | None = None
    """Write them to this Parquet file too, a row an image: its name, class, SHA-256 and features."""


@dataclass(frozen=True, kw_only=True)
class SimilarOptions(SourceOptions, OwnCode, PretrainedWeights, Device, Places, ProgressOption):
    """A search as it is asked for."""

    count: int = 9
    """How many images to find."""
    engine: Engines = "auto"
    """auto, torch or onnxruntime."""
