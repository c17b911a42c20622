"""Which images a run was trained on and chosen by, kept in it: so they are known again, wherever they lie now."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from ..datasets.dataset import Dataset
from ..datasets.near_copies import WIDTH, looks, near_copies
from ..errors import DamagedFile
from ..schemas import Schema, check_schema
from ..tensor_files import commit_tensors, read_tensors

FILE = "seen.safetensors"  # in a run
PARTS = ("train", "val")


class _Meta(Schema):
    kind: Literal["seen"]


@dataclass(frozen=True)
class Seen:
    """How many of a dataset's images a run was trained on (``train``), chosen by (``val``), or has near copies of."""

    images: int
    train: int
    val: int
    near: int

    def note(self, name: str) -> str | None:
        """In a sentence; None where there are none."""
        told = [(self.train, "was trained on"), (self.val, "was chosen by"), (self.near, "has near copies of")]
        counts = " and ".join(f"{count:,} that it {what}" for count, what in told if count)
        if not counts:
            return None
        return f"among the {self.images:,} images of {name} are {counts}: on these the accuracy says too much."


def save_seen(folder: Path, dataset: Dataset) -> None:
    """Write what the training and the validation part hold into a run's folder, where it is not there yet.

    Their looks too, unless the images are decoded only when asked for. Raises StorageError.
    """
    if (folder / FILE).exists():
        return
    index = np.concatenate([dataset.parts[part] for part in PARTS])
    chosen = np.concatenate([np.full(len(dataset.parts[part]), n, np.uint8) for n, part in enumerate(PARTS)])
    tensors = {"keys": torch.from_numpy(dataset.keys[index].view(np.int64)), "part": torch.from_numpy(chosen)}
    if isinstance(dataset.images, np.ndarray):
        tensors["looks"] = torch.from_numpy(np.concatenate([looks(dataset.images[some]) for some in _blocks(index)]))
    commit_tensors(folder / FILE, tensors, {"kind": "seen"})


def _blocks(index: np.ndarray) -> list[np.ndarray]:
    return np.array_split(index, max(1, len(index) // 1024))


def count_seen(folder: Path, dataset: Dataset, index: np.ndarray) -> Seen | None:
    """How many of the images at ``index`` a run knows; None where the run keeps no record. Raises DamagedFile."""
    known = which_seen(folder, dataset, index)
    if known is None:
        return None
    train, val, near = known
    return Seen(len(index), int(train.sum()), int((val & ~train).sum()), int(near.sum()))


def which_seen(folder: Path, dataset: Dataset, index: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Which of the images at ``index`` (N,) a run was trained on, chosen by, or has near copies of: three bool (N,).

    None where the run keeps no record. Raises DamagedFile.
    """
    path = folder / FILE
    if not path.exists():
        return None
    tensors, meta = read_tensors(path)
    check_schema(_Meta, meta, path, "a record of images")
    keys, part = tensors.get("keys"), tensors.get("part")
    if keys is None or part is None or keys.dtype != torch.int64 or keys.dim() != 1 or keys.shape != part.shape:
        raise DamagedFile(f"{path} is not a record of images: its tensors are not those of one.")
    known, parts = keys.numpy().view(np.uint64), part.numpy()
    train, val = (np.isin(dataset.keys[index], known[parts == number]) for number in range(len(PARTS)))
    near, stored = np.zeros(len(index), bool), tensors.get("looks")
    if stored is not None and stored.shape == (len(known), WIDTH) and isinstance(dataset.images, np.ndarray):
        rest = np.flatnonzero(~(train | val))
        near[rest] = near_copies(looks(dataset.images[index[rest]]), stored.numpy()) >= 0
    return train, val, near
