"""A training's curve from wherever it was kept: a list, a CSV, JSON lines, a Trainer's state, TensorBoard's events."""

from __future__ import annotations

import codecs
import csv
import io
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError, UsageError
from .curve_rows import Row, any_losses, curve_of_rows, number, one_of, rows_of
from .curves import Curve, from_losses

EVENTS = "events.out.tfevents"
SUFFIXES = (".csv", ".tsv", ".jsonl", ".json")
TABLES, LINES = (".csv", ".tsv"), (".jsonl", ".json")
LARGEST = 512 * 2**20  # bytes of a file that is read: a curve of ten million steps is smaller
MARKS = "\t;,"  # between the cells of a table
BEGINNINGS = {  # the bytes a text begins with, and what they say of it; the longer ones first
    codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32", codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16", codecs.BOM_UTF8: "utf-8-sig",
}  # fmt: skip

Told = tuple[list[Row], list[str]]


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


def read_curve(source: Any) -> Curve:
    """Read a curve from a file, or from numbers, rows or columns in Python; steps are put in order.

    UsageError where no column is a loss, it is not clear which of several curves is meant, or a library is missing;
    DataError for a file that cannot be read.
    """
    if not isinstance(source, (str, Path)):
        return _of_values(source)
    path = Path(source)
    if path.is_dir() or path.name.startswith(EVENTS):
        return _of_events(path)
    try:
        if path.stat().st_size > LARGEST:
            raise DataError(f"{path} has more than {LARGEST >> 20} MiB, which is no curve.")
        text = _text(path.read_bytes())
    except UnicodeError as error:
        raise DataError(f"{path} cannot be read as a curve: it is no text.") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read as a curve: {error.strerror or error}.") from error
    if not text.strip():
        raise UsageError(f"{path.name} is empty.")
    table = path.suffix.lower() in TABLES or not text.lstrip().startswith(("{", "["))
    try:
        rows, notes = _table(text, path) if table and path.suffix.lower() not in LINES else _json(text, path)
    except (csv.Error, json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"{path} cannot be read as a curve: {error}") from error
    return curve_of_rows(rows, path.name, notes)


def _of_values(source: Any) -> Curve:
    """The curve in Python's values: losses in order, a Trainer's log_history, a history of columns."""
    what = "a curve is numbers in a row, one loss a step"
    if isinstance(source, Mapping) or (isinstance(source, (list, tuple)) and any(isinstance(r, dict) for r in source)):
        return curve_of_rows(rows_of(source), "this history")
    try:
        losses = [None if told is None else _float(told) for told in source]
    except (TypeError, ValueError) as error:
        raise UsageError(f"{what}: {error}.") from error
    return from_losses(losses)


def _float(value: Any) -> float:
    """A number, infinite where it is beyond all; a tensor's, too, whose gradient is not asked for."""
    value = value.detach() if hasattr(value, "detach") else value
    if np.ndim(value):
        raise ValueError("here is a row in a row")
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _text(data: bytes) -> str:
    """A file's text, in UTF-8, UTF-16 or UTF-32, or as Windows writes western letters; UnicodeError for other bytes."""
    for mark, code in BEGINNINGS.items():
        if data.startswith(mark):
            width = 4 if "32" in code else 2 if "16" in code else 1
            return data[: len(data) // width * width].decode(code)  # a last letter may be cut
    zeros = [data[:200][half::2].count(0) for half in (0, 1)]
    if max(zeros) > 0.8 * len(data[:200]) / 2 and min(zeros) == 0:
        return data[: len(data) // 2 * 2].decode("utf-16-be" if zeros[0] else "utf-16-le")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("cp1252")


def _table(text: str, path: Path) -> Told:
    """Rows of cells under a header, or one number a line without."""
    lines = io.StringIO(text.lstrip(), newline=None)  # which takes all ends of lines for one
    header = lines.readline()
    names = {mark: next(csv.reader([header], delimiter=mark), []) for mark in MARKS}
    mark = max(names, key=lambda mark: len(names[mark]))  # a single column may have commas in its numbers
    lines.seek(0)
    if all(number(name) is not None for name in names[mark]):
        if len(names[mark]) > 1:
            raise UsageError(f"{path.name} has numbers in its first line: write the names of its columns above them.")
        return [{"loss": line.strip()} for line in lines if line.strip()], []
    rows: list[Row] = list(csv.DictReader(lines, delimiter=mark))
    if not rows:
        raise UsageError(f"{path.name} has a header and no rows.")
    if sum(None in row for row in rows) > len(rows) / 2:
        raise DataError(f"{path.name} has more cells in its rows than names in its header, so no column is known.")
    return rows, []


def _json(text: str, path: Path) -> Told:
    """The rows of a JSON file, or of one that has JSON in each of its lines."""
    try:
        return rows_of(json.loads(text, parse_int=float)), []
    except json.JSONDecodeError as error:
        if path.suffix.lower() != ".jsonl" and not error.msg.startswith("Extra data"):
            raise
    lines = [(n, line) for n, line in enumerate(io.StringIO(text, newline=None), 1) if line.strip()]
    rows: list[Any] = []
    for n, line in lines:
        try:
            rows.append(json.loads(line, parse_int=float))
        except json.JSONDecodeError as error:
            if rows and n == lines[-1][0] and not line.endswith("\n"):
                return rows_of(rows), [f"{path.name}: its last line is cut, and is left out."]
            raise DataError(f"{path} cannot be read as a curve: line {n} is no JSON ({error.msg}).") from error
    return rows_of(rows), []


def _events(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob(f"**/{EVENTS}*") if path.is_file())


def _of_events(path: Path) -> Curve:
    """TensorBoard's scalars, of one file or of a folder: where several of its folders have losses, of one of them."""
    files = [path] if path.is_file() else _events(path)
    folders: dict[str, list[Path]] = {}
    for file in files:
        inner = "" if file == path or file.parent == path else file.parent.relative_to(path).as_posix()
        folders.setdefault(inner or path.name, []).append(file)
    rows = {name: [row for file in folders[name] for row in _scalars(file)] for name in folders}
    with_losses = [name for name in rows if any_losses(rows[name])]
    if not with_losses:
        return curve_of_rows([row for name in rows for row in rows[name]], path.name)  # which says what there is
    name, notes = one_of(with_losses, path.name)
    return curve_of_rows(rows[name], path.name, notes, again=len(folders[name]) > 1)


def _scalars(file: Path) -> list[dict[str, Any]]:
    try:
        from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
        from tensorboard.util.tensor_util import make_ndarray
    except ImportError as error:
        raise UsageError(
            "TensorBoard's event files are read by its own reader: install it with pip install convscope[tensorboard]."
        ) from error
    rows: list[dict[str, Any]] = []
    try:
        for event in EventFileLoader(str(file)).Load():
            rows += [{"step": event.step, value.tag: make_ndarray(value.tensor)} for value in event.summary.value]
    except Exception as error:  # whatever the reader raises on a damaged file
        raise DataError(f"{file} cannot be read as TensorBoard's events: {error}") from error
    return rows
