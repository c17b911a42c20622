"""Record the features that a user asks for: the backbone as its options say, the images that can be read, and notes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from ..classifying.classifier import Classifier
from ..datasets.choosing_fit import AUTO, choose_fit
from ..datasets.dataset import Listing, check_bad_images
from ..datasets.folder import Need
from ..datasets.options import DatasetOptions
from ..datasets.packing import unreadable
from ..datasets.registry import find_images, list_images
from ..datasets.remote import contents
from ..datasets.unsplit import Unsplit
from ..errors import ImageError, UnknownName, UsageError
from ..evaluation.opening import PRETRAINED
from ..images.decoding import decode
from ..machine import pick_device
from ..models.pretrained import find_pretrained
from ..recipes import AUGMENTS
from ..training.request import data_name
from .engines import FeatureRequest
from .extraction import Extraction, extract
from .options import BackboneOptions
from .store import FeatureOptions

B = TypeVar("B", bound=BackboneOptions)
FEW = 500  # images in the time that onnxruntime takes to begin, and fewer: 20 s beside 0.05 s an image
SAMPLED = 64  # images whose size is looked at


def with_fit(data: str, options: B) -> tuple[B, list[str]]:
    """The options with ``--fit auto`` decided by the images, and a note that says how."""
    if options.fit != AUTO:
        return options, []
    found = images_of(data, options)
    fit, told = choose_fit(found)
    return replace(options, fit=fit), [told] if told else []


def with_quick_start(data: str, options: B) -> B:
    """The options with torch for a few images, which it is through before another engine has begun."""
    if options.engine != "auto" or len(images_of(data, options).labels) > FEW:
        return options
    return replace(options, engine="torch")


def images_of(data: str, options: BackboneOptions) -> Unsplit:
    """The images as they are asked for, none of them read."""
    asked = DatasetOptions(data_root=options.data_root, need="images", **options.reading())
    return find_images(data_name(data), asked)


def backbone_of(options: BackboneOptions) -> Classifier:
    """The backbone, taking images as asked."""
    classifier = Classifier.pretrained(options.backbone.removeprefix(PRETRAINED), options.weights)
    fitted: dict[str, Any] = {} if options.fit is None else {"fit": options.fit, "centre": 1.0}
    fitted |= {} if options.image_size is None else {"size": options.image_size}
    fitted |= {"stretch": True} if options.stretch else {}
    preprocess = replace(classifier.preprocess, **fitted)
    architecture = replace(classifier.architecture, image_size=preprocess.size)
    return replace(classifier, preprocess=preprocess, architecture=architecture)


def store_options(
    options: BackboneOptions, wanted: FeatureRequest | None = None, dtype: str = "float32"
) -> FeatureOptions:
    """The options of the store. UsageError or UnknownName."""
    if options.augment < 0:
        raise UsageError(f"--augment {options.augment} is no number of copies; 0 is none.")
    if options.level not in AUGMENTS:
        raise UnknownName("augmentation", options.level, AUGMENTS)
    varied = AUGMENTS[options.level] if options.augment else None
    return FeatureOptions(wanted or FeatureRequest(), dtype, options.engine, options.augment, varied, options.seed)


def record(
    data: str, options: BackboneOptions, classifier: Classifier, stored: FeatureOptions, need: Need = "training"
) -> tuple[Listing, Extraction, list[str]]:
    """The images that can be read, their features, and notes. DataError for bad images unless skipped."""
    check_bad_images(options.bad_images or "error")
    listed = list_images(
        data_name(data),
        data_root=options.data_root,
        limit=options.limit,
        bad_images=options.bad_images,
        progress=options.progress,
        need=need,
        **options.reading(),
    )
    return record_listed(listed, options, classifier, stored)


def record_listed(
    listed: Listing, options: BackboneOptions, classifier: Classifier, stored: FeatureOptions
) -> tuple[Listing, Extraction, list[str]]:
    """The same of images that are listed already."""
    bad_images = options.bad_images or "error"
    device = pick_device(options.device)
    found = extract(listed, classifier, stored, device, options.progress)
    notes = [*listed.unsplit.notes, *backbone_notes(options, classifier, listed), *found.notes]
    if not found.bad:
        return listed, found, notes
    told = "; ".join(f"{listed.unsplit.origin(i)}: {reason}" for i, reason in found.bad[:5])
    told += f"; and {len(found.bad) - 5} more" if len(found.bad) > 5 else ""
    if bad_images == "error" or len(found.bad) == len(listed):
        raise unreadable(len(found.bad), len(listed), told)
    rest = listed.take(np.setdiff1d(np.arange(len(listed)), [i for i, _ in found.bad]))
    many = "1 image is" if len(found.bad) == 1 else f"{len(found.bad)} images are"
    notes.insert(len(listed.unsplit.notes), f"{many} left out that cannot be read: {told}.")
    return rest, extract(rest, classifier, stored, device, options.progress), notes


def backbone_notes(options: BackboneOptions, classifier: Classifier, listed: Listing) -> list[str]:
    """Sentences about a licence that binds, and about images that are smaller than the backbone expects."""
    found = find_pretrained(options.backbone.removeprefix(PRETRAINED))
    notes = [] if options.weights is not None else [n for n in [found.licence_note()] if n]
    side, size = _usual_side(listed, classifier.preprocess.fit == "pad"), classifier.preprocess.size
    if side is not None and side < size:
        if classifier.preprocess.size < found.size:
            return notes
        smaller = max(64, 32 * round(2 * side / 32))
        answer = f"; --image-size {smaller} is faster, and less accurate" if smaller < size else ""
        notes.append(
            f"the images are about {side} pixels wide and {found.name} takes {size}: they are enlarged{answer}."
        )
    return notes


def _usual_side(listed: Listing, padded: bool) -> int | None:
    """The median of the sides of some images that decide how they are scaled, in pixels: the longer of padded ones."""
    deciding = max if padded else min
    if listed.unsplit.arrays is not None:
        return deciding(listed.unsplit.arrays.shape[1:3])
    sides = []
    for i in range(0, len(listed), max(1, len(listed) // SAMPLED)):
        try:
            sides.append(deciding(decode(contents(listed.unsplit.files[i])).size))
        except ImageError:
            continue
    return int(np.median(sides)) if sides else None
