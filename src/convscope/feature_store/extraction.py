"""The feature store: what a backbone makes of each image, recorded once and keyed by content, so never stale.

A store's folder is named by all that a feature depends on beside the image: weights, preprocess (the scale a JPEG is
decoded at too), layer, number format, engine and version. In it, a row's key is the hash of the image's bytes, and of
its variation for an augmented copy. Images that are added or edited are computed, the others are found, in whatever
order they come. Shards are committed one by one and read as memory maps: a kill loses the one that was being filled.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..classifying.classifier import Classifier
from ..datasets.dataset import Listing
from ..datasets.shipped import Shipped
from ..errors import DamagedFile, StorageError, UnknownName, UsageError
from ..locks import lock
from ..machine import matmul_peak
from ..progress import Progress
from ..storage import check_free, commit_json, make_folder
from ..workers import Workers, shares_of
from .blocks import BLOCK, BLOCK_ACCELERATOR, SHARE, Block, Blocks, FeatureWork
from .engines import Engine, engine_identity, make_engine
from .store import (
    DTYPES,
    KEY_BYTES,
    SHARD_BYTES,
    SHARD_ROWS,
    FeatureOptions,
    Features,
    Store,
    row_keys,
    store_description,
    store_folder,
)

AHEAD = 3  # blocks a thread that are given out before they are collected
SHARD_SECONDS = 20.0  # the longest that features go unsaved


@dataclass(frozen=True)
class Extraction:
    """Recorded features with what they cost. ``bad`` are (index, reason) of images that cannot be read: their rows
    are -1; ``notes`` are sentences to read. Seconds of decoding and network are summed over ``workers`` threads;
    ``gflop`` is that of one image."""

    features: Features
    bad: tuple[tuple[int, str], ...]
    folder: Path
    engine: str
    images: int
    computed: int
    seconds: float
    workers: int
    decode_seconds: float
    network_seconds: float
    gflop: float | None
    peak: float | None
    notes: tuple[str, ...] = ()

    @property
    def images_per_second(self) -> float | None:
        """Of those that were computed; None where all were there."""
        return self.computed / self.seconds if self.computed else None

    def roofline(self) -> str:
        """Speed, share of the peak, and the bottleneck, in one sentence."""
        rate = self.images_per_second
        if rate is None or self.peak is None or self.gflop is None:
            return f"features: {self.images:,} images, all recorded before, read in {self.seconds:.2f} s"
        busy = self.decode_seconds + self.network_seconds
        what, share = max(("decoding", self.decode_seconds), ("the network", self.network_seconds), key=lambda p: p[1])
        return (
            f"features: {self.computed:,} of {self.images:,} images computed by {self.engine.split()[0]} at "
            f"{rate:.0f} images/s, {rate * self.gflop:.0f} GFLOP/s, {100 * rate * self.gflop / self.peak:.0f} % of "
            f"the {self.peak:.0f} GFLOP/s of a matrix product here; the bottleneck is {what} "
            f"({100 * share / busy:.0f} % of the time of {self.workers} threads)"
        )

    def to_json(self) -> dict[str, Any]:
        """The stable JSON form."""
        rate, peak = self.images_per_second, self.peak
        return {
            "folder": str(self.folder),
            "engine": self.engine,
            "images": self.images,
            "computed": self.computed,
            "shape": list(self.features.shape),
            "seconds": self.seconds,
            "images_per_second": rate,
            "gflop_an_image": self.gflop,
            "percent_of_peak": 100 * rate * self.gflop / peak if rate and peak and self.gflop else None,
            "decode_seconds": self.decode_seconds,
            "network_seconds": self.network_seconds,
            "bad": len(self.bad),
        }


def extract(
    listing: Listing,
    classifier: Classifier,
    options: FeatureOptions,
    device: torch.device,
    progress: Progress | None = None,
) -> Extraction:
    """Record the features of every image of a listing that are not yet recorded, and find the others.

    Memory does not grow with the number of images. An engine "auto" is torch where onnxruntime cannot take the network,
    which is noted. Raises LockedError while another process fills the same store,
    StorageError for a full or read-only disk; what was committed before is kept, and the next call goes on from there.
    """
    if options.dtype not in DTYPES:
        raise UnknownName("number format", options.dtype, DTYPES)
    start, workers = time.perf_counter(), options.workers
    identity = engine_identity(options.engine, options.wanted, device)
    description = store_description(classifier, options, identity)
    store = Store(store_folder(description), options.dtype)
    keys = row_keys(listing.digests, options)
    missing = _first_of_each(keys, store.rows(keys) < 0)
    work, peak = None, None
    if len(missing):
        try:
            engine = make_engine(options.engine, classifier, options.wanted, device)
        except (UsageError, DamagedFile) as error:
            if options.engine != "auto" or identity.startswith("torch"):
                raise
            plain = extract(listing, classifier, replace(options, engine="torch"), device, progress)
            return replace(plain, notes=(f"these features are torch's: {error}",))
        try:
            check_free(store.folder, len(missing) * _row_bytes(engine, options), "the record of these features")
            work = _work(listing, classifier, options, _Made(engine, identity, keys), device)
            peak = matmul_peak(device, "float32")
            start = time.perf_counter()
            make_folder(store.folder)
            with lock(store.folder, "this feature store"):
                store.discard_damaged()
                commit_json(store.folder / "store.json", description)
                store.refresh()  # another process may have been faster
                missing = _first_of_each(keys, store.rows(keys) < 0)
                _fill(store, work, missing, workers, progress)
        except StorageError as error:
            raise StorageError(f"{error} Set CONVSCOPE_CACHE to a folder with room.") from error
        store.refresh()
    rows = store.rows(keys)
    return Extraction(
        features=Features(store, rows),
        bad=_bad(rows[: len(listing)], listing.digests, work.bad) if work else (),
        folder=store.folder,
        engine=identity,
        images=len(keys),
        computed=work.computed if work else 0,
        seconds=time.perf_counter() - start,
        workers=torch.get_num_threads() if workers is None else workers.count,
        decode_seconds=work.decode_seconds if work else 0.0,
        network_seconds=work.network_seconds if work else 0.0,
        gflop=work.engine.gflop if work else None,
        peak=peak,
    )


def _work(
    listing: Listing, classifier: Classifier, options: FeatureOptions, made: _Made, device: torch.device
) -> _Work:
    """What is to be computed here, or sent to the workers of the options, which need no workers themselves."""
    size = BLOCK if device.type == "cpu" else BLOCK_ACCELERATOR
    plain = replace(options, engine=made.identity.split()[0], workers=None)
    blocks = Blocks(Shipped.of(listing.unsplit), listing.keys, classifier.preprocess, plain, size)
    sent = None if options.workers is None else FeatureWork(blocks, classifier, made.identity, device.type)
    return _Work(blocks, made.engine, made.keys, sent)


@dataclass(frozen=True)
class _Made:
    """An engine with its name in words, and the keys of all rows."""

    engine: Engine
    identity: str
    keys: np.ndarray


def _row_bytes(engine: Engine, options: FeatureOptions) -> int:
    return math.prod(engine.shape) * np.dtype(DTYPES[options.dtype]).itemsize + KEY_BYTES


def _first_of_each(keys: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The indices of wanted rows, in order, one for each key: copies of an image are computed once."""
    index = np.flatnonzero(wanted)
    whole = keys[index].view(np.dtype((np.void, KEY_BYTES))).reshape(-1)
    return np.sort(index[np.unique(whole, return_index=True)[1]]) if len(index) else index


