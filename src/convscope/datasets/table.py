"""A CSV table of images: ``path``, then ``label`` (a name) or ``class_index``, and if wanted ``split``."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import numpy as np

from ..errors import DataError
from .folder import IMAGE_SIZE, Need
from .part_names import plain_part
from .unsplit import Unsplit

MAX_CLASSES = 100_000


def load_table(path: Path, need: Need = "training") -> Unsplit:
    """The images a table names, paths relative to the table's folder.

    With ``class_index`` the names are the lines of ``classes.txt`` beside the table where it exists, else the numbers;
    a name that stands there twice gets its number behind it. Raises DataError naming the line that does not fit.
    """
    lines, rows = _rows(path)
    by_name = "label" in rows[0]
    raw = [row["label" if by_name else "class_index"].strip() for row in rows]
    if by_name:
        names, notes = tuple(sorted(set(raw))), ()
        number = {name: i for i, name in enumerate(names)}
        labels = [number[text] for text in raw]
    else:
        labels = [_index(path, line, text) for line, text in zip(lines, raw, strict=True)]
        names, notes = _indexed_names(path, labels)
    if len(names) < 2 and need == "training":
        raise DataError(f"{path} names one class, {names[0]!r}; a classifier needs two or more.")
    return Unsplit(
        name=path.stem,
        class_names=names,
        labels=np.array(labels, np.int64),
        given=np.array([_part(path, line, row) for line, row in zip(lines, rows, strict=True)], "U5"),
        image_size=IMAGE_SIZE,
        files=tuple(path.parent / row["path"] for row in rows),
        root=path.parent,
        notes=notes,
    )


def _rows(path: Path) -> tuple[list[int], list[dict[str, str]]]:
    """The line each row ends on, and the rows; blank lines are no rows."""
    header: list[str] = []
    lines: list[int] = []
    rows: list[dict[str, str]] = []
    reader = None
    try:
        with open(path, newline="", encoding="utf-8-sig") as handle:
            reader = csv.reader(handle, strict=True)
            for cells in filter(None, reader):
                if not header:
                    header = _header(path, cells)
                    continue
                rows.append(_row(path, reader.line_num, header, cells))
                lines.append(reader.line_num)
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num if reader else 1}: {error}.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as a table: {error}.") from None
    if not rows:
        raise DataError(f"{path} holds no image." if header else _needs(path, header))
    return lines, rows


def _header(path: Path, cells: list[str]) -> list[str]:
    header = [cell.strip() for cell in cells]
    if "path" not in header or not {"label", "class_index"} & set(header):
        raise DataError(_needs(path, header))
    return header


def _needs(path: Path, header: list[str]) -> str:
    return f"{path} needs the columns path and label (or class_index); it has: {', '.join(header) or 'none'}."


def _row(path: Path, line: int, header: list[str], cells: list[str]) -> dict[str, str]:
    if len(cells) != len(header):
        raise DataError(
            f"{path}, line {line}: {len(cells)} cells under {len(header)} columns; a comma within one needs quotes."
        )
    row = dict(zip(header, cells, strict=True))
    wanted = "label" if "label" in row else "class_index"
    if not row["path"].strip() or not row[wanted].strip():
        raise DataError(f"{path}, line {line}: path or {wanted} is empty.")
    return row


def _index(path: Path, line: int, text: str) -> int:
    if not text.isdecimal() or len(text) > len(str(MAX_CLASSES)) or int(text) >= MAX_CLASSES:
        raise DataError(f"{path}, line {line}: class_index {text[:40]!r} is not a number from 0 to {MAX_CLASSES - 1}.")
    return int(text)


def _indexed_names(path: Path, labels: list[int]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of the classes by their index, and notes."""
    beside = path.with_name("classes.txt")
    if not beside.is_file():
        if len(set(labels)) < 2:
            return (str(labels[0]),), ()
        return tuple(str(i) for i in range(max(labels) + 1)), ()
    try:
        text = beside.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{beside} cannot be read: {error}.") from None
    names = tuple(line.strip() for line in text.rstrip().split("\n"))  # not splitlines, which knows nine more line ends
    if "" in names:
        raise DataError(f"{beside}, line {names.index('') + 1}: a class without a name.")
    if len(names) <= max(labels):
        raise DataError(f"{beside} gives {len(names)} names, and {path.name} asks for class {max(labels)}, from 0.")
    apart = told_apart(names)
    shown = ", ".join(repr(name) for name in apart if name not in names)
    if len(set(apart)) < len(names):
        twice = min(name for name, count in Counter(names).items() if count > 1)
        raise DataError(f"{beside} gives the name {twice!r} to several classes; each needs its own.")
    if apart == names:
        return names, ()
    return apart, (f"{beside.name} names several classes alike; they are told apart by their numbers: {shown}.",)


def told_apart(names: tuple[str, ...]) -> tuple[str, ...]:
    """The names of classes, those that stand there twice with their number behind."""
    count = Counter(names)
    return tuple(f"{name} ({i})" if count[name] > 1 else name for i, name in enumerate(names))


def _part(path: Path, line: int, row: dict[str, str]) -> str:
    text = row.get("split", "").strip()
    part = plain_part(text)
    if text and part is None:
        raise DataError(f"{path}, line {line}: split {text!r} is none of train, val and test.")
    return part or ""
