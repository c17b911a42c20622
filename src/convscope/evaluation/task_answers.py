"""What a network of any task answers to images: labels, a number with its interval, a mask, or boxes."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from ..classifying.classifier import Classifier
from ..classifying.prediction import NO_NUMBERS, Source, Unreadable, from_folder
from ..datasets.remote import contents
from ..datasets.shipped import files_opened
from ..errors import ImageError
from ..images.decoding import decoded
from ..images.placing import place_of
from ..machine import device_of
from ..models.taps import evaluating
from ..tasks.regression import COVERAGE
from ..visible import cell, path_cell
from ..workers import Workers, shares_of
from .box_answers import BoxAnswer, box_answer, found_by_tiles, found_in
from .tiles import tiles_of, view_of

SHARE = 32  # images that a worker on a cluster is given at a time


@dataclass(frozen=True)
class Labels:
    """The labels of an image whose probability reaches their threshold; ``top`` holds all (label, probability)."""

    path: str
    labels: tuple[str, ...]
    top: tuple[tuple[str, float], ...]

    def to_json(self) -> dict[str, Any]:
        """The stable JSON form."""
        top = [{"label": name, "probability": p} for name, p in self.top]
        return {"path": self.path, "labels": list(self.labels), "top": top}

    def words(self) -> str:
        """The answer for people."""
        return ", ".join(self.labels) or "none of the labels"


@dataclass(frozen=True)
class Number:
    """A number, and the interval that holds the truth with the probability ``coverage``; None where none is known."""

    path: str
    value: float
    low: float | None
    high: float | None
    coverage: float = COVERAGE

    def to_json(self) -> dict[str, Any]:
        """The stable JSON form."""
        return {"path": self.path, "value": self.value, "low": self.low, "high": self.high, "coverage": self.coverage}

    def words(self) -> str:
        """The answer for people."""
        return f"{self.value:.4g}" + ("" if self.low is None else f" [{self.low:.4g}, {self.high:.4g}]")


@dataclass(frozen=True)
class Mask:
    """The class of each pixel, uint8 (h, w) as upright as the image, and each class's share of them."""

    path: str
    mask: np.ndarray
    shares: tuple[tuple[str, float], ...]
    files: tuple[str, ...] = ()  # where it was written

    def to_json(self) -> dict[str, Any]:
        """The stable JSON form; the mask itself is in its files."""
        told = [{"name": name, "share": share} for name, share in self.shares]
        height, width = self.mask.shape
        return {"path": self.path, "width": width, "height": height, "classes": told, "files": list(self.files)}

    def words(self) -> str:
        """The answer for people."""
        return ", ".join(f"{name} {100 * share:.1f} %" for name, share in self.shares if share > 0)


OF_TASKS = (Labels, Number, Mask, BoxAnswer)
Answer = Labels | Number | Mask | BoxAnswer | Unreadable


def answer_images(
    classifier: Classifier, sources: Sequence[Source], tile: bool = False, workers: Workers | None = None
) -> list[Answer]:
    """Answers to images in order; one that cannot be read does not stop the rest.

    With ``tile`` an image larger than the network's input is looked at in overlapping tiles of that size. ``workers``
    find the answers on a cluster; None: this process does.
    """
    work = AnswerWork(classifier, tuple(sources), tile, os.getcwd(), torch.get_num_threads())
    numbers = np.arange(len(sources))
    if workers is None:
        return work.answer(numbers)
    return [one for found in workers.each(work, shares_of(numbers, workers.count, SHARE)) for one in found]


@dataclass(frozen=True)
class AnswerWork:
    """The answers to some of ``sources`` as a `Work`; paths lead from ``folder``, and names stay as they are."""

    classifier: Classifier
    sources: tuple[Source, ...]
    tile: bool
    folder: str
    threads: int

    @property
    def on_accelerator(self) -> bool:
        """Whether a worker needs a GPU of its own."""
        return device_of(self.classifier.network).type != "cpu"

    def begin(self) -> Callable[[np.ndarray], list[Answer]]:
        """Take as many threads as the process that asks."""
        torch.set_num_threads(self.threads)
        return self.answer

    def answer(self, block: np.ndarray) -> list[Answer]:
        """The answers to these images, one after the other."""
        answers: list[Answer] = []
        with evaluating(self.classifier.network), torch.inference_mode():
            for name, source in (self.sources[int(i)] for i in block):
                try:
                    answers.append(
                        _answer(self.classifier, name, contents(from_folder(self.folder, source)), self.tile)
                    )
                except ImageError as error:
                    answers.append(Unreadable(name, error.reason))
        return answers

    def files(self, block: np.ndarray) -> Sequence[str]:
        """The files among these images."""
        sources = (from_folder(self.folder, self.sources[int(i)][1]) for i in block)
        return files_opened(source for source in sources if isinstance(source, Path))


