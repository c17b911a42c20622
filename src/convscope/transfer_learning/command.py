"""Make a classifier of a folder of images from what a pretrained network makes of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..datasets.dataset import Undecoded
from ..errors import UsageError
from ..feature_store.recording import backbone_of, record, store_options, with_fit, with_quick_start
from ..options import with_options
from ..progress import Laps
from ..training.runs import runs_folder
from .begun import check_free
from .ladder import Rung
from .ladder_command import Transfer, check_classes
from .options import TransferOptions
from .report import TransferReport


@with_options(TransferOptions)
def transfer(data: str | Path, options: TransferOptions) -> TransferReport:
    """Make a classifier of a folder of images from a pretrained network: record features, climb the ladder, keep the
    best on images held out, and open the test images once for it. Written into a run, which every command takes; one
    that was stopped goes on where it was when the same is asked again.

    ``quick`` measures k-NN and a head, and leaves the rest out; the answer says so.
    ``budget``: minutes that fine-tuning and training from scratch may take beside the cheap rungs; None for none.
    ``cards`` writes the card of each class's most used filter, as ``explain`` does.
    """
    *_, made = transferring(data, **vars(options))
    assert isinstance(made, TransferReport)
    return made


@with_options(TransferOptions)
def transferring(data: str | Path, options: TransferOptions) -> Iterator[Rung | TransferReport]:
    """Do what ``transfer`` does, and yield each way as it was measured; the last event is the report."""
    laps = Laps()
    _check(options)
    folder = runs_folder(options.runs)
    check_free(folder, options.name)
    options, fitted = with_fit(str(data), options)
    options = with_quick_start(str(data), options) if options.quick else options
    classifier = backbone_of(options)
    laps.lap("backbone")
    listed, found, notes = record(str(data), options, classifier, store_options(options))
    dataset = listed.dataset(Undecoded(listed, classifier.preprocess), classifier.preprocess)
    check_classes(dataset)
    notes = [*fitted, *dataset.notes, *(note for note in notes if note not in dataset.notes)]
    laps.lap("reading and engine", {"features": found.seconds})
    yield from Transfer(str(data), options, classifier, listed, dataset, found, notes, laps).events()


def _check(options: TransferOptions) -> None:
    """UsageError for options that cannot be meant, or not together."""
    if options.budget is not None and not 0 < options.budget < 1e6:
        raise UsageError(f"--budget {options.budget:g} is no time to spend: give minutes.")
    asked = {"budget": options.budget is not None, "fcnn full": options.fcnn == "full", "cards": options.cards}
    for option in (name for name, given in asked.items() if options.quick and given):
        raise UsageError(f"--quick leaves out what --{option} asks for: leave out one of them.")
