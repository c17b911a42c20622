"""Images that are decoded anew whenever they are used: for data whose pixels would not fit the disk that packs them.

Before a training, each image is decoded once, as packing does, and only its sums are kept, 48 bytes an image: the mean
and the deviation are those of the packed images to the last bit, and an image that cannot be read is told before an
epoch was spent. From then on threads decode the images of the next batches while one is computed with.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..cache import cache_folder
from ..errors import DamagedFile, ImageError
from ..images.preprocess import ChannelTriple, Preprocess, statistics_of_sums
from ..progress import Progress
from ..tensor_files import commit_tensors, map_tensors
from .packing import THREADS, bad_error, decode_in_order, still_bad
from .shard_files import ShardFiles
from .unsplit import Unsplit

AHEAD = 2  # batches that are decoded before they are asked for
PIECE = 16  # images that a thread is given at a time
TOGETHER = 32  # blocks of shards that are mixed with each other: some 2,500 images of ImageNet


@dataclass(frozen=True)
class Sums:
    """What one look at every image leaves: sums of values and of squares of each channel, int64 (N, 6), and the bad."""

    sums: np.ndarray
    bad: dict[int, str]

    def statistics(self, index: np.ndarray, size: int) -> tuple[ChannelTriple, ChannelTriple]:
        """The mean and the deviation of each channel over the images at ``index``, of ``size`` pixels a side."""
        total = self.sums[index].sum(axis=0)
        return statistics_of_sums(len(index) * size * size, total[:3], total[3:])


def look_over(
    unsplit: Unsplit, digests_N32: np.ndarray, preprocess: Preprocess, skip: bool, progress: Progress | None
) -> Sums:
    """Decode every image once, or remember what that gave. DataError for images that cannot be read, unless skipped."""
    name = hashlib.sha256(preprocess.decoding_key().encode() + digests_N32.tobytes()).hexdigest()
    path = cache_folder() / "images" / f"{name[:40]}.sums"
    found = _remembered(path, len(digests_N32))
    if found is None or not all(still_bad(i, unsplit, preprocess) for i in found.bad):
        found = _look(unsplit, preprocess, progress)
        _remember(path, found)
    if found.bad and (not skip or len(found.bad) == len(digests_N32)):
        raise bad_error(found.bad, unsplit)
    return found


def _look(unsplit: Unsplit, preprocess: Preprocess, progress: Progress | None) -> Sums:
    sums = np.zeros((len(unsplit.labels), 6), np.int64)
    bad: dict[int, str] = {}
    for i, result in decode_in_order(unsplit, preprocess, progress):
        if isinstance(result, ImageError):
            bad[i] = result.reason
            continue
        values = result.reshape(-1, 3)
        sums[i, :3] = values.sum(axis=0, dtype=np.int64)
        sums[i, 3:] = np.square(values, dtype=np.uint32).sum(axis=0, dtype=np.int64)
    return Sums(sums, bad)


def _remembered(path: Path, count: int) -> Sums | None:
    try:
        maps, said = map_tensors(path)
        bad = {int(i): str(reason) for i, reason in said["bad"]}
        return Sums(maps["sums"], bad) if maps["sums"].shape == (count, 6) else None
    except (DamagedFile, KeyError, ValueError, TypeError):
        return None


def _remember(path: Path, found: Sums) -> None:
    import torch

    commit_tensors(path, {"sums": torch.from_numpy(found.sums)}, {"bad": [[i, r] for i, r in found.bad.items()]})


class Streamed:
    """Images in place of an array uint8 (N, S, S, 3): decoded by threads when asked for, and kept nowhere.

    ``blocks`` int64 (N,) says which images stand together in shards; None where each is a file of its own.
    """

    def __init__(self, unsplit: Unsplit, preprocess: Preprocess) -> None:
        self.unsplit, self.preprocess = unsplit, preprocess
        self.shape = (len(unsplit.labels), preprocess.size, preprocess.size, 3)
        self.dtype = np.dtype(np.uint8)
        self.blocks = unsplit.files.blocks() if isinstance(unsplit.files, ShardFiles) else None

    def __len__(self) -> int:
        return len(self.unsplit.labels)

    def __getitem__(self, index: int | slice | np.ndarray) -> np.ndarray:
        chosen = np.arange(len(self))[index]
        if chosen.ndim == 0:
            return self._some(chosen[None])[0]
        if len(chosen) <= PIECE:
            return self._some(chosen)
        return next(self.in_advance([chosen]))

    def in_advance(self, batches: Sequence[np.ndarray], threads: int = THREADS) -> Iterator[np.ndarray]:
        """The images of each batch, uint8 (B, S, S, 3), in order; those of the next ones are decoded meanwhile.

        The same for any number of threads. Raises ImageError for an image that cannot be read any more.
        """
        waiting: deque[list[Future[np.ndarray]]] = deque()
        with ThreadPoolExecutor(threads) as pool:
            try:
                for number, batch in enumerate(batches):
                    waiting.append([pool.submit(self._some, batch[i : i + PIECE]) for i in range(0, len(batch), PIECE)])
                    if number >= AHEAD:
                        yield self._joined(waiting.popleft())
                while waiting:
                    yield self._joined(waiting.popleft())
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _joined(self, pieces: list[Future[np.ndarray]]) -> np.ndarray:
        done = [piece.result() for piece in pieces]
        return np.concatenate(done) if done else np.zeros((0, *self.shape[1:]), np.uint8)

    def _some(self, index: np.ndarray) -> np.ndarray:
        made = np.empty((len(index), *self.shape[1:]), np.uint8)
        for row, i in enumerate(index.tolist()):
            try:
                made[row] = self.preprocess.fit_image(self.unsplit.files[i])
            except ImageError as error:
                raise ImageError(self.unsplit.origin(i), error.reason, passing=error.passing) from error
        return made
