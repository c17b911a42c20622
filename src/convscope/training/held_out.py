"""What heads answered to images that they had not seen, kept in a run whose head was trained on all of them.

A head on recorded features is trained on training and validation images, so its own answers to either are too sure.
Cross-validation has answers by heads that were not: temperature and familiarity go by these.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..classifying.classifier import Classifier
from ..errors import DamagedFile
from ..models.architecture import weights_hash
from ..schemas import Schema, check_schema
from ..storage import discard
from ..tensor_files import commit_tensors, read_tensors
from .seen import HELD_OUT, TEST, TRAIN, read_run_images


class _Meta(Schema):
    weights: str


@dataclass(frozen=True)
class FairAnswers:
    """Of which images a classifier's answers are fair: of those that are not among the ``trained`` uint64 (T,) keys.

    Of the images ``keys`` uint64 (M,), sorted, there are ``logits`` float32 (M, K) by heads not trained on them.
    """

    trained: np.ndarray = field(default_factory=lambda: np.empty(0, np.uint64))
    keys: np.ndarray = field(default_factory=lambda: np.empty(0, np.uint64))
    logits: Tensor = field(default_factory=lambda: torch.empty(0, 0))

    def are_fair(self, keys_N: np.ndarray) -> np.ndarray:
        """Bool (N,): whether nothing that answers was trained on each image."""
        return ~np.isin(keys_N, self.trained) | np.isin(keys_N, self.keys)

    def put(self, keys_N: np.ndarray, logits_NK: Tensor) -> Tensor:
        """The logits (N, K) of images, with the held out ones where there are some."""
        if not len(self.keys):
            return logits_NK
        place, known = self._places(keys_N)
        own = self.logits[torch.from_numpy(place)].to(logits_NK.dtype)
        return torch.where(torch.from_numpy(known)[:, None], own, logits_NK)

    def energies(self, keys_N: np.ndarray, energies_N: np.ndarray) -> np.ndarray:
        """The energies (N,) of images, with those of the held out logits where there are some."""
        if not len(self.keys):
            return energies_N
        place, known = self._places(keys_N)
        own = torch.logsumexp(self.logits[torch.from_numpy(place)].double(), 1).numpy()
        return np.where(known, own, energies_N)

    def _places(self, keys_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        place = np.searchsorted(self.keys, keys_N).clip(max=len(self.keys) - 1)
        return place, self.keys[place] == keys_N


ALL_FAIR = FairAnswers()


def save_held_out(folder: Path, classifier: Classifier, keys_M: np.ndarray, logits_MK: Tensor | None) -> None:
    """Keep held out logits of the images ``keys_M`` uint64 (M,) beside the classifier that was trained on all of them.

    None of one that was not: then what an earlier one left is taken away.
    """
    if logits_MK is None:
        discard(folder / HELD_OUT)
        return
    first = np.unique(keys_M, return_index=True)[1]  # copies of an image are held out together
    tensors = {
        "keys": torch.from_numpy(keys_M[first].view(np.int64)),
        "logits": logits_MK[torch.from_numpy(first)].float(),
    }
    commit_tensors(folder / HELD_OUT, tensors, {"weights": weights_hash(classifier.network)})


def fair_answers(folder: Path, classifier: Classifier) -> FairAnswers:
    """What a run's folder says of its classifier's training images. DamagedFile for what rotted."""
    images, held_out = read_run_images(folder), _read(folder / HELD_OUT, classifier)
    if images is None:
        return ALL_FAIR if held_out is None else FairAnswers(held_out[0], *held_out)
    if held_out is None:
        return FairAnswers(images.keys[images.part == TRAIN])
    return FairAnswers(images.keys[images.part < TEST], *held_out)


def _read(path: Path, classifier: Classifier) -> tuple[np.ndarray, Tensor] | None:
    """Keys and logits that are kept for this classifier; None without any, or of another one."""
    if not path.exists():
        return None
    tensors, meta = read_tensors(path)
    said = check_schema(_Meta, meta, path, "a record of answers")
    keys, logits = tensors.get("keys"), tensors.get("logits")
    if keys is None or logits is None or keys.dtype != torch.int64 or logits.dim() != 2 or len(keys) != len(logits):
        raise DamagedFile(f"{path} is not a record of answers: its tensors are not those of one.")
    if said.weights != weights_hash(classifier.network) or logits.shape[1] != len(classifier.class_names):
        return None
    return keys.numpy().view(np.uint64), logits
