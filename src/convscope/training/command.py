"""Train a classifier and write its run, or only show what augmentation would do."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..machine import pick_device
from ..progress import Progress
from ..storage import commit_bytes
from . import report
from .request import TrainRequest, read_dataset, wanted_recipe
from .starting import prepare_training, settle_recipe


def preview(request: TrainRequest, target: Path, progress: Progress | None = None) -> Path:
    """Write the augmentation sheet that a training with this request would begin with."""
    recipe = wanted_recipe(request)
    dataset = read_dataset(recipe, request.data_root, progress)
    recipe = settle_recipe(recipe, dataset, pick_device(request.device)).recipe
    commit_bytes(target, report.augmentation_preview(dataset, recipe.augment, recipe.loop.seed).png)
    return target


# ---------------------------------------------------------------------------------------------------------- train


def train(
    data: str | Path,
    *,
    recipe: str | None = None,
    size: str | None = None,
    minutes: float | None = None,
    memory: float | None = None,
    watch: bool = False,
    name: str | None = None,
    resume: bool = False,
    device: str = "auto",
    data_root: Path | None = None,
    runs: Path | None = None,
    options: Mapping[str, Any] | None = None,
) -> report.TrainReport:
    """Train a classifier and write its run; returns the report, which a notebook shows as curves.

    ``options`` are those of the command line: ``{"model": "vgg", "epochs": 5, "lr": 0.1}``. ``watch``: look inside the
    network every 10th step, for ``diagnose``.
    """
    request = TrainRequest(
        str(data),
        recipe,
        options or {},
        name,
        resume,
        device,
        data_root,
        runs,
        size,
        minutes,
        memory,
        watch,
    )
    session = prepare_training(request)
    for _ in session.events():
        pass
    return report.write_training(session.run)
