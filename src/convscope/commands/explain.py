"""`convscope explain`: a run, a model's name or any network, and its cards; or one image taken apart."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from .. import explained
from ..classifier import weights_hash
from ..datasets import Dataset, Progress
from ..errors import DamagedFile, UnknownName, UsageError
from ..explained import ExplainReport, ImageReport, Taken
from ..explanation import METHODS
from ..explanation.attribution import sanity_check
from ..explanation.cards import ClassImages, LayerCards
from ..explanation.evidence import evidence, nearest
from ..explanation.explaining import Explaining, Material, Options, Stage, Streamed
from ..explanation.layers import find_layers
from ..explanation.maps import feature_maps
from ..explanation.probe import Probes
from ..storage import (
    commit_json,
    commit_tensors,
    lock,
    make_folder,
    read_json,
    read_tensors,
)
from .subject import Subject, open_subject

SAVE_EVERY = 10.0  # seconds between two savings of a pass
FIRST_CARDS = 20.0  # seconds after which the first cards are shown while the pass goes on
FIRST_LAYERS = 6  # layers of which they are shown
STREAM = "exemplars.safetensors"
NEAREST_IMAGES = 5_000


def _material(subject: Subject) -> Material:
    c = subject.classifier
    return Material(c.network, c.preprocess, c.class_names, subject.dataset, subject.labels)


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
    subject = open_subject(run, data, "explain", weights, model, data_root, runs, progress)
    if filter:  # a folder of its own: the pages of all filters stay whole
        subject = replace(subject, folder=subject.folder / "filters")
    options = Options(count, least, tuple(filter) if filter else None, ablate, seeds, limit, from_exemplar, seed)
    making = Explaining(_material(subject), options, layer)
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
        explained.write_layer(found, self.subject.dataset, self.subject.folder, self.heading)
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
        report = ExplainReport(folder, summary, self.layers, dataset, self.probes, self.classes)
        report = replace(report, summary=explained.write_index(folder, self.heading, report))
        commit_json(folder / "explain.json", {**report.summary, "key": self.key})
        return report


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


# ----------------------------------------------------------------------------------------------------- one image


def explain_image(
    run: str,
    image: str | Path,
    data: str | Path | None = None,
    *,
    target: str | None = None,
    methods: Sequence[str] | None = None,
    sanity: bool = False,
    layer: Sequence[str] | None = None,
    model: str | None = None,
    data_root: Path | None = None,
    runs: Path | None = None,
    progress: Progress | None = None,
) -> ImageReport:
    """Take one image's answer apart: evidence, where the network looks, the maps of each layer, nearest images.

    ``target`` is the class in question, by default the answer; ``methods`` are names of METHODS, by default all that
    the network allows. ``sanity`` randomises the weights layer by layer: a map that stays the same says nothing.
    """
    subject = open_subject(run, data, "explain", None, model, data_root, runs, progress)
    classifier, names = subject.classifier, list(subject.classifier.class_names)
    if target is not None and target not in names:
        raise UnknownName("class", target, names)
    pixels = classifier.preprocess.fit_image(Path(image), str(image))
    inputs = classifier.preprocess.normalise(torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None])
    inputs = inputs.contiguous(memory_format=torch.channels_last)
    found = evidence(classifier.network, inputs, None if target is None else names.index(target))
    notes = list(subject.notes)
    maps, checks = {}, {}
    for method in methods or METHODS:
        if method not in METHODS:
            raise UnknownName("method", method, METHODS)
        try:
            maps[method] = METHODS[method](classifier.network, inputs, found.target, None)
        except UsageError as error:
            if methods:
                raise
            notes.append(str(error))
            continue
        if sanity:
            if progress:
                progress(f"sanity of {method}", len(checks), len(METHODS))
            checks[method] = sanity_check(classifier.network, inputs, found.target, method)
    train = subject.dataset.parts["train"]
    sample = train if len(train) else np.arange(len(subject.dataset))
    layers = find_layers(classifier.network, inputs, layer)
    taken = Taken(
        image=pixels,
        evidence=found,
        attributions=maps,
        sanity=checks,
        maps=feature_maps(classifier.network, inputs, layers),
        nearest=nearest(
            classifier.network, subject.dataset.images, classifier.preprocess, sample[:NEAREST_IMAGES], inputs
        ),
        cards=_cards_of(subject, found.layer, [*explained.strongest(found.margin, explained.PUSHED)]),
    )
    folder = subject.folder / f"image-{Path(image).stem}"
    summary = _image_summary(taken, names, subject.dataset, folder, str(image), notes)
    return explained.write_image(taken, subject.dataset, names, folder, summary)


def _cards_of(subject: Subject, layer: str, filters: list[int]) -> LayerCards | None:
    """The cards of the filters that the evidence names, of exemplars among some thousand images."""
    options = Options(filters=tuple(filters), ablate=0, seeds=0, limit=NEAREST_IMAGES)
    making = Explaining(_material(subject), options, [layer])
    return next((e for e in making.events() if isinstance(e, LayerCards)), None)


def _image_summary(
    taken: Taken, names: list[str], dataset: Dataset, folder: Path, image: str, notes: list[str]
) -> dict[str, Any]:
    found = taken.evidence
    terms = [
        {"filter": k, "margin": float(found.margin[k]), "logit": float(found.terms[found.target, k])}
        for k in explained.strongest(found.margin, 2 * explained.PUSHED)
    ]
    return {
        "image": image,
        "folder": str(folder),
        "target": names[found.target],
        "against": names[found.against],
        "layer": found.layer,
        "exact": found.exact,
        "logits": dict(zip(names, found.logits.tolist(), strict=True)),
        "lead": found.lead,
        "explained": float(found.margin.sum()),
        "rest": float(found.rest[found.target] - found.rest[found.against]),
        "terms": terms,
        "methods": list(taken.attributions),
        "sanity": {
            method: [{"layer": c.layer, "correlation": c.correlation} for c in checks]
            for method, checks in taken.sanity.items()
        },
        "nearest": [
            {"index": i, "origin": dataset.origins(i), "label": dataset.class_names[dataset.labels[i]], "cosine": c}
            for i, c in taken.nearest
        ],
        "notes": notes,
    }
