"""Make a classifier of a folder of images from what a pretrained network makes of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ..datasets.dataset import Undecoded
from ..errors import UsageError
from ..feature_store.recording import backbone_of, images_of, record, store_options, with_fit, with_quick_start
from ..options import with_options
from ..progress import Laps
from ..training.continuing import growth
from ..training.runs import runs_folder
from .begun import asked_for, check_free, recipe_of
from .continuing import check_same, kept_apart, open_transfer
from .ladder import Rung
from .ladder_command import Transfer, check_classes
from .options import TransferOptions
from .recorded_targets import TaskRung
from .report import TransferReport
from .task_ladder_command import asked_images, transferring_to
from .task_report import TaskReport


@with_options(TransferOptions)
def transfer(data: str | Path, options: TransferOptions) -> TransferReport | TaskReport:
    """Make a classifier of a folder of images from a pretrained network: record features, climb the ladder, keep the
    best on images held out, and open the test images once for it. Written into a run, which every command takes; one
    that was stopped goes on where it was when the same is asked again.

    ``quick`` measures k-NN and a head, and leaves the rest out; the answer says so.
    ``budget``: minutes that fine-tuning and training from scratch may take beside the cheap rungs; None for none.
    ``continue_from`` names an earlier transfer of fewer images: what it saw stays in its part, and both are compared.
    ``cards`` writes the card of each class's most used filter, as ``explain`` does.
    """
    *_, made = transferring(data, **vars(options))
    assert isinstance(made, (TransferReport, TaskReport))
    return made


@with_options(TransferOptions)
def transferring(data: str | Path, options: TransferOptions) -> Iterator[Rung | TaskRung | TransferReport | TaskReport]:
    """Do what ``transfer`` does, and yield each way as it was measured; the last event is the report."""
    laps = Laps()
    _check(options)
    folder = runs_folder(options.runs)
    check_free(folder, options.name)
    asked_for_targets = asked_images(data, options)
    if asked_for_targets is not None:
        yield from transferring_to(asked_for_targets, str(data), options, backbone_of(options), laps)
        return
    options, fitted = with_fit(str(data), options)
    options = with_quick_start(str(data), options) if options.quick else options
    classifier = backbone_of(options)
    before = None if options.continue_from is None else open_transfer(options.continue_from, folder)
    if before is not None:
        options = replace(options, continue_from=str(before.run.folder.resolve()))
        asked, names = asked_for(options, classifier), images_of(str(data), options).class_names
        check_same(before, recipe_of(str(data), options, classifier, {}), asked, names)
    laps.lap("backbone")
    listed, found, notes = record(str(data), options, classifier, store_options(options))
    dataset = listed.dataset(Undecoded(listed, classifier.preprocess), classifier.preprocess)
    if before is not None:
        listed = kept_apart(before, listed, dataset)
        dataset = listed.dataset(dataset.images, classifier.preprocess)
        notes.append(growth(before, dataset).sentence())
    check_classes(dataset)
    notes = [*fitted, *dataset.notes, *(note for note in notes if note not in dataset.notes)]
    laps.lap("reading and engine", {"features": found.seconds})
    yield from Transfer(str(data), options, classifier, listed, dataset, found, notes, laps, before).events()


def _check(options: TransferOptions) -> None:
    """UsageError for options that cannot be meant, or not together."""
    if options.budget is not None and not 0 < options.budget < 1e6:
        raise UsageError(f"--budget {options.budget:g} is no time to spend: give minutes.")
    asked = {"budget": options.budget is not None, "fcnn full": options.fcnn == "full", "cards": options.cards}
    for option in (name for name, given in asked.items() if options.quick and given):
        raise UsageError(f"--quick leaves out what --{option} asks for: leave out one of them.")
