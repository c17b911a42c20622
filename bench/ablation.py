"""Silencing each of the 256 filters of AlexNet's conv3 on 1,000 images, against evaluating the whole network on them.

Claim: all 256 cost at most 10 evaluation passes.

The peer is one evaluation pass; 256 whole passes are what doing it one by one costs. Equal figures are asserted for a
few filters.
"""

from __future__ import annotations

import time

import numpy as np
import torch
from paired import abba, arguments, median_ratio, tell

from convscope.classifying.prediction import logits
from convscope.datasets.dataset import assemble
from convscope.datasets.shapes import load_shapes
from convscope.explanation.ablation import ablate
from convscope.explanation.layers import find_layers
from convscope.images.preprocess import to_tensor
from convscope.models.registry import build
from convscope.models.taps import tapping

TARGET, IMAGES, ROUNDS = 10.0, 1_000, 4


def main() -> None:
    options = arguments(__doc__)
    data = assemble(load_shapes(6_000))
    index = data.subset("train")[:IMAGES]
    network = build("alexnet", 6, 32, seed=0).eval().to(memory_format=torch.channels_last)
    layer = find_layers(network, torch.zeros(1, 3, 32, 32))[-1]

    def ours() -> float:
        start = time.perf_counter()
        ablate(network, data.images, data.labels, data.preprocess, layer, index)
        return time.perf_counter() - start

    def peer() -> float:
        start = time.perf_counter()
        for _ in range(4):  # a pass is short
            logits(network, data.images, data.preprocess, index)
        return (time.perf_counter() - start) / 4

    assert_equal(network, data, layer, index)
    peer()
    ours_seconds, peer_seconds = abba(ours, peer, 1 if options.quick else ROUNDS)
    ratio, low, high = median_ratio(ours_seconds, peer_seconds)
    result = {
        "ratio": ratio,
        "low": low,
        "high": high,
        "ours": float(np.median(ours_seconds)),
        "peer": float(np.median(peer_seconds)),
        "unit": "seconds; ratio: evaluation passes that ablating all filters costs",
        "better": "lower",
        "target": TARGET,
        "filters": layer.filters,
        "one_by_one": layer.filters,
        "images": len(index),
    }
    tell(result, options.json)


def assert_equal(network: torch.nn.Module, data, layer, index: np.ndarray) -> None:
    """What is fed to the logits equals a whole pass with the filter at 0."""
    chosen = [0, 17, 255]
    ours = ablate(network, data.images, data.labels, data.preprocess, layer, index[:64], chosen)
    images = data.preprocess.normalise(to_tensor(data.images[index[:64]]))
    with torch.no_grad():
        whole = network(images)
        for row, k in enumerate(chosen):

            def silence(_number: int, maps: torch.Tensor, k: int = k) -> torch.Tensor:
                return maps.index_fill(1, torch.tensor([k]), 0.0)

            with tapping(network, [layer.tap], silence):
                without = network(images)
            assert torch.allclose(ours.logit_lost[row], (whole - without).mean(0), atol=1e-4)


if __name__ == "__main__":
    main()
