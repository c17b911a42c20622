"""A training's curve from wherever it was kept: a list, a CSV, JSON lines, a Trainer's state, TensorBoard's events."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError, UsageError
from .curves import Curve, from_losses

EVENTS = "events.out.tfevents"
SUFFIXES = (".csv", ".tsv", ".jsonl", ".json")
LARGEST = 512 * 2**20  # bytes of a file that is read: a curve of ten million steps is smaller

# What loggers call a column, each in the order in which one is chosen; letters and digits alone are compared.
NAMES = {
    "step": ("step", "globalstep", "iteration", "iter", "batch", "update", "epoch"),
    "loss": ("trainloss", "lossstep", "trainlossstep", "trainingloss", "losstrain", "loss", "trainlossepoch"),
    "rate": ("lr", "learningrate", "trainlr", "rate", "optimizerlr", "lrsgd", "lradam", "lradamw"),
}
MISSING = ("", "none", "null", "n/a", "-")

Row = Mapping[str, Any]


def is_curve(source: object) -> bool:
    """Say whether this is a curve and not a network: numbers in a row, or a file or folder of a logger."""
    if isinstance(source, (list, tuple, np.ndarray)):
        return True
    if not isinstance(source, str):
        return False
    path = Path(source)
    if os.path.isdir(source):  # which, unlike a path's own, is False for a name that is too long
        return not (path / "recipe.json").exists() and bool(_events(path))
    return os.path.isfile(source) and (path.suffix.lower() in SUFFIXES or path.name.startswith(EVENTS))


def read_curve(source: str | Path | Sequence[float | None]) -> Curve:
    """Read a curve; steps are put in order, and of one that was told twice the later counts.

    UsageError where no column is a loss, or a library is missing; DataError for a file that cannot be read.
    """
    if not isinstance(source, (str, Path)):
        return from_losses([None if x is None else float(x) for x in source])
    path = Path(source)
    if path.is_dir() or path.name.startswith(EVENTS):
        return _of_events(path)
    try:
        if path.stat().st_size > LARGEST:
            raise DataError(f"{path} has more than {LARGEST >> 20} MiB, which is no curve.")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as a curve: {error}") from error
    return _of_rows(list(_rows(text, path)), path)


def _rows(text: str, path: Path) -> Iterable[Row]:
    kind = path.suffix.lower()
    try:
        if kind == ".jsonl":
            yield from (row for line in text.splitlines() if line.strip() and isinstance(row := json.loads(line), dict))
        elif kind == ".json":
            box = json.loads(text)
            history = box.get("log_history", []) if isinstance(box, dict) else box  # a Trainer's state, or a list
            yield from (row for row in history if isinstance(row, dict))
        else:
            dialect = "excel-tab" if kind == ".tsv" else csv.Sniffer().sniff(text[:4096], ",;\t")
            yield from csv.DictReader(text.splitlines(), dialect=dialect)
    except (csv.Error, json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"{path} cannot be read as a curve: {error}") from error


def _of_rows(rows: Sequence[Row], path: Path) -> Curve:
    """Columns by what loggers call them."""
    columns = {_plain(str(name)): name for row in rows for name in row if name is not None}
    chosen = {what: next((columns[n] for n in names if n in columns), None) for what, names in NAMES.items()}
    if chosen["loss"] is None:
        known = ", ".join(sorted(columns.values())[:12]) or "none"
        raise UsageError(f"{path.name} has no column of training losses, such as loss or train_loss; it has {known}.")
    by_step: dict[float, dict[str, float]] = {}
    for number, row in enumerate(rows):
        values = {what: _number(row.get(name)) if name is not None else None for what, name in chosen.items()}
        step = values.pop("step")
        place = by_step.setdefault(float(number) if step is None or not math.isfinite(step) else step, {})
        place |= {what: value for what, value in values.items() if value is not None}
    steps = sorted(step for step, values in by_step.items() if values)
    if not steps:
        raise UsageError(f"{path.name} has no numbers in its column {chosen['loss']}.")
    losses = np.array([_told(by_step[step].get("loss")) for step in steps])
    rates = np.array([by_step[step].get("rate", math.nan) for step in steps])
    return Curve(losses, {"rate": rates}, np.array(steps))


def _told(loss: float | None) -> float:
    """A loss as a curve has it: NaN where none was told, infinite where it was no number."""
    return math.nan if loss is None else loss if math.isfinite(loss) else math.inf


def _plain(name: str) -> str:
    """A column's name by its letters and digits."""
    return "".join(c for c in name.lower() if c.isalnum())


def _number(value: Any) -> float | None:
    """A cell as a number; None where it is empty, NaN where it is no number."""
    if value is None or (isinstance(value, str) and value.strip().lower() in MISSING):
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _events(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob(f"**/{EVENTS}*") if path.is_file())


def _of_events(path: Path) -> Curve:
    """TensorBoard's scalars, of one file or of all in a folder."""
    try:
        from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
        from tensorboard.util.tensor_util import make_ndarray
    except ImportError as error:
        raise UsageError(
            "TensorBoard's event files are read by its own reader: install it with pip install convscope[tensorboard]."
        ) from error
    rows: list[dict[str, Any]] = []
    for file in [path] if path.is_file() else _events(path):
        try:
            for event in EventFileLoader(str(file)).Load():
                rows += [{"step": event.step, value.tag: make_ndarray(value.tensor)} for value in event.summary.value]
        except Exception as error:  # whatever the reader raises on a damaged file
            raise DataError(f"{file} cannot be read as TensorBoard's events: {error}") from error
    return _of_rows(rows, path)
