"""What a classifier knows, found from the images it was trained on, and kept in its run."""

from __future__ import annotations

import math

import numpy as np
import torch

from ..classifying.classifier import Classifier
from ..classifying.known import Known, centre_and_precision, distances, looking
from ..classifying.prediction import logits
from ..datasets.dataset import Dataset
from ..errors import DamagedFile, DataError
from ..models.architecture import weights_hash
from ..models.taps import computing_by
from ..progress import Progress
from ..schemas import Schema, check_schema
from ..storage import FORMAT, check_format
from ..tensor_files import commit_tensors, read_tensors
from ..training.held_out import ALL_FAIR, FairAnswers
from ..training.runs import Run

KNOWN = "known.safetensors"
MOST = 2000  # training images, and validation images, that are looked at
NOISE = 200  # images of noise that are asked about
FEWEST = 20  # validation images


class KnownMeta(Schema):
    """What ``known.safetensors`` says of itself."""

    weights: str
    origins: list[str]
    labels: list[str]


def read_known(run: Run, classifier: Classifier) -> tuple[Known, np.ndarray] | None:
    """What is kept in a run, with the familiarity of images of noise; None where it is not there or of other weights.

    DamagedFile when it is not what was written.
    """
    path = run.folder / KNOWN
    if not path.exists():
        return None
    tensors, meta = read_tensors(path)
    check_format(path, meta.get("format"), "what a classifier knows")
    said = check_schema(KnownMeta, meta, path, "what a classifier knows")
    try:
        arrays = {name: tensors[name].numpy() for name in (*Known.ARRAYS, "noise")}
    except KeyError as error:
        raise DamagedFile(f"{path} is damaged: it lacks {error}.") from None
    noise = arrays.pop("noise")
    known = Known(**arrays, origins=tuple(said.origins), labels=tuple(said.labels))
    if not known.is_consistent():
        raise DamagedFile(f"{path} is damaged: its parts do not fit each other.")
    return (known, noise) if said.weights == weights_hash(classifier.network) else None


def write_known(run: Run, classifier: Classifier, known: Known, noise_N: np.ndarray) -> None:
    """Keep in its run what a classifier knows."""
    tensors = {name: torch.from_numpy(getattr(known, name)) for name in Known.ARRAYS}
    meta = {"format": FORMAT, "weights": weights_hash(classifier.network)}
    meta |= {"origins": list(known.origins), "labels": list(known.labels)}
    commit_tensors(run.folder / KNOWN, {**tensors, "noise": torch.from_numpy(noise_N)}, meta)


def find_known(
    classifier: Classifier, dataset: Dataset, progress: Progress | None, answers: FairAnswers = ALL_FAIR
) -> tuple[Known, np.ndarray]:
    """Look at training, validation and noise images, and tell what is known, and the familiarity of the noise (N,).

    A head that was trained on the validation images too is surer of them than of others: there ``answers`` were held
    out. DataError with fewer than 20 validation images.
    """
    val = _telling(dataset, answers)
    count = len(val)
    if count < FEWEST:
        enough = f", as about {math.ceil(len(dataset) * FEWEST / count):,} images would give" if count else ""
        raise DataError(
            f"{dataset.name} has {count} validation images (of {len(dataset):,} images in all), and to answer 'none of "
            f"these' takes {FEWEST} or more{enough}: they say how familiar an image usually is."
        )
    train = dataset.subset("train", MOST)
    _, edges, features = _looked(classifier, dataset.images, train, "looking at training images", progress)
    centre, precision = centre_and_precision(edges)
    energies, val_edges, _ = _looked(classifier, dataset.images, val, "looking at validation images", progress)
    energies = answers.energies(dataset.keys[val], energies)
    if not (np.isfinite(edges).all() and np.isfinite(energies).all()):
        raise DataError("the network's outputs are not all numbers, so nothing is familiar to it.")
    known = Known(
        energies,
        distances(val_edges, centre, precision),
        centre,
        precision,
        features,
        tuple(dataset.origins(int(i)) for i in train),
        tuple(dataset.class_names[dataset.labels[i]] for i in train),
    )
    noise = noise_images(classifier.preprocess.size)
    energies, edges, _ = _looked(classifier, noise, np.arange(len(noise)), "looking at noise", progress)
    return known, known.familiarity(energies, edges)


def _telling(dataset: Dataset, answers: FairAnswers) -> np.ndarray:
    """The images that tell how familiar one usually is: of the validation images those with fair answers, and where
    these are too few, all that have some."""
    index = dataset.subset("val", MOST) if len(dataset.parts["val"]) else dataset.parts["val"]
    fair = index[answers.are_fair(dataset.keys[index])]
    if len(fair) >= FEWEST or not len(answers.keys):
        return fair
    both = np.sort(np.concatenate([dataset.parts["train"], dataset.parts["val"]]))
    return both[np.isin(dataset.keys[both], answers.keys)][:MOST]


def noise_images(size: int) -> np.ndarray:
    """uint8 (200, S, S, 3): each pixel drawn by itself, evenly from all values or in a bell around grey."""
    generator = np.random.default_rng(0)
    even = generator.integers(0, 256, (NOISE // 2, size, size, 3), np.uint8)
    bell = generator.normal(128, 40, (NOISE // 2, size, size, 3)).clip(0, 255).astype(np.uint8)
    return np.concatenate([even, bell])


def _looked(
    classifier: Classifier, images: np.ndarray, index: np.ndarray, what: str, progress: Progress | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Energies, edges and features of images."""
    step = 250  # images between two words on how far it is
    with computing_by(classifier.faster()), looking(classifier.network, classifier.preprocess.size) as looks:
        for start in range(0, len(index), step):
            if progress is not None:
                progress(what, start, len(index))
            logits(classifier.network, images, classifier.preprocess, index[start : start + step])
    return looks.every(1)
