"""Cards: all that is known of one filter, and of a layer of them, put together from what the other modules found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..datasets.dataset import Dataset
from .ablation import Ablated
from .crops import Box, Crops, cut
from .descriptions import ClassShare, FirstLayer, Rule
from .exemplars import Exemplars
from .layers import Layer
from .maximize import LEAST_GAIN

TWINS, PARTS, FED = 3, 5, 3  # how many are named on a card
DUPLICATE = 0.95  # correlation from which on two filters are one
AGREEING = 0.6  # correlation of answers from which on two images show the same (docs/log.md has how it was set)
STILL_GAINING = 5 * LEAST_GAIN  # a block: an image that gains more when its steps are over has not arrived


@dataclass(frozen=True)
class Exemplar:
    """One exemplar: the image's index in the dataset, where it came from, its class, and what it reached where.

    ``box`` is the crop (top, left, bottom, right) in pixels that the filter sees there; it may reach beyond the border.
    """

    index: int
    origin: str
    label: str
    value: float
    place: tuple[int, int]
    box: Box


@dataclass(frozen=True)
class BuiltFrom:
    """A filter of the layer below that a filter is built from, with its signed weight."""

    layer: str
    channel: int
    weight: float


@dataclass(frozen=True)
class Belief:
    """Whether to believe an activation maximization.

    ``reached`` is what its best legal image reaches, ``best_real`` the best place of all images seen and ``noise``
    the best of noise; ``ratio`` is reached over best_real, None where best_real is not above 0. ``agree`` counts the
    seeds whose images show the same as the best one. ``words`` is the verdict.
    """

    reached: float
    best_real: float
    noise: float
    ratio: float | None
    seeds: int
    agree: int
    words: str


@dataclass(frozen=True)
class Usage:
    """What a filter is for, on ``images`` validation images: answers broken and mended when it is silent.

    ``recall_lost`` names the classes that lose most, ``feeds`` the logits that it raises and lowers on the mean.
    """

    images: int
    accuracy_lost: float
    broken: int
    mended: int
    recall_lost: tuple[tuple[str, float], ...]
    feeds: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Card:
    """All that is known of one filter; None, or empty, for what was not asked for."""

    layer: str
    filter: int
    dead: bool
    firing: float
    exemplars: tuple[Exemplar, ...]
    least: tuple[Exemplar, ...] = ()
    classes: tuple[ClassShare, ...] = ()
    colours: tuple[tuple[str, float], ...] = ()
    rule: Rule | None = None
    weights: FirstLayer | None = None
    built_from: tuple[BuiltFrom, ...] = ()
    twins: tuple[tuple[int, float], ...] = ()
    usage: Usage | None = None
    maximized: Belief | None = None

    def sentences(self) -> list[str]:
        """The card in words."""
        if self.dead:
            return ["Dead: it was never above 0 on any of the images."]
        said = self._answers_to()
        if self.colours:
            said.append("Colours: " + ", ".join(f"{name} {100 * share:.0f} %" for name, share in self.colours) + ".")
        said.append(f"It is above 0 at {100 * self.firing:.1f} % of all places of all images.")
        if self.maximized is not None:
            said.append(f"Gradient ascent: {self.maximized.words}.")
        if self.usage is not None:
            said += _usage_sentences(self.usage)
        if self.twins and self.twins[0][1] >= DUPLICATE:
            twin, alike = self.twins[0]
            said.append(f"Does the same as filter {twin}: their answers correlate by {alike:.2f}.")
        return said

    def _answers_to(self) -> list[str]:
        said, top = [], self.classes[0] if self.classes else None
        mostly = top is not None and top.count > 1 and top.lift >= 2
        if self.rule is not None and self.rule.kind != "none":
            said.append(f"Answers to: {self.rule.words} (AUROC {self.rule.auroc:.2f} on held-out images).")
        if top is not None and mostly:
            share = f"{top.count} of its {top.of} exemplars are {top.name}"
            said.append(f"{share}, {top.lift:.1f} times as many as by chance.")
        if self.rule is not None and self.rule.kind == "none":
            told = f"AUROC {self.rule.auroc:.2f} on held-out images, where 0.5 is guessing"
            said.append(f"No simple words fit what excites it: the best reach {told}.")
        if self.weights is not None:
            said.append(f"By its weights: {self.weights.words}.")
        if top is not None and not mostly:
            said.append(f"Its exemplars are of {len(self.classes)} classes.")
        return said

    def to_json(self) -> dict[str, Any]:
        """The stable JSON form."""
        return {**asdict(self), "sentences": self.sentences()}


def _usage_sentences(usage: Usage) -> list[str]:
    changes = f"{usage.broken} of {usage.images:,} answers become wrong and {usage.mended} right"
    silent = f"With this filter set to 0, {changes}."
    raised, lowered = (
        " and ".join(f"{name} by {abs(v):.2f}" for name, v in usage.feeds if sign * v >= 0.005) for sign in (1, -1)
    )
    pushed = [f"{verb} {names}" for verb, names in (("raises", raised), ("lowers", lowered)) if names]
    return [silent, f"On the mean it {', and '.join(pushed)} (logits)."] if pushed else [silent]


@dataclass(frozen=True)
class LayerCards:
    """The cards of a layer, and what concerns it as a whole. ``images`` were seen of ``of``: less while it goes on.

    ``field`` and ``effective_field`` are in pixels, None where they cannot be followed or were not measured.
    ``maximized`` uint8 (C, seeds, S, S, 3) holds the images, with ``box`` the part that the filter sees, and
    ``filters`` the first-layer filters as images uint8 (C, h, w, 3); None where there are none. ``crops`` are those of
    each card, until the layer's page is written: kept for good those of large images would fill the memory.
    """

    layer: Layer
    cards: tuple[Card, ...]
    images: int
    of: int
    effective_field: int | None = None
    maximized: np.ndarray | None = None
    box: Box | None = None
    filters: np.ndarray | None = None
    crops: tuple[Crops, ...] | None = None

    @property
    def dead(self) -> tuple[int, ...]:
        """The filters that never fired."""
        return tuple(card.filter for card in self.cards if card.dead)

    @property
    def duplicates(self) -> tuple[tuple[int, int], ...]:
        """Pairs of living filters whose answers are the same but for scale."""
        shown = {card.filter for card in self.cards}
        pairs = [(c.filter, k) for c in self.cards for k, r in c.twins if r >= DUPLICATE]
        return tuple(sorted({(min(p), max(p)) for p in pairs if p[1] in shown}))

    @property
    def unbelieved(self) -> tuple[int, ...]:
        """The filters whose maximization stays below the best real image."""
        return tuple(
            c.filter for c in self.cards if c.maximized is not None and (c.maximized.ratio or 0) <= 1 and not c.dead
        )

    def summary(self) -> dict[str, Any]:
        """The layer's own figures as JSON values."""
        ratios = [c.maximized.ratio for c in self.cards if c.maximized is not None and c.maximized.ratio is not None]
        used = [c for c in self.cards if c.usage is not None]
        worst = max(used, key=lambda c: c.usage.accuracy_lost if c.usage else 0.0, default=None)
        return {
            "layer": self.layer.name,
            "filters": self.layer.filters,
            "places": list(self.layer.places),
            "field": None if self.layer.field is None else list(self.layer.field.size),
            "effective_field": self.effective_field,
            "images": self.images,
            "of": self.of,
            "dead": list(self.dead),
            "duplicates": [list(pair) for pair in self.duplicates],
            "nothing_simple": [c.filter for c in self.cards if c.rule is not None and c.rule.kind == "none"],
            "unbelieved": list(self.unbelieved),
            "median_ratio": float(np.median(ratios)) if ratios else None,
            "most_used": worst.filter if worst is not None else None,
            "most_lost": worst.usage.accuracy_lost if worst is not None and worst.usage is not None else None,
        }

    def to_json(self) -> dict[str, Any]:
        """The stable JSON form."""
        return {**self.summary(), "cards": [card.to_json() for card in self.cards]}


