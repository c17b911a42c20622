"""The options of a diagnosis."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from cyclopts import Parameter

from ..options import Flag, SubjectOptions


@dataclass(frozen=True, kw_only=True)
class DiagnoseOptions(SubjectOptions):
    """A diagnosis as it is asked for. ``start`` and ``watched`` are for networks of one's own, from Python."""

    layer: Annotated[Sequence[str] | None, Parameter(consume_multiple=False)] = None
    """The module that ends a factor; say it once for each, in order. Found by itself when not said."""
    norm: str | None = None
    """A batch norm and a channel to look at, as bn1:3."""
    images: int = 4
    """The number of images whose Jacobians are measured."""
    double: Flag = False
    """Measure in float64."""
    losses: Annotated[Any, Parameter(name="--losses")] = None  # a path, or numbers from Python
    """What its loop told, step by step: a CSV, JSON lines, a Trainer's state, TensorBoard's events, or, in Python, a
    list."""
    start: Annotated[Any, Parameter(parse=False)] = None  # an nn.Module; its type would import torch
    """The network before its first step, or a copy of its state dict then."""
    watched: Annotated[Any, Parameter(parse=False)] = None  # a training.watching.Watched
    """The record of its training, by ``watching``."""
