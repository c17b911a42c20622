"""The one no-grad pass that yields logits. Everyone calls it: validation, evaluation, prediction, all that follows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from .classifier import Classifier
from .errors import PictureError
from .images import Preprocess, to_tensor
from .taps import evaluating

BATCH = 256  # pictures in a pass; fixed, so that a figure does not depend on a setting


def logits(
    network: torch.nn.Module,
    pictures: np.ndarray,
    preprocess: Preprocess,
    index: np.ndarray | None = None,
    device: torch.device | None = None,
) -> torch.Tensor:
    """Logits float32 (N, K) on the CPU of uint8 pictures (M, H, W, 3), those at ``index`` (N,) or all, in float32."""
    index = np.arange(len(pictures)) if index is None else index
    device = device or next((p.device for p in network.parameters()), torch.device("cpu"))
    outputs = []
    with evaluating(network), torch.inference_mode():
        for start in range(0, len(index), BATCH):
            block = to_tensor(pictures[index[start : start + BATCH]]).to(device)
            outputs.append(network(preprocess.normalise(block)).float().cpu())
    return torch.cat(outputs)


@dataclass(frozen=True)
class Prediction:
    """One picture's answer: ``top`` holds (label, probability), the likeliest first."""

    path: str
    label: str
    probability: float
    top: tuple[tuple[str, float], ...]

    def to_json(self) -> dict[str, object]:
        """The stable JSON form."""
        top = [{"label": name, "probability": p} for name, p in self.top]
        return {"path": self.path, "label": self.label, "probability": self.probability, "top": top}


@dataclass(frozen=True)
class Unreadable:
    """A picture that could not be read, and why."""

    path: str
    error: str

    def to_json(self) -> dict[str, object]:
        """The stable JSON form."""
        return {"path": self.path, "error": self.error}


def predict(
    classifier: Classifier, sources: Sequence[tuple[str, Path | bytes]], top: int = 5
) -> list[Prediction | Unreadable]:
    """Answers for pictures given as (name, file or bytes), in order; one that cannot be read does not stop the rest."""
    results: list[Prediction | Unreadable] = []
    for start in range(0, len(sources), BATCH):
        results += _predict_block(classifier, sources[start : start + BATCH], top)
    return results


def _predict_block(
    classifier: Classifier, sources: Sequence[tuple[str, Path | bytes]], top: int
) -> list[Prediction | Unreadable]:
    answers: list[Prediction | Unreadable | None] = []
    readable = []
    for name, source in sources:
        try:
            readable.append(classifier.preprocess.picture(source, name))
            answers.append(None)
        except PictureError as error:
            answers.append(Unreadable(name, error.reason))
    rows = iter(())
    if readable:
        scores = logits(classifier.network, np.stack(readable), classifier.preprocess)
        rows = iter(torch.softmax(scores.double(), dim=1))
    names = classifier.class_names
    return [a or _answer(name, next(rows), names, top) for (name, _), a in zip(sources, answers, strict=True)]


def _answer(path: str, probabilities_K: torch.Tensor, names: tuple[str, ...], top: int) -> Prediction:
    best = torch.topk(probabilities_K, min(top, len(names)))
    pairs = tuple((names[i], float(p)) for p, i in zip(best.values, best.indices.tolist(), strict=True))
    return Prediction(path, pairs[0][0], pairs[0][1], pairs)
