"""A CSV table of pictures: ``path``, then ``label`` (a name) or ``class_index``, and if wanted ``split``."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from ..errors import DataError
from .dataset import Unsplit
from .folder import IMAGE_SIZE, SPLIT_NAMES


def load_table(path: Path) -> Unsplit:
    """The pictures a table names, paths relative to the table's folder.

    With ``class_index`` the names are the lines of ``classes.txt`` beside the table where it exists, else the numbers.
    Raises DataError naming the line that does not fit.
    """
    rows = _rows(path)
    by_name = "label" in rows[0]
    raw = [row["label" if by_name else "class_index"].strip() for row in rows]
    names = tuple(sorted(set(raw))) if by_name else _indexed_names(path, raw)
    if len(names) < 2:
        raise DataError(f"{path} names one class, {names[0]!r}; a classifier needs two or more.")
    number = {name: i for i, name in enumerate(names)}
    given = [_part(path, line, row) for line, row in enumerate(rows, 2)]
    return Unsplit(
        name=path.stem,
        class_names=names,
        labels=np.array([number[r] if by_name else int(r) for r in raw], np.int64),
        given=np.array(given, "U5"),
        image_size=IMAGE_SIZE,
        files=tuple(path.parent / row["path"] for row in rows),
        root=path.parent,
    )


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with open(path, newline="", encoding="utf-8-sig") as handle:
            reader = csv.DictReader(handle)
            header = reader.fieldnames or []
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a table: {error}.") from None
    if "path" not in header or not {"label", "class_index"} & set(header):
        raise DataError(
            f"{path} needs the columns path and label (or class_index); it has: {', '.join(header) or 'none'}."
        )
    if not rows:
        raise DataError(f"{path} holds no picture.")
    wanted = "label" if "label" in header else "class_index"
    for line, row in enumerate(rows, 2):
        if not row["path"] or not (row[wanted] or "").strip():
            raise DataError(f"{path}, line {line}: path or {wanted} is empty.")
    return rows


def _indexed_names(path: Path, raw: list[str]) -> tuple[str, ...]:
    for line, text in enumerate(raw, 2):
        if not text.isdecimal() or int(text) > 100_000:
            raise DataError(f"{path}, line {line}: class_index {text!r} is not a number from 0 to 100000.")
    highest = max(map(int, raw))
    beside = path.with_name("classes.txt")
    if not beside.is_file():
        return tuple(str(i) for i in range(highest + 1))
    names = tuple(beside.read_text(encoding="utf-8").splitlines())
    if len(names) <= highest or len(set(names)) != len(names):
        raise DataError(
            f"{beside} must give {highest + 1} different names or more, one a line; it gives {len(set(names))}."
        )
    return names


def _part(path: Path, line: int, row: dict[str, str]) -> str:
    text = (row.get("split") or "").strip().lower()
    if text and text not in SPLIT_NAMES:
        raise DataError(f"{path}, line {line}: split {text!r} is none of train, val and test.")
    return SPLIT_NAMES.get(text, "")
