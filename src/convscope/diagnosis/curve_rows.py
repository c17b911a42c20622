"""A curve out of rows of named cells, as loggers write them: which columns, which rows, and in which order."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from numbers import Real
from pathlib import PurePath
from typing import Any

import numpy as np

from ..datasets.part_names import likely_part
from ..errors import UsageError
from ..visible import visible
from .curve_order import Numbered, in_order, newest_first
from .curves import Curve

# What loggers call a column, each in the order in which one is chosen; letters and digits alone are compared.
NAMES = {
    "step": ("step", "globalstep", "iteration", "iter", "batch", "update"),
    "epoch": ("epoch", "epochs", "ep"),
    "loss": ("trainloss", "lossstep", "trainlossstep", "trainingloss", "losstrain", "loss", "batchloss",
             "trainlossepoch", "epochloss"),
    "rate": ("lr", "learningrate", "trainlr", "rate", "optimizerlr", "lrsgd", "lradam", "lradamw"),
}  # fmt: skip
PARTS = ("split", "phase", "mode", "stage", "set", "subset", "part", "partition")  # of which data a row speaks
RUNS = ("run", "runid", "runname", "experiment", "seed", "trial", "fold", "rank")  # of which training
MOST = 50  # values of such a column: one with more says something else
MISSING = ("", "none", "null", "n/a", "-")
DEEP = 3  # boxes in one another in which a history is looked for

Row = Mapping[str, Any]


def rows_of(box: Any, deep: int = DEEP) -> list[Row]:
    """The rows in values such as JSON has: rows, a Trainer's state, losses in order, or a list of numbers a column."""
    if isinstance(box, (list, tuple)):
        if all(x is None or isinstance(x, Real) for x in box):
            return [{"loss": x} for x in box]
        return [row for row in box if isinstance(row, Mapping)]
    if not isinstance(box, Mapping) or not deep:
        return []
    if isinstance(box.get("log_history"), list):
        return rows_of(box["log_history"])
    lists = {name: row for name, cells in box.items() if (row := _in_a_row(cells)) is not None}
    if _known(lists):
        return [dict(zip(lists, cells, strict=True)) for cells in itertools.zip_longest(*lists.values())]
    if _known(name for name, cell in box.items() if isinstance(cell, (Real, str))):
        return [box]
    inner = {str(name): rows for name, cells in box.items() if any_losses(rows := rows_of(cells, deep - 1))}
    return inner[one_of(list(inner), "this history")[0]] if inner else []


def curve_of_rows(rows: Sequence[Row], name: str, notes: Sequence[str] = (), again: bool = False) -> Curve:
    """The curve in rows; where steps start anew, ``again`` says that a training has. UsageError if no column is a
    loss."""
    if not any(rows):
        raise UsageError(f"{name} holds no rows of numbers.")
    loss = _column(rows, "loss")
    if loss is None:
        known = ", ".join(sorted({visible(str(n)) for row in rows for n in row if n is not None})[:12])
        raise UsageError(f"{name} has no column of training losses, such as loss or train_loss; it has {known}.")
    rows, more = _of_one_training(rows, loss, name)
    losses = np.array([_loss(number(row.get(loss))) for row in rows])
    if np.isnan(losses).all():
        raise UsageError(f"{name} has no numbers in its column {visible(loss)}.")
    told = _numbered(rows, losses, again)
    rates = _cells(rows, _column(rows, "rate"))
    if newest_first(told):
        told, rates, rows = told.backwards(), rates[::-1], rows[::-1]
    order = in_order(told)
    found = [*notes, *(f"{name}: {note}" for note in (*more, *order.notes))]
    epochs = _held_out(rows) if told.steps is None else told.by_epoch and not order.counted
    if order.late:
        what = "epoch" if told.by_epoch or order.counted else "step"
        found.append(f"{name} begins at {what} {order.first:.0f}: what the loss was before that is not known.")
    if order.counted:
        placed = np.flatnonzero(~np.isnan(order.places))
        sorted_ = placed[np.argsort(order.places[placed], kind="stable")]
        others = {"rate": _carried(rates, placed)[sorted_]}
        return Curve(told.losses[sorted_], others, None, tuple(found), order.late, epochs)
    steps, cells = _merged(order.places, {"loss": told.losses, "rate": rates})
    return Curve(cells["loss"], {"rate": cells["rate"]}, steps, tuple(found), order.late, epochs)


