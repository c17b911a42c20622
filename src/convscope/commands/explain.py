"""`convscope explain`: a run, a model's name or any network, and its cards; or one picture taken apart."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from .. import explained
from ..classifier import Architecture, Classifier, load_weight_file, weights_hash
from ..datasets import Dataset, Progress
from ..datasets import load as load_dataset
from ..errors import ConvscopeError, DamagedFile, DataError, UnknownName, UsageError
from ..evaluation import translation
from ..explained import ExplainReport, PictureReport, Taken
from ..explanation import METHODS
from ..explanation.attribution import sanity_check
from ..explanation.cards import ClassPictures, LayerCards
from ..explanation.evidence import evidence, nearest
from ..explanation.explaining import Explaining, Material, Options, Stage, Streamed
from ..explanation.layers import find_layers
from ..explanation.maps import feature_maps
from ..explanation.probe import Probes
from ..models import full_name, is_own
from ..preparing import data_name
from ..runs import runs_folder
from ..storage import (
    commit_json,
    commit_tensors,
    lock,
    make_folder,
    read_foreign_tensors,
    read_json,
    read_tensors,
)
from ..taps import evaluating
from .main import open_classifier, read_data

SAVE_EVERY = 10.0  # seconds between two savings of a pass
FIRST_CARDS = 20.0  # seconds after which the first cards are shown while the pass goes on
FIRST_LAYERS = 6  # layers of which they are shown
STREAM = "exemplars.safetensors"
NEAREST_PICTURES = 5_000


@dataclass(frozen=True)
class _Subject:
    """What is to be explained: a classifier, the data, where the answers go, and notes."""

    classifier: Classifier
    dataset: Dataset
    name: str
    folder: Path
    labels: np.ndarray | None
    notes: tuple[str, ...]

    def material(self) -> Material:
        c = self.classifier
        return Material(c.network, c.preprocess, c.class_names, self.dataset, self.labels)


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
    ``weights``, or are random), or any ``nn.Module`` that takes pictures of ``data`` as its preprocess makes them.
    ``data`` is what it is explained on, by default what it was trained on. ``layer`` and ``filter`` choose some. What
    an interrupted call has done is kept, and the next one goes on. ``on_layer`` is called when a layer's page is there.
    """
    _check(count, seeds, ablate, limit)
    subject = _subject(run, data, weights, model, data_root, runs, progress)
    if filter:  # a folder of its own: the pages of all filters stay whole
        subject = replace(subject, folder=subject.folder / "filters")
    options = Options(count, least, tuple(filter) if filter else None, ablate, seeds, limit, from_exemplar, seed)
    making = Explaining(subject.material(), options, layer)
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
            elif isinstance(event, ClassPictures):
                keeper.classes = event
            elif isinstance(event, LayerCards):
                keeper.layer(event)
        return keeper.finish(done)


class _Keeper:
    """Saves what is done, so that the next call goes on from there."""

    def __init__(
        self,
        subject: _Subject,
        making: Explaining,
        key: str,
        heading: dict[str, Any],
        on_layer: Callable[[Path, LayerCards], None] | None,
    ) -> None:
        self.subject, self.making, self.key, self.heading, self.on_layer = subject, making, key, heading, on_layer
        self.start = self.saved = time.monotonic()
        self.layers: dict[str, LayerCards] = {}
        self.probes: Probes | None = None
        self.classes: ClassPictures | None = None
        self.shown = False

    def done(self) -> list[str]:
        """The layers whose files are of this very explanation, whole."""
        return [found.name for found in self.making.layers if self._is_done(found.file)]

    def _is_done(self, file: str) -> bool:
        try:
            stored = read_json(self.subject.folder / f"{file}.json")
        except DamagedFile:
            return False
        return stored.get("key") == self.key and stored.get("pictures") == stored.get("of")

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


def _key(subject: _Subject, options: Options, layers: list[str]) -> str:
    """What the answers depend on, as a hash: weights, data and options."""
    weights = weights_hash(subject.classifier.network)
    return hashlib.sha256(repr([asdict(options), layers, subject.dataset.fingerprint, weights]).encode()).hexdigest()


