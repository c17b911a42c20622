"""`convscope features` and `similar`: what a pretrained network makes of images, recorded once and searched."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..classifying.classifier import Classifier
from ..datasets.dataset import Listing, Undecoded, check_bad_images
from ..datasets.registry import list_images
from ..errors import DataError, ImageError, UnknownName, UsageError
from ..evaluation.opening import PRETRAINED, home_of, open_classifier
from ..images.decoding import decode
from ..machine import pick_device
from ..models.pretrained import find_pretrained
from ..progress import Progress
from ..recipes import AUGMENTS
from ..training.request import data_name
from ..training.runs import runs_folder
from . import report
from .engines import Wanted, make_engine
from .extraction import Extraction, extract
from .nearest import most_similar
from .report import SimilarReport
from .store import FeatureOptions

SAMPLED = 64  # images whose size is looked at


@dataclass(frozen=True)
class FeaturesReport:
    """Recorded features: ``extraction`` reads them, image by image of ``listing``; ``summary`` is printed."""

    extraction: Extraction
    listing: Listing
    summary: dict[str, Any]


@dataclass(frozen=True)
class Asked:
    """What features and transfer take: data, backbone and how images are fitted for it."""

    data: str
    backbone: str = "lite0"
    weights: Path | None = None
    image_size: int | None = None
    fit: str | None = None
    limit: int | None = None
    bad_images: str = "error"
    device: str = "auto"
    data_root: Path | None = None

    def classifier(self) -> Classifier:
        """The backbone, taking images as asked."""
        classifier = Classifier.pretrained(self.backbone.removeprefix(PRETRAINED), self.weights)
        fitted: dict[str, Any] = {} if self.fit is None else {"fit": self.fit, "centre": 1.0}
        fitted |= {} if self.image_size is None else {"size": self.image_size}
        preprocess = replace(classifier.preprocess, **fitted)
        architecture = replace(classifier.architecture, image_size=preprocess.size)
        return replace(classifier, preprocess=preprocess, architecture=architecture)

    def recorded(
        self, classifier: Classifier, options: FeatureOptions, progress: Progress | None
    ) -> tuple[Listing, Extraction, list[str]]:
        """The images that can be read, their features, and notes. DataError for bad images unless skipped."""
        check_bad_images(self.bad_images)
        listed = list_images(data_name(self.data), data_root=self.data_root, limit=self.limit, progress=progress)
        device = pick_device(self.device)
        found = extract(listed, classifier, options, device, progress)
        if not found.bad:
            return listed, found, []
        told = "; ".join(f"{listed.unsplit.origin(i)}: {reason}" for i, reason in found.bad[:5])
        told += f"; and {len(found.bad) - 5} more" if len(found.bad) > 5 else ""
        if self.bad_images == "error" or len(found.bad) == len(listed):
            raise DataError(
                f"{len(found.bad)} of {len(listed)} images cannot be read: {told}. "
                "Mend or remove them, or leave them out with --bad-images skip."
            )
        kept = np.setdiff1d(np.arange(len(listed)), [i for i, _ in found.bad])
        rest = listed.take(kept)
        many = "1 image is" if len(found.bad) == 1 else f"{len(found.bad)} images are"
        note = f"{many} left out that cannot be read: {told}."
        return rest, extract(rest, classifier, options, device, progress), [note]


def features(
    data: str | Path,
    *,
    backbone: str = "lite0",
    weights: Path | None = None,
    layer: str | None = None,
    maps: bool = False,
    augment: int = 0,
    level: str = "standard",
    dtype: str = "float32",
    engine: str = "auto",
    image_size: int | None = None,
    fit: str | None = None,
    limit: int | None = None,
    bad_images: str = "error",
    seed: int = 0,
    device: str = "auto",
    data_root: Path | None = None,
    progress: Progress | None = None,
) -> FeaturesReport:
    """Record what a backbone makes of every image; those recorded before are found and not computed again.

    By default the vector that its last linear layer is given; ``layer`` names another layer, ``maps`` keeps whole
    feature maps. ``augment`` adds so many copies of each image, varied by the ``level`` of AUGMENTS.
    """
    asked = Asked(str(data), backbone, weights, image_size, fit, limit, bad_images, device, data_root)
    classifier = asked.classifier()
    options = feature_options(augment, level, seed, engine, Wanted(layer, maps), dtype)
    listed, found, notes = asked.recorded(classifier, options, progress)
    notes = [*listed.unsplit.notes, *notes, *backbone_notes(asked, classifier, listed)]
    summary = {"data": listed.unsplit.name, "backbone": backbone, **found.to_json(), "notes": notes}
    return FeaturesReport(found, listed, summary)


def transfer_backbone(
    backbone: str = "lite0", *, weights: Path | None = None, image_size: int | None = None, fit: str | None = None
) -> Classifier:
    """The pretrained network that a transfer with these options begins with."""
    return Asked("", backbone, weights, image_size, fit).classifier()


def feature_options(
    copies: int, level: str, seed: int, engine: str, wanted: Wanted | None = None, dtype: str = "float32"
) -> FeatureOptions:
    """The options of a store. UsageError or UnknownName."""
    if copies < 0:
        raise UsageError(f"--augment {copies} is no number of copies; 0 is none.")
    if level not in AUGMENTS:
        raise UnknownName("augmentation", level, AUGMENTS)
    return FeatureOptions(wanted or Wanted(), dtype, engine, copies, AUGMENTS[level] if copies else None, seed)


def backbone_notes(asked: Asked, classifier: Classifier, listed: Listing) -> list[str]:
    """Sentences about a licence that binds, and about images that are smaller than the backbone expects."""
    found = find_pretrained(asked.backbone.removeprefix(PRETRAINED))
    notes = [] if asked.weights is not None else [n for n in [found.licence_note()] if n]
    side, size = _usual_side(listed), classifier.preprocess.size
    if side is not None and side < size:
        answer = f"--image-size {max(64, 32 * round(2 * side / 32))} is faster, and less accurate"
        if classifier.preprocess.size < found.size:
            return notes
        notes.append(
            f"the images are about {side} pixels wide and {found.name} takes {size}: they are enlarged; {answer}."
        )
    return notes


def _usual_side(listed: Listing) -> int | None:
    """The median of the shorter sides of some images, in pixels."""
    if listed.unsplit.arrays is not None:
        return min(listed.unsplit.arrays.shape[1:3])
    sides = []
    for i in range(0, len(listed), max(1, len(listed) // SAMPLED)):
        try:
            sides.append(min(decode(listed.unsplit.files[i]).size))
        except ImageError:
            continue
    return int(np.median(sides)) if sides else None


# -------------------------------------------------------------------------------------------------------- similar


def similar(
    run: str,
    image: str | Path,
    data: str | Path | None = None,
    *,
    count: int = 9,
    engine: str = "auto",
    model: str | None = None,
    weights: Path | None = None,
    data_root: Path | None = None,
    runs: Path | None = None,
    progress: Progress | None = None,
) -> SimilarReport:
    """The images of a run's data, or of ``data``, nearest to one image by the cosine of recorded features: exact.

    The features are those that the run's head is given; what the transfer recorded is found again. Of a
    ``pretrained:NAME``, name the data.
    """
    if count < 1:
        raise UsageError(f"--count {count} asks for no image; it must be 1 or more.")
    classifier, found = open_classifier(run, runs, model, weights)
    own = classifier.provenance.get("recipe", {}).get("data", {})
    if data is None and not own:
        raise UsageError(f"{run} does not say what it was trained on; name the data to search.")
    source = own["name"] if data is None else data_name(str(data))
    pixels = classifier.preprocess.fit_image(Path(image), str(image))
    listed = list_images(
        source, data_root=data_root, limit=own.get("limit") if data is None else None, progress=progress
    )
    device = pick_device("cpu")
    recorded = extract(listed, classifier, FeatureOptions(engine=engine), device, progress)
    one = make_engine(engine, classifier, Wanted(), device).run(pixels[None])[0]
    good = np.flatnonzero(recorded.features.rows[: len(listed)] >= 0)
    nearest = [(int(good[i]), cosine) for i, cosine in most_similar(recorded.features[good], one, count)]
    rows = [
        {
            "origin": listed.unsplit.origin(i),
            "label": listed.unsplit.class_names[listed.unsplit.labels[i]],
            "cosine": cosine,
        }
        for i, cosine in nearest
    ]
    summary = {"run": run, "image": str(image), "data": listed.unsplit.name, "searched": len(good), "nearest": rows}
    images = Undecoded(listed, classifier.preprocess)[np.array([i for i, _ in nearest])]
    home = found.folder if found else runs_folder(runs) / home_of(run)
    return report.write_similar(SimilarReport(home / "similar" / Path(image).stem, pixels, images, summary))
