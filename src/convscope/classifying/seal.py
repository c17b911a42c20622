"""The parity seal: generated images and their logits, which show that an exported network still answers the same."""

from __future__ import annotations

import numpy as np

from ..errors import DamagedFile
from ..models.box_network import scored_boxes
from .classifier import Classifier
from .prediction import logits

SEALED = 16  # generated images whose logits are kept
PLACES = 16  # of the rows and columns of a mask that are sealed
BOXES = 64  # of the places that each tell a box
TOLERANCE = 1e-4  # of the largest logit, or of 1


def seal_images(size: int) -> np.ndarray:
    """Generated images, uint8 (16, S, S, 3), by integers alone: 4 ramps, 4 checkerboards, 4 blends, 4 of noise."""
    y, x, c = np.meshgrid(*(np.arange(n, dtype=np.int64) for n in (size, size, 3)), indexing="ij")
    images = []
    for n in range(4):
        ramp = (x * (n + 1) + y * (4 - n) + 60 * c) * 255 // (8 * size)
        checks = ((x >> (n + 1)) + (y >> (n + 1)) + c) % 2 * 255
        noise = ((x * 73856093) ^ (y * 19349663) ^ ((c + 3 * n + 1) * 83492791)) * 2654435761 % 2**32 >> 24
        images += [ramp % 256, checks, (ramp % 256 + noise) // 2, noise]
    return np.stack(images).astype(np.uint8)


def sealed_logits(classifier: Classifier) -> np.ndarray:
    """What is sealed of the logits of the generated images; of boxes, of their scores and corners."""
    size = classifier.preprocess.size
    outputs = logits(classifier.network, seal_images(size), classifier.preprocess)
    told = scored_boxes(outputs) if classifier.task == "detection" else outputs
    return sealed_part(told.double().numpy(), size)


def sealed_part(outputs: np.ndarray, size: int) -> np.ndarray:
    """What of outputs is sealed: all, or of maps (N, K, S, S) PLACES of their rows and columns.

    Of boxes (N, L, K + 4) BOXES places, or up to twice as many. Their corners are divided by the ``size`` of the
    network's square, so that one tolerance is right for them and for scores.
    """
    if outputs.ndim == 3:
        step = max(1, outputs.shape[1] // BOXES)
        return outputs[:, step // 2 :: step] / np.array([1.0] * (outputs.shape[2] - 4) + [size] * 4)
    if outputs.ndim != 4:
        return outputs
    step = max(1, outputs.shape[-1] // PLACES)
    return outputs[:, :, step // 2 :: step, step // 2 :: step]


def allowed_difference(wanted: np.ndarray) -> float:
    return TOLERANCE * max(1.0, float(np.abs(wanted).max()))


def check_seal(classifier: Classifier) -> float | None:
    """Compute the sealed logits again: the largest difference, None where there is no seal. DamagedFile if it is off.

    Another device, or another version of torch, stays within the tolerance; another network does not.
    """
    seal = classifier.provenance.get("seal")
    if seal is None:
        return None
    wanted, found = np.array(seal["logits"]), sealed_logits(classifier)
    if wanted.shape != found.shape:
        raise DamagedFile(f"the sealed logits are {wanted.shape} numbers, and this network's are {found.shape}.")
    difference = float(np.abs(found - wanted).max())
    if not difference <= allowed_difference(wanted):
        raise DamagedFile(
            f"the network answers the {SEALED} sealed images otherwise than when it was exported, by "
            f"{difference:.2g}: it is not the same network, or not computed the same."
        )
    return difference
