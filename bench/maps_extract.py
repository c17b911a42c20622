"""Recording maps at strides 4 to 32 of lite0 for masks, against recording its pooled features by the same engine.

Claim: at most 1.15 times the pooled pass and the time that writing the same bytes takes. Each block reads the same
JPEG files afresh at 256 pixels, with nothing recorded before; the maps are kept with 16 bits a number.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from extract import write_images
from paired import abba, arguments, median_ratio, tell

from convscope.cache import cache_folder
from convscope.classifying.classifier import Classifier
from convscope.datasets.dataset import Listing
from convscope.datasets.registry import list_images
from convscope.feature_store.engines import FeatureRequest
from convscope.feature_store.extraction import extract
from convscope.feature_store.store import FeatureOptions
from convscope.models.pixel_network import STRIDES

TARGET = 1.15
IMAGES, QUICK, ROUNDS, SIZE = 200, 40, 4, 256
CPU = torch.device("cpu")
MAPS = FeatureOptions(FeatureRequest(strides=STRIDES), "float16", "torch")
POOLED = FeatureOptions(FeatureRequest(), "float32", "torch")


def seconds(listing: Listing, classifier: Classifier, options: FeatureOptions) -> tuple[float, np.ndarray]:
    """Of one recording from nothing, and what was recorded."""
    shutil.rmtree(cache_folder() / "features", ignore_errors=True)
    start = time.perf_counter()
    found = extract(listing, classifier, options, CPU).features
    return time.perf_counter() - start, np.asarray(found[np.arange(len(found))])


def writing(data: bytes, folder: Path) -> float:
    """Seconds of putting so many bytes on the disk, in files as large as the store's, each one waited for."""
    start = time.perf_counter()
    for i in range(0, len(data), 16 * 2**20):
        with (folder / str(i)).open("wb") as file:
            file.write(data[i : i + 16 * 2**20])
            file.flush()
            os.fsync(file.fileno())
    return time.perf_counter() - start


def main() -> None:
    options = arguments(__doc__)
    count, rounds = (QUICK, 1) if options.quick else (IMAGES, ROUNDS)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CONVSCOPE_CACHE"] = f"{folder}/cache"
        root, scratch = Path(folder) / "images", Path(folder) / "scratch"
        root.mkdir(), scratch.mkdir()
        write_images(root, count)
        lite0, listing = Classifier.pretrained("lite0"), list_images(root)
        classifier = replace(lite0, preprocess=replace(lite0.preprocess, fit="pad", size=SIZE, centre=1.0))
        maps, pooled = seconds(listing, classifier, MAPS)[1], seconds(listing, classifier, POOLED)[1]
        assert len(maps) == len(pooled) == count
        assert np.isfinite(maps).all()
        assert np.isfinite(pooled).all()
        data = maps.tobytes()
        ours, passes = abba(
            lambda: seconds(listing, classifier, MAPS)[0],
            lambda: seconds(listing, classifier, POOLED)[0] + writing(data, scratch),
            rounds,
        )
    ratio, low, high = median_ratio(ours, passes)
    result = {
        "ratio": ratio,
        "low": low,
        "high": high,
        "ours": count / float(np.median(ours)),
        "peer": count / float(np.median(passes)),
        "unit": "images/s; the ratio is of seconds, ours over the pooled pass and writing",
        "better": "lower",
        "target": TARGET,
        "images": count,
        "bytes_an_image": len(data) // count,
    }
    tell(result, options.json)


if __name__ == "__main__":
    main()
