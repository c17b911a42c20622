"""Train a classifier and write its run, or only show what augmentation would do."""

from __future__ import annotations

from pathlib import Path

from ..errors import UsageError
from ..machine import pick_device
from ..options import with_options
from ..storage import write_derived
from . import report
from .continuation import compare_with_before, plan_continuation
from .dry_run import dry_run as dry_run
from .options import TrainOptions
from .repeated import is_repeated, repetitions
from .request import read_dataset, wanted_recipe
from .resuming import resume_training
from .session import Session
from .starting import plan_training, settle_recipe


@with_options(TrainOptions)
def prepare_training(data: str | Path, options: TrainOptions) -> Session:
    """Read the data, settle the recipe, make or find the run: everything before the first update.

    Iterate ``session.events()`` to train; ``session.notes`` are sentences to show first.
    """
    if is_repeated(options):
        raise UsageError("this is one training: convscope.train_repeatedly takes seeds and folds.")
    if options.resume:
        session = resume_training(str(data), options)
    else:
        if options.from_epoch is not None and options.continue_from is None:
            raise UsageError("--from-epoch is an epoch of the run that --continue-from names: give that too.")
        plan = plan_training if options.continue_from is None else plan_continuation
        planned = plan(str(data), options)
        if planned.rates is not None:  # before there is a run: one that goes on does not test rates again
            report.write_rates(planned.session.run, planned.rates)
        session = planned.begin()
    report.write_sheet(session.run, session.dataset, session.recipe)
    return session


@with_options(TrainOptions)
def train(data: str | Path, options: TrainOptions) -> report.TrainReport:
    """Train a classifier of ``data`` (a name, a folder or a table) and write its run; a notebook shows its curves.

    Options are those of the command line: ``train("digits", epochs=5, lr=0.1)``.
    """
    return _train(str(data), options)


@with_options(TrainOptions)
def train_repeatedly(data: str | Path, options: TrainOptions) -> report.RepeatedReport:
    """Train several times, with other ``seeds`` or on other ``folds``, and tell the mean and the spread.

    ``train_repeatedly("digits", seeds=5)``; the other options are those of ``train``.
    """
    trained = [_train(str(data), each) for each in repetitions(str(data), options)]
    return report.write_repeated(trained, options.folds is not None)


def _train(data: str, options: TrainOptions) -> report.TrainReport:
    session = prepare_training(data, **vars(options))
    for _ in session.events():
        pass
    return finish_training(session)


def finish_training(session: Session) -> report.TrainReport:
    """Compare with the run that this one goes on from at its best, if any, and write what a training writes last.

    What goes on from an earlier epoch is a try among others: for that the test images stay closed.
    """
    if session.before is not None and session.before.epoch is None:
        compare_with_before(session, session.before)
    return report.write_training(session.run, session.notes)


def preview(data: str, options: TrainOptions, target: Path) -> Path:
    """Write the augmentation sheet that a training with these options would begin with."""
    recipe = wanted_recipe(data, options)
    dataset = read_dataset(recipe, options.data_root, options.progress)
    recipe = settle_recipe(recipe, dataset, pick_device(options.device)).recipe
    write_derived(target, report.augmentation_preview(dataset, recipe.augment, recipe.loop.seed).png)
    return target
