"""Train a classifier and write its run, or only show what augmentation would do."""

from __future__ import annotations

from pathlib import Path

from ..machine import pick_device
from ..options import with_options
from ..storage import write_derived
from . import report
from .options import TrainOptions
from .request import read_dataset, wanted_recipe
from .resuming import resume_training
from .session import Session
from .starting import settle_recipe, start_training


@with_options(TrainOptions)
def prepare_training(data: str | Path, options: TrainOptions) -> Session:
    """Read the data, settle the recipe, make or find the run: everything before the first update.

    Iterate ``session.events()`` to train; ``session.notes`` are sentences to show first.
    """
    if options.resume:
        return resume_training(str(data), options)
    session, rates = start_training(str(data), options)
    sheet = report.augmentation_preview(session.dataset, session.recipe.augment, session.recipe.loop.seed)
    write_derived(session.run.folder / "augment.png", sheet.png)
    if rates is not None:
        report.write_rates(session.run, rates)
    return session


@with_options(TrainOptions)
def train(data: str | Path, options: TrainOptions) -> report.TrainReport:
    """Train a classifier of ``data`` (a name, a folder or a table) and write its run; a notebook shows its curves.

    Options are those of the command line: ``train("digits", epochs=5, lr=0.1)``.
    """
    session = prepare_training(data, **vars(options))
    for _ in session.events():
        pass
    return report.write_training(session.run)


def preview(data: str, options: TrainOptions, target: Path) -> Path:
    """Write the augmentation sheet that a training with these options would begin with."""
    recipe = wanted_recipe(data, options)
    dataset = read_dataset(recipe, options.data_root, options.progress)
    recipe = settle_recipe(recipe, dataset, pick_device(options.device)).recipe
    write_derived(target, report.augmentation_preview(dataset, recipe.augment, recipe.loop.seed).png)
    return target
