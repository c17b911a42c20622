"""Take one image's answer apart: evidence, where the network looks, the maps of each layer, nearest images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..datasets.dataset import Dataset
from ..errors import UnknownName, UsageError
from ..evaluation.subject import Subject, open_subject
from ..options import SubjectOptions
from ..progress import Progress
from . import image_report
from .attribution import METHODS, sanity_check
from .card_making import Explaining, Material, Options
from .cards import LayerCards
from .evidence import evidence, nearest, strongest
from .image_report import ImageReport, Taken
from .layers import find_layers
from .maps import feature_maps

NEAREST_IMAGES = 5_000


def material_of(subject: Subject) -> Material:
    c = subject.classifier
    return Material(c.network, c.preprocess, c.class_names, subject.dataset, subject.labels)


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
    subject = open_subject(
        run, data, SubjectOptions(model=model, data_root=data_root, runs=runs, progress=progress), "explain"
    )
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
        cards=_cards_of(subject, found.layer, [*strongest(found.margin, image_report.PUSHED)]),
    )
    folder = subject.folder / f"image-{Path(image).stem}"
    summary = _image_summary(taken, names, subject.dataset, folder, str(image), notes)
    return image_report.write_image(taken, subject.dataset, names, folder, summary)


def _cards_of(subject: Subject, layer: str, filters: list[int]) -> LayerCards | None:
    """The cards of the filters that the evidence names, of exemplars among some thousand images."""
    options = Options(filters=tuple(filters), ablate=0, seeds=0, limit=NEAREST_IMAGES)
    making = Explaining(material_of(subject), options, [layer])
    return next((e for e in making.events() if isinstance(e, LayerCards)), None)


def _image_summary(
    taken: Taken, names: list[str], dataset: Dataset, folder: Path, image: str, notes: list[str]
) -> dict[str, Any]:
    found = taken.evidence
    terms = [
        {"filter": k, "margin": float(found.margin[k]), "logit": float(found.terms[found.target, k])}
        for k in strongest(found.margin, 2 * image_report.PUSHED)
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
