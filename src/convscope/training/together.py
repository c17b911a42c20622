"""A training that several processes share: what they are, what is asked of each, and how it is begun again."""

from __future__ import annotations

from dataclasses import fields

from ..errors import DivergedError, InterruptedRun, UsageError
from ..models.trial import try_training
from ..models.user_network import is_own
from ..options import DataRoot, Device, ProgressOption, Runs, SourceOptions
from ..terminal import rest
from .following import Asked, asked_of, follow
from .launching import Launch, find_launch, local_device
from .options import TrainOptions
from .ranks import LostRank
from .resuming import in_processes
from .session import Session
from .sharing import check_shares

KEPT = ("watch", "keep_epochs", "processes")  # of the options of a run that is begun again, beside where things lie


def launch_of(options: TrainOptions) -> Launch | None:
    """The processes of a training, each with its device; None for one. UsageError where they cannot train together."""
    launch = find_launch(options.processes)
    if launch is not None:
        local_device(options.device, launch)
        if options.memory is not None:
            raise UsageError(f"--memory is settled for one process, and there are {launch.size}: leave it out.")
    return launch


def begun_again(launch: Launch | None, options: TrainOptions) -> TrainOptions:
    """The options, or those that go on with what this training began before its processes were started again."""
    begun = None if launch is None else launch.begun_before()
    if begun is None or not (begun / "recipe.json").exists():
        return options
    groups = (SourceOptions, DataRoot, Runs, Device, ProgressOption)
    kept = {*KEPT, *(f.name for group in groups for f in fields(group))}
    given = {name: getattr(options, name) for name in kept} | {"runs": begun.parent}
    model = options.model if options.model is not None and is_own(options.model) else None
    return TrainOptions(**given, model=model, name=begun.name, resume=True)


def share_out(session: Session, launch: Launch | None, data: str, options: TrainOptions) -> None:
    """Make it a training of these processes. UsageError where a batch has too few images for all of them."""
    recipe, dataset, size = session.recipe, session.dataset, 1 if launch is None else launch.size
    assert recipe.loop.batch_size is not None
    images, parts = len(dataset.subset("train")), recipe.parts.accumulate
    updates = -(-images // recipe.loop.batch_size)
    check_shares(images, updates, size, parts)
    if recipe.parts.sync_batch_norm and recipe.loop.compile:
        raise UsageError("a compiled network cannot be synchronised: --compile or --sync-batch-norm.")
    alone = images // updates // (size * parts) == 1
    if size * parts > 1 and alone and not recipe.parts.sync_batch_norm:
        classes = len(dataset.class_names)
        network = session.architecture.build(classes, seed=recipe.loop.seed)
        try_training(recipe.model.name, network, classes, dataset.preprocess.size, 1)
    if recipe.parts.sync_batch_norm and size * parts == 1:
        session.notes.append("--sync-batch-norm changes nothing here: one process normalises by its whole batch.")
    session.launch, session.asked = launch, asked_of(data, options)
    if session.run.folder.joinpath("recipe.json").exists():
        began = session.run.description()["machine"].get("processes", 1)
        if began != size:
            session.notes.append(
                f"begun by {_counted(began)} and resumed by {size}: batches are the same, but not what each draws for "
                "dropout, nor batch norms by share."
            )
    if launch is not None:
        session.resume_command = in_processes(session.resume_command, size, by_torchrun=launch.board is not None)


def _counted(processes: int) -> str:
    return "one process" if processes == 1 else f"{processes} processes"


def follow_quietly(data: str, options: TrainOptions, launch: Launch) -> int:
    """Train as rank 0 says; returns the exit code. What rank 0 tells the user is not told again."""
    rest()
    try:
        follow(Asked(**asked_of(data, options)), launch)
    except LostRank as error:
        if error.first:
            raise
        return error.exit_code
    except (InterruptedRun, DivergedError) as error:
        return error.exit_code
    return 0
