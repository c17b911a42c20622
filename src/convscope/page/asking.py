"""Asking a run about an image: its answer, where it looks, which filters pushed it, and what it knows that is like it.

An image is decoded apart, kept at the size that the network takes, and asked about by its key after that. One
computation at a time: two would only share the processors.
"""

from __future__ import annotations

import base64
import hashlib
import io
import threading
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from ..canvas.signed import png
from ..classifying.classifier import CLASSES, Classifier
from ..classifying.known import Known
from ..classifying.prediction import Prediction, Unreadable, predict
from ..errors import ConvscopeError, ImageError, UnknownName, UsageError
from ..evaluation.knowing import KNOWN, MOST, read_known
from ..evaluation.refusing import COVERAGE, UNKNOWN, refuses
from ..explanation.attribution import METHODS
from ..explanation.evidence import evidence
from ..images.apart import ApartDecoder
from ..images.preprocess import Preprocess, to_tensor
from ..training.runs import FILE_NAME, Run
from .asked_tasks import answer_of_task
from .changes import Change, changed
from .explained import layers_of
from .run_data import RunData, uri
from .served import Served
from .stamps import Stamp, stamp

KEPT_BYTES = 16 << 20  # of images that may be asked about again
KEPT_CLASSIFIERS = 3
TOP = 5
FILTERS = 8  # that pushed or pulled most
PICTURE = 96  # pixels of a training image that is shown, at most
QUICK = ("cam", "grad-cam")  # maps that take no longer than a training step, the more exact one first


@dataclass
class Opened:
    """A run's classifier, ready to be asked; ``fitted`` takes images that have the network's size already."""

    classifier: Classifier
    fitted: Classifier
    known: Known | None
    stamps: tuple[Stamp, ...]


class Asker:
    """Opens classifiers when they are first asked, and keeps the last few of them, and of the images."""

    def __init__(self, served: Served, data: RunData) -> None:
        self.served, self.data = served, data
        self.decoder = ApartDecoder()
        self._opened: OrderedDict[str, Opened] = OrderedDict()
        self._images: OrderedDict[str, np.ndarray] = OrderedDict()
        self._computing = threading.Lock()
        self._keeping = threading.Lock()

    def close(self) -> None:
        """End the decoder's process."""
        self.decoder.close()

    def warm(self) -> None:
        """Start what the first question would have to wait for."""
        blank = io.BytesIO()
        Image.new("RGB", (1, 1)).save(blank, "PNG")
        self.decoder.fit(blank.getvalue(), Preprocess(size=1), "the image")

    def ask(self, run: str, data: bytes) -> dict[str, Any]:
        """The answer to an image's file as JSON values. Of other tasks than classes nothing is kept to ask again."""
        classifier = self._open(run).classifier
        if classifier.task == CLASSES:
            return self.answer(run, self.take(run, data))
        pixels, size = self.decoder.fit_sized(data, classifier.preprocess, "the image")
        with self._computing:
            return answer_of_task(classifier, pixels, size)

    def take(self, run: str, data: bytes) -> str:
        """Decode an image for a run, and keep it; returns its key. ImageError for what cannot be read."""
        preprocess = self._open(run).classifier.preprocess
        pixels = self.decoder.fit(data, preprocess, "the image")
        return self._keep(pixels)

    def answer(self, run: str, key: str, change: Change | None = None, with_map: bool = True) -> dict[str, Any]:
        """The first classes, whether it is none of these, and where the network looks, as JSON values."""
        pixels = self._pixels(run, key, change)
        with self._computing:
            opened = self._open(run)
            (found,) = predict(opened.fitted, [("the image", Image.fromarray(pixels))], TOP, known=opened.known)
            if isinstance(found, Unreadable):
                raise ImageError("the image", found.error)
            looked = _looked(opened.classifier, pixels, found.label) if with_map else None
        return {
            "key": key,
            "size": len(pixels),
            "top": [{"label": label, "probability": p} for label, p in found.top],
            "none_of_these": _refusal(found),
            "looks": looked,
            "pixels": base64.b64encode(pixels.tobytes()).decode("ascii"),
        }

    def evidence(self, run: str, key: str) -> dict[str, Any]:
        """The filters that pushed and pulled the answer most, and the nearest training images."""
        pixels = self._pixels(run, key, None)
        with self._computing:
            opened = self._open(run)
            found = evidence(opened.classifier.network, _inputs(opened.classifier.preprocess, pixels))
            (said,) = predict(opened.fitted, [("the image", Image.fromarray(pixels))], 1, known=opened.known)
        names = opened.classifier.class_names
        layers = layers_of(self.served, self.served.run(run))
        layer = next((row for row in layers if row["layer"] == found.layer), {"address": None, "only": []})
        carded = layer["only"]  # None where all filters have a card
        near = said.familiar.nearest if isinstance(said, Prediction) and said.familiar else ()
        return {
            "run": run,
            "target": names[found.target],
            "against": names[found.against],
            "lead": found.lead,
            "exact": found.exact,
            "layer": found.layer,
            "address": layer["address"],
            "filters": [
                {"filter": k, "margin": float(found.margin[k]), "has_card": carded is None or k in carded}
                for k in found.strongest(FILTERS)
            ],
            "nearest": self._nearest(run, opened, near),
            "knows": opened.known is not None,
        }

    def _nearest(self, run: str, opened: Opened, near: Sequence[tuple[str, str, float]]) -> list[dict[str, Any]]:
        """The nearest training images with small pictures of them; ``uri`` is None where the data cannot be read."""
        pictures: dict[str, str] = {}
        with suppress(ConvscopeError, OSError):
            wanted = {origin for origin, _, _ in near}
            if wanted:
                dataset = self.data.of(self.served.run(run), opened.classifier)
                places = {dataset.origins(int(i)): int(i) for i in dataset.subset("train", MOST)}
                pictures = {origin: _picture(dataset.images[places[origin]]) for origin in wanted & places.keys()}
        rows = [{"origin": origin, "label": label, "cosine": cosine} for origin, label, cosine in near]
        return [{**row, "uri": pictures.get(row["origin"])} for row in rows]

    def _open(self, run: str) -> Opened:
        """The run's classifier, read again where its files are others now."""
        found = self.served.run(run)
        stamps = tuple(stamp(found.folder / name) for name in (FILE_NAME, KNOWN))
        with self._keeping:
            kept = self._opened.get(run)
            if kept is None or kept.stamps != stamps:
                kept = self._opened[run] = _opened(found, stamps)
            self._opened.move_to_end(run)
            while len(self._opened) > KEPT_CLASSIFIERS:
                self._opened.popitem(last=False)
            return kept

    def _keep(self, pixels: np.ndarray) -> str:
        key = hashlib.sha256(pixels.tobytes()).hexdigest()[:32]
        with self._keeping:
            self._images[key] = pixels
            self._images.move_to_end(key)
            while sum(image.nbytes for image in self._images.values()) > KEPT_BYTES:
                self._images.popitem(last=False)
        return key

    def _pixels(self, run: str, key: str, change: Change | None) -> np.ndarray:
        """The kept image, changed if wanted. UsageError where it is no longer kept, or was fitted to another size."""
        with self._keeping:
            pixels = self._images.get(key)
        classifier = self._open(run).classifier
        if classifier.task != CLASSES:
            raise UsageError(f"an image is asked about once, by POST, of a run for the task {classifier.task}.")
        size = classifier.preprocess.size
        if pixels is None or len(pixels) != size:
            raise UsageError("this image is not kept any more: give it again.")
        return pixels if change is None else changed(pixels, change)


