"""Refusing what is of no class: `predict --unknown` against a threshold on the largest probability, which people use.

Both keep the same share of a run's validation images. Asked about are images of noise, photographs of flowers (the
folder given), which no class of CIFAR-10 is, and the run's own test images, which should be kept.

Claim: noise is refused at least 99 times of 100, and flowers at least as often as by the largest probability (paired,
McNemar's test). `unknown.py RUN FLOWERS`; the ratio is of flowers refused.
"""

from __future__ import annotations

import argparse

import numpy as np
from paired import tell, this_machine

from convscope.classifying.intervals import paired_test, wilson
from convscope.classifying.known import looking, refuses
from convscope.classifying.prediction import logits
from convscope.datasets.registry import load_dataset
from convscope.evaluation.knowing import find_known, noise_images
from convscope.training.runs import find_run, runs_folder

TARGET = 1.0
NOISE = 0.99
TEST = 2000  # images


def refused(run: str, flowers: str, coverage: float) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """By kind of images, which of them we refuse, bool (N,), and which the largest probability refuses."""
    classifier = find_run(run, runs_folder(None)).classifier()
    preprocess = classifier.preprocess
    own = load_dataset(classifier.provenance["recipe"]["data"]["name"], preprocess=preprocess)
    others = load_dataset(flowers, preprocess=preprocess)
    known, _ = find_known(classifier, own, None)

    def asked(images: np.ndarray, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(N,) familiarity of images and their largest probability."""
        with looking(classifier.network, preprocess.size) as looks:
            scores = logits(classifier.network, images, preprocess, index)
        energies, edges, _ = looks.every(1)
        return known.familiarity(energies, edges), scores.double().softmax(1).max(1).values.numpy()

    _, sure = asked(own.images, own.subset("val", 2000))
    least = np.quantile(sure, 1 - coverage)
    noise = noise_images(preprocess.size)
    kinds = {
        "noise": (noise, np.arange(len(noise))),
        "flowers": (others.images, np.arange(len(others))),
        "test": (own.images, own.subset("test", TEST)),
    }
    found = {}
    for name, (images, index) in kinds.items():
        familiar, largest = asked(images, index)
        found[name] = np.array([refuses(share, coverage) for share in familiar]), largest < least
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", help="a finished run of CIFAR-10")
    parser.add_argument("flowers", help="a folder of images that are of no class")
    parser.add_argument("--coverage", type=float, default=0.95)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    counts = refused(options.run, options.flowers, options.coverage)
    test = paired_test(*counts["flowers"])
    shares = {
        f"{name}_{who}": vars(wilson(int(row.sum()), len(row)))
        for name, rows in counts.items()
        for who, row in zip(("ours", "peer"), rows, strict=True)
    }
    ours, peer = (float(row.mean()) for row in counts["flowers"])
    result = {
        "ratio": ours / peer,
        "low": (peer + test.low) / peer,
        "high": (peer + test.high) / peer,
        "ours": ours,
        "peer": peer,
        "unit": f"share of {test.n} photographs refused, {100 * options.coverage:g} % of validation images kept",
        "better": "higher",
        "target": TARGET,
        "p": test.p,
        "noise_target": NOISE,
        "refused": shares,
        **this_machine(),
    }
    tell(result, options.json)


if __name__ == "__main__":
    main()
