"""A layer after one epoch beside itself after another: its filters, and their maps of the same images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ..classifying.classifier import Classifier
from ..models.taps import evaluating, logits_in, record
from .looking import FILTERS, Probes, signed, weights_of


@dataclass(frozen=True)
class ThenAndNow:
    """The ``filters`` of a layer, ``of`` so many, that are most active now, then and now on the same images.

    ``then`` and ``now`` are int8 feature maps (filters, images, H, W) on one scale, whose 127 stands for ``largest``.
    ``kernels`` are uint8 (2, filters, h, w, 3), then and now on one scale around grey, of a layer that sees colours;
    None of others. ``moved`` is how far each filter's weights moved, over their norm then, and ``cosine`` how far they
    kept their direction. The answers are each image's likeliest class with its probability.
    """

    layer: str
    filters: tuple[int, ...]
    of: int
    then: np.ndarray
    now: np.ndarray
    largest: float
    kernels: np.ndarray | None
    moved: tuple[float, ...]
    cosine: tuple[float, ...]
    answers_then: tuple[tuple[str, float], ...]
    answers_now: tuple[tuple[str, float], ...]


def then_and_now(then: Classifier, now: Classifier, layer: str, probes: Probes) -> ThenAndNow:
    """Compare a layer of two classifiers of one network on the probe images, as in validation.

    UsageError or UnknownName for a layer without filters.
    """
    weights = [weights_of(classifier.network, layer).float() for classifier in (then, now)]
    maps, answers = zip(*(_passed(classifier, layer, probes) for classifier in (then, now)), strict=True)
    activity_F = maps[1].abs().mean((0, 2, 3))
    filters = sorted(activity_F.argsort(descending=True, stable=True)[:FILTERS].tolist())
    grid, largest = signed(torch.cat(maps), filters)
    before_FD, after_FD = (w[filters].flatten(1) for w in weights)
    tiny = torch.finfo(torch.float32).tiny
    moved_F = (after_FD - before_FD).norm(dim=1) / before_FD.norm(dim=1).clamp_min(tiny)
    return ThenAndNow(
        layer=layer,
        filters=tuple(filters),
        of=maps[1].shape[1],
        then=grid[:, : len(probes.labels)],
        now=grid[:, len(probes.labels) :],
        largest=largest,
        kernels=_kernels(*(w[filters] for w in weights)),
        moved=tuple(moved_F.tolist()),
        cosine=tuple(torch.cosine_similarity(before_FD, after_FD).tolist()),
        answers_then=answers[0],
        answers_now=answers[1],
    )


def _passed(classifier: Classifier, layer: str, probes: Probes) -> tuple[Tensor, tuple[tuple[str, float], ...]]:
    """The layer's feature maps (B, F, H, W) of the probe images, and the answers to them."""
    network: nn.Module = classifier.network
    with torch.inference_mode(), evaluating(network), record(network, [layer], clone=True) as seen:
        logits_BK = logits_in(network(probes.images))
    assert logits_BK is not None  # a classifier has some
    probabilities_B, guesses_B = logits_BK.float().softmax(1).max(1)
    named = zip(guesses_B.tolist(), probabilities_B.tolist(), strict=True)
    return seen.outputs[layer].float(), tuple((classifier.class_names[guess], p) for guess, p in named)


def _kernels(then_FCHW: Tensor, now_FCHW: Tensor) -> np.ndarray | None:
    """Filters of three colours as images: grey is 0, and the strongest weight of both is the end of the scale."""
    if then_FCHW.shape[1] != 3:
        return None
    both = torch.stack([then_FCHW, now_FCHW])
    scaled = both / both.abs().max().clamp_min(torch.finfo(torch.float32).tiny)
    return (127.5 + 127.5 * scaled).round().to(torch.uint8).permute(0, 1, 3, 4, 2).cpu().numpy()