# --------------------------------------------------------------------------------------------------- what is asked


def _subject(
    run: str | nn.Module,
    data: str | Path | Dataset | None,
    weights: Path | None,
    model: str | None,
    data_root: Path | None,
    runs: Path | None,
    progress: Progress | None,
) -> _Subject:
    if isinstance(run, nn.Module):
        return _module(run, data, data_root, runs, progress)
    if _is_model(run, runs):
        return _model(run, data, weights, data_root, runs, progress)
    if weights is not None:
        raise UsageError(f"--weights is for a model's name, and {run} is a run, which has weights of its own.")
    classifier, found = open_classifier(run, runs, model)
    if isinstance(data, Dataset):
        dataset, same, change = data, False, None
    else:
        dataset, same, change = read_data(classifier, run, data, "explain", data_root, progress)
    labels, notes = _labels(classifier, dataset)
    if change:
        notes = (*notes, f"the data changed since {run} was trained: {change}.")
    home = found.folder if found else runs_folder(runs) / Path(run).stem
    folder = home / "explain" if same else home / "explain" / dataset.name
    return _Subject(classifier, dataset, home.name, folder, labels, (*dataset.notes, *notes))


def _is_model(run: str, runs: Path | None) -> bool:
    """Whether a name is that of a model and not of a run, a path, or ``last``."""
    if Path(run).exists() or (runs_folder(runs) / run).exists() or run == "last":
        return False
    try:
        full_name(run)
    except UnknownName:
        return False
    return True


def _named(name: str, data: str | Path | Dataset | None, data_root: Path | None, progress: Progress | None) -> Dataset:
    """The dataset that has to be named where nothing says what a network was trained on."""
    if data is None:
        raise UsageError(f"{name} does not say what it was trained on: name a dataset to explain it on.")
    if isinstance(data, Dataset):
        return data
    return load_dataset(data_name(str(data)), data_root=data_root, progress=progress)


def _labels(classifier: Classifier, dataset: Dataset) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """The dataset's labels in the classifier's order, None with a note where a class is not the classifier's."""
    try:
        return translation(classifier.class_names, dataset.class_names)[dataset.labels], ()
    except DataError as error:
        return None, (f"{error} So it is not measured what each filter is for; everything else is.",)


def _model(
    name: str,
    data: str | Path | Dataset | None,
    weights: Path | None,
    data_root: Path | None,
    runs: Path | None,
    progress: Progress | None,
) -> _Subject:
    """A model by its name, with the weights of a file or random ones, on a dataset that has to be named."""
    dataset = _named(f"the model {name}", data, data_root, progress)
    classes = dataset.class_names
    notes: tuple[str, ...] = ()
    if weights is None:
        notes = (f"the weights of {name} are random: give a run, or a file with --weights.",)
    else:
        n = _outputs(weights)
        if n is not None and n != len(classes):
            classes = tuple(f"output {i}" for i in range(n))
    architecture = Architecture(full_name(name), dataset.preprocess.size)
    network = architecture.build(len(classes))
    if weights is not None:
        load_weight_file(network, weights)
    classifier = Classifier(network.eval(), classes, dataset.preprocess, architecture)
    labels, unfit = _labels(classifier, dataset) if weights is not None else (None, ())
    home = name.split("/")[-1].replace(":", "-").removesuffix(".py") if is_own(name) else name.replace(":", "-")
    folder = runs_folder(runs) / home / "explain" / dataset.name
    return _Subject(classifier, dataset, name, folder, labels, (*dataset.notes, *notes, *unfit))


def _outputs(weights: Path) -> int | None:
    """How many logits the network of a weight file puts out: the rows of its matrix; None where it has several."""
    matrices = [t for n, t in read_foreign_tensors(weights).items() if t.dim() == 2 and n.endswith("weight")]
    return len(matrices[0]) if len(matrices) == 1 else None


