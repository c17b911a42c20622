"""What `explain` wrote about a network, as the page shows it: layers, their filters, and the card of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..classifying.classifier import FILE_NAME
from ..errors import DamagedFile, UnknownName
from ..explanation.card_store import LAST
from ..explanation.layers import layer_file
from ..explanation.report import CELLS
from ..images.decoding import decoded
from ..reading import open_regular
from ..storage import sha256
from ..training.kept_epochs import kept_epochs
from ..training.runs import Run
from .answers import answer_folder
from .left_out import left_out
from .served import Served

SHOWN = 8  # small images of a strip
MOST_BYTES = 64 * 2**20  # of a sheet
SORTS = {
    "filter": "number",
    "missed": "most missed when silent",
    "firing": "fires most often",
    "purity": "most of one class",
    "simple": "simplest rule",
}
OWN = (
    "network",
    "ask",
    "gradients",
    "epochs",
    "transfer",
    "mistakes",
    "worst",
    "drawing",
    "asked",
    "strip",
    "step",
)  # pages of a run that are no layers


def address(file: str) -> str:
    """A layer's part of an address: its file's name, told apart from the run's other pages."""
    return f"layer-{file}" if file in OWN or file.startswith("layer-") else file


def layers_of(served: Served, run: Run) -> list[dict[str, Any]]:
    """The layers of a run that were explained, in the network's order, without their cards."""
    folder = answer_folder(run, "explain", LAST)
    rows: list[dict[str, Any]] = []
    with left_out(folder / LAST, KeyError, TypeError):
        rows = [dict(row) for row in served.json.read(folder / LAST)["layers"]]
    listed = {layer_file(row["layer"]) for row in rows}
    for path in sorted(folder.glob("*.json")):  # those of an explanation that is not over
        if path.stem not in listed and path.name not in (LAST, "probes.json"):
            with left_out(path):
                box = served.json.read(path)
                if "cards" in box:
                    rows.append({key: v for key, v in box.items() if key not in ("cards", "cells", "key", "seal")})
    there: list[dict[str, Any]] = [
        {**row, "file": layer_file(row["layer"]), "address": address(layer_file(row["layer"]))} for row in rows
    ]
    there = [row for row in there if (folder / f"{row['file']}.json").exists()]
    return [{**row, "only": _numbers(served, folder / f"{row['file']}.json", row["filters"])} for row in there]


def _numbers(served: Served, path: Path, filters: int) -> list[int] | None:
    """The filters of a layer that have cards; None where all have."""
    with left_out(path, KeyError, TypeError):
        numbers = [card["filter"] for card in served.json.read(path)["cards"]]
        return numbers if len(numbers) < filters else None
    return []


def _layer(served: Served, run: str, layer: str) -> tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]]]:
    """A layer as it was written: (what concerns it as a whole, its cards, all layers)."""
    found = served.run(run)
    layers = layers_of(served, found)
    about = next((row for row in layers if row["address"] == layer), None)
    if about is None:
        raise UnknownName("explained layer", layer, [row["address"] for row in layers])
    folder = answer_folder(found, "explain", LAST)
    box = served.json.read(folder / f"{about['file']}.json")
    where = {
        "transfer": (found.folder / "transfer").is_dir(),
        "place": folder.relative_to(found.folder).as_posix(),
        "cells": box.get("cells"),
    }
    return {**about, **where}, box["cards"], layers


def layer_page(served: Served, run: str, layer: str, sort: str = "filter", find: str = "") -> dict[str, Any]:
    """The filters of a layer, those whose words hold what is to ``find``, sorted by one of SORTS."""
    about, cards, layers = _layer(served, run, layer)
    sort = sort if sort in SORTS else "filter"
    words = find.lower().split()
    rows = []
    for row, card in enumerate(cards):
        said = " ".join(card["sentences"])
        if all(word in said.lower() for word in words):
            rows.append(_brief(card) | {"row": row})
    kept: dict[int, Path] = {}
    with left_out(served.run(run).folder / FILE_NAME):
        kept = kept_epochs(served.run(run))
    rows.sort(key=lambda r: (r[sort] is None, -r[sort] if r[sort] is not None and sort != "filter" else r["filter"]))
    return {
        "run": run,
        "about": about,
        "layers": layers,
        "filters": rows,
        "of": len(cards),
        "kept": len(kept),
        "sort": sort,
        "find": find,
        "sorts": SORTS,
    }


def _brief(card: dict[str, Any]) -> dict[str, Any]:
    """What the grid of a layer shows of a filter, and sorts by."""
    classes, usage, rule = card["classes"], card["usage"], card["rule"]
    top = classes[0] if classes else None
    return {
        "filter": card["filter"],
        "dead": card["dead"],
        "firing": card["firing"],
        "purity": None if top is None else top["count"] / top["of"],
        "class": None if top is None else top["name"],
        "missed": None if usage is None else usage["broken"] - usage["mended"],
        "simple": None if rule is None else rule["auroc"],
        "words": card["sentences"][0],
    }


def filter_page(served: Served, run: str, layer: str, number: str) -> dict[str, Any]:
    """The card of one filter, with those before and after it."""
    about, cards, layers = _layer(served, run, layer)
    row = next((i for i, card in enumerate(cards) if str(card["filter"]) == number), None)
    if row is None:
        raise UnknownName(f"filter of {about['layer']}", number, [str(card["filter"]) for card in cards])
    addresses = {found["layer"]: found["address"] for found in layers}
    carded = {found["layer"]: found["only"] for found in layers}  # None where all its filters have cards
    numbers = [card["filter"] for card in cards]
    return {
        "run": run,
        "about": about,
        "layers": layers,
        "card": cards[row],
        "row": row,
        "before": numbers[row - 1] if row else None,
        "after": numbers[row + 1] if row + 1 < len(numbers) else None,
        "addresses": addresses,
        "carded": carded,
    }


def strip_of(served: Served, run: str, layer: str, number: str) -> np.ndarray:
    """What stands on a filter's card in its first row: maximized images, then crops of exemplars; uint8 (h, w, 3)."""
    about, cards, _ = _layer(served, run, layer)
    row = next((i for i, card in enumerate(cards) if str(card["filter"]) == number), None)
    cells = about["cells"]
    if row is None or cells is None:
        raise UnknownName(f"filter of {about['layer']}", number, [str(card["filter"]) for card in cards])
    number = 1 + row // cells["block"]
    path = served.run(run).folder / about["place"] / CELLS / f"{about['file']}-{number}.jpg"
    with open_regular(path) as file:
        data = file.read(MOST_BYTES)
    if "sha256" in cells and sha256(data) != cells["sha256"][number]:
        raise DamagedFile(f"{path} is damaged: it is not what was drawn.")
    with decoded(data, where=str(path)) as sheet:
        side = sheet.width // cells["columns"]
        top = row % cells["block"] * cells["strips"] * side
        return np.array(sheet.crop((0, top, side * min(cells["columns"], SHOWN), top + side)))
