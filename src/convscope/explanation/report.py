"""What `explain` writes: a JSON file, a sheet of small images and a page for each layer, and what one image shows.

Reads results and computes nothing. Each page needs no other file; ``conv2.html#17`` is the card of a filter.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..canvas.figures import Drawing, drawn_names, in_words
from ..canvas.pages import page, uri
from ..canvas.sheets import image_grid, titles_of
from ..canvas.sprites import sprite
from ..datasets.dataset import Dataset
from ..errors import UnknownName, UsageError
from ..noted import Noted
from ..storage import commit_json, make_folder, read_json, sha256, write_derived
from . import drawing
from .cards import Card, ClassImages, LayerCards, crops_of
from .crops import Crops
from .drawing import CardRow, outlined
from .layers import Layer, layer_file
from .probe import Probes

OVERVIEW_FILTERS, OVERVIEW_LAYERS = 6, 8
OVERVIEW_EXEMPLARS = 6
SHOWN = 64  # px: side of a small image on a page
SMALLEST_CELL = 32  # px: in a sheet
BLOCK = 16  # filters whose small images are one file: a JPEG has at most 65,500 rows, and a reader decodes it whole
ACROSS = 32  # small images in a row of the file that shows two of each filter
CELLS = "cells"  # the folder of these files


@dataclass(frozen=True)
class CardReport:
    """One card; a notebook shows it as an image, and ``card`` holds every number."""

    card: Card
    row: CardRow

    @cached_property
    def drawing(self) -> Drawing:
        """The card's images and words."""
        return drawing.card_rows([self.row])

    def _repr_png_(self) -> bytes:
        return self.drawing.png


@dataclass(frozen=True)
class ExplainReport(Noted):
    """An explanation in ``folder``: the layers that were made by this call, and the ``summary`` of all that is there.

    A notebook shows six filters of each layer.
    """

    TOLD = ("run", "data", "seconds")
    folder: Path
    summary: dict[str, Any]
    layers: dict[str, LayerCards]
    dataset: Dataset
    probes: Probes | None = None
    classes: ClassImages | None = None
    again: Callable[[str], LayerCards] | None = field(default=None, repr=False, compare=False)

    def card(self, layer: str, k: int) -> CardReport:
        """The card of filter ``k`` of a layer; one that an earlier call has written is made again, as it was.

        UnknownName or UsageError where there is none.
        """
        if layer not in self.layers and self.again is not None and layer in self.summary["kept"]:
            self.layers[layer] = self.again(layer)
        if layer not in self.layers:
            raise UnknownName("layer among those explained here", layer, [*self.layers, *self.summary["kept"]])
        found = self.layers[layer]
        row = next((i for i, card in enumerate(found.cards) if card.filter == k), None)
        if row is None:
            numbers = [card.filter for card in found.cards]
            there = f"there is one of {', '.join(map(str, numbers[:8]))}{', ...' * (len(numbers) > 8)}"
            if len(numbers) == found.layer.filters:
                there = f"they go from 0 to {found.layer.filters - 1}"
            raise UsageError(f"{layer} has no card of filter {k} here: {there}.")
        return CardReport(found.cards[row], card_row(found, row, self.dataset))

    @property
    def overview(self) -> Drawing | None:
        """Six filters of each layer, those of earlier calls among them; None where there is no layer."""
        path = self.folder / "overview.png"
        return Drawing(path.read_bytes()) if path.exists() else None

    def _repr_png_(self) -> bytes | None:
        return self.overview.png if self.overview is not None else None


@dataclass(frozen=True)
class Heading:
    """What all pages of an explanation share: the ``name`` of what is explained, and all ``layers`` that it has.

    ``made`` names those that this call makes, ``classes`` are the network's, and ``key`` tells the files of this
    explanation from those of another.
    """

    name: str
    layers: tuple[Layer, ...]
    made: tuple[str, ...]
    classes: tuple[str, ...]
    key: str


# ---------------------------------------------------------------------------------------------------------- layers


