"""Take one image's answer apart: evidence, where the network looks, the maps of each layer, nearest images."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ..classifying.classifier import Classifier
from ..errors import UnknownName, UsageError
from ..evaluation.opening import PRETRAINED, home_of, open_classifier
from ..evaluation.subject import Subject, is_model, open_subject
from ..feature_store.nearest import most_similar
from ..feature_store.recorded import find_recorded
from ..folders import numbered_folder
from ..images.from_memory import Held, named_image
from ..machine import device_of
from ..models.taps import evaluating
from ..options import with_image_data_and_options
from ..portable import folder_name
from ..randomness import order
from ..training.runs import Run, runs_folder
from . import image_report
from .attribution import METHODS, Attribution, Layerwise, sanity_check
from .card_making import CardMaker, CardMaterial, Stage, Streamed
from .cards import LayerCards
from .evidence import FilterEvidence, evidence, head_input, head_inputs
from .image_report import ImageReport, Taken
from .layers import find_layers
from .maps import feature_maps
from .options import ExplainOptions, ImageOptions

NO_DATA = (
    "what it was trained on is not known here: name DATA too for the images most alike to it, and for exemplars of the "
    "filters that decided."
)
NEAREST = 8  # images that are shown
MOST_IMAGES = 5_000  # that go through the network for one image's sake
LEAST_IMAGES = 100
GFLOP = 200.0  # for each such pass: some seconds on two cores


@dataclass(frozen=True)
class Answered:
    """The first answer: the evidence for one image, by the filters of the layer before the head."""

    image: str
    class_names: tuple[str, ...]
    evidence: FilterEvidence


@dataclass(frozen=True)
class Compared:
    """The images most alike, ``nearest`` as in the summary, of ``searched`` ones, ``recorded`` of them before.

    ``among`` says what they are: training images, or only images where it was trained elsewhere.
    """

    nearest: tuple[dict[str, Any], ...]
    searched: int
    recorded: int
    among: str = image_report.TRAINING


@dataclass(frozen=True)
class Looked:
    """Where the network looks, by one method; with the sanity check where it was asked for."""

    method: str
    attribution: Attribution
    sanity: tuple[dict[str, Any], ...]
    seconds: float


ImageEvent = Answered | Compared | Looked | LayerCards | ImageReport


@with_image_data_and_options(ImageOptions)
def explain_image(
    run: str | nn.Module | Classifier,
    image: str | Path | Held,
    data: str | Path | None,
    options: ImageOptions,
) -> ImageReport:
    """Take one image's answer apart: evidence, where the network looks, the maps of each layer, nearest images.

    ``image`` is a file, or an image in memory as ``predict`` takes it.
    ``target`` is the class in question, by default the answer; ``methods`` are names of METHODS, by default all that
    the network allows. ``sanity`` randomises the weights layer by layer: a map that stays the same says nothing.
    """
    *_, made = explaining_image(run, image, data, **vars(options))
    assert isinstance(made, ImageReport)
    return made


@with_image_data_and_options(ImageOptions)
def explaining_image(
    run: str | nn.Module | Classifier, image: str | Path | Held, data: str | Path | None, options: ImageOptions
) -> Iterator[ImageEvent]:
    """Do what ``explain_image`` does, and yield each answer as it is found; the last event is the report.

    The evidence comes first, before the data are read.
    """
    for method in options.methods or ():
        if method not in METHODS:
            raise UnknownName("method", method, METHODS)
    subject: Subject | None = None
    home: Run | None = None
    if _is_of_data(run, options):
        subject = _of_its_classes(open_subject(run, data, options, "explain"))
    if subject is None:
        assert not isinstance(run, nn.Module)
        classifier, home = open_classifier(run, options.runs, options.model, options.weights, device=options.device)
    else:
        classifier = subject.classifier
    network, names, target = classifier.network, classifier.class_names, options.target
    if target is not None and target not in names:
        raise UnknownName("class", target, names)
    called, source = named_image(image)
    pixels = classifier.preprocess.fit_image(source, called)
    inputs = classifier.preprocess.normalise(torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None])
    inputs = inputs.to(device_of(classifier.network)).contiguous(memory_format=torch.channels_last)
    layers = find_layers(network, inputs, options.layer)
    found = evidence(network, inputs, None if target is None else names.index(target))
    yield Answered(called, names, found)
    if subject is None and (data is not None or options.corrections is not None or "recipe" in classifier.provenance):
        subject = open_subject(run, data, options, "explain")
    notes = [NO_DATA] if subject is None else list(subject.notes)
    yield (compared := Compared((), 0, 0) if subject is None else _compare(subject, inputs, options, notes))
    looked = []
    for event in _looks(network, inputs, found.target, options, notes):
        looked.append(event)
        yield event
    cards = None if subject is None else _cards_of(subject, found, inputs, options, notes)
    if cards is not None:
        yield cards
    taken = Taken(
        image=pixels,
        evidence=found,
        attributions={event.method: event.attribution for event in looked},
        maps=feature_maps(network, inputs, layers),
        nearest=compared.nearest,
        cards=cards,
        among=compared.among,
    )
    answers = _answers_of(run, home, options) if subject is None else subject.folder
    digest = hashlib.sha256(pixels.data).hexdigest()
    folder = numbered_folder(answers, f"image-{folder_name(called)}", image_report.ANSWER, "pixels_sha256", digest)
    about = {"image": called, "pixels_sha256": digest, "folder": str(folder)}
    summary = {**about, **_image_summary(found, names, compared, looked, notes)}
    yield image_report.write_image(taken, None if subject is None else subject.dataset, names, folder, summary)


def _of_its_classes(subject: Subject) -> Subject:
    """The subject; UsageError where its outputs are not the classes of its data."""
    if subject.labels is None:
        raise UsageError(
            f"{subject.name} has other outputs than {subject.dataset.name} has classes, and one image's answer is told "
            "by these: name data of its classes."
        )
    return subject


def _is_of_data(run: str | nn.Module | Classifier, options: ImageOptions) -> bool:
    """Whether it is a model, or a network in memory, whose classes are those of the data."""
    if not isinstance(run, str):
        return isinstance(run, nn.Module)
    return not run.startswith(PRETRAINED) and (is_model(run, options.runs) or options.weights is not None)


def _answers_of(run: str | nn.Module | Classifier, home: Run | None, options: ImageOptions) -> Path:
    """The folder of what is explained of a network of which nobody says what it was trained on."""
    assert not isinstance(run, nn.Module)  # which has the folder of its data
    return (runs_folder(options.runs) / home_of(run) if home is None else home.folder) / "explain"


def _affordable(network: nn.Module, inputs_1CHW: Tensor) -> int:
    """How many images go through the network in a pass of GFLOP."""
    with evaluating(network), torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network(inputs_1CHW)
    return int(min(MOST_IMAGES, max(LEAST_IMAGES, 1e9 * GFLOP / max(1, counter.get_total_flops()))))


def _compare(subject: Subject, inputs_1CHW: Tensor, options: ImageOptions, notes: list[str]) -> Compared:
    """The training images most alike to the head: by what was recorded of them, and a pass over some of the others.

    Of a network that was trained elsewhere, of which nobody knows these, all images.
    """
    classifier, dataset = subject.classifier, subject.dataset
    among = "images" if classifier.is_foreign() else image_report.TRAINING
    index = dataset.parts["train"]
    if not len(index) or among != image_report.TRAINING:
        index = np.arange(len(dataset))
    try:
        tap, wanted = head_input(classifier.network, inputs_1CHW)
    except UsageError as error:
        notes.append(f"no alike images are shown: {error}")
        return Compared((), 0, 0)
    recorded = find_recorded(classifier, dataset.keys[index])
    if recorded is None or recorded.shape != wanted.shape:
        known, features = index[:0], np.zeros((0, *wanted.shape), np.float32)
    else:
        there = np.flatnonzero(recorded.rows >= 0)
        known, features = index[there], recorded[there].astype(np.float32, copy=False)
    others = np.setdiff1d(index, known)
    passed = others[order(0, 0, dataset.keys[others])][: _affordable(classifier.network, inputs_1CHW)]
    if len(passed):
        made = head_inputs(classifier.network, dataset.images, classifier.preprocess, passed, tap, options.progress)
        features = np.concatenate([features, made])
    searched = np.concatenate([known, passed])
    if len(searched) < len(index):
        notes.append(f"alike images were looked for among {len(searched):,} of the {len(index):,} {among}.")
    alike = [(int(searched[i]), cosine) for i, cosine in most_similar(features, wanted, NEAREST)]
    rows = [
        {"index": i, "origin": dataset.origins(i), "label": dataset.class_names[dataset.labels[i]], "cosine": cosine}
        for i, cosine in alike
    ]
    return Compared(tuple(rows), len(searched), len(known), among)


def _looks(
    network: nn.Module, inputs_1CHW: Tensor, target: int, options: ImageOptions, notes: list[str]
) -> Iterator[Looked]:
    """The map of each method, and its sanity check where wanted; which of all methods do not work here is noted."""
    tell = options.progress or (lambda what, done, total: None)
    asked = options.methods or tuple(METHODS)
    for number, method in enumerate(asked):
        start = time.perf_counter()
        tell(f"where it looks, by {method}", number, len(asked))
        try:
            made = METHODS[method](network, inputs_1CHW, target, None)
        except UsageError as error:
            if options.methods:
                raise
            notes.append(str(error))
            continue
        checks: tuple[Layerwise, ...] = ()
        if options.sanity:
            tell(f"sanity of {method}", number, len(asked))
            checks = sanity_check(network, inputs_1CHW, target, method)
        rows = tuple({"layer": c.layer, "correlation": c.correlation} for c in checks)
        yield Looked(method, made, rows, time.perf_counter() - start)


def _cards_of(
    subject: Subject, found: FilterEvidence, inputs_1CHW: Tensor, options: ImageOptions, notes: list[str]
) -> LayerCards | None:
    """Make the cards of the filters that the evidence names, of exemplars among some of the images."""
    limit = _affordable(subject.classifier.network, inputs_1CHW)
    filters = [*found.strongest(image_report.PUSHED)]
    asked = ExplainOptions(layer=[found.layer], filter=filters, ablate=0, seeds=0, limit=limit)
    making, cards = CardMaker(CardMaterial.of(subject), asked, limit), None
    for event in making.events(whole=False):
        if isinstance(event, (Stage, Streamed)) and options.progress:
            options.progress(f"cards: {event.what}", event.done, event.total)
        if isinstance(event, LayerCards):
            cards = event
    there = len(subject.dataset.parts["train"]) or len(subject.dataset)
    if len(making.index) < there:
        notes.append(f"the exemplars of these filters are the best of {len(making.index):,} images of {there:,}.")
    return cards


def _image_summary(
    found: FilterEvidence, names: Sequence[str], compared: Compared, looked: Sequence[Looked], notes: list[str]
) -> dict[str, Any]:
    terms = [
        {"filter": k, "margin": float(found.margin[k]), "logit": float(found.terms[found.target, k])}
        for k in found.strongest(2 * image_report.PUSHED)
    ]
    return {
        "target": names[found.target],
        "against": names[found.against],
        "layer": found.layer,
        "exact": found.exact,
        "logits": dict(zip(names, found.logits.tolist(), strict=True)),
        "lead": found.lead,
        "explained": float(found.margin.sum()),
        "rest": float(found.rest[found.target] - found.rest[found.against]),
        "terms": terms,
        "methods": [event.method for event in looked],
        "sanity": {event.method: list(event.sanity) for event in looked if event.sanity},
        "nearest": list(compared.nearest),
        "notes": notes,
    }