def _bad(rows_N: np.ndarray, digests_N32: np.ndarray, reasons: dict[int, str]) -> tuple[tuple[int, str], ...]:
    """(index, reason) of the images without a row; only the first of several equal files was tried."""
    by_content = {digests_N32[i].tobytes(): reason for i, reason in reasons.items()}
    return tuple((int(i), by_content[digests_N32[i].tobytes()]) for i in np.flatnonzero(rows_N < 0))


def _fill(store: Store, work: _Work, missing: np.ndarray, workers: Workers | None, progress: Progress | None) -> None:
    """Compute the missing rows and commit them shard by shard; what an interrupt leaves over is committed too."""
    rows_a_shard = max(1, min(SHARD_ROWS, SHARD_BYTES // (4 * int(np.prod(work.engine.shape)))))
    keys: list[bytes] = []
    features: list[np.ndarray] = []
    saved, done = time.monotonic(), 0

    def save() -> None:
        nonlocal saved
        if keys:
            store.append(keys, features)
        keys.clear()
        features.clear()
        saved = time.monotonic()

    try:
        for row, values in work.results(missing, workers):
            done += 1
            if values is not None:
                keys.append(work.keys[row].tobytes())
                features.append(values)
            if len(keys) >= rows_a_shard or time.monotonic() - saved > SHARD_SECONDS:
                save()
            if progress:
                progress("features", done, len(missing))
    except KeyboardInterrupt:
        save()
        raise
    save()


class _Work:
    """Decoding and computing in threads, each with images of its own, or by workers; results come in order."""

    def __init__(self, blocks: Blocks, engine: Engine, keys: np.ndarray, elsewhere: FeatureWork | None) -> None:
        self.blocks, self.engine, self.keys, self.elsewhere = blocks, engine, keys, elsewhere
        self.bad: dict[int, str] = {}
        self.decode_seconds = self.network_seconds = 0.0
        self.computed = 0

    def results(self, rows: np.ndarray, workers: Workers | None) -> Iterator[tuple[int, np.ndarray | None]]:
        """(row, its features or None where the image cannot be read)."""
        if workers is not None and self.elsewhere is not None:
            for done in workers.each(self.elsewhere, shares_of(rows, workers.count, SHARE, self.blocks.size)):
                yield from self._collected(done)
            return
        yield from self._here(rows)

    def _here(self, rows: np.ndarray) -> Iterator[tuple[int, np.ndarray | None]]:
        blocks = (rows[i : i + self.blocks.size] for i in range(0, len(rows), self.blocks.size))
        waiting: deque[Future[Block]] = deque()
        threads = torch.get_num_threads()
        pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
        try:
            for block in blocks:
                waiting.append(pool.submit(self.blocks.compute, block, self.engine))
                if len(waiting) > AHEAD * threads:
                    yield from self._collected(waiting.popleft().result())
            while waiting:
                yield from self._collected(waiting.popleft().result())
        finally:
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(threads)  # a thread's own number is what new threads begin with

    def _collected(self, done: Block) -> Iterator[tuple[int, np.ndarray | None]]:
        good = iter(done.values)
        self.computed += len(done.values)
        self.bad |= done.bad
        self.decode_seconds += done.decode_seconds
        self.network_seconds += done.network_seconds
        for row in done.rows.tolist():
            yield row, None if row % self.blocks.count in done.bad else next(good)