def write_layer(found: LayerCards, dataset: Dataset, folder: Path, heading: Heading) -> None:
    """Write a layer's sheet of six, its page and, last, its JSON file."""
    cell = max(SMALLEST_CELL, min(SHOWN, dataset.preprocess.size))
    whole = _sees_a_part(found, dataset)
    rows = [strip for i in range(len(found.cards)) for strip in _strips(found, i, dataset, whole)]
    strips = len(rows) // len(found.cards)
    blocks = [rows[i : i + strips * BLOCK] for i in range(0, len(rows), strips * BLOCK)]
    columns = max(map(len, rows))
    sheets = [sprite(block, cell, columns) for block in blocks]
    leading = len(_leading(found, 0, crop=True))
    summary = found.summary()
    html = page(
        Path(__file__).with_name("layer.html"),
        names=[*dataset.class_names, *heading.classes],
        name=heading.name,
        data=dataset.name,
        summary=summary,
        cards=[card.to_json() for card in found.cards],
        others=[layer for layer in heading.layers if _has_page(layer, folder, heading)],
        sheets=[base64.b64encode(sheet).decode("ascii") for sheet in sheets],
        file_of=layer_file,
        heights=[len(block) for block in blocks],
        shown=SHOWN,
        columns=columns,
        strips=strips,
        leading=leading,
        lead=_lead_words(found),
        whole=whole,
    )
    cells = {"columns": columns, "strips": strips, "block": BLOCK, "across": ACROSS, "leading": leading}
    drawn = [_first_cells(rows[::strips], leading, cell), *sheets]
    cells |= {"lead": _lead_words(found), "whole": whole, "sha256": [sha256(sheet) for sheet in drawn]}
    make_folder(folder / CELLS)
    for number, sheet in enumerate(drawn):
        write_derived(folder / CELLS / f"{found.layer.file}-{number}.jpg", sheet)
    write_derived(folder / f"{found.layer.file}.png", most_missed(found, dataset).png)
    write_derived(folder / f"{found.layer.file}.html", html)
    commit_json(folder / f"{found.layer.file}.json", {"key": heading.key, **found.to_json(), "cells": cells})


def _first_cells(rows: Sequence[Sequence[np.ndarray | None]], leading: int, cell: int) -> bytes:
    """What a grid shows of each filter: the first of what stands before its exemplars, and the first of them."""
    shown = [*dict.fromkeys((0, leading))]
    firsts = [row[column] if column < len(row) else None for row in rows for column in shown]
    return sprite([firsts[i : i + ACROSS] for i in range(0, len(firsts), ACROSS)], cell, ACROSS)


def _has_page(layer: Layer, folder: Path, heading: Heading) -> bool:
    """Tell whether there is a page of a layer, or is about to be."""
    return layer.name in heading.made or (folder / f"{layer.file}.html").exists()


def _sees_a_part(found: LayerCards, dataset: Dataset) -> bool:
    """Tell whether a crop shows less than three quarters of the image's side, so that the whole image says more."""
    size = found.layer.field
    return size is not None and max(size.size) < 0.75 * dataset.preprocess.size


def _strips(found: LayerCards, i: int, dataset: Dataset, whole: bool) -> list[list[np.ndarray | None]]:
    """The rows of small images of a card: crops, whole images, and the least exciting."""
    card = found.cards[i]
    strips = [[*_leading(found, i, crop=True), *_crops(found, i, dataset)]]
    if whole:
        images = [outlined(np.asarray(dataset.images[e.index]), e.box) for e in card.exemplars]
        strips.append(_leading(found, i, crop=False) + images)
    if card.least:
        blank: list[np.ndarray | None] = [None] * len(_leading(found, i, crop=True))
        strips.append(blank + [np.asarray(dataset.images[e.index]) for e in card.least])
    return strips


def _leading(found: LayerCards, i: int, crop: bool) -> list[np.ndarray | None]:
    """Tell what stands before the exemplars: the maximized images, and a first layer's filter."""
    shown: list[np.ndarray | None] = []
    if found.maximized is not None and found.box is not None:
        top, left, bottom, right = found.box
        images = found.maximized[i]
        shown += [p[top:bottom, left:right] if crop else outlined(p, found.box) for p in images]
    if found.filters is not None:
        shown.append(found.filters[found.cards[i].filter] if crop else None)
    return shown


def _lead_words(found: LayerCards) -> str:
    words = []
    if found.maximized is not None:
        n = found.maximized.shape[1]
        words.append("the image that gradient ascent made" if n == 1 else f"the {n} images that gradient ascent made")
    if found.filters is not None:
        words.append("the filter itself")
    return ", and ".join(words)


