"""What is written of one image taken apart: evidence, maps, nearest images. Computes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..canvas.figures import Drawing, drawn_names, in_words
from ..canvas.sheets import NUMBERED
from ..datasets.dataset import Dataset
from ..noted import Noted
from ..storage import commit_json, write_derived
from . import drawing
from .attribution import Attribution
from .cards import LayerCards
from .drawing import CardRow
from .evidence import FilterEvidence
from .maps import FeatureMaps
from .report import card_row

TRAINING = "training images"
ANSWER = "image.json"
PUSHED = 8  # filters on the sheet of evidence
EXEMPLARS = 8  # of each


@dataclass(frozen=True)
class ImageReport(Noted):
    """One image taken apart, in ``folder``: evidence for an answer, where the network looks, what goes through."""

    TOLD = ("image", "target", "against", "lead", "layer")
    folder: Path
    summary: dict[str, Any]
    drawings: dict[str, Drawing] = field(default_factory=dict)

    def _repr_png_(self) -> bytes | None:
        return self.drawings["evidence"].png if "evidence" in self.drawings else None


# ----------------------------------------------------------------------------------------------------- one image


@dataclass(frozen=True)
class Taken:
    """What was found out about one image uint8 (S, S, 3): evidence, maps of each method, what goes through."""

    image: np.ndarray
    evidence: FilterEvidence
    attributions: dict[str, Attribution]
    maps: tuple[FeatureMaps, ...]
    nearest: Sequence[Mapping[str, Any]]
    cards: LayerCards | None
    among: str = TRAINING  # what the nearest images are of


def write_image(
    taken: Taken, dataset: Dataset | None, class_names: Sequence[str], folder: Path, summary: dict[str, Any]
) -> ImageReport:
    """Write what one image showed: evidence, where the network looks, the maps.

    The ``dataset`` is that of the nearest images and of the cards; None where there are neither.
    """
    names = list(class_names)
    target, against = names[taken.evidence.target], names[taken.evidence.against]
    drawings = {"evidence": _evidence_sheet(taken, dataset, target, against, names)}
    if taken.attributions:
        maps = [(method, a.map_HW.float().cpu().numpy()) for method, a in taken.attributions.items()]
        (heading,) = in_words([f"Where it looks for {target}"], names)
        drawings["looks"] = drawing.attributions(taken.image, maps, heading)
    rows = []
    for found in taken.maps:
        chosen = found.order[:PUSHED].tolist()
        rows.append((found.layer.name, chosen, found.maps[chosen].numpy(), found.firing))
    drawings["maps"] = drawing.map_summary(taken.image, rows)
    for name, image in drawings.items():
        write_derived(folder / f"{name}.png", image.png)
    for found in taken.maps:
        write_derived(folder / f"maps-{found.layer.file}.jpg", drawing.map_grid(found.maps.numpy()))
    commit_json(folder / ANSWER, summary)
    return ImageReport(folder, summary, drawings)


def _by_class(near: Sequence[Mapping[str, Any]]) -> str:
    """Tell how many of the nearest images are of each class, the most frequent first."""
    return ", ".join(f"{n} {name}" for name, n in Counter(row["label"] for row in near).most_common())


def _evidence_sheet(taken: Taken, dataset: Dataset | None, target: str, against: str, names: Sequence[str]) -> Drawing:
    found = taken.evidence
    cards = {} if taken.cards is None else {card.filter: i for i, card in enumerate(taken.cards.cards)}
    margin = found.margin
    near = [np.asarray(dataset.images[row["index"]]) for row in taken.nearest] if dataset is not None else []
    lead = [taken.image]
    lines = [
        f"{target} by {found.lead:.2f} over {against}; {'exact' if found.exact else 'approximate'}",
    ]
    if near:
        lines.append(f"then the {taken.among} most alike to the network: {_by_class(taken.nearest)}")
    rows = [CardRow("image", [lead, near], in_words(lines, names))]
    for k in found.strongest(PUSHED):
        share = f"{100 * float(margin[k]) / found.lead:+.0f} % of the lead" if found.lead else ""
        title = f"{'pushed' if margin[k] > 0 else 'pulled'} {float(margin[k]):+.2f}"
        groups: list[Sequence[np.ndarray]] = [[]]
        words = [f"filter {k} of {found.layer}, {share}"]
        if taken.cards is not None and dataset is not None and k in cards:
            row = card_row(taken.cards, cards[k], dataset, EXEMPLARS)
            groups, words = list(row.groups), words + list(row.lines[:2])
        rows.append(CardRow(title, groups, words))
    (heading,) = in_words([f"Why {target}: the filters that pushed and pulled, each by its exemplars"], names)
    return drawing.card_rows(rows, heading, note=NUMBERED if drawn_names(names)[1] else "")