def _opened(run: Run, stamps: tuple[Stamp, ...]) -> Opened:
    classifier = run.classifier()
    preprocess = replace(classifier.preprocess, stretch=False, centre=1.0)
    kept = read_known(run, classifier)
    return Opened(classifier, replace(classifier, preprocess=preprocess), kept[0] if kept else None, stamps)


def _picture(pixels: np.ndarray) -> str:
    """A training image as an address that holds it, no larger than is shown."""
    image = Image.fromarray(pixels)
    image.thumbnail((PICTURE, PICTURE))
    return uri(png(np.asarray(image)))


def _inputs(preprocess: Preprocess, pixels: np.ndarray) -> Any:
    return preprocess.normalise(to_tensor(pixels[None].copy()))


def _refusal(found: Prediction) -> dict[str, Any] | None:
    """Whether the image is unlike those of the training; None where nobody has found out what is usual."""
    if found.familiar is None:
        return None
    share = found.familiar.familiarity
    return {"words": UNKNOWN, "familiarity": share, "refused": refuses(share, COVERAGE), "coverage": COVERAGE}


def _looked(classifier: Classifier, pixels: np.ndarray, label: str) -> dict[str, Any] | None:
    """Where the network looks for its answer, by the first of QUICK that it allows: int8 (S, S) as base64."""
    target = classifier.class_names.index(label)
    for method in QUICK:
        try:
            map_HW = METHODS[method](classifier.network, _inputs(classifier.preprocess, pixels), target, None).map_HW
        except (UsageError, UnknownName):
            continue
        values = map_HW.float().cpu().numpy()
        most = float(np.abs(values).max()) or 1.0
        return {
            "method": method,
            "map": base64.b64encode((127 * values / most).round().astype(np.int8).tobytes()).decode(),
        }
    return None
