"""The options of evaluate and predict."""

from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter

from ..options import OwnCode, Part, Places, PretrainedWeights, ProgressOption, Runs, SourceOptions, Views


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(SourceOptions, OwnCode, PretrainedWeights, Places, ProgressOption):
    """An evaluation as it is asked for."""

    part: Part | None = None
    """train, val, test or all; test for the data it was trained on and data that came with a test part, else all."""
    limit: int | None = None
    """Take so many images, stratified."""
    views: Views = "none"
    """none, flip, shift or flip-shift: score the mean over mirrored and shifted copies too."""


@dataclass(frozen=True, kw_only=True)
class PredictOptions(OwnCode, PretrainedWeights, Runs):
    """A prediction as it is asked for."""

    top: int = 5
    """How many answers an image."""
    views: Views = "none"
    """none, flip, shift or flip-shift: answer by the mean over mirrored and shifted copies."""
    standard_input: Annotated[bytes | None, Parameter(parse=False)] = None
    """The bytes of the image that is called -."""
