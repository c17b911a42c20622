"""Fitted masks in the cache, keyed by what they are made of, and mapped: memory does not grow with their number."""

from __future__ import annotations

import hashlib

import numpy as np
import torch

from ..cache import cache_folder
from ..errors import DamagedFile
from ..images.preprocess import Preprocess
from ..progress import Progress
from ..storage import check_free
from ..tensor_files import commit_tensors, map_tensors
from .masks import Masks

SHARD = 256  # masks in a file


class MaskPack:
    """The masks of N images as a network sees them: ``pack[index]`` reads uint8 (n, S, S) from the maps."""

    def __init__(self, masks: Masks, preprocess: Preprocess, progress: Progress | None = None) -> None:
        said = preprocess.decoding_key().encode() + masks.digests().tobytes()
        self.folder = cache_folder() / "masks" / hashlib.sha256(said).hexdigest()[:40]
        self.side = preprocess.size
        there = sum(path.stat().st_size for path in self.folder.glob("*.safetensors"))
        check_free(self.folder, len(masks) * self.side**2 - there, "what is made of the masks")
        self._shards: list[np.ndarray] = []
        for start in range(0, len(masks), SHARD):
            index = range(start, min(start + SHARD, len(masks)))
            self._shards.append(self._shard(masks, preprocess, index))
            if progress:
                progress("masks", index.stop, len(masks))

    def _shard(self, masks: Masks, preprocess: Preprocess, index: range) -> np.ndarray:
        path = self.folder / f"{index.start}.safetensors"
        shape = (len(index), self.side, self.side)
        try:
            found = map_tensors(path)[0]["masks"]
            if found.shape == shape and found.dtype == np.uint8:
                return found
        except (DamagedFile, KeyError):
            pass
        made = masks.all_fitted(index, preprocess)
        commit_tensors(path, {"masks": torch.from_numpy(made)}, {"masks": len(index)})
        return map_tensors(path)[0]["masks"]

    def __getitem__(self, index: np.ndarray) -> np.ndarray:
        made = np.empty((len(index), self.side, self.side), np.uint8)
        for n, i in enumerate(np.asarray(index).tolist()):
            made[n] = self._shards[i // SHARD][i % SHARD]
        return made
