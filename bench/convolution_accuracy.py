"""Does a network learn as well with fewer multiplications? Runs in pairs, direct and winograd, on held-out images.

The runs were trained by `convscope train cifar10 --recipe lecture-4 --precision float32 --convolution direct --seed 0
--name lecture-4-direct-0`, with `winograd` for `direct` in both places for its twin, and so on for other seeds, and for
`--recipe speed-small --epochs 4` as speed-small-4. All held-out images are asked, those of validation and of test.

Claim: the 95 % interval of the difference (winograd minus direct, over images, each the mean of its seeds) excludes a
loss of 0.5 points.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from typing import Any

import numpy as np
import torch
from paired import tell, this_machine

from convscope.classifying.classifier import Classifier
from convscope.classifying.prediction import logits
from convscope.datasets.registry import load_dataset
from convscope.models.taps import computing_by
from convscope.training.runs import runs_folder

LOSS = -0.5  # points
DRAWS = 10_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=["lecture-4", "speed-small-4"])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    data = load_dataset("cifar10")
    index = np.concatenate([data.parts["val"], data.parts["test"]])
    labels = torch.from_numpy(data.labels[index])
    folder, found = runs_folder(None), {}
    for name in options.names:
        right: dict[str, dict[str, np.ndarray]] = defaultdict(dict)
        for path in sorted(folder.glob(f"{name}-*-*/classifier.safetensors")):
            way, seed = path.parent.name.removeprefix(f"{name}-").rsplit("-", 1)
            classifier = Classifier.load(path)
            with computing_by(classifier.faster()):
                answers = logits(classifier.network, data.images, classifier.preprocess, index).argmax(1)
            right[way][seed] = (answers == labels).numpy()
        seeds = sorted(right["direct"].keys() & right["winograd"].keys())
        assert seeds, f"no pair of {name} in {folder}"
        found[name] = compared(*(np.stack([right[way][seed] for seed in seeds]) for way in ("direct", "winograd")))
    worst = min(found.values(), key=lambda row: row["low"])
    result = {
        "ratio": worst["difference"],
        "low": worst["low"],
        "high": worst["high"],
        "ours": worst["winograd"],
        "peer": worst["direct"],
        "unit": "points of accuracy; ratio is their difference, of the worst recipe",
        "better": "higher",
        "target": LOSS,
        "recipes": found,
        "images": len(index),
        **this_machine(),
    }
    tell(result, options.json)


def compared(direct_SN: np.ndarray, winograd_SN: np.ndarray) -> dict[str, Any]:
    """Of S seeds and N images: accuracies in percent, their difference, its interval over images, and each seed's."""
    each_N = 100 * (winograd_SN.mean(0) - direct_SN.mean(0))
    generator = np.random.default_rng(0)
    draws = [each_N[generator.integers(0, len(each_N), len(each_N))].mean() for _ in range(DRAWS)]
    low, high = np.percentile(draws, [2.5, 97.5])
    return {
        "direct": 100 * float(direct_SN.mean()),
        "winograd": 100 * float(winograd_SN.mean()),
        "difference": float(each_N.mean()),
        "low": float(low),
        "high": float(high),
        "by_seed": [float(d) for d in 100 * (winograd_SN.mean(1) - direct_SN.mean(1))],
        "seeds": len(direct_SN),
    }


if __name__ == "__main__":
    main()
