"""Tables whose images have several labels, or a number: told from the cells, and read as targets."""

from __future__ import annotations

import ast
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from ..errors import DataError
from ..recipes import Source
from .folder import IMAGE_SIZE
from .table import table_files, table_groups, table_parts
from .table_reading import Table
from .targets import LabelSets, Numbers
from .unsplit import Unsplit

SIGNS = ("|", ";", ",")  # between the labels in a cell; the first that most cells with several have
MANY_VALUES = 20  # different whole numbers of a column, over which they count rather than name
NEARLY = 0.8  # of the cells of a column of numbers that are numbers
MEANT = re.compile(  # of what stands for no number, or for one as people write it: "1,007.5", "3.0 cm"
    r"n/?a|nan|null|none|[-?.]+|[+-]?inf(inity)?|[+-]?\d{1,3}(,\d{3})+(\.\d+)?|[+-]?\d+([.,]\d+)? +[a-z%°]{1,5}",
    re.IGNORECASE,
)
ONE_TO_EACH = 5  # images of each of so many numbers, under which they do
ONE_LABEL = ": with --task classification it is one class of several"
CLASSIFICATION, MULTI_LABEL, REGRESSION = "classification", "multi_label", "regression"


def task_of_table(table: Table, source: Source) -> str:
    """What a table asks of an image: one class, several labels, or a number."""
    if source.label_from is not None or not table.rows:
        return CLASSIFICATION
    column = target_column(table, source)
    if column is None:
        return MULTI_LABEL if len(_flags(table, source)) > 1 else CLASSIFICATION
    cells = [cell for cell in table.column(column) if cell]
    if _are_numbers(cells):
        called = table.find("label", source.label_column) or table.find("class_index", None)
        return REGRESSION if called is None or measures(cells) else CLASSIFICATION
    return MULTI_LABEL if _sign(cells) is not None else CLASSIFICATION


def load_table_of(task: str, table: Table, source: Source, skip: bool = False) -> Unsplit:
    """The images of a table with their labels, or their numbers. DataError naming the line that does not fit."""
    if not table.rows:
        raise DataError(f"{table.path} holds no image.")
    where = table.find("path", source.path_column)
    if where is None:
        raise DataError(f"{table.path} has no column of paths (say which with --path-column).")
    targets: LabelSets | Numbers
    if task == REGRESSION:
        table, targets, notes = _numbers(table, source)
    else:
        targets, notes = _label_sets(table, source)
    files = table_files(table, where, source, skip)
    notes += _contradictions(files, targets.values, "numbers" if task == REGRESSION else "labels")
    return Unsplit(
        name=table.path.stem,
        class_names=("image",),
        labels=np.zeros(len(files), np.int64),
        given=table_parts(table),
        image_size=IMAGE_SIZE,
        files=files,
        root=table.path.parent,
        notes=(*table.notes, *notes),
        groups=table_groups(table, files, source),
        targets=targets,
    )


def _contradictions(files: Sequence[Path], values: np.ndarray, what: str) -> list[str]:
    """A note of images that stand on several lines with other values each; nothing where there are none."""
    said: dict[Path, set[bytes]] = {}
    for path, value in zip(files, values, strict=True):
        said.setdefault(path, set()).add(value.tobytes())
    several = [path for path, found in said.items() if len(found) > 1]
    many = "1 image stands" if len(several) == 1 else f"{len(several):,} images stand"
    return [f"{many} on several lines with other {what} each (the first: {several[0].name})."] if several else []


def target_column(table: Table, source: Source) -> str | None:
    """The column of the labels or the number: the one that is named so, or the only other one, if of numbers."""
    found = table.find("label", source.label_column) or table.find("class_index", None)
    rest = other_columns(table, source)
    if found is None and len(rest) == 1 and _are_numbers([cell for cell in table.column(rest[0]) if cell]):
        return rest[0]
    return found


def other_columns(table: Table, source: Source) -> list[str]:
    """The columns that are neither path, nor part, nor group."""
    known = {table.find("path", source.path_column), table.find("split", None), source.group}
    return [name for name in table.header if name not in known]


def _flags(table: Table, source: Source) -> list[str]:
    """The columns of nothing but 0 and 1."""
    cells = {name: set(table.column(name)) - {""} for name in other_columns(table, source)}
    return [name for name, values in cells.items() if values and values <= {"0", "1", "0.0", "1.0"}]


# ------------------------------------------------------------------------------------------------------------ numbers


def number_of(cell: str) -> float | None:
    try:
        value = float(cell.replace(",", ".") if re.fullmatch(r"[+-]?\d+,\d+", cell) else cell)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _are_numbers(cells: Sequence[str]) -> bool:
    """Whether nearly all are, and the others look as if they were meant so, such as NA: these are named when they are
    read."""
    odd = [cell for cell in cells if number_of(cell) is None]
    return len(cells) > 0 and len(cells) - len(odd) >= NEARLY * len(cells) and all(map(MEANT.fullmatch, odd))


def measures(cells: Sequence[str]) -> bool:
    """Whether numbers measure something: some are no whole ones, or they are many and few images have the same."""
    values = {number_of(cell) for cell in cells} - {None}
    if any(value is not None and value != int(value) for value in values):
        return True
    return len(values) > MANY_VALUES and len(cells) < ONE_TO_EACH * len(values)


