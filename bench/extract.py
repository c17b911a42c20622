"""Features of a folder of JPEG files by lite0: against timm with a DataLoader as people write it, and against OpenVINO.

Claim: at least 3 times timm with two workers in eager float32 on the same files, features equal to 1e-4 of the largest;
at least 0.9 times the images a second of OpenVINO's throughput mode in float32 on decoded images; and from the
store at least 100 times timm.
"""

from __future__ import annotations

import importlib
import os
import shutil
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from paired import abba, arguments, median_ratio, tell
from PIL import Image

from convscope.cache import cache_folder
from convscope.classifying.classifier import Classifier
from convscope.datasets.dataset import Listing
from convscope.datasets.registry import list_images
from convscope.exporting.formats import to_onnx
from convscope.feature_store.engines import TOLERANCE, FeatureRequest, make_engine
from convscope.feature_store.extraction import BLOCK, extract
from convscope.feature_store.store import FeatureOptions
from convscope.models.heads import head_place

TARGET, OPENVINO_TARGET, CACHE_TARGET = 3.0, 0.9, 100.0
IMAGES, QUICK, ROUNDS, WORKERS, BATCH = 600, 100, 3, 2, 64
CPU = torch.device("cpu")


def write_images(folder: Path, count: int) -> None:
    """JPEG files of 500 x 375 pixels: smooth fields with some noise, about as large as photographs."""
    rng = np.random.default_rng(0)
    for i in range(count):
        field = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        image = np.asarray(Image.fromarray(field).resize((500, 375), Image.Resampling.BICUBIC), np.int16)
        image = (image + rng.integers(-12, 13, image.shape)).clip(0, 255).astype(np.uint8)
        place = folder / "ab"[i % 2]
        place.mkdir(exist_ok=True)
        Image.fromarray(image).save(place / f"{i:05d}.jpg", quality=85)


class Files(torch.utils.data.Dataset):
    """The peer's dataset, as people write it."""

    def __init__(self, paths: list[Path], mean: Any, std: Any) -> None:
        transforms = importlib.import_module("torchvision.transforms")
        steps = [transforms.Resize((224, 224)), transforms.ToTensor()]
        self.paths, self.transform = paths, transforms.Compose([*steps, transforms.Normalize(mean, std)])

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.transform(Image.open(self.paths[index]).convert("RGB"))


def peer_features(classifier: Classifier, paths: list[Path]) -> np.ndarray:
    """timm in eager float32 behind a DataLoader."""
    timm = importlib.import_module("timm")
    network = timm.create_model("tf_efficientnet_lite0", num_classes=0).eval()
    body = {n: t for n, t in classifier.network.state_dict().items() if not n.startswith("classifier.")}
    network.load_state_dict(body)
    files = Files(paths, classifier.preprocess.mean, classifier.preprocess.std)
    loader = torch.utils.data.DataLoader(files, batch_size=BATCH, num_workers=WORKERS)
    with torch.inference_mode():
        return torch.cat([network(images) for images in loader]).numpy()


def our_features(classifier: Classifier, listing: Listing) -> np.ndarray:
    return extract(listing, classifier, FeatureOptions(), CPU).features.array()


def timed(work: Any, *given: Any) -> float:
    start = time.perf_counter()
    work(*given)
    return time.perf_counter() - start


def openvino_seconds(classifier: Classifier, images: np.ndarray) -> tuple[Any, Any]:
    """OpenVINO's own throughput mode on normalised images, one a request: a block to time, and one call's answer."""
    openvino = importlib.import_module("openvino")
    place, _ = head_place(classifier.network)
    network = Classifier.pretrained("lite0").network
    network.set_submodule(place, torch.nn.Identity())
    core = openvino.Core()
    model = core.read_model(to_onnx(network, 224, "features"))
    settings = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(model, "CPU", settings)
    queue = openvino.AsyncInferQueue(compiled, compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))

    def block() -> float:
        start = time.perf_counter()
        for image in images:
            queue.start_async([image[None]])
        queue.wait_all()
        return time.perf_counter() - start

    return block, lambda: compiled([images[:1]])[0]


def engine_seconds(classifier: Classifier, images: np.ndarray) -> Any:
    """Our engine alone, on decoded images, as the extraction calls it: a block to time."""
    run, threads = make_engine("auto", classifier, FeatureRequest(), CPU).run, torch.get_num_threads()

    def block() -> float:
        start = time.perf_counter()
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(run, [images[i : i + BLOCK] for i in range(0, len(images), BLOCK)]))
        return time.perf_counter() - start

    return block


def main() -> None:
    options = arguments(__doc__)
    count, rounds = (QUICK, 1) if options.quick else (IMAGES, ROUNDS)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CONVSCOPE_CACHE"] = f"{folder}/cache"
        root = Path(folder) / "images"
        root.mkdir()
        write_images(root, count)
        lite0, listing = Classifier.pretrained("lite0"), list_images(root)
        classifier = replace(lite0, preprocess=replace(lite0.preprocess, fit="squash"))
        paths = list(listing.unsplit.files)
        ours, peer = our_features(classifier, listing), peer_features(classifier, paths)  # the engine is made here
        difference, most = float(np.abs(ours - peer).max()), float(np.abs(peer).max())
        assert difference <= TOLERANCE * most, difference

        def fresh() -> float:
            shutil.rmtree(cache_folder() / "features")
            return timed(lambda: our_features(classifier, list_images(root)))

        seconds, peers = abba(fresh, lambda: timed(peer_features, classifier, paths), rounds)
        ratio, low, high = median_ratio(peers, seconds)
        kept = min(timed(lambda: our_features(classifier, list_images(root))) for _ in range(5))
        images = np.stack([classifier.preprocess.fit_image(p) for p in paths[:200]])
        inputs = classifier.preprocess.normalise(torch.from_numpy(images).permute(0, 3, 1, 2)).contiguous().numpy()
        block, one = openvino_seconds(classifier, inputs)
        assert np.abs(one() - peer[:1]).max() <= TOLERANCE * most
        network, other = abba(engine_seconds(classifier, images), block, 1 if options.quick else 5)
    result = {
        "ratio": ratio,
        "low": low,
        "high": high,
        "ours": count / float(np.median(seconds)),
        "peer": count / float(np.median(peers)),
        "unit": "images/s",
        "better": "higher",
        "target": TARGET,
        "max_abs_difference": difference,
        "of_largest": most,
        "from_the_store": float(np.median(peers)) / kept,
        "from_the_store_target": CACHE_TARGET,
        "against_openvino": median_ratio(other, network),
        "against_openvino_target": OPENVINO_TARGET,
        "network_images_per_second": {
            "ours": len(images) / float(np.median(network)),
            "openvino": len(images) / float(np.median(other)),
        },
        "images": count,
    }
    tell(result, options.json)


if __name__ == "__main__":
    main()