@dataclass(frozen=True)
class ClassImages:
    """A maximized image of every class, uint8 (K, S, S, 3), and the probability that the network gives it."""

    images: np.ndarray
    probabilities: tuple[float, ...]


def crops_of(dataset: Dataset, exemplars: Sequence[Exemplar]) -> Crops:
    """Cut out of each exemplar what the filter sees there."""
    return tuple(cut(np.asarray(dataset.images[e.index]), e.box) for e in exemplars)


def verdicts(
    found: Exemplars, answers_SCC: Tensor, noise_C: Tensor, gains_SC: Tensor, filters: Sequence[int]
) -> list[Belief]:
    """Tell whether to believe each of the maximized images of a layer.

    ``answers_SCC`` (seeds, images, C) is what the clean legal image of each seed and filter makes every filter of
    the layer reach, ``noise_C`` the most that noise reached, and ``gains_SC`` the last gains; ``filters`` names the
    images. Two images agree when the answers of all filters to them, each standardised over all images here,
    correlate by 0.6 or more.
    """
    seeds = len(answers_SCC)
    flat = answers_SCC.flatten(0, 1).double()
    standard = ((answers_SCC.double() - flat.mean(0)) / flat.std(0, correction=0).clamp(min=1e-12)).nan_to_num(0)
    said = []
    for row, k in enumerate(filters):
        reached = answers_SCC[:, row, k]
        best = int(reached.argmax())
        alike = [best == s or _correlation(standard[s, row], standard[best, row]) >= AGREEING for s in range(seeds)]
        best_real = float(found.values[k, 0])
        ratio = float(reached[best]) / best_real if best_real > 0 else None
        agree = int(sum(alike))
        noise = float(noise_C[k]) / best_real if best_real > 0 else None
        words = _verdict_words(ratio, noise, bool(gains_SC[best, row] > STILL_GAINING), seeds, agree)
        said.append(Belief(float(reached[best]), best_real, float(noise_C[k]), ratio, seeds, agree, words))
    return said