def number(cell: Any) -> float | None:
    """A cell as a number; None where it is empty or no number, infinite where it is beyond all. A comma is decimal."""
    if isinstance(cell, str):
        cell = cell.strip()
        if cell.lower() in MISSING:
            return None
        cell = _with_a_point(cell) if "," in cell else cell
    try:
        return float(cell)
    except OverflowError:
        return math.inf if cell > 0 else -math.inf
    except (TypeError, ValueError):
        return None


def one_of(names: Sequence[str], where: str) -> tuple[str, tuple[str, ...]]:
    """The one of several curves that is a training's, by what they are called, with a sentence about the others."""
    parts = {name: _part(name) for name in names}
    chosen = [n for n in names if parts[n] == "train"] or [n for n in names if parts[n] is None]
    if not chosen:
        raise UsageError(f"{where} has losses of {_listed(names)} alone, and none of a training.")
    if len(chosen) > 1:
        raise UsageError(f"{where} has several curves, {_listed(chosen)}: name or keep one of them.")
    others = [name for name in names if name != chosen[0]]
    return chosen[0], (f"of {where} {visible(chosen[0])} is read, and {_listed(others)} is not.",) if others else ()


def _part(name: str) -> str | None:
    """The part of the data that a name speaks of; of a path the last word counts."""
    return next((part for word in reversed(PurePath(name).parts) if (part := likely_part(word))), None)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(visible(name) for name in names[:12]) + (", ..." if len(names) > 12 else "")


def _in_a_row(cells: Any) -> list[Any] | None:
    """Cells of a column, in a list or by their row's name; None for anything else."""
    if isinstance(cells, Mapping):
        return list(cells.values()) if all(str(name).isdecimal() for name in cells) else None
    return list(cells) if isinstance(cells, (list, tuple, np.ndarray)) else None


def _known(names: Any) -> bool:
    return any(plain(str(name)) in NAMES["loss"] for name in names)


def any_losses(rows: Sequence[Row]) -> bool:
    """Say whether a column is a loss."""
    return any(_known(row) for row in rows)


def plain(name: str) -> str:
    """A column's name by its letters and digits."""
    return "".join(c for c in name.lower() if c.isalnum())


def _with_a_point(cell: str) -> str:
    """A number with commas as float takes it: a single one is decimal, as of "1.234,5", and others group digits."""
    if re.fullmatch(r"[+-]?\d{1,3}(,\d{3}){2,}|[+-]?\d{1,3}(,\d{3})+\.\d*", cell):
        return cell.replace(",", "")
    decimal = re.fullmatch(r"[+-]?(\d*|\d{1,3}(\.\d{3})+),\d*(e[+-]?\d+)?", cell.lower())
    return cell.replace(".", "").replace(",", ".") if decimal else cell


def _loss(told: float | None) -> float:
    """A loss as a curve has it: NaN where none was told, infinite where it was no number."""
    return math.nan if told is None else told if math.isfinite(told) else math.inf


def _cells(rows: Sequence[Row], name: str | None) -> np.ndarray:
    """A column's numbers, NaN where there is none."""
    if name is None:
        return np.full(len(rows), math.nan)
    return np.array([math.nan if (x := number(row.get(name))) is None else x for row in rows])


def _column(rows: Sequence[Row], what: str) -> str | None:
    """The column of a kind that has the most numbers; of several the one that stands first among the names."""
    known: dict[str, list[str]] = {}
    for name in dict.fromkeys(name for row in rows for name in row if name is not None):
        known.setdefault(plain(str(name)), []).append(name)
    names = [name for told in NAMES[what] for name in known.get(told, ())]
    if len(names) < 2:
        return names[0] if names else None
    return max(names, key=lambda name: sum(number(row.get(name)) is not None for row in rows))


def _numbered(rows: Sequence[Row], losses: np.ndarray, again: bool) -> Numbered:
    """Rows with the numbers of their steps and epochs, as far as these tell rows apart."""
    has = ~np.isnan(losses)
    told: dict[str, np.ndarray | None] = {}
    for what in ("step", "epoch"):
        cells = _cells(rows, _column(rows, what))
        values = cells[has & np.isfinite(cells)]
        useful = len(values) and (len(values) == 1 or values.min() < values.max())
        told[what] = cells if useful else None
    steps, epochs = told["step"], told["epoch"]
    if steps is None:
        return Numbered(losses, epochs, None, epochs is not None, again)
    return Numbered(
        losses, steps, epochs if epochs is not None and np.isfinite(epochs[has]).all() else None, again=again
    )


