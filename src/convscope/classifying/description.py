"""What a classifier's file says of itself, checked: whatever was sealed in, each value has its type."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import ConfigDict, Field, model_validator

from ..images.preprocess import MAX_SIZE
from ..schemas import Schema, check_schema

Option = int | float | bool | str | None


class DescribedNetwork(Schema):
    """The fields of ``models.Architecture``."""

    model_config = ConfigDict(strict=True, extra="forbid")

    name: Annotated[str, Field(max_length=1000)]
    image_size: Annotated[int, Field(ge=1, le=MAX_SIZE)]
    options: dict[str, Option]
    source: str | None


class DescribedData(Schema):
    """What a classifier was trained on."""

    name: str
    fingerprint: str
    counts: dict[str, dict[str, int]]


class DescribedSeal(Schema):
    """The parity seal's logits; of boxes their scores and corners by place."""

    logits: list[list[float]] | list[list[list[float]]] | list[list[list[list[float]]]]


class DescribedOrigin(Schema):
    """Where a classifier comes from; what is not named here is only shown."""

    run: str = ""
    epoch: int = 0
    val_top1: float | None = None
    val_n: int = 0
    licence: str | None = None
    pretrained: str | None = None
    recipe: dict[str, dict[str, Any]] | None = None
    data: DescribedData | None = None
    seal: DescribedSeal | None = None


class DescribedSettings(Schema):
    """What turns outputs into answers, by the task."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)

    threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    thresholds: list[float] | None = None
    half_width: float | None = None
    mean: float | None = None


# What a task cannot answer without.
NEEDED = {"multi_label": "thresholds", "detection": "threshold"}


class DescribedClassifier(Schema):
    """The whole."""

    architecture: DescribedNetwork
    classes: Annotated[list[str], Field(min_length=1)]
    preprocess: dict[str, Any]
    provenance: DescribedOrigin
    task: Annotated[str, Field(max_length=100)] = "classification"
    settings: DescribedSettings = Field(default_factory=DescribedSettings)

    @model_validator(mode="after")
    def _needed(self) -> Self:
        """ValueError where a setting is missing, or is not of as many classes as there are."""
        needed = NEEDED.get(self.task)
        if needed is not None and getattr(self.settings, needed) is None:
            raise ValueError(f"the task {self.task} needs the setting {needed}")
        if self.task == "detection" and self.architecture.options.get("head") != "fcos":
            raise ValueError("a network of the task detection ends in fcos, and this one does not")
        if self.task == "multi_label" and len(self.settings.thresholds or ()) != len(self.classes):
            raise ValueError(f"{len(self.settings.thresholds or ())} thresholds are not of {len(self.classes)} labels")
        return self


def check_description(meta: dict[str, Any], path: Path) -> DescribedClassifier:
    """The description, its types checked; DamagedFile naming the first value that has another."""
    return check_schema(DescribedClassifier, meta, path, "a classifier")
