"""The feature store on disk: shards of rows, keyed by the content of each image."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..cache import cache_folder
from ..classifying.classifier import Classifier
from ..errors import DamagedFile
from ..recipes import Augment
from ..storage import to_json
from ..tensor_files import commit_tensors, map_tensors
from ..workers import Workers
from .engines import FeatureRequest, body_hash

DTYPES = {"float32": np.float32, "float16": np.float16}
SHARD_BYTES = 16 * 2**20
SHARD_ROWS = 1024
KEY_BYTES = 32


@dataclass(frozen=True)
class FeatureOptions:
    """How features are made: with ``copies`` of each image beside it, varied by ``augment`` and ``seed``.

    ``mirrored``: there is one copy of each, its mirror image. ``workers`` compute them, on a cluster; None: they are
    computed here.
    """

    wanted: FeatureRequest = field(default_factory=FeatureRequest)
    dtype: str = "float32"
    engine: str = "auto"
    copies: int = 0
    augment: Augment | None = None
    seed: int = 0
    mirrored: bool = False
    workers: Workers | None = field(default=None, compare=False)


class Store:
    """The rows that are on disk, by key. ``rows`` finds them, ``take`` reads them, ``append`` commits a new shard."""

    def __init__(self, folder: Path, dtype: str) -> None:
        self.folder, self.dtype = folder, dtype
        self.shape: tuple[int, ...] = ()  # of one image's features, once a shard is there
        self.damaged: list[Path] = []
        self._shards: dict[str, np.ndarray] = {}
        self._keys: list[np.ndarray] = []
        self._places: list[tuple[str, int]] = []
        self.refresh()

    def refresh(self) -> None:
        """Map the shards that have come since; one that is not what was written is as good as absent."""
        for path in sorted(self.folder.glob("*.safetensors")):
            if path.name in self._shards or path in self.damaged:
                continue
            if path.is_symlink():  # from somebody else's it may lead to any file of this machine
                self.damaged.append(path)
                continue
            try:
                maps, _ = map_tensors(path)
                keys, features = maps["keys"], maps["features"]
            except (DamagedFile, KeyError):
                self.damaged.append(path)
                continue
            if not self._fits(keys, features):
                self.damaged.append(path)
                continue
            self.shape = features.shape[1:]
            self._shards[path.name] = features
            self._places.append((path.name, len(keys)))
            self._keys.append(np.array(keys))
        every = np.concatenate(self._keys) if self._keys else np.zeros((0, KEY_BYTES), np.uint8)
        self._order = np.argsort(_short(every), kind="stable")
        self._sorted, self._every = _short(every)[self._order], every

    def _fits(self, keys: np.ndarray, features: np.ndarray) -> bool:
        """Tell whether the tensors of a shard are such as this store holds: a seal does not say so."""
        whole = keys.dtype == np.uint8 and keys.shape == (len(features), KEY_BYTES) and features.ndim > 1
        alike = features.dtype == DTYPES[self.dtype] and self.shape in ((), features.shape[1:])
        return whole and alike

    def discard_damaged(self) -> None:
        """Remove the shards that are not what was written: what is made anew has the same name."""
        for path in self.damaged:
            with suppress(OSError):
                path.unlink()
        self.damaged.clear()

    def rows(self, keys_N32: np.ndarray) -> np.ndarray:
        """The row of each key, int64 (N,); -1 where there is none."""
        if not len(self._every):
            return np.full(len(keys_N32), -1, np.int64)
        place = np.searchsorted(self._sorted, _short(keys_N32))
        row = self._order[np.minimum(place, len(self._order) - 1)]
        return np.where((self._every[row] == keys_N32).all(1), row, -1)

    def rows_by_name(self, keys_N: np.ndarray) -> np.ndarray:
        """The same by the keys uint64 (N,) of a Dataset, the first eight bytes of each image's hash."""
        if not len(self._every):
            return np.full(len(keys_N), -1, np.int64)
        place = np.minimum(np.searchsorted(self._sorted, keys_N), len(self._order) - 1)
        return np.where(self._sorted[place] == keys_N, self._order[place], -1)

    def take(self, rows_N: np.ndarray) -> np.ndarray:
        """The features (N, *shape) of rows, read from the maps: in memory they take what is asked for and no more."""
        values = np.empty((len(rows_N), *self.shape), DTYPES[self.dtype])
        start = 0
        for name, count in self._places:
            here = (rows_N >= start) & (rows_N < start + count)
            if here.any():
                values[here] = self._shards[name][rows_N[here] - start]
            start += count
        return values

    def append(self, keys: list[bytes], features: list[np.ndarray]) -> None:
        """Commit rows as a shard, named by its keys."""
        packed = np.frombuffer(b"".join(keys), np.uint8).reshape(-1, KEY_BYTES).copy()
        values = np.stack(features).astype(DTYPES[self.dtype], copy=False)
        name = hashlib.sha256(packed.tobytes()).hexdigest()[:24]
        tensors = {"keys": torch.from_numpy(packed), "features": torch.from_numpy(values)}
        commit_tensors(self.folder / f"{name}.safetensors", tensors, {"rows": len(keys)})


def _short(keys_N32: np.ndarray) -> np.ndarray:
    """The first eight bytes of keys as uint64: to search by; the whole key is compared afterwards."""
    return np.ascontiguousarray(keys_N32[:, :8]).view("<u8").reshape(-1)


@dataclass(frozen=True)
class Features:
    """Recorded features of a listing: ``features[index]`` reads (len(index), *shape) from the maps.

    Row i is that of image i; with copies, row c * N + i is the c-th copy of image i.
    """

    store: Store
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the features of one image."""
        return self.store.shape

    def __getitem__(self, index: np.ndarray) -> np.ndarray:
        return self.store.take(self.rows[index])

    def array(self) -> np.ndarray:
        """All of them, float32 (N, *shape)."""
        return self.store.take(self.rows).astype(np.float32, copy=False)


def store_description(classifier: Classifier, options: FeatureOptions, identity: str) -> dict[str, Any]:
    """All that a feature depends on beside its image; the store's folder is the hash of it."""
    preprocess = classifier.preprocess
    return {
        "architecture": classifier.architecture.name,
        "weights": body_hash(classifier, options.wanted),
        "images": preprocess.decoding_key(),
        "mean": list(preprocess.mean),
        "std": list(preprocess.std),
        "layer": options.wanted.words(),
        "dtype": options.dtype,
        "engine": identity,
    }


def store_folder(description: dict[str, Any]) -> Path:
    """Where the store of these features lies."""
    key = hashlib.sha256(to_json(description).encode()).hexdigest()[:40]
    return cache_folder() / "features" / key


def row_keys(digests_N32: np.ndarray, options: FeatureOptions) -> np.ndarray:
    """The keys of the rows, uint8 ((1 + copies) * N, 32): of the images as they are, then of each copy."""
    blocks = [digests_N32]
    for copy in range(1, options.copies + 1):
        varied = [copy, options.seed, asdict(options.augment or Augment())]
        words = b"mirrored" if options.mirrored else to_json(varied).encode()
        raw = b"".join(hashlib.sha256(words + bytes(digest)).digest() for digest in digests_N32)
        blocks.append(np.frombuffer(raw, np.uint8).reshape(-1, KEY_BYTES))
    return np.ascontiguousarray(np.concatenate(blocks))
