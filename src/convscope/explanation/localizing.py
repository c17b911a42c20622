"""The map of one class for each of many images, and which class that is; and which images choose thresholds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ..classifying.classifier import Classifier
from ..datasets.dataset import Dataset, Listing
from ..datasets.masks import Masks
from ..datasets.polygons import is_background
from ..datasets.splits import unit
from ..datasets.targets import LabelSets
from ..errors import DataError, ImageError, UnknownName, UsageError
from ..evaluation.scoring import translation
from ..images.decoding import decode
from ..images.preprocess import to_tensor
from ..machine import device_of
from ..models.taps import evaluating
from ..progress import Progress
from .attribution import Method, cam, grad_cam
from .boxes import scaled_map
from .maps import upsampled

SCORED_SIDE = 256  # px: the longer side of an image, at most, at which maps are scored


# ---------------------------------------------------------------------------------------------------- whose map it is


@dataclass(frozen=True)
class Targets:
    """Which class's map an image gets: ``asked``, one that it has by ``labels`` bool (N, K), or the first answer.

    ``told`` says which of the three in a word: class, labels or answers.
    """

    asked: int | None
    labels: np.ndarray | None

    @property
    def told(self) -> str:
        """Where the classes are from."""
        return "class" if self.asked is not None else "answers" if self.labels is None else "labels"

    def of(self, i: int, logits_K: Tensor) -> int:
        """The class of image ``i``: of several labels the one of the largest logit."""
        if self.asked is not None:
            return self.asked
        if self.labels is not None and self.labels[i].any():
            logits_K = torch.where(torch.from_numpy(self.labels[i]), logits_K, -torch.inf)
        return int(logits_K.argmax())


def find_targets(classifier: Classifier, dataset: Dataset, asked: str | None) -> tuple[Targets, tuple[str, ...]]:
    """Which class's map each image gets, and a note where its labels say nothing. UnknownName for a class."""
    names = classifier.class_names
    if asked is not None:
        if asked not in names:
            raise UnknownName("class", asked, names)
        return Targets(names.index(asked), None), ()
    given = dataset.targets.names if isinstance(dataset.targets, LabelSets) else dataset.class_names
    if (dataset.targets is not None and not isinstance(dataset.targets, LabelSets)) or len(given) < 2:
        return Targets(None, None), ()
    try:
        place = translation(names, tuple(given))
    except DataError as error:
        return Targets(None, None), (f"{error} So the map of each image is that of the first answer.",)
    labels = np.zeros((len(dataset), len(names)), bool)
    if isinstance(dataset.targets, LabelSets):
        labels[:, place] = dataset.targets.values > 0
    else:
        labels[np.arange(len(dataset)), place[dataset.labels]] = True
    return Targets(None, labels), ()


# ----------------------------------------------------------------------------------------------------------- the maps


def find_method(network: nn.Module, inputs_1CHW: Tensor) -> tuple[str, Method, tuple[str, ...]]:
    """How maps are made: cam where the network allows it, else grad-cam with a note. UsageError where neither works."""
    try:
        cam(network, inputs_1CHW, 0)
    except UsageError:
        try:
            grad_cam(network, inputs_1CHW, 0)
        except UsageError as error:
            raise UsageError(f"no map of a class can be made of this network: {error}") from None
        told = "the network does not end in global average pooling and one linear layer, so its maps are weighted by"
        return "grad-cam", grad_cam, (f"{told} gradients (grad-cam) and are not exact parts of a logit.",)
    return "cam", cam, ()


