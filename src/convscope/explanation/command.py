"""Explain a run, a model's name or any network: a card for every filter."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path

from torch import nn

from ..classifying.classifier import Classifier
from ..datasets.dataset import Dataset
from ..errors import UsageError
from ..evaluation.subject import Subject, check_answers_unheld, open_subject
from ..locks import lock
from ..options import with_data_and_options
from ..storage import make_folder
from . import report
from .card_making import CardMaker, CardMaterial, Stage, Streamed
from .card_store import CardStore, key_of, place_of
from .cards import ClassImages, LayerCards
from .options import ExplainOptions
from .probe import Probes
from .report import ExplainReport, Heading

FIRST_CARDS = 20.0  # seconds after which the first cards are shown while the pass goes on
FIRST_LAYERS = 6  # layers of which they are shown


@dataclass(frozen=True)
class PageWritten:
    """The page of a layer is there; its cards are the first ones where fewer images were seen than will be."""

    page: Path
    cards: LayerCards


@with_data_and_options(ExplainOptions)
def explain(
    run: str | nn.Module | Classifier, data: str | Path | Dataset | None, options: ExplainOptions
) -> ExplainReport:
    """Write a card for every filter of every layer, and return them; a notebook shows six of each layer.

    ``run`` is a run's name or path, ``last``, a classifier file, the name of a model (whose weights come from the file
    ``weights``, or are random), or any ``nn.Module`` that takes images of ``data`` as its preprocess makes them.
    ``data`` is what it is explained on, by default what it was trained on. ``layer`` and ``filter`` choose some. What
    an interrupted call has done is kept, and the next one goes on.
    """
    *_, made = explaining(run, data, **vars(options))
    assert isinstance(made, ExplainReport)
    return made


@with_data_and_options(ExplainOptions)
def explaining(
    run: str | nn.Module | Classifier, data: str | Path | Dataset | None, options: ExplainOptions
) -> Iterator[PageWritten | ExplainReport]:
    """Do what ``explain`` does, and yield each page as it is written; the last event is the report."""
    _check(options)
    place = place_of(options)
    check_answers_unheld(run, data, options.runs, f"explain/{place.as_posix()}", "the explanation")
    subject = open_subject(run, data, options, "explain")
    subject = replace(subject, folder=subject.folder / place)
    making = CardMaker(CardMaterial.of(subject), options)
    _check_filters(making)
    made = tuple(found.name for found in making.layers)
    heading = Heading(subject.name, making.every, made, subject.classifier.class_names, key_of(making))
    make_folder(subject.folder)
    with lock(subject.folder, f"the explanation of {subject.name}"):
        yield from _write(subject, making, heading)


def _write(subject: Subject, making: CardMaker, heading: Heading) -> Iterator[PageWritten | ExplainReport]:
    """Write what is not there yet: the pages of layers, the first cards before them; then the index, and the end."""
    start = time.monotonic()
    store, progress, shown = CardStore(subject.folder, heading.key), making.options.progress, False
    done = [layer.name for layer in making.layers if store.holds(layer)]
    layers: dict[str, LayerCards] = {}
    probes: Probes | None = None
    classes: ClassImages | None = None
    common = [*(("probes.png", "probes.json") if making.probed else ()), *(("classes.png",) if making.pictured else ())]
    for event in making.events(store.stream(), done, whole=not store.finished(common)):
        if isinstance(event, (Stage, Streamed)) and progress:
            progress(event.what, event.done, event.total)
        if isinstance(event, Streamed):
            store.keep(event)
            if not shown and event.done < event.total and time.monotonic() - start > FIRST_CARDS:
                shown = True
                first = islice(making.so_far(event.stream), FIRST_LAYERS)
                yield from (_page(found, subject, heading) for found in first if not store.holds(found.layer))
        elif isinstance(event, Probes):
            probes = event
        elif isinstance(event, ClassImages):
            classes = event
        elif isinstance(event, LayerCards):
            yield (written := _page(event, subject, heading))
            layers[event.layer.name] = written.cards
    summary = {
        "run": subject.name,
        "folder": str(subject.folder),
        "data": subject.dataset.name,
        "made": list(layers),
        "kept": done,
        "seconds": time.monotonic() - start,
        "notes": [*subject.notes, *_without(making)],
    }
    again = partial(making.one_layer, store.stream)
    made = ExplainReport(subject.folder, summary, layers, subject.dataset, probes, classes, again)
    made = replace(made, summary=report.write_index(subject.folder, heading, made))
    store.finish(made.summary)
    yield made


def _page(found: LayerCards, subject: Subject, heading: Heading) -> PageWritten:
    report.write_layer(found, subject.dataset, subject.folder, heading)
    return PageWritten(subject.folder / f"{found.layer.file}.html", replace(found, crops=None))


def _check(options: ExplainOptions) -> None:
    for name, least in (("count", 1), ("seeds", 0), ("ablate", 0), ("limit", 1), ("seed", 0)):
        value = getattr(options, name)
        if value is not None and value < least:
            raise UsageError(f"--{name} must be {least} or more, and is {value}.")


def _without(making: CardMaker) -> list[str]:
    """A note of the layers that have none of the filters that were asked for."""
    layers = making.without
    more = "" if len(layers) < 2 else f" and {len(layers) - 1} more"
    return [f"{layers[0]}{more} got no card: no filter there has such a number."] if layers else []


def _check_filters(making: CardMaker) -> None:
    for k in making.options.filter or ():
        if not any(0 <= k < layer.filters for layer in making.layers):
            most = max(layer.filters for layer in making.layers)
            where = making.layers[0].name if len(making.layers) == 1 else "any of the layers"
            raise UsageError(f"there is no filter {k} in {where}: they go from 0 to {most - 1}.")
