"""What `diagnose` and `transfer` found about a run, and what was seen of its training when that was watched."""

from __future__ import annotations

from typing import Any

from ..errors import DamagedFile
from ..training.runs import Run
from ..training.session import WATCHED
from ..training.watched import QUANTITIES, Watched
from .answers import answer_folder
from .explained import layers_of
from .left_out import left_out
from .run_view import head_of
from .served import Served

BY_STEPS = ("gradient", "weight_gradient", "update")  # of QUANTITIES, drawn by steps
MOST_LOOKS = 500  # drawn; of more every second, third, ... is
COLUMNS = 6  # of the table


def gradients_page(served: Served, run: str) -> dict[str, Any]:
    """The verdict, and the gradient from factor to factor at the start and now; what was watched, by steps."""
    folder = answer_folder(served.run(run), "diagnose", "diagnose.json")
    found: dict[str, Any] | None = None
    with left_out(folder / "diagnose.json"):
        found = served.json.read(folder / "diagnose.json")
    home = served.run(run).folder
    drawn = [p.relative_to(home).as_posix() for p in sorted(folder.glob("*.png"))]
    shown = {"found": found, "drawings": drawn, "layers": layers_of(served, served.run(run))}
    return {**head_of(served, run), **shown, **_by_steps(served.run(run))}


def _by_steps(run: Run) -> dict[str, Any]:
    """What was seen of the layers, by steps: ``steps`` from 1, and of each quantity the ``values`` of each layer."""
    path = run.folder / WATCHED
    nothing: dict[str, Any] = {"steps": [], "every": None, "quantities": {}, "columns": [], "unread": None}
    if not path.exists():
        return nothing
    try:
        seen = Watched.load(path)
    except DamagedFile as error:
        return {**nothing, "unread": str(error)}
    thin = slice(None, None, -(-len(seen.steps) // MOST_LOOKS) or 1)
    steps = (seen.steps[thin] + 1).tolist()
    found = {}
    for quantity in BY_STEPS:
        names, values = seen.of(quantity)
        rows = [{"layer": name, "values": values[thin, row].tolist()} for row, name in enumerate(names)]
        found[quantity] = {"means": QUANTITIES[quantity], "layers": rows}
    last = max(0, len(steps) - 1)
    columns = sorted({round(last * column / (COLUMNS - 1)) for column in range(COLUMNS)}) if steps else []
    return {**nothing, "steps": steps, "every": seen.every, "quantities": found, "columns": columns}


def transfer_page(served: Served, run: str) -> dict[str, Any]:
    """The ladder of rungs, the learning curve, and the filters that decide each class."""
    folder = served.run(run).folder / "transfer"
    found: dict[str, Any] | None = None
    with left_out(folder / "transfer.json"):
        found = served.json.read(folder / "transfer.json")
    drawn = [f"transfer/{p.name}" for p in sorted(folder.glob("*.png"))]
    explained = layers_of(served, served.run(run))
    rows = [_linked(row, explained) for row in (found or {}).get("filters", ())]
    return {**head_of(served, run), "found": found, "deciding": rows, "drawings": drawn, "layers": explained}


def _linked(row: dict[str, Any], layers: list[dict[str, Any]]) -> dict[str, Any]:
    """A class with its filters, and of those that have a card the address of their layer."""
    filters = row["filters"]
    if "layer" in row:  # of a transfer to classes, whose filters are all of one layer
        pairs = zip(row["filters"], row["shares"], strict=True)
        filters = [{"layer": row["layer"], "filter": k, "adds": adds} for k, adds in pairs]
    return {
        "name": row["name"],
        "by_absence": row["by_absence"],
        "filters": [{**one, "address": _address(one, layers)} for one in filters],
    }


def _address(one: dict[str, Any], layers: list[dict[str, Any]]) -> str | None:
    """The address of a filter's layer; None where it has no card."""
    layer = next((found for found in layers if found["layer"] == one["layer"]), None)
    return layer["address"] if layer and (layer["only"] is None or one["filter"] in layer["only"]) else None
