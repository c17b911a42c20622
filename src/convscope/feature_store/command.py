"""`convscope features` and `similar`: what a pretrained network makes of images, recorded once and searched."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..classifying.classifier import Classifier
from ..datasets.dataset import Listing, Undecoded
from ..datasets.registry import list_images
from ..errors import DataError, UsageError
from ..evaluation.opening import home_of, open_classifier, source_of
from ..folders import numbered_folder
from ..images.from_memory import Held, named_image
from ..machine import device_of
from ..noted import Noted
from ..options import with_image_data_and_options, with_options
from ..portable import folder_name
from ..storage import expanded
from ..training.request import data_name
from ..training.runs import runs_folder
from ..workers import hired
from . import report
from .engines import FeatureRequest, computing, make_engine
from .extraction import Extraction, extract
from .nearest import most_similar
from .options import FeaturesOptions, SimilarOptions
from .parquet import library, write_parquet
from .recording import backbone_of, record, store_options, with_fit
from .report import SimilarReport
from .store import FeatureOptions

ALIKE = 0.999  # the cosine of an image with itself, with room for what arithmetic loses


@dataclass(frozen=True)
class FeaturesReport(Noted):
    """Recorded features: ``extraction`` reads them, image by image of ``listing``; ``summary`` is printed."""

    TOLD = ("data", "backbone", "engine", "images", "computed", "bad")
    extraction: Extraction
    listing: Listing
    summary: dict[str, Any]

    @property
    def folder(self) -> Path:
        """Where they are kept."""
        return self.extraction.folder


@with_options(FeaturesOptions)
def features(data: str | Path, options: FeaturesOptions) -> FeaturesReport:
    """Record what a backbone makes of every image; those recorded before are found and not computed again.

    By default the vector that its last linear layer is given; ``layer`` names another layer, ``maps`` keeps whole
    feature maps. ``augment`` adds so many copies of each image, varied by the ``level`` of AUGMENTS. With an
    ``engine`` of ray ``workers`` on a cluster compute them: the same bytes.
    """
    if options.parquet is not None:
        library()  # before anything is computed
    options, fitted = with_fit(str(data), options)
    classifier = backbone_of(options)
    stored = store_options(options, FeatureRequest(options.layer, options.maps), options.dtype)
    with hired(options.engine, options, options.progress) as workers:
        stored = replace(stored, engine=computing(options.engine), workers=workers)
        listed, found, notes = record(str(data), options, classifier, stored, need="images")
    if options.parquet is not None:
        write_parquet(expanded(options.parquet), listed, found.features)
    summary = {"data": listed.unsplit.name, "backbone": options.backbone, **found.to_json(), "notes": fitted + notes}
    return FeaturesReport(found, listed, summary)


@with_image_data_and_options(SimilarOptions)
def similar(
    run: str | Classifier, image: str | Path | Held, data: str | Path | None, options: SimilarOptions
) -> SimilarReport:
    """The images of a run's data, or of ``data``, nearest to one image by the cosine of recorded features: exact.

    ``image`` is a file, or an image in memory as ``predict`` takes it. One that is the one asked about, pixel by pixel,
    is left out, which is noted. The features are those that the run's head is given; what the transfer recorded is
    found again. Of a ``pretrained:NAME``, name the data.
    """
    count = options.count
    if count < 1:
        raise UsageError(f"--count {count} asks for no image; it must be 1 or more.")
    classifier, found = open_classifier(run, options.runs, options.model, options.weights, device=options.device)
    run = run if isinstance(run, str) else home_of(run)
    called, held = named_image(image)
    pixels = classifier.preprocess.fit_image(held, called)
    listed = _searched(classifier, run, data, options)
    device = device_of(classifier.network)
    recorded = extract(listed, classifier, FeatureOptions(engine=options.engine), device, options.progress)
    one = make_engine(recorded.engine.split()[0], classifier, FeatureRequest(), device).run(pixels[None])[0]
    good = np.flatnonzero(recorded.features.rows[: len(listed)] >= 0)
    if not len(good):
        raise DataError(f"none of the {len(listed):,} images of {listed.unsplit.name} can be read.")
    images = Undecoded(listed, classifier.preprocess)
    ranked = ((int(good[i]), cosine) for i, cosine in most_similar(recorded.features[good], one, len(good)))
    nearest, itself = _apart(ranked, images, pixels, count)
    notes = [*listed.unsplit.notes, *recorded.notes, *_left_out(listed, len(good), itself)]
    rows = [
        {
            "origin": listed.unsplit.origin(i),
            "label": listed.unsplit.class_names[listed.unsplit.labels[i]],
            "cosine": cosine,
        }
        for i, cosine in nearest
    ]
    digest = hashlib.sha256(pixels.data).hexdigest()
    summary = {
        "run": run,
        "image": called,
        "pixels_sha256": digest,
        "data": listed.unsplit.name,
        "searched": len(good),
        "nearest": rows,
        "notes": notes,
    }
    home = found.folder if found else runs_folder(options.runs) / home_of(run)
    names = tuple(listed.unsplit.class_names)
    shown = images[np.array([i for i, _ in nearest], np.int64)]
    folder = numbered_folder(home / "similar", folder_name(called), report.ANSWER, "pixels_sha256", digest)
    return report.write_similar(SimilarReport(folder, pixels, shown, summary, names))


def _searched(classifier: Classifier, run: str, data: str | Path | None, options: SimilarOptions) -> Listing:
    """The images of the ``data`` named, or of those that the classifier was trained on. UsageError where none are."""
    recipe = classifier.provenance.get("recipe", {})
    own = recipe.get("data", {})
    if data is None and not own:
        raise UsageError(f"{run} does not say what it was trained on; name the data to search.")
    source = own["name"] if data is None else data_name(str(data))
    return list_images(
        source,
        data_root=options.data_root,
        limit=own.get("limit") if data is None else None,
        progress=options.progress,
        recorded_in=run if data is None else None,
        need="images",
        **source_of(options, recipe.get("source") if data is None else None, run, source if data is None else None),
    )


def _left_out(listed: Listing, searched: int, itself: list[int]) -> Iterator[str]:
    """Sentences about images that are not among those searched."""
    if searched < len(listed):
        yield f"{len(listed) - searched} of {len(listed):,} images cannot be read, and are not searched."
    if itself:
        told = ", ".join(listed.unsplit.origin(i) for i in itself[:3]) + (", ..." if len(itself) > 3 else "")
        yield f"the image itself is among them and is left out: {told}."


def _apart(
    ranked: Iterator[tuple[int, float]], images: Undecoded, query: np.ndarray, count: int
) -> tuple[list[tuple[int, float]], list[int]]:
    """The first ``count`` of ranked images that are not the very image asked about, and those before them that are."""
    nearest: list[tuple[int, float]] = []
    itself: list[int] = []
    for i, cosine in ranked:
        if len(nearest) == count:
            break
        if cosine > ALIKE and np.array_equal(images[i], query):
            itself.append(i)
        else:
            nearest.append((i, cosine))
    return nearest, itself