def answer_fitted(classifier: Classifier, name: str, pixels_SS3: np.ndarray, size: tuple[int, int]) -> Answer:
    """The answer to an image of ``size`` (width, height) that was decoded and fitted elsewhere, by ``fit_sized``."""
    with evaluating(classifier.network), torch.inference_mode():
        return _of_fitted(classifier, name, pixels_SS3, size)


def _answer(classifier: Classifier, name: str, source: Path | bytes | Image.Image, tile: bool) -> Answer:
    if tile:
        with decoded(source, where=name, stretch=classifier.preprocess.stretch) as rgb:
            if max(rgb.size) > classifier.preprocess.size:
                if classifier.task == "detection":
                    return box_answer(classifier, name, found_by_tiles(classifier, rgb), rgb.size)
                return _of_logits(classifier, name, _tiled(classifier, rgb))
    return _of_fitted(classifier, name, *classifier.preprocess.fit_sized(source, name))


def _of_fitted(classifier: Classifier, name: str, pixels_SS3: np.ndarray, size: tuple[int, int]) -> Answer:
    outputs = view_of(classifier, pixels_SS3)
    if classifier.task == "segmentation":
        rows, columns = place_of(classifier.preprocess, size).window
        within = outputs[:, :, rows, columns]
        return _of_logits(classifier, name, F.interpolate(within, size[::-1], mode="bilinear", align_corners=False)[0])
    if classifier.task == "detection" and bool(torch.isfinite(outputs).all()):
        return box_answer(classifier, name, found_in(classifier, outputs[0], size), size)
    return _of_outputs(classifier, name, outputs[0])


def _of_outputs(classifier: Classifier, name: str, outputs: torch.Tensor) -> Answer:
    if not bool(torch.isfinite(outputs).all()):
        return Unreadable(name, NO_NUMBERS)
    if classifier.task == "regression":
        value, half = float(outputs[0]), classifier.settings.get("half_width")
        low, high = (None, None) if half is None else (value - half, value + half)
        return Number(name, value, low, high)
    p, thresholds = torch.sigmoid(outputs.double()), classifier.settings["thresholds"]
    pairs = sorted(zip(classifier.class_names, p.tolist(), strict=True), key=lambda pair: -pair[1])
    said = [n for n, q, t in zip(classifier.class_names, p.tolist(), thresholds, strict=True) if q >= t]
    return Labels(name, tuple(said), tuple(pairs))


def _of_logits(classifier: Classifier, name: str, logits_KHW: torch.Tensor) -> Answer:
    if not bool(torch.isfinite(logits_KHW).all()):
        return Unreadable(name, NO_NUMBERS)
    mask = logits_KHW.argmax(0).to(torch.uint8).numpy()
    shares = np.bincount(mask.ravel(), minlength=len(classifier.class_names)) / mask.size
    return Mask(name, mask, tuple(zip(classifier.class_names, shares.tolist(), strict=True)))


def _tiled(classifier: Classifier, rgb: Image.Image) -> torch.Tensor:
    """Logits (K, h, w) of an image by tiles of the network's size; where tiles overlap, their weighted mean.

    A tile's weight falls to its borders, of which the network has seen one side only.
    """
    side = classifier.preprocess.size
    shape = (max(rgb.height, side), max(rgb.width, side))
    ramp = torch.minimum(torch.arange(1, side + 1), torch.arange(side, 0, -1)).float()
    weight = torch.minimum(ramp[:, None], ramp[None, :])
    total = torch.zeros(len(classifier.class_names), *shape)
    counted = torch.zeros(shape)
    for left, top, tile in tiles_of(rgb, side):
        place = (slice(top, top + side), slice(left, left + side))
        total[:, *place] += weight * view_of(classifier, tile)[0]
        counted[place] += weight
    return (total / counted)[:, : rgb.height, : rgb.width]


def task_csv(answers: Sequence[Any]) -> str:
    """Comma-separated values under a header: a line an image with a column a label or a class, or the number; of boxes
    a line each."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    rows = [(one, cells) for one in answers for cells in _lines(one)]
    names = list(dict.fromkeys(name for _, cells in rows for name in cells))
    writer.writerow(["path", *map(cell, names), "error"])
    for one, cells in rows:
        error = one.error if isinstance(one, Unreadable) else ""
        told = [cell(v) if isinstance(v, str) else v for v in (cells.get(name, "") for name in names)]
        writer.writerow([path_cell(one.path), *told, cell(error)])
    return text.getvalue()


def _lines(answer: Any) -> list[dict[str, Any]]:
    if isinstance(answer, BoxAnswer):
        return [box.to_json() for box in answer.boxes] or [{}]
    return [_cells(answer)]


def _cells(answer: Any) -> dict[str, Any]:
    if isinstance(answer, Number):
        return {"value": answer.value, "low": answer.low, "high": answer.high}
    if isinstance(answer, Labels):
        return {"labels": "|".join(answer.labels), **{f"p({name})": p for name, p in answer.top}}
    return {f"share({name})": share for name, share in answer.shares} if isinstance(answer, Mask) else {}
