"""Make a classifier of a folder of images from what a pretrained network makes of them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from ..classifying.classifier import FILE_NAME
from ..datasets.dataset import Undecoded
from ..errors import LockedError, UsageError
from ..explanation.command import explain
from ..feature_store.recording import backbone_of, record, store_options
from ..options import with_options
from ..training.runs import check_name, runs_folder
from .ladder import Rung
from .ladder_command import Transfer, check_classes
from .options import TransferOptions
from .report import TransferReport


@with_options(TransferOptions)
def transfer(data: str | Path, options: TransferOptions) -> TransferReport:
    """Make a classifier of a folder of images from a pretrained network: record features, climb the ladder, keep the
    best by validation, and open the test images once for it. Written into a run, which every command takes.

    ``budget``: minutes that fine-tuning and training from scratch may take beside the cheap rungs; None for none.
    ``cards`` writes the card of each class's most used filter, as ``explain`` does.
    """
    *_, made = transferring(data, **vars(options))
    assert isinstance(made, TransferReport)
    return made


@with_options(TransferOptions)
def transferring(data: str | Path, options: TransferOptions) -> Iterator[Rung | TransferReport]:
    """Do what ``transfer`` does, and yield each way as it was measured; the last event is the report."""
    start = time.perf_counter()
    if options.budget is not None and not 0 < options.budget < 1e6:
        raise UsageError(f"--budget {options.budget:g} is no time to spend: give minutes.")
    folder = runs_folder(options.runs)
    if options.name is not None and (folder / check_name(options.name) / FILE_NAME).exists():
        raise LockedError(f"run {options.name!r} exists already: choose another --name.")
    classifier = backbone_of(options)
    listed, found, notes = record(str(data), options, classifier, store_options(options))
    dataset = listed.dataset(Undecoded(listed, classifier.preprocess), classifier.preprocess)
    check_classes(dataset)
    notes = [*dataset.notes, *(note for note in notes if note not in dataset.notes)]
    for event in Transfer(str(data), options, classifier, listed, dataset, found, notes).events(start):
        if isinstance(event, TransferReport) and options.cards and event.filters and event.filters[0].layer:
            used = sorted({of_class.filters[0] for of_class in event.filters})
            where = {"data_root": options.data_root, "progress": options.progress}
            explain(str(event.run.folder), layer=[event.filters[0].layer], filter=used, ablate=0, **where)
        yield event
