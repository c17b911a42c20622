"""Train a classifier and write its run, or only show what augmentation would do."""

from __future__ import annotations

from pathlib import Path

from ..errors import UsageError
from ..machine import pick_device
from ..options import with_options
from ..storage import check_free, expanded, write_derived
from . import report
from .continuation import compare_with_before, plan_continuation
from .dry_run import IMAGENET
from .dry_run import dry_run as dry_run
from .following import Asked, asked_of, follow
from .launching import Launch
from .options import TrainOptions
from .repeated import is_repeated, repetitions
from .request import read_dataset, wanted_recipe
from .resuming import resume_training
from .runs import Run
from .session import Session
from .starting import plan_training, settle_recipe
from .together import begun_again, launch_of, share_out

FIRST_FILES = 2**21  # bytes, of what a run holds before its network is built and its size is known


@with_options(TrainOptions)
def prepare_training(data: str | Path, options: TrainOptions) -> Session:
    """Read the data, settle the recipe, make or find the run: everything before the first update.

    Iterate ``session.events()`` to train; ``session.notes`` are sentences to show first.
    """
    if is_repeated(options):
        raise UsageError("this is one training: convscope.train_repeatedly takes seeds and folds.")
    launch = launch_of(options)
    if launch is not None and launch.follows:
        raise UsageError(f"this is rank {launch.rank} of {launch.size}, which follows rank 0: by convscope.train.")
    return prepare_launched(str(data), options, launch)


def prepare_launched(data: str, options: TrainOptions, launch: Launch | None) -> Session:
    """Prepare the training of these processes, in the first of them."""
    if data == IMAGENET and not expanded(data).exists():
        raise UsageError(
            f"{IMAGENET} has no images to learn from: it is for --dry-run, which says what ImageNet would take."
        )
    options = begun_again(launch, options)
    if options.resume:
        session = resume_training(data, options)
        share_out(session, launch, data, options)
    else:
        if options.from_epoch is not None and options.continue_from is None:
            raise UsageError("--from-epoch is an epoch of the run that --continue-from names: give that too.")
        plan = plan_training if options.continue_from is None else plan_continuation
        planned = plan(data, options)
        share_out(planned.session, launch, data, options)
        check_free(planned.session.run.folder, FIRST_FILES, "a new run")
        if planned.rates is not None:  # before there is a run: one that goes on does not test rates again
            report.write_rates(planned.session.run, planned.rates)
        if launch is not None:
            planned.description["machine"]["processes"] = launch.size
            launch.note_run(planned.session.run.folder)
        session = planned.begin()
    report.write_sheet(session.run, session.dataset, session.recipe)
    return session


@with_options(TrainOptions)
def train(data: str | Path, options: TrainOptions) -> report.TrainReport:
    """Train a classifier of ``data`` (a name, a folder, a table, shards) and write its run; a notebook shows curves.

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
    if is_repeated(options):
        raise UsageError("this is one training: convscope.train_repeatedly takes seeds and folds.")
    launch = launch_of(options)
    if launch is not None and launch.follows:
        over = follow(Asked(**asked_of(data, options)), launch) or launch.end()
        return report.TrainReport(Run(Path(over["folder"])), over["summary"])
    session = prepare_launched(data, options, launch)
    for _ in session.events():
        pass
    return finish_training(session)


def finish_training(session: Session) -> report.TrainReport:
    """Compare with the run that this one goes on from at its best, if any, and write what a training writes last.

    What goes on from an earlier epoch is a try among others: for that the test images stay closed.
    """
    if session.before is not None and session.before.epoch is None:
        compare_with_before(session, session.before)
    written = report.write_training(session.run, session.notes)
    if session.launch is not None:
        session.launch.note_end({"folder": str(session.run.folder.resolve()), "summary": written.summary})
    return written


def preview(data: str, options: TrainOptions, target: Path) -> Path:
    """Write the augmentation sheet that a training with these options would begin with."""
    recipe = wanted_recipe(data, options)
    dataset = read_dataset(recipe, options.data_root, options.progress)
    recipe = settle_recipe(recipe, dataset, pick_device(options.device)).recipe
    write_derived(target, report.augmentation_preview(dataset, recipe.augment, recipe.loop.seed).png)
    return target