def _numbers(table: Table, source: Source) -> tuple[Table, Numbers, list[str]]:
    """The lines that have a number, their numbers, and notes of what was left out."""
    column = target_column(table, source)
    if column is None:
        raise DataError(f"{table.path} has several columns: say which holds the number with --label-column.")
    values: list[float] = []
    kept = []
    for i, (line, cell) in enumerate(zip(table.lines, table.column(column), strict=True)):
        value = number_of(cell) if cell else None
        if cell and value is None:
            where = f"{table.path}, line {line}"
            raise DataError(f"{where}: {column} {cell[:40]!r} is no finite number: mend it, or leave the cell empty.")
        if value is not None:
            kept.append(i)
            values.append(value)
    if not kept:
        raise DataError(f"{table.path}: the column {column} is empty on every line.")
    left_out = len(table.rows) - len(kept)
    many = "1 line has" if left_out == 1 else f"{left_out:,} lines have"
    notes = [f"{many} no number and {'is' if left_out == 1 else 'are'} left out."] if left_out else []
    rows, lines = [table.rows[i] for i in kept], [table.lines[i] for i in kept]
    return Table(table.path, table.header, rows, lines, table.notes), Numbers(column, np.array(values)), notes


# ------------------------------------------------------------------------------------------------------------- labels


def _sign(cells: Sequence[str], said: bool = False) -> str | None:
    """What stands between the labels of a cell; None where cells hold one label each.

    Names with a sign in them are told from lists by this: the parts of lists come again in other cells. As those of
    names with a comma do too ("fox, red", "fox, grey"), of these more than half must, or be fewer than cells. Where it
    is ``said`` that there are lists, the other signs need no more.
    """
    if any(_as_list(cell) is not None for cell in cells):
        return "[]"
    different = set(cells)
    for sign in SIGNS:
        if not any(sign in cell for cell in different):
            continue
        cells_of = Counter(part for cell in different for part in {one.strip() for one in cell.split(sign)} - {""})
        again = sum(count > 1 for count in cells_of.values())
        many = len(cells_of) < len(different) or (2 * again > len(cells_of) and not _by_place(different))
        if sign == "," and many:
            return sign
        if sign != "," and (again or said):
            return sign
    return None


def _by_place(cells: Iterable[str]) -> bool:
    """Whether all have as many parts between commas, and each place parts of its own: "fox, red" and "wolf, grey"."""
    rows = [[part.strip() for part in cell.split(",")] for cell in cells]
    if len({len(row) for row in rows}) > 1:
        return False
    places = [set(place) for place in zip(*rows, strict=True)]
    return sum(map(len, places)) == len(set().union(*places))


def _as_list(cell: str) -> list[str] | None:
    """The labels of a cell that is written as a list, as JSON or Python writes it."""
    if not (cell.startswith("[") and cell.endswith("]")):
        return None
    for parse in (json.loads, ast.literal_eval):
        try:
            told = parse(cell)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(told, list) and all(isinstance(one, str | int | float) for one in told):
            return [str(one) for one in told]
    return None


def _label_sets(table: Table, source: Source) -> tuple[LabelSets, list[str]]:
    column = table.find("label", source.label_column)
    if column is None:
        return _flagged(table, source)
    cells = table.column(column)
    sign = _sign([cell for cell in cells if cell], said=True)
    rows = [_labels(cell, sign) for cell in cells]
    names = tuple(sorted({name for row in rows for name in row}))
    if not names:
        raise DataError(f"{table.path}: the column {column} is empty on every line.")
    number = {name: k for k, name in enumerate(names)}
    values = np.zeros((len(rows), len(names)), np.uint8)
    for n, row in enumerate(rows):
        values[n, [number[name] for name in row]] = 1
    split = next((cell for cell in cells if "," in cell), None) if sign == "," else None
    notes = [] if split is None else [f"{split!r} is taken for {len(_labels(split, sign))} labels, between commas."]
    return LabelSets(names, values), [*notes, *_label_notes(values)]


def _labels(cell: str, sign: str | None) -> list[str]:
    told = _as_list(cell) if sign == "[]" else None
    parts = told if told is not None else cell.split(sign) if sign and sign != "[]" else [cell]
    return list(dict.fromkeys(part.strip() for part in parts if part.strip()))


def _flagged(table: Table, source: Source) -> tuple[LabelSets, list[str]]:
    """Labels by columns of 0 and 1; an empty cell is 0."""
    names = _flags(table, source)
    if not names:
        raise DataError(f"{table.path} has no column of labels, and no columns of 0 and 1.")
    ones = [[cell in ("1", "1.0") for cell in table.column(name)] for name in names]
    values = np.array(ones, np.uint8).T.reshape(len(table.rows), len(names))
    return LabelSets(tuple(names), values), _label_notes(values, "")


def _label_notes(values_NK: np.ndarray, better: str = ONE_LABEL) -> list[str]:
    many = values_NK.sum(1)
    notes = []
    if (many == 1).all():
        notes.append(f"every image has exactly one label{better}.")
    elif (many == 0).any():
        count = int((many == 0).sum())
        notes.append(f"{count:,} image{' has' if count == 1 else 's have'} none of the labels.")
    return notes
