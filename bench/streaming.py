"""Photographs from tars: decoded against the same files of a folder, and trained on as they stream against packed.

Claim: a stream from tars gives at least as many decoded images a second (1.0) as the same JPEG files of a folder, both
in the order of an epoch and with the same threads, pixels equal; and resnet18 at 224 pixels trains from the stream at
0.9 of the rate that it has on packed images or more.

The files are in the page cache on both sides: what is compared is the way to them, not a disk.
"""

from __future__ import annotations

import io
import os
import tarfile
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from paired import abba, arguments, median_ratio, tell, this_machine
from PIL import Image

from convscope.datasets.dataset import Dataset
from convscope.datasets.registry import load_dataset
from convscope.models.architecture import architecture_of
from convscope.recipes import Recipe
from convscope.training.feeding import epoch_order, in_advance
from convscope.training.loop import TrainState, make_optimizer, train
from convscope.training.session import training_batches

TARGET, TRAINING_TARGET = 1.0, 0.9
IMAGES, QUICK, SHARDS, ROUNDS = 1024, 96, 8, 5
SIZE, BATCH, STEPS = 224, 32, 4
CPU = torch.device("cpu")


def write_images(folder: Path, shards: Path, count: int) -> None:
    """The same JPEG files, of 500 x 375 pixels and about 110 kB as photographs have, in a folder and in tars."""
    rng = np.random.default_rng(0)
    shards.mkdir()
    tars = [tarfile.open(shards / f"{number:06d}.tar", "w") for number in range(SHARDS)]  # noqa: SIM115 - closed below
    for i in range(count):
        field = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        image = np.asarray(Image.fromarray(field).resize((500, 375), Image.Resampling.BICUBIC), np.int16)
        image = (image + rng.integers(-24, 25, image.shape)).clip(0, 255).astype(np.uint8)
        file, label = io.BytesIO(), "ab"[i % 2]
        Image.fromarray(image).save(file, "JPEG", quality=90)
        place = folder / label / f"{i:06d}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(file.getvalue())
        for name, data in ((place.name, file.getvalue()), (f"{i:06d}.cls", label.encode())):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tars[i * SHARDS // count].addfile(info, io.BytesIO(data))
    for tar in tars:
        tar.close()


def epochs(data: Dataset) -> Callable[[], float]:
    """A block to time: the seconds that all training images of the next epoch take to be decoded."""
    index, number = data.subset("train"), iter(range(10**6))

    def block() -> float:
        order = epoch_order(data.images, index, data.keys, 0, next(number))
        start = time.perf_counter()
        for _ in in_advance(data.images, np.array_split(order, -(-len(order) // BATCH))):
            pass
        return time.perf_counter() - start

    return block


def updates(data: Dataset, steps: int) -> Callable[[], float]:
    """A block to time: the seconds of so many updates of resnet18, images and all, as a training makes them."""
    changes = {"model": "resnet18", "image_size": SIZE, "batch_size": BATCH, "epochs": 10_000, "augment": "light"}
    recipe = Recipe().with_options({**changes, "precision": "float32", "convolution": "direct"})
    architecture, _ = architecture_of("resnet18", SIZE, recipe.model.options(), 2)
    network = architecture.build(2, seed=0)
    state = TrainState(network, make_optimizer(network, recipe.optimizer))
    running = train(state, training_batches(data, recipe, CPU), recipe)
    list(islice(running, 2))  # what happens once

    def block() -> float:
        start = time.perf_counter()
        assert len(list(islice(running, steps))) == steps
        return time.perf_counter() - start

    return block


def equal_pixels(one: Dataset, other: Dataset) -> bool:
    """Whether both hold the same pixels under the same hashes."""
    order, others = np.argsort(one.keys), np.argsort(other.keys)
    pairs = zip(np.array_split(order, 20), np.array_split(others, 20), strict=True)
    same = all(np.array_equal(one.images[some], other.images[same]) for some, same in pairs)
    return same and np.array_equal(one.keys[order], other.keys[others])


def measured(count: int, rounds: int, steps: int) -> dict[str, Any]:
    """Both comparisons, over so many images."""
    with tempfile.TemporaryDirectory() as place:
        os.environ["CONVSCOPE_CACHE"] = f"{place}/cache"
        folder, shards = Path(place) / "folder", Path(place) / "shards"
        write_images(folder, shards, count)
        data = {
            "tars": load_dataset(shards, image_size=SIZE, stream=True),
            "folder": load_dataset(folder, image_size=SIZE, stream=True),
            "packed": load_dataset(shards, image_size=SIZE),
        }
        assert equal_pixels(data["tars"], data["folder"])
        assert equal_pixels(data["tars"], data["packed"])
        images = len(data["tars"].subset("train"))
        ours, peer = abba(epochs(data["tars"]), epochs(data["folder"]), rounds, same_memory=True)
        streamed, packed = abba(updates(data["tars"], steps), updates(data["packed"], steps), rounds, same_memory=True)
    ratio, low, high = median_ratio(peer, ours)
    result = {
        "ratio": ratio,
        "low": low,
        "high": high,
        "ours": images / float(np.median(ours)),
        "peer": images / float(np.median(peer)),
        "unit": "images/s",
        "better": "higher",
        "target": TARGET,
        "training_of_packed": median_ratio(packed, streamed),
        "training_of_packed_target": TRAINING_TARGET,
        "training_images_per_second": {
            "streamed": steps * BATCH / float(np.median(streamed)),
            "packed": steps * BATCH / float(np.median(packed)),
        },
        "images": count,
    }
    return result


def main() -> None:
    options = arguments(__doc__)
    found = measured(QUICK, 1, 1) if options.quick else measured(IMAGES, ROUNDS, STEPS)
    tell(found | this_machine(), options.json)


if __name__ == "__main__":
    main()