def _correlation(a: Tensor, b: Tensor) -> float:
    if len(a) < 3:  # too few filters to tell patterns apart
        return 1.0
    return float(torch.corrcoef(torch.stack([a, b]))[0, 1].nan_to_num(1.0))


def _verdict_words(ratio: float | None, noise: float | None, gaining: bool, seeds: int, agree: int) -> str:
    if ratio is None or noise is None:
        return "no real image fires it, so there is nothing to compare with"
    times = f"{ratio:.1f} times" if ratio > 1 else f"only {ratio:.2f} times"
    words = f"an image made to excite it reaches {times} the best real one"
    words += " (it did not converge)" if ratio <= 1 else ""
    words += f"; noise alone reaches {max(0.0, noise):.1f} times"
    words += f"; {agree} of {seeds} seeds agree" if seeds > 1 else ""
    return words + ("; it was still gaining" if gaining and ratio > 1 else "")


def usage_of(ablated: Ablated, row: int, class_names: Sequence[str]) -> Usage:
    """Tell what the ``row``-th of the silenced filters is for."""
    recall = ablated.recall_lost[row].nan_to_num(0)
    fallen = ablated.logit_lost[row]
    worst = [c for c in recall.argsort(descending=True)[:FED].tolist() if recall[c] > 0]
    fed = fallen.abs().argsort(descending=True)[:FED].tolist()
    return Usage(
        images=ablated.images,
        accuracy_lost=float(ablated.accuracy_lost[row]),
        broken=int(ablated.broken[row]),
        mended=int(ablated.mended[row]),
        recall_lost=tuple((class_names[c], float(recall[c])) for c in worst),
        feeds=tuple((class_names[c], float(fallen[c])) for c in fed),
    )


def twins_of(correlations_CC: Tensor, k: int) -> tuple[tuple[int, float], ...]:
    """The filters whose answers correlate most with those of filter ``k``: (filter, correlation)."""
    row = correlations_CC[k].clone()
    row[k] = -torch.inf
    best = row.topk(min(TWINS, len(row) - 1)).indices.tolist()
    return tuple((j, float(row[j])) for j in best)


def parts_of(weights_C: Tensor, below: str) -> tuple[BuiltFrom, ...]:
    """The channels with the largest weight, in either direction."""
    order = weights_C.abs().argsort(descending=True)[:PARTS].tolist()
    return tuple(BuiltFrom(below, j, float(weights_C[j])) for j in order)
