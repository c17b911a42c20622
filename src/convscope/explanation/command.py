"""`convscope explain`: a run, a model's name or any network, and its cards; or one image taken apart."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..datasets.dataset import Dataset
from ..errors import DamagedFile, UsageError
from ..evaluation.subject import Subject, open_subject
from ..locks import lock
from ..models.architecture import weights_hash
from ..options import SubjectOptions
from ..progress import Progress
from ..storage import commit_json, make_folder, read_json
from ..tensor_files import commit_tensors, read_tensors
from . import report
from .card_making import Explaining, Options, Stage, Streamed
from .cards import ClassImages, LayerCards
from .image_command import material_of
from .probe import Probes
from .report import ExplainReport

SAVE_EVERY = 10.0  # seconds between two savings of a pass
FIRST_CARDS = 20.0  # seconds after which the first cards are shown while the pass goes on
FIRST_LAYERS = 6  # layers of which they are shown
STREAM = "exemplars.safetensors"


def explain(
    run: str | nn.Module,
    data: str | Path | Dataset | None = None,
    *,
    layer: Sequence[str] | None = None,
    filter: Sequence[int] | None = None,
    count: int = 9,
    least: bool = False,
    seeds: int = 1,
    ablate: int = 1_000,
    limit: int | None = None,
    from_exemplar: bool = False,
    seed: int = 0,
    weights: Path | None = None,
    model: str | None = None,
    data_root: Path | None = None,
    runs: Path | None = None,
    progress: Progress | None = None,
    on_layer: Callable[[Path, LayerCards], None] | None = None,
) -> ExplainReport:
    """Write a card for every filter of every layer, and return them; a notebook shows six of each layer.

    ``run`` is a run's name or path, ``last``, a classifier file, the name of a model (whose weights come from the file
    ``weights``, or are random), or any ``nn.Module`` that takes images of ``data`` as its preprocess makes them.
    ``data`` is what it is explained on, by default what it was trained on. ``layer`` and ``filter`` choose some. What
    an interrupted call has done is kept, and the next one goes on. ``on_layer`` is called when a layer's page is there.
    """
    _check(count, seeds, ablate, limit)
    subject = open_subject(
        run,
        data,
        SubjectOptions(weights=weights, model=model, data_root=data_root, runs=runs, progress=progress),
        "explain",
    )
    if filter:  # a folder of its own: the pages of all filters stay whole
        subject = replace(subject, folder=subject.folder / "filters")
    options = Options(count, least, tuple(filter) if filter else None, ablate, seeds, limit, from_exemplar, seed)
    making = Explaining(material_of(subject), options, layer)
    _check_filters(making, options)
    key = _key(subject, options, [found.name for found in making.layers])
    heading = {
        "name": subject.name,
        "layers": making.every,
        "made": [found.name for found in making.layers],
        "classes": subject.classifier.class_names,
        "key": key,
    }
    make_folder(subject.folder)
    with lock(subject.folder, f"the explanation of {subject.name}"):
        keeper = _Keeper(subject, making, key, heading, on_layer)
        done = keeper.done()
        for event in making.events(keeper.kept(), done):
            if isinstance(event, Stage) and progress:
                progress(event.what, event.done, event.total)
            elif isinstance(event, Streamed):
                if progress:
                    progress("exemplars", event.done, event.total)
                keeper.streamed(event)
            elif isinstance(event, Probes):
                keeper.probes = event
            elif isinstance(event, ClassImages):
                keeper.classes = event
            elif isinstance(event, LayerCards):
                keeper.layer(event)
        return keeper.finish(done)


class _Keeper:
    """Saves what is done, so that the next call goes on from there."""

    def __init__(
        self,
        subject: Subject,
        making: Explaining,
        key: str,
        heading: dict[str, Any],
        on_layer: Callable[[Path, LayerCards], None] | None,
    ) -> None:
        self.subject, self.making, self.key, self.heading, self.on_layer = subject, making, key, heading, on_layer
        self.start = self.saved = time.monotonic()
        self.layers: dict[str, LayerCards] = {}
        self.probes: Probes | None = None
        self.classes: ClassImages | None = None
        self.shown = False

    def done(self) -> list[str]:
        """The layers whose files are of this very explanation, whole."""
        return [found.name for found in self.making.layers if self._is_done(found.file)]

    def _is_done(self, file: str) -> bool:
        try:
            stored = read_json(self.subject.folder / f"{file}.json")
        except DamagedFile:
            return False
        return stored.get("key") == self.key and stored.get("images") == stored.get("of")

    def kept(self) -> dict[str, torch.Tensor] | None:
        """The state of a pass that was cut off, or ended; None to begin anew."""
        try:
            tensors, meta = read_tensors(self.subject.folder / STREAM)
        except DamagedFile:
            return None
        return tensors if meta.get("key") == self.key else None

    def streamed(self, event: Streamed) -> None:
        now, last = time.monotonic(), event.done == event.total
        if last or now - self.saved > SAVE_EVERY:
            commit_tensors(self.subject.folder / STREAM, event.stream.state(), {"key": self.key})
            self.saved = now
        if not self.shown and not last and now - self.start > FIRST_CARDS:
            for number, found in enumerate(self.making.so_far(event.stream)):
                if number < FIRST_LAYERS and not self._is_done(found.layer.file):
                    self._write(found)
            self.shown = True

    def layer(self, found: LayerCards) -> None:
        self.layers[found.layer.name] = found
        self._write(found)

    def _write(self, found: LayerCards) -> None:
        report.write_layer(found, self.subject.dataset, self.subject.folder, self.heading)
        if self.on_layer:
            self.on_layer(self.subject.folder / f"{found.layer.file}.html", found)

    def finish(self, done: Sequence[str]) -> ExplainReport:
        folder, dataset = self.subject.folder, self.subject.dataset
        summary = {
            "run": self.subject.name,
            "folder": str(folder),
            "data": dataset.name,
            "made": list(self.layers),
            "kept": list(done),
            "seconds": time.monotonic() - self.start,
            "notes": list(self.subject.notes),
        }
        made = ExplainReport(folder, summary, self.layers, dataset, self.probes, self.classes)
        made = replace(made, summary=report.write_index(folder, self.heading, made))
        commit_json(folder / "explain.json", {**made.summary, "key": self.key})
        return made


def _check(count: int, seeds: int, ablate: int, limit: int | None) -> None:
    for name, value, least in (("count", count, 1), ("seeds", seeds, 0), ("ablate", ablate, 0), ("limit", limit, 1)):
        if value is not None and value < least:
            raise UsageError(f"--{name} must be {least} or more, and is {value}.")


def _check_filters(making: Explaining, options: Options) -> None:
    for k in options.filters or ():
        if not any(0 <= k < layer.filters for layer in making.layers):
            most = max(layer.filters for layer in making.layers)
            where = making.layers[0].name if len(making.layers) == 1 else "any of the layers"
            raise UsageError(f"there is no filter {k} in {where}: they go from 0 to {most - 1}.")


def _key(subject: Subject, options: Options, layers: list[str]) -> str:
    """What the answers depend on, as a hash: weights, data and options."""
    weights = weights_hash(subject.classifier.network)
    return hashlib.sha256(repr([asdict(options), layers, subject.dataset.fingerprint, weights]).encode()).hexdigest()
