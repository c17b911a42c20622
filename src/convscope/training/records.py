"""What the files of a run say, with the types that it must have."""

from __future__ import annotations

from typing import Any

from ..classifying.description import DescribedData
from ..schemas import Schema


class Continuation(Schema):
    """What a run remembers of the one that it goes on from, in ``recipe.json``."""

    run: str
    preprocess: dict[str, Any]
    epoch: int | None = None


class RunDescription(Schema):
    """``recipe.json``: of a network from elsewhere without recipe and data, for nobody here knows them."""

    recipe: dict[str, dict[str, Any]] | None = None
    data: DescribedData | None = None
    machine: dict[str, str | int | float | None]
    source: str | None = None
    adopted: dict[str, str] | None = None
    continued: Continuation | None = None


class LogRow(Schema):
    """An epoch in ``log.jsonl``."""

    epoch: int
    train_loss: float
    train_top1: float
    val_loss: float
    val_top1: float
    val_low: float
    val_high: float
    val_n: int
    lr: float


class TimingRow(Schema):
    """An epoch in ``timing.jsonl``."""

    epoch: int
    images: int
    seconds: float
    data_seconds: float
    compute_seconds: float
    evaluation_seconds: float
    saving_seconds: float
    compile_seconds: float
    images_per_second: float
    gflop: float
    gflop_per_second: float
    peak_gflop_per_second: float
    percent_of_peak: float


class Opening(Schema):
    """A look at the test images in ``openings.jsonl``."""

    at: str
    part: str
    n: int


class Divergence(Schema):
    """``diverged.json``."""

    epoch: int
    step: int
    lr: float
    loss: str
    images: list[str]


class CheckpointState(Schema):
    """Where in the training a checkpoint was taken."""

    epoch: int
    step: int
    loss_sum: float
    correct: int
    seen: int


class CheckpointProgress(Schema):
    """The fields of ``runs.RunProgress``."""

    best_top1: float
    best_epoch: int
    finished: bool


class CheckpointMeta(Schema):
    """What a checkpoint says beside its tensors: with the seals of the recipe and the log that belong to it."""

    state: CheckpointState
    progress: CheckpointProgress
    recipe: str
    log: str
