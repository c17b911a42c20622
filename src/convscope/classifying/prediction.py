"""The one no-grad pass that yields logits. Everyone calls it: validation, evaluation, prediction, all that follows."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from ..datasets.remote import contents
from ..datasets.shipped import files_opened, seen_from
from ..errors import ImageError, UnknownName
from ..images.preprocess import Preprocess, to_tensor
from ..kept_memory import keeping_memory
from ..machine import device_of
from ..models.pixel_network import MapNetwork
from ..models.taps import evaluating
from ..progress import Counted
from ..workers import Workers, blocks_of
from .classifier import Classifier
from .known import Familiar, Judge, Known, judging
from .many_rows import ManyRows

BATCH = 64  # images in a pass; fixed, so that a figure does not depend on a setting, and small enough for caches
BATCH_PIXELS = BATCH * 224**2  # of larger images a pass takes fewer
Source = tuple[str, Path | bytes | Image.Image]  # an image's name, and where it is
NO_NUMBERS = "the network's outputs for it are no numbers"
PIXEL_BATCH = 16  # images that get an answer for each place: their large maps stand in memory together


@dataclass(frozen=True)
class View:
    """A way to look at an image: mirrored or not, moved right and down by so many 32nds of its side."""

    weight: float = 1.0
    mirrored: bool = False
    moved: tuple[int, int] = (0, 0)


def _with_mirror(views: tuple[View, ...]) -> tuple[View, ...]:
    return tuple(View(v.weight / 2, mirrored, v.moved) for v in views for mirrored in (False, True))


_SHIFTED = (View(0.5), View(0.25, moved=(1, 1)), View(0.25, moved=(-1, -1)))

# The first view of each is the image as it is; weights add up to 1. The six of "flip-shift" are Jordan's 2024
# (arXiv:2404.00498).
VIEWS: dict[str, tuple[View, ...]] = {
    "none": (View(),),
    "flip": _with_mirror((View(),)),
    "shift": _SHIFTED,
    "flip-shift": _with_mirror(_SHIFTED),
}

UNMIRRORED = {"none": "none", "flip": "none", "shift": "shift", "flip-shift": "shift"}


def find_views(name: str) -> tuple[View, ...]:
    """The views of that name; UnknownName otherwise."""
    if name not in VIEWS:
        raise UnknownName("views", name, VIEWS)
    return VIEWS[name]


def logits(
    network: torch.nn.Module,
    images: np.ndarray,
    preprocess: Preprocess,
    index: np.ndarray | None = None,
    device: torch.device | None = None,
) -> torch.Tensor:
    """Logits float32 (N, K) on the CPU of uint8 images (M, H, W, 3), those at ``index`` (N,) or all, in float32."""
    return view_logits(network, images, preprocess, VIEWS["none"], index, device)[0]


@keeping_memory()
def view_logits(  # noqa: PLR0913 - as logits, with the views
    network: torch.nn.Module,
    images: np.ndarray,
    preprocess: Preprocess,
    views: tuple[View, ...],
    index: np.ndarray | None = None,
    device: torch.device | None = None,
    progress: Counted | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits, as of ``logits``, of the images as they are, and the weighted mean of those of all ``views``."""
    index = np.arange(len(images)) if index is None else index
    plain, means = ManyRows(len(index)), ManyRows(len(index))

    def keep(_: np.ndarray, inputs: torch.Tensor) -> None:
        scores = [network(_seen(inputs, view)).float().cpu() for view in views]
        plain.add(scores[0])
        if len(views) > 1:
            means.add(sum((v.weight * s for v, s in zip(views, scores, strict=True)), torch.zeros(())))

    each_pass(network, images, preprocess, index, keep, device, progress)
    found = plain.whole()
    return found, means.whole() if len(views) > 1 else found


