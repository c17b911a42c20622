"""Corrections of a dataset, in a table beside it: images to leave out and labels to change, by what images hold.

The images themselves are never moved or changed. A corrections file is a CSV table with the columns ``hash`` (the
SHA-256 of a file, or of the pixels where there is no file), ``action`` (leave-out or relabel), ``label`` (the new one),
and ``reason`` and ``image`` for who reads it.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..errors import DataError, UnknownName
from ..storage import commit_text
from ..visible import visible
from .unsplit import Unsplit

COLUMNS = ("hash", "action", "label", "reason", "image")
LEAVE_OUT, RELABEL = "leave-out", "relabel"
ACTIONS = (LEAVE_OUT, RELABEL)
HEX = frozenset("0123456789abcdef")


@dataclass(frozen=True)
class Correction:
    """What to do with every image of one content: ``digest`` is its SHA-256 in 64 hexadecimal digits."""

    digest: str
    action: str
    label: str = ""
    reason: str = ""
    image: str = ""


def write_corrections(path: Path, corrections: Sequence[Correction]) -> None:
    """Write a corrections file, whole or not at all."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows((c.digest, c.action, c.label, c.reason, c.image) for c in corrections)
    commit_text(path, text.getvalue())


def read_corrections(path: Path) -> list[Correction]:
    """The corrections in a file. Raises DataError naming the line that does not fit."""
    text = _text(path)
    reader = csv.reader(io.StringIO(text), delimiter=_delimiter(text))
    found: list[Correction] = []
    header: list[str] = []
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if not header:
                header = _header(path, [cell.strip().lower() for cell in cells])
                continue
            found.append(_correction(path, reader.line_num, header, cells))
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: {error}.") from None
    if not header:
        raise DataError(f"{path} is no corrections file: it is empty.")
    twice = [digest for digest, count in Counter(c.digest for c in found).items() if count > 1]
    for digest in twice:
        asked = {(c.action, c.label) for c in found if c.digest == digest}
        if len(asked) > 1:
            raise DataError(f"{path} asks for two things of the image {digest[:12]}...: keep one line of it.")
    return found


def _text(path: Path) -> str:
    """What stands in the file, without what a spreadsheet puts before the header."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}, the corrections, does not exist.") from None
    except OSError as error:
        raise DataError(f"{path}, the corrections, cannot be read: {error.strerror or error}.") from None
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = raw.decode("cp1252", errors="replace")  # as a spreadsheet saves it
    return re.sub(r"^\s*(sep=.[ \t]*\r?\n\s*)?", "", text)


def _delimiter(text: str) -> str:
    """What stands between cells: a spreadsheet may have saved the table with semicolons or tabs."""
    first = text.split("\n", 1)[0]
    return max(",;\t", key=first.count)


def _header(path: Path, header: list[str]) -> list[str]:
    if "hash" not in header or "action" not in header:
        told = ", ".join(header) or "none"
        raise DataError(f"{path} is no corrections file: it needs the columns hash, action and label, and has {told}.")
    return header


def _correction(path: Path, line: int, header: list[str], cells: list[str]) -> Correction:
    row = {name: cell.strip() for name, cell in zip(header, cells, strict=False)}
    digest, action = row.get("hash", "").lower(), row.get("action", "").lower()
    if len(digest) != 64 or not set(digest) <= HEX:
        raise DataError(f"{path}, line {line}: {digest[:40]!r} is no SHA-256 of 64 hexadecimal digits.")
    if action not in ACTIONS:
        raise DataError(f"{path}, line {line}: action {action[:40]!r} is neither {' nor '.join(ACTIONS)}.")
    label = dict(zip(header, cells, strict=False)).get("label", "") if row.get("label") else ""
    if action == RELABEL and not label:
        raise DataError(f"{path}, line {line}: relabel needs a label.")
    return Correction(digest, action, label, row.get("reason", ""), row.get("image", ""))


def corrected(
    unsplit: Unsplit, digests_N32: np.ndarray, corrections: Sequence[Correction], source: str
) -> tuple[Unsplit, np.ndarray]:
    """The images with the corrections applied, and their hashes; a note says how many. UnknownName for a new label."""
    by_digest = {bytes.fromhex(c.digest): c for c in corrections}
    labels = unsplit.labels.copy()
    kept = np.ones(len(labels), bool)
    used: set[bytes] = set()
    changed = 0
    number = {name: i for i, name in enumerate(unsplit.class_names)}
    number |= {old: number[new] for old, new in unsplit.called_before.items() if old not in number}
    for i, digest in enumerate(digests_N32):
        correction = by_digest.get(digest.tobytes())
        if correction is None:
            continue
        used.add(digest.tobytes())
        if correction.action == LEAVE_OUT:
            kept[i] = False
            continue
        name = next((n for n in (correction.label, correction.label.strip()) if visible(n) in number), None)
        if name is None:
            raise UnknownName(f"class in {source}", correction.label.strip(), unsplit.class_names)
        wanted = number[visible(name)]
        changed += int(labels[i] != wanted)
        labels[i] = wanted
    if not kept.any():
        raise DataError(f"{source} leaves out every image of {unsplit.name}.")
    note = f"corrections: {int((~kept).sum()):,} left out, {changed:,} relabelled"
    strange = len(by_digest) - len(used)
    note += f"; {strange:,} are of images that are not here" if strange else ""
    index = np.flatnonzero(kept)
    found = replace(unsplit, labels=labels, notes=(*unsplit.notes, f"{note} ({source})."))
    return _without_emptied(found.take(index), unsplit, source), digests_N32[index]


def _without_emptied(found: Unsplit, before: Unsplit, source: str) -> Unsplit:
    """The images without the classes that corrections have emptied; DataError where one class is left of several."""
    had, has = (np.bincount(u.labels, minlength=len(before.class_names)) > 0 for u in (before, found))
    kept = np.flatnonzero(has | ~had)
    if has.sum() < 2 <= had.sum():
        raise DataError(f"{source} leaves images of one class only, {before.class_names[int(has.argmax())]!r}.")
    if len(kept) == len(had):
        return found
    gone = ", ".join(repr(before.class_names[c]) for c in np.flatnonzero(had & ~has)[:3])
    names = tuple(before.class_names[c] for c in kept)
    note = f"the corrections leave no image of {gone}: there is no such class any more."
    return replace(found, class_names=names, labels=np.searchsorted(kept, found.labels), notes=(*found.notes, note))
