"""Features of JPEG files by two workers of Ray Data on this machine, against the same command in one process.

Claim: at least 0.5 of the images a second of `--engine local` once Ray has begun, the stores byte for byte equal. On
one machine a cluster saves nothing; this says what it costs: seconds to begin, and bytes sent for each image.
"""

from __future__ import annotations

import hashlib
import importlib
import logging
import os
import tempfile
import time
from argparse import Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from extract import write_images
from paired import abba, arguments, median_ratio, tell

from convscope.classifying.classifier import Classifier
from convscope.datasets.dataset import Listing
from convscope.datasets.registry import list_images
from convscope.feature_store import extraction
from convscope.feature_store.store import FeatureOptions
from convscope.scale.cluster import hire
from convscope.workers import Work, Workers

TARGET, IMAGES, QUICK, ROUNDS, WORKERS = 0.5, 600, 60, 2, 2
CPU = torch.device("cpu")


class Counting:
    """Workers, with the bytes that they are sent and send back: the work once, and each result."""

    def __init__(self, workers: Workers) -> None:
        self.workers, self.count, self.moved = workers, workers.count, 0

    def each(self, work: Work[Any], blocks: Sequence[np.ndarray]) -> Iterator[Any]:
        """The results, counted."""
        self.moved += self._size(work)
        for done in self.workers.each(work, blocks):
            self.moved += self._size(done)
            yield done

    def _size(self, sent: object) -> int:
        return len(importlib.import_module("ray.cloudpickle").dumps(sent))


def main() -> None:
    """Measure, and tell."""
    given = arguments(__doc__)
    extraction.SHARD_SECONDS = float("inf")  # shards are cut by rows alone, so that files can be compared
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as place:
        images = Path(place) / "images"
        images.mkdir()
        write_images(images, QUICK if given.quick else IMAGES)
        measured(Path(place), list_images(str(images), need="images"), given)


def measured(place: Path, listing: Listing, given: Namespace) -> None:
    """Both ways in ABBA order, each time into a store of its own."""
    classifier = Classifier.pretrained("lite0")
    stores: dict[str, dict[str, str]] = {}
    start = time.perf_counter()
    with hire(WORKERS, None, None) as workers:
        begun = time.perf_counter() - start

        counting = Counting(workers)

        def block(name: str, by: Workers | None) -> float:
            with tempfile.TemporaryDirectory(dir=place) as cache:
                os.environ["CONVSCOPE_CACHE"] = cache
                found = extraction.extract(listing, classifier, FeatureOptions(engine="torch", workers=by), CPU)
                stores[name] = hashed(found.folder)
                return found.seconds

        ours, peer = abba(lambda: block("ray", counting), lambda: block("local", None), 1 if given.quick else ROUNDS)
    assert stores["ray"] == stores["local"], "the stores differ"
    ratio, low, high = median_ratio(peer, ours)
    result = {
        "ratio": ratio,
        "low": low,
        "high": high,
        "ours": len(listing) / float(sorted(ours)[len(ours) // 2]),
        "peer": len(listing) / float(sorted(peer)[len(peer) // 2]),
        "unit": "images/s",
        "better": "higher",
        "target": TARGET,
        "begin_seconds": begun,
        "bytes_sent_an_image": counting.moved / (len(ours) * len(listing)),
        "equal_files": len(stores["ray"]),
    }
    tell(result, given.json)


def hashed(folder: Path) -> dict[str, str]:
    """The hash of each file of a store."""
    files = (path for path in sorted(folder.iterdir()) if path.suffix != ".lock")
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


if __name__ == "__main__":
    main()
