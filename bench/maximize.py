"""Activation maximization of all 448 filters of the lecture's AlexNet, and of 24 of them against torch-lucent 0.1.8.

Claim: at most 60 seconds for one image a filter, 240 with four seeds and verdicts; at least 100 times as fast a
filter as torch-lucent with its default number of steps, to a legal activation that is higher for most of them.

Give a trained run with --run NAME (in $CONVSCOPE_RUNS); without one the network is random, which costs the same but
says less. The peer needs `pip install --group bench-lucent`; without it only our own seconds are measured. Its
images are scored as ours are: at 32 x 32 pixels, rounded to 8 bits, through the network's own preprocess.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import time
import warnings

import numpy as np
import torch
import torch.nn.functional as F
from paired import tell

from convscope.classifying.prediction import logits
from convscope.datasets.registry import load_dataset
from convscope.errors import ConvscopeError
from convscope.evaluation.opening import open_classifier
from convscope.explanation.cards import verdicts
from convscope.explanation.exemplars import exemplars, highest
from convscope.explanation.layers import find_layers
from convscope.explanation.maximize import maximize
from convscope.explanation.objectives import logit, neuron
from convscope.explanation.presets import palette, total_variation
from convscope.images.preprocess import Preprocess, to_tensor
from convscope.models.registry import build
from convscope.models.taps import reach

ALL, ALL_FOUR, TARGET = 60.0, 240.0, 100.0
STEPS, QUICK = 512, 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="16 of the peer's 512 steps, scaled up")
    parser.add_argument("--run", help="a trained run of alexnet")
    parser.add_argument("--second", help="a run with another seed: does it agree on the classes")
    parser.add_argument("--filters", type=int, default=8, help="of each layer, for the peer")
    options = parser.parse_args()
    network, preprocess, data = subject(options.run)
    layers = find_layers(network, torch.zeros(1, 3, 32, 32))
    colours = palette(data.images[data.subset("train", 1_000)])
    ours, ours_values, inside = climb(network, preprocess, layers, colours, seeds=1)
    agreed, classes_inside = classes(network, options.second, preprocess, colours, len(data.class_names))
    found = exemplars(network, data.images, preprocess, layers, data.subset("train"))
    four, beaten, n = with_verdicts(network, preprocess, layers, colours, found)
    chosen = [(layer, k) for layer in layers for k in range(0, layer.filters, layer.filters // options.filters)]
    peers = {}
    if installed():  # at its own size, 224 pixels, one filter a layer: a minute each
        for size, some in ((32, chosen), (None, chosen[:: options.filters])):
            peers[size] = lucent(network, preprocess, some, size, options.quick)
    a_filter = ours / sum(layer.filters for layer in layers)
    ratios = np.array([seconds / a_filter for seconds, _ in peers[32]]) if peers else np.array([np.nan])
    reached = [ours_values[layer.name][k] for layer, k in chosen]
    result = {
        "ratio": float(np.median(ratios)) if peers else None,
        "low": float(np.min(ratios)) if peers else ours,
        "high": float(np.max(ratios)) if peers else ours,
        "ours": a_filter,
        "peer": float(np.median([s for s, _ in peers[32]])) if peers else None,
        "unit": "seconds a filter, ours amortised; ratio: the peer's default steps at 32 px; low and high: least, most",
        "better": "higher",
        "target": TARGET,
        "all_filters_seconds": ours,
        "four_seeds_and_verdicts_seconds": four,
        "beat_best_real": beaten,
        "variation_in_range": inside,
        "class_images_right_in_second_net": agreed,
        "class_images_variation_in_range": classes_inside,
        "filters": n,
        "peer_seconds_at_its_own_size": float(np.median([s for s, _ in peers[None]])) if peers else None,
        "reached_by_ours": [float(v) for v in reached],
        "reached_by_peer_at_32": [v for _, v in peers[32]] if peers else None,
        "reached_by_peer_at_its_own_size": [v for _, v in peers[None]] if peers else None,
        "steps_of_peer": QUICK if options.quick else STEPS,
        "trained": options.run is not None,
    }
    tell(result, options.json)


def subject(run: str | None):
    """The network, its preprocess and the images."""
    try:
        data = load_dataset("cifar10")
    except ConvscopeError:
        data = load_dataset("shapes")
    if run is None:
        network = build("alexnet", len(data.class_names), 32, seed=0).eval().to(memory_format=torch.channels_last)
        return network, data.preprocess, data
    classifier, _ = open_classifier(run)
    return classifier.network, classifier.preprocess, data


def climb(network, preprocess: Preprocess, layers, colours, seeds: int):
    """Seconds for one image of every filter, and what each reaches as a legal image."""
    values, inside, start = {}, {}, time.perf_counter()
    for layer in layers:
        objectives = [neuron(layer, k) for k in range(layer.filters)]
        images = maximize(network, objectives, preprocess, colours).images
        values[layer.name] = score(network, preprocess, layer, images).diagonal()
        inside[layer.name] = in_range(images, colours)
    return time.perf_counter() - start, values, inside


def in_range(images: np.ndarray, colours) -> float:
    """The share of images whose total variation lies between the 5 and the 95 % point of real ones."""
    variation = total_variation(to_tensor(images).float() / 255)
    low, _, high = colours.variation
    return float(((variation >= low) & (variation <= high)).float().mean())


def classes(network, second: str | None, preprocess: Preprocess, colours, n: int):
    """Of how many classes a second network takes the class image for that class, and the share within range."""
    made = maximize(network, [logit(n, k) for k in range(n)], preprocess, colours).images
    if second is None:
        return None, in_range(made, colours)
    other, _ = open_classifier(second)
    answers = logits(other.network, made, other.preprocess).argmax(1)
    return int((answers == torch.arange(n)).sum()), in_range(made, colours)


def with_verdicts(network, preprocess: Preprocess, layers, colours, found):
    """Seconds for four seeds of every filter with its verdict; how many beat the best real image, and of how many."""
    beaten, n, start = 0, 0, time.perf_counter()
    for layer, exemplar in zip(layers, found, strict=True):
        filters = list(range(layer.filters))
        climbed = [
            maximize(network, [neuron(layer, k) for k in filters], preprocess, colours, seed=seed) for seed in range(4)
        ]
        answers = torch.stack([score(network, preprocess, layer, m.images) for m in climbed])
        gains = torch.stack([m.gains for m in climbed])
        said = verdicts(exemplar, answers, torch.zeros(layer.filters), gains, filters)
        beaten += sum((v.ratio or 0) > 1 for v in said)
        n += len(said)
    return time.perf_counter() - start, beaten, n


def score(network, preprocess: Preprocess, layer, images_NHWC: np.ndarray) -> torch.Tensor:
    """The highest value of each filter in legal images: (N, C)."""
    with torch.inference_mode():
        blocks = to_tensor(images_NHWC).split(64)
        return torch.cat([highest(reach(network, preprocess.normalise(b), [layer.tap])[0]) for b in blocks])


def installed() -> bool:
    return importlib.util.find_spec("lucent") is not None


def lucent(network, preprocess: Preprocess, chosen, size: int | None, quick: bool) -> list[tuple[float, float]]:
    """The peer's seconds for each filter by its default steps, and the legal activation at 32 px that it reached."""
    render = importlib.import_module("lucent.optvis.render")  # by name: type checks do without it
    steps, found = QUICK if quick else STEPS, []
    sized = {} if size is None else {"fixed_image_size": size}
    for layer, k in chosen:
        start = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of the fully connected layers that its images do not fit
            images = render.render_vis(
                network, f"{layer.tap.module}:{k}", thresholds=(steps,), show_image=False, progress=False, **sized
            )
        seconds = (time.perf_counter() - start) * STEPS / steps
        for module in network.modules():  # its hooks stay behind
            module._forward_hooks.clear()
        small = F.interpolate(torch.from_numpy(images[-1]).permute(0, 3, 1, 2), (32, 32), mode="area")
        legal = (255 * small).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
        found.append((seconds, float(score(network, preprocess, layer, legal)[0, k])))
    return found


if __name__ == "__main__":
    main()