def _held_out(rows: Sequence[Row]) -> bool:
    """Whether most rows tell a loss of other images: these rows are epochs."""
    names = {n for row in rows[:100] for n in row if n and "loss" in plain(str(n)) and likely_part(str(n)) != "train"}
    names = {n for n in names if likely_part(str(n)) is not None}
    return any(sum(number(row.get(name)) is not None for row in rows) > len(rows) / 2 for name in names)


def _carried(rates: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The rate of each row of all: its own, or the last one told since the loss before it."""
    found = rates.copy()
    for before, row in itertools.pairwise([-1, *rows.tolist()]):
        told = rates[before + 1 : row + 1]
        told = told[~np.isnan(told)]
        found[row] = told[-1] if len(told) else math.nan
    return found


def _merged(places: np.ndarray, columns: Mapping[str, np.ndarray]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The steps that anything was told of, and the cells of each, of which the last one counts."""
    steps = np.unique(places[~np.isnan(places) & np.any([~np.isnan(c) for c in columns.values()], 0)])
    merged: dict[str, np.ndarray] = {}
    for name, cells in columns.items():
        merged[name] = np.full(len(steps), math.nan)
        rows = np.flatnonzero(~np.isnan(places) & ~np.isnan(cells))
        merged[name][np.searchsorted(steps, places[rows])] = cells[rows]
    return steps, merged


def _of_one_training(rows: Sequence[Row], loss: str, name: str) -> tuple[Sequence[Row], tuple[str, ...]]:
    """The rows of one training, where a column says of which data, or of which training, each is."""
    notes: tuple[str, ...] = ()
    columns = dict.fromkeys(n for row in rows for n in row if n is not None)
    for column in [n for n in columns if plain(str(n)) in PARTS + RUNS]:
        of_rows = [None if (v := row.get(column)) is None else str(v).strip() for row in rows]
        told = [v for v, row in zip(of_rows, rows, strict=True) if v and number(row.get(loss)) is not None]
        values = list(dict.fromkeys(told))
        is_run = plain(str(column)) in RUNS
        if not is_run and any(number(v) is not None for v in values):
            continue
        parts = [None if is_run else likely_part(v) for v in values]
        if not any(parts):
            alike = 1 < len(values) <= MOST and _side_by_side(rows, of_rows, values)
            if alike or (is_run and 1 < len(values) <= MOST and _column(rows, "step") is None):
                raise UsageError(
                    f"{name} has several curves, by {visible(column)}: {_listed(values)}; keep one of them."
                )
            continue
        kept = [v for v, part in zip(values, parts, strict=True) if part == "train"]
        kept = kept or [v for v, part in zip(values, parts, strict=True) if part is None]
        if not kept:
            raise UsageError(f"{name} has losses of {_listed(values)} alone, and none of a training.")
        others = [v for v in values if v not in kept]
        rows = [row for row, value in zip(rows, of_rows, strict=True) if not value or value in kept]
        notes += (f"rows whose {visible(column)} is {_listed(others)} are left out.",) if others else ()
    return rows, notes


def _side_by_side(rows: Sequence[Row], of_rows: Sequence[str | None], values: Sequence[str]) -> bool:
    """Whether two of the values speak of the same steps, or epochs, and not one after the other."""
    spans: list[list[tuple[float, float]]] = []
    for cells in (_cells(rows, _column(rows, what)) for what in ("step", "epoch")):
        groups = {value: [] for value in values}
        for value, cell in zip(of_rows, cells.tolist(), strict=True):
            if value in groups and math.isfinite(cell):
                groups[value].append(cell)
        if all(groups.values()):
            spans.append([(min(group), max(group)) for group in groups.values()])
    pairs = itertools.combinations(range(len(values)), 2)
    return any(spans and all(_overlap(s[a], s[b]) for s in spans) for a, b in pairs)


def _overlap(one: tuple[float, float], other: tuple[float, float]) -> bool:
    """Whether half of the shorter stretch of steps, or more, is in both."""
    common = min(one[1], other[1]) - max(one[0], other[0])
    return common >= 0 and common >= min(one[1] - one[0], other[1] - other[0]) / 2