def _module(
    network: nn.Module,
    data: str | Path | Dataset | None,
    data_root: Path | None,
    runs: Path | None,
    progress: Progress | None,
) -> _Subject:
    """Any network: it is given the dataset's pictures as the dataset's preprocess makes them."""
    dataset = _named("a network", data, data_root, progress)
    name = type(network).__name__
    classifier = Classifier(
        network, dataset.class_names, dataset.preprocess, Architecture(name, dataset.preprocess.size)
    )
    try:
        with torch.no_grad(), evaluating(network):
            outputs = network(torch.zeros(1, 3, dataset.preprocess.size, dataset.preprocess.size)).shape[-1]
    except ConvscopeError:
        raise
    except Exception as error:
        raise UsageError(f"{name} cannot take pictures of {dataset.preprocess.size} pixels: {error}") from error
    labels = dataset.labels if outputs == len(dataset.class_names) else None
    folder = runs_folder(runs) / name / "explain" / dataset.name
    return _Subject(classifier, dataset, name, folder, labels, dataset.notes)


# ----------------------------------------------------------------------------------------------------- one picture


def explain_picture(
    run: str,
    picture: str | Path,
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
) -> PictureReport:
    """Take one picture's answer apart: evidence, where the network looks, the maps of each layer, nearest pictures.

    ``target`` is the class in question, by default the answer; ``methods`` are names of METHODS, by default all that
    the network allows. ``sanity`` randomises the weights layer by layer: a map that stays the same says nothing.
    """
    subject = _subject(run, data, None, model, data_root, runs, progress)
    classifier, names = subject.classifier, list(subject.classifier.class_names)
    if target is not None and target not in names:
        raise UnknownName("class", target, names)
    pixels = classifier.preprocess.picture(Path(picture), str(picture))
    image = classifier.preprocess.normalise(torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None])
    image = image.contiguous(memory_format=torch.channels_last)
    found = evidence(classifier.network, image, None if target is None else names.index(target))
    notes = list(subject.notes)
    maps, checks = {}, {}
    for method in methods or METHODS:
        if method not in METHODS:
            raise UnknownName("method", method, METHODS)
        try:
            maps[method] = METHODS[method](classifier.network, image, found.target, None)
        except UsageError as error:
            if methods:
                raise
            notes.append(str(error))
            continue
        if sanity:
            if progress:
                progress(f"sanity of {method}", len(checks), len(METHODS))
            checks[method] = sanity_check(classifier.network, image, found.target, method)
    train = subject.dataset.parts["train"]
    sample = train if len(train) else np.arange(len(subject.dataset))
    layers = find_layers(classifier.network, image, layer)
    taken = Taken(
        picture=pixels,
        evidence=found,
        attributions=maps,
        sanity=checks,
        maps=feature_maps(classifier.network, image, layers),
        nearest=nearest(
            classifier.network, subject.dataset.pictures, classifier.preprocess, sample[:NEAREST_PICTURES], image
        ),
        cards=_cards_of(subject, found.layer, [*explained.strongest(found.margin, explained.PUSHED)]),
    )
    folder = subject.folder / f"picture-{Path(picture).stem}"
    summary = _picture_summary(taken, names, subject.dataset, folder, str(picture), notes)
    return explained.write_picture(taken, subject.dataset, names, folder, summary)


def _cards_of(subject: _Subject, layer: str, filters: list[int]) -> LayerCards | None:
    """The cards of the filters that the evidence names, of exemplars among some thousand pictures."""
    options = Options(filters=tuple(filters), ablate=0, seeds=0, limit=NEAREST_PICTURES)
    making = Explaining(subject.material(), options, [layer])
    return next((e for e in making.events() if isinstance(e, LayerCards)), None)


def _picture_summary(
    taken: Taken, names: list[str], dataset: Dataset, folder: Path, picture: str, notes: list[str]
) -> dict[str, Any]:
    found = taken.evidence
    terms = [
        {"filter": k, "margin": float(found.margin[k]), "logit": float(found.terms[found.target, k])}
        for k in explained.strongest(found.margin, 2 * explained.PUSHED)
    ]
    return {
        "picture": picture,
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