@dataclass(frozen=True)
class Looked:
    """The map of class ``target`` for image ``index`` of ``size`` (width, height) in pixels, before upsampling."""

    index: int
    size: tuple[int, int]
    target: int
    coarse_hw: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width at which the map is scored: those of the image, if it is not too large."""
        share = min(1.0, SCORED_SIDE / max(self.size))
        width, height = (max(1, round(share * side)) for side in self.size)
        return height, width

    def values(self, classifier: Classifier, shape: tuple[int, int] | None = None) -> np.ndarray:
        """The map scaled to 0..1 on the image, float32 of ``shape``, by default at every pixel of the image."""
        side = classifier.preprocess.size
        map_SS = upsampled(self.coarse_hw, (side, side)).numpy()
        return scaled_map(map_SS, self.size, classifier.preprocess, shape or self.size[::-1])


def looking(  # noqa: PLR0913 - what looks, at what, for what, and who is told
    classifier: Classifier,
    method: Method,
    listed: Listing,
    index: np.ndarray,
    targets: Targets,
    faults: list[str],
    progress: Progress | None,
) -> Iterator[Looked]:
    """The map of each image at ``index``; an image without one adds a sentence to ``faults`` instead."""
    for done, i in enumerate(map(int, index), 1):
        try:
            inputs, size = inputs_of(classifier, listed, i)
        except ImageError as error:
            faults.append(str(error).rstrip("."))
            continue
        finally:
            if progress:
                progress("maps", done, len(index))
        with evaluating(classifier.network), torch.no_grad():
            logits_K = classifier.network(inputs)[0].float().cpu()
        if not bool(torch.isfinite(logits_K).all()):
            faults.append(f"{listed.unsplit.origin(i)}: the network's outputs for it are no numbers")
            continue
        target = targets.of(i, logits_K)
        coarse = method(classifier.network, inputs, target, None).coarse_hw
        assert coarse is not None
        yield Looked(i, size, target, coarse.detach().float().cpu())


def inputs_of(classifier: Classifier, listed: Listing, i: int) -> tuple[Tensor, tuple[int, int]]:
    """One image as the network takes it, and its upright width and height. ImageError where it cannot be read."""
    pixels, size = classifier.preprocess.fit_sized(listed.source(i), listed.unsplit.origin(i))
    return classifier.preprocess.normalise(to_tensor(pixels[None]).to(device_of(classifier.network))), size


def pixels_of(source: Path | bytes | Image.Image) -> np.ndarray:
    """Its own pixels, uint8 (H, W, 3)."""
    return np.asarray(source.convert("RGB") if isinstance(source, Image.Image) else decode(source))


# --------------------------------------------------------------------------------------------------- what is the object


def object_classes(masks: Masks, asked: Sequence[str] | None, target: str) -> tuple[int, ...]:
    """Which classes of masks are the object of a map of the class ``target``: those asked for, else the one of its
    name, else all but the background. UnknownName; UsageError where nothing is background."""
    names = masks.names
    for name in asked or ():
        if name not in names:
            raise UnknownName("class of the masks", name, names)
    if asked:
        return tuple(names.index(name) for name in asked)
    folded = [name.casefold() for name in names]
    if target.casefold() in folded and not is_background(target):
        return (folded.index(target.casefold()),)
    if not any(map(is_background, names)):
        raise UsageError(
            f"the masks have no class called background, and none called {target!r}: say with --object which of "
            f"{', '.join(names[:12])}{', ...' if len(names) > 12 else ''} is the object."
        )
    return tuple(k for k, name in enumerate(names) if not is_background(name))


@dataclass(frozen=True)
class Halves:
    """The images that choose thresholds and those that are scored, indices into the dataset; ``part`` names a part."""

    choosing: np.ndarray
    scored: np.ndarray
    told: str
    part: str = "all"

    @property
    def both(self) -> np.ndarray:
        """All of them."""
        return np.concatenate([self.choosing, self.scored])


def find_halves(listed: Listing, dataset: Dataset, own: bool, limit: int | None) -> Halves:
    """Validation images choose for test images, where the data say which these are or a network was trained on them;
    else those of the lower half of content hashes for the others."""
    given = listed.unsplit.given
    told = own or ((given == "val").any() and (given == "test").any())
    if told and len(dataset.parts["val"]) and len(dataset.parts["test"]):
        choosing, scored = dataset.subset("val", limit), dataset.subset("test", limit)
        return Halves(choosing, scored, "the validation images", "test")
    index = dataset.subset("all", limit)
    lower = unit(dataset.together[index]) < 0.5
    return Halves(index[lower], index[~lower], "the other half of the images, by their content")