def _crops(found: LayerCards, i: int, dataset: Dataset) -> Crops:
    return crops_of(dataset, found.cards[i].exemplars) if found.crops is None else found.crops[i]


def card_row(found: LayerCards, i: int, dataset: Dataset, exemplars: int = 9) -> CardRow:
    """A card as a row of a sheet."""
    card = found.cards[i]
    lead = [p for p in _leading(found, i, crop=True) if p is not None]
    crops = _crops(found, i, dataset)[:exemplars]
    groups = [lead, crops] if lead else [crops]
    return CardRow(f"{card.layer} {card.filter}", groups, in_words(card.sentences(), dataset.class_names))


def most_missed(found: LayerCards, dataset: Dataset, count: int = OVERVIEW_FILTERS) -> Drawing:
    """The filters of a layer that are missed most, the first of them first, with what is known of them."""
    missed = [-(c.usage.accuracy_lost if c.usage is not None else c.firing) + 10 * c.dead for c in found.cards]
    chosen = np.argsort(missed, kind="stable")[:count]
    rows = [card_row(found, int(i), dataset, OVERVIEW_EXEMPLARS) for i in chosen]
    lead = f"{_lead_words(found)}; then " if _lead_words(found) else ""
    return drawing.card_rows(rows, f"{found.layer.name}: {lead}the images that excite a filter most, and words")


def write_index(folder: Path, heading: Heading, report: ExplainReport) -> dict[str, Any]:
    """Write overview, probes, summary and the page that leads to the layers; returns the summary."""
    left_out: list[str] = []
    drawn = [folder / f"{layer.file}.png" for layer in heading.layers]
    sheets = [path for path in drawn if uri(path, left_out) is not None]
    some = sheets[:: max(1, -(-len(sheets) // OVERVIEW_LAYERS))]
    write_derived(folder / "overview.png", drawing.stacked([path.read_bytes() for path in some]).png)
    if report.probes is not None:
        found = report.probes
        chart = drawing.probes(
            [p.layer for p in found.probes],
            [(p.accuracy.value, p.accuracy.low, p.accuracy.high) for p in found.probes],
            np.stack([p.recall.numpy() for p in found.probes]),
            report.dataset.class_names,
        )
        write_derived(folder / "probes.png", chart.png)
        commit_json(folder / "probes.json", probes_json(found, report.dataset.class_names))
    if report.classes is not None:
        names, note = titles_of(heading.classes, range(len(heading.classes)))
        titles = [f"{n} {100 * p:.0f} %" for n, p in zip(names, report.classes.probabilities, strict=True)]
        words = "What gradient ascent makes of each class, and how sure the network is of it"
        write_derived(folder / "classes.png", image_grid(report.classes.images, titles, 5, words, note=note).png)
    summaries = [s for layer in heading.layers if (s := layer_summary(folder, layer.file)) is not None]
    html = page(
        Path(__file__).with_name("index.html"),
        file_of=layer_file,
        names=heading.classes,
        name=heading.name,
        data=report.dataset.name,
        notes=report.summary["notes"],
        layers=summaries,
        overview=uri(folder / "overview.png", left_out),
        classes=uri(folder / "classes.png", left_out),
        probes=uri(folder / "probes.png", left_out),
        left_out=left_out,
        numbers=drawn_names(heading.classes)[1],
    )
    write_derived(folder / "index.html", html)
    return {**report.summary, "layers": summaries}


def layer_summary(folder: Path, file: str) -> dict[str, Any] | None:
    """A layer's own figures, from its JSON file; None where there is none."""
    path = folder / f"{file}.json"
    if not path.exists():
        return None
    return {key: value for key, value in read_json(path).items() if key not in ("cards", "key", "cells")}


def probes_json(found: Probes, class_names: Sequence[str]) -> dict[str, Any]:
    """The probes as JSON values."""
    rows = [
        {
            "layer": p.layer,
            "accuracy": p.accuracy.value,
            "low": p.accuracy.low,
            "high": p.accuracy.high,
            "n": p.accuracy.n,
            "recall": [None if np.isnan(r) else r for r in p.recall.tolist()],
        }
        for p in found.probes
    ]
    return {"classes": list(class_names), "readable": list(found.readable), "layers": rows}
