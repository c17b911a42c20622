"""Which images a run was trained on, chosen by and tested on, kept in it: they are known again, wherever they lie."""

from __future__ import annotations

from dataclasses import dataclass, replace
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
PARTS = ("train", "val", "test")


TRAIN, TEST = PARTS.index("train"), PARTS.index("test")
HELD_OUT = "held_out.safetensors"  # in a run whose head was trained on validation images too


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
    """Write what the parts hold, and under which labels, into a run's folder, where it is not there yet.

    The looks of training and validation images too, unless these are decoded only when asked for. Raises StorageError.
    """
    if (folder / FILE).exists():
        return
    index = np.concatenate([dataset.parts[part] for part in PARTS])
    chosen = np.concatenate([np.full(len(dataset.parts[part]), n, np.uint8) for n, part in enumerate(PARTS)])
    tensors = {"keys": torch.from_numpy(dataset.keys[index].view(np.int64)), "part": torch.from_numpy(chosen)}
    tensors["label"] = torch.from_numpy(dataset.labels[index].astype(np.int64))
    if isinstance(dataset.images, np.ndarray):
        index = index[chosen < TEST]
        tensors["looks"] = torch.from_numpy(np.concatenate([looks(dataset.images[some]) for some in _blocks(index)]))
    commit_tensors(folder / FILE, tensors, {"kind": "seen"})


@dataclass(frozen=True)
class RunImages:
    """The images of a run: their ``keys`` uint64 (N,), the number of each one's ``part`` in PARTS, and its ``labels``.

    ``labels`` are numbers of the run's classes; None in a record of an older version, which has no test images either.
    """

    keys: np.ndarray
    part: np.ndarray
    labels: np.ndarray | None


def read_run_images(folder: Path) -> RunImages | None:
    """The images that a run was trained on, chosen by and tested on; None without a record. Raises DamagedFile."""
    found = _read(folder / FILE)
    return None if found is None else found[0]


def _read(path: Path) -> tuple[RunImages, torch.Tensor | None] | None:
    """What stands in a record, and the looks in it."""
    if not path.exists():
        return None
    tensors, meta = read_tensors(path)
    check_schema(_Meta, meta, path, "a record of images")
    keys, part, labels = tensors.get("keys"), tensors.get("part"), tensors.get("label")
    if keys is None or part is None or keys.dtype != torch.int64 or keys.dim() != 1 or keys.shape != part.shape:
        raise DamagedFile(f"{path} is not a record of images: its tensors are not those of one.")
    numbers = None if labels is None or labels.shape != keys.shape else labels.numpy()
    return RunImages(keys.numpy().view(np.uint64), part.numpy(), numbers), tensors.get("looks")


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
    found = _read(folder / FILE)
    if found is None:
        return None
    known, stored = found
    if (folder / HELD_OUT).exists():  # a head on features, trained on validation images too
        known = replace(known, part=np.where(known.part < TEST, TRAIN, known.part))
    train, val = (np.isin(dataset.keys[index], known.keys[known.part == number]) for number in range(TEST))
    near, count = np.zeros(len(index), bool), int((known.part < TEST).sum())
    if stored is not None and stored.shape == (count, WIDTH) and isinstance(dataset.images, np.ndarray):
        rest = np.flatnonzero(~(train | val))
        near[rest] = near_copies(looks(dataset.images[index[rest]]), stored.numpy()) >= 0
    return train, val, near
