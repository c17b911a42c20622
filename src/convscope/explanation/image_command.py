"""Take one image's answer apart: evidence, where the network looks, the maps of each layer, nearest images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import UnknownName, UsageError
from ..evaluation.subject import Subject, open_subject
from ..options import with_image_data_and_options
from ..storage import expanded, folder_name
from . import image_report
from .attribution import METHODS, Attribution, Layerwise, sanity_check
from .card_making import CardMaker, CardMaterial
from .cards import LayerCards
from .evidence import evidence, nearest, strongest
from .image_report import ImageReport, Taken
from .layers import find_layers
from .maps import feature_maps
from .options import ExplainOptions, ImageOptions

NEAREST_IMAGES = 5_000


@with_image_data_and_options(ImageOptions)
def explain_image(
    run: str,
    image: str | Path,
    data: str | Path | None,
    options: ImageOptions,
) -> ImageReport:
    """Take one image's answer apart: evidence, where the network looks, the maps of each layer, nearest images.

    ``target`` is the class in question, by default the answer; ``methods`` are names of METHODS, by default all that
    the network allows. ``sanity`` randomises the weights layer by layer: a map that stays the same says nothing.
    """
    target = options.target
    subject = open_subject(run, data, options, "explain")
    classifier, names = subject.classifier, list(subject.classifier.class_names)
    if target is not None and target not in names:
        raise UnknownName("class", target, names)
    pixels = classifier.preprocess.fit_image(expanded(image), str(image))
    inputs = classifier.preprocess.normalise(torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None])
    inputs = inputs.contiguous(memory_format=torch.channels_last)
    found = evidence(classifier.network, inputs, None if target is None else names.index(target))
    maps, checks, unfit = _maps(classifier.network, inputs, found.target, options)
    train = subject.dataset.parts["train"]
    sample = train if len(train) else np.arange(len(subject.dataset))
    layers = find_layers(classifier.network, inputs, options.layer)
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
    summary = _image_summary(taken, subject, str(image), [*subject.notes, *unfit])
    return image_report.write_image(taken, subject.dataset, names, _folder(subject, image), summary)


def _folder(subject: Subject, image: str | Path) -> Path:
    return subject.folder / f"image-{folder_name(image)}"


def _maps(
    network: nn.Module, inputs_1CHW: Tensor, target: int, options: ImageOptions
) -> tuple[dict[str, Attribution], dict[str, tuple[Layerwise, ...]], list[str]]:
    """Make the map of each method, and its sanity check where wanted; and say which of all methods do not work here."""
    maps, checks, unfit = {}, {}, []
    for method in options.methods or METHODS:
        if method not in METHODS:
            raise UnknownName("method", method, METHODS)
        try:
            maps[method] = METHODS[method](network, inputs_1CHW, target, None)
        except UsageError as error:
            if options.methods:
                raise
            unfit.append(str(error))
            continue
        if options.sanity:
            if options.progress:
                options.progress(f"sanity of {method}", len(checks), len(METHODS))
            checks[method] = sanity_check(network, inputs_1CHW, target, method)
    return maps, checks, unfit


def _cards_of(subject: Subject, layer: str, filters: list[int]) -> LayerCards | None:
    """Make the cards of the filters that the evidence names, of exemplars among some thousand images."""
    options = ExplainOptions(layer=[layer], filter=filters, ablate=0, seeds=0, limit=NEAREST_IMAGES)
    making = CardMaker(CardMaterial.of(subject), options)
    return next((e for e in making.events() if isinstance(e, LayerCards)), None)


def _image_summary(taken: Taken, subject: Subject, image: str, notes: list[str]) -> dict[str, Any]:
    dataset, names = subject.dataset, subject.classifier.class_names
    found = taken.evidence
    terms = [
        {"filter": k, "margin": float(found.margin[k]), "logit": float(found.terms[found.target, k])}
        for k in strongest(found.margin, 2 * image_report.PUSHED)
    ]
    return {
        "image": image,
        "folder": str(_folder(subject, image)),
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