def each_pass(  # noqa: PLR0913 - as view_logits, with what is done
    network: torch.nn.Module,
    images: np.ndarray,
    preprocess: Preprocess,
    index: np.ndarray,
    act: Callable[[np.ndarray, torch.Tensor], None],
    device: torch.device | None = None,
    progress: Counted | None = None,
) -> None:
    """Call ``act(index_B, inputs_BCHW)`` for each block of the images at ``index``, the network evaluating."""
    device = device or device_of(network)
    step = images_a_pass(network, preprocess.size)
    with evaluating(network), torch.inference_mode():
        for start in range(0, len(index), step):
            here = index[start : start + step]
            act(here, preprocess.normalise(to_tensor(images[here]).to(device)))
            if progress:
                progress(min(start + step, len(index)), len(index))


def images_a_pass(network: torch.nn.Module, size: int) -> int:
    most = PIXEL_BATCH if isinstance(network, MapNetwork) else BATCH
    return max(1, min(most, BATCH_PIXELS // size**2))


def _seen(images_BCHW: torch.Tensor, view: View) -> torch.Tensor:
    """The images in this view; what a move leaves open is filled by reflection."""
    if view.mirrored:
        images_BCHW = images_BCHW.flip(3)
    if view.moved == (0, 0):
        return images_BCHW
    height, width = images_BCHW.shape[2:]
    right, down = (step * max(1, round(side / 32)) for step, side in zip(view.moved, (width, height), strict=True))
    reach_x, reach_y = abs(right), abs(down)
    padded = F.pad(images_BCHW, (reach_x, reach_x, reach_y, reach_y), mode="reflect")
    window = padded[:, :, reach_y - down : reach_y - down + height, reach_x - right : reach_x - right + width]
    return window.contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True)
class Prediction:
    """One image's answer: ``top`` holds (label, probability), the likeliest first.

    With test-time views ``one_view`` is the answer, (label, probability), to the image as it is; None without. Where no
    class was likely enough, ``refused`` is true and ``label`` says so; ``probability`` is still that of the likeliest.
    ``familiar`` says how familiar the image is, where that was asked for.
    """

    path: str
    label: str
    probability: float
    top: tuple[tuple[str, float], ...]
    one_view: tuple[str, float] | None = None
    refused: bool = False
    familiar: Familiar | None = None

    def to_json(self) -> dict[str, object]:
        """The stable JSON form."""
        known = self.familiar
        near = () if known is None else known.nearest
        top = [{"label": name, "probability": p} for name, p in self.top]
        one = None if self.one_view is None else {"label": self.one_view[0], "probability": self.one_view[1]}
        return {
            "path": self.path,
            "label": self.label,
            "probability": self.probability,
            "top": top,
            "one_view": one,
            "refused": self.refused,
            "familiarity": None if known is None else known.familiarity,
            "nearest": [{"origin": origin, "label": label, "cosine": cosine} for origin, label, cosine in near],
        }


@dataclass(frozen=True)
class Unreadable:
    """An image without an answer, and why: it could not be read, or not be computed with."""

    path: str
    error: str

    def to_json(self) -> dict[str, object]:
        """The stable JSON form."""
        return {"path": self.path, "error": self.error}


def predict(  # noqa: PLR0913 - what is asked, and who is told how far it is
    classifier: Classifier,
    sources: Sequence[Source],
    top: int = 5,
    views: str = "none",
    known: Known | None = None,
    progress: Counted | None = None,
    workers: Workers | None = None,
) -> list[Prediction | Unreadable]:
    """Answers for images given as (name, source), in order; one that cannot be read does not stop the rest.

    ``views`` is a name of VIEWS. With what is ``known`` each answer says how familiar its image is. ``workers`` find
    the answers on a cluster; None: this process does. Raises UnknownName.
    """
    find_views(views)
    results: list[Prediction | Unreadable] = []
    blocks = blocks_of(len(sources), images_a_pass(classifier.network, classifier.preprocess.size))
    work = PredictWork(classifier, tuple(sources), top, views, known, os.getcwd(), torch.get_num_threads())
    with nullcontext() if workers else work.judging() as judge:
        each = workers.each(work, blocks) if workers else (work.answer(block, judge) for block in blocks)
        for found in each:
            results += found
            if progress:
                progress(len(results), len(sources))
    return results


@dataclass(frozen=True)
class PredictWork:
    """The answers to blocks of ``sources`` as a `Work`; paths lead from ``folder``, and names stay as they are.

    A worker computes with ``threads`` threads, as many as this process, and in the same passes.
    """

    classifier: Classifier
    sources: tuple[Source, ...]
    top: int
    views: str
    known: Known | None
    folder: str
    threads: int

    @property
    def on_accelerator(self) -> bool:
        """Whether a worker needs a GPU of its own."""
        return device_of(self.classifier.network).type != "cpu"

    def begin(self) -> Callable[[np.ndarray], list[Prediction | Unreadable]]:
        """Take as many threads."""
        torch.set_num_threads(self.threads)

        def judged(block: np.ndarray) -> list[Prediction | Unreadable]:
            with self.judging() as judge:
                return self.answer(block, judge)

        return judged

    def judging(self) -> AbstractContextManager[Judge | None]:
        """A with-block that judges how familiar the images are, where something is known."""
        if self.known is None:
            return nullcontext()
        return judging(
            self.known, self.classifier.network, self.classifier.preprocess.size, len(find_views(self.views))
        )

    def answer(self, block: np.ndarray, judge: Judge | None) -> list[Prediction | Unreadable]:
        """The answers to a block of at most as many images as are in a pass."""
        sources = [(name, from_folder(self.folder, source)) for name, source in (self.sources[int(i)] for i in block)]
        return _predict_block(self.classifier, sources, self.top, find_views(self.views), judge)

    def files(self, block: np.ndarray) -> Sequence[str]:
        """The files among a block."""
        sources = (from_folder(self.folder, self.sources[int(i)][1]) for i in block)
        return files_opened(source for source in sources if isinstance(source, Path))


def from_folder(folder: str, source: Path | bytes | Image.Image) -> Path | bytes | Image.Image:
    """Where an image is, its path from a folder."""
    return seen_from(folder, source) if isinstance(source, Path) else source


def _predict_block(
    classifier: Classifier,
    sources: Sequence[Source],
    top: int,
    views: tuple[View, ...],
    judge: Judge | None,
) -> list[Prediction | Unreadable]:
    answers: list[Prediction | Unreadable | None] = []
    readable = []
    for name, source in sources:
        try:
            readable.append(classifier.preprocess.fit_image(contents(source), name))
            answers.append(None)
        except ImageError as error:
            answers.append(Unreadable(name, error.reason))
    rows = iter(())
    if readable:
        plain, mean = view_logits(classifier.network, np.stack(readable), classifier.preprocess, views)
        one = torch.softmax(plain.double(), dim=1) if len(views) > 1 else [None] * len(readable)
        familiar = [None] * len(readable) if judge is None else judge.judged()
        rows = zip(torch.softmax(mean.double(), dim=1), one, familiar, strict=True)
    names = classifier.class_names
    return [a or _answer(name, next(rows), names, top) for (name, _), a in zip(sources, answers, strict=True)]


def _answer(
    path: str,
    computed: tuple[torch.Tensor, torch.Tensor | None, Familiar | None],
    names: tuple[str, ...],
    top: int,
) -> Prediction | Unreadable:
    """The answer by what was ``computed``: probabilities (K,), those of one view, and how familiar the image is."""
    probabilities, one_view, familiar = computed
    if not bool(torch.isfinite(probabilities).all()):
        return Unreadable(path, NO_NUMBERS)
    best = torch.topk(probabilities, min(top, len(names)))
    pairs = tuple((names[i], float(p)) for p, i in zip(best.values, best.indices.tolist(), strict=True))
    one = None if one_view is None else (names[int(one_view.argmax())], float(one_view.max()))
    return Prediction(path, pairs[0][0], pairs[0][1], pairs, one, familiar=familiar)
