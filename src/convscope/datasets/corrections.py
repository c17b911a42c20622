"""Corrections of a dataset, in a table beside it: images to leave out and labels to change, by what images hold.

The images themselves are never moved or changed. A corrections file is a CSV table with the columns ``hash`` (the
SHA-256 of a file, or of the pixels where there is no file), ``action`` (leave-out or relabel), ``label`` (the new one),
and ``reason`` and ``image`` for who reads it. ``check`` tells a line that rotted from one that convscope wrote: its
number and a hash of the first three cells. A line without one is a person's own, and a line may be struck out.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..errors import DataError, UnknownName
from ..storage import commit_bytes, sha256
from ..visible import cell, visible
from .table_reading import read_table
from .unsplit import Unsplit

COLUMNS = ("hash", "action", "label", "reason", "image", "check")
NONE = "none"  # in the place of check, where there is no line: else they are lost
CHECK = re.compile(r"([0-9]{1,9}) of ([0-9]{1,9}): ([0-9a-f]{8})")
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
    commit_bytes(path, corrections_bytes(corrections))


def corrections_bytes(corrections: Sequence[Correction]) -> bytes:
    """What a corrections file holds."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS if corrections else (*COLUMNS[:-1], NONE))
    for number, c in enumerate(corrections, 1):
        check = f"{number} of {len(corrections)}: {_hash(c, number, len(corrections))}"
        writer.writerow((c.digest, c.action, cell(c.label), cell(c.reason), cell(c.image), check))
    return text.getvalue().encode(errors="backslashreplace")


def _hash(correction: Correction, number: int, of: int) -> str:
    """Eight digits that another line, or another number of it, would change."""
    said = [correction.digest, correction.action, correction.label.strip(), number, of]
    return sha256(json.dumps(said).encode())[:8]


def struck_out(path: Path) -> int:
    """How many of the lines that convscope wrote into a corrections file are not there any more."""
    table = read_table(path, blanks=True)
    names = [name.lower() for name in table.header]
    if "check" not in names:
        return 0
    found = [CHECK.fullmatch(cells[names.index("check")].strip()) for cells in table.rows]
    return max((int(m[2]) for m in found if m), default=0) - len({m[1] for m in found if m})


def read_corrections(path: Path) -> list[Correction]:
    """The corrections in a file, one for each content. Raises DataError naming the line that does not fit."""
    if not path.exists():
        raise DataError(f"{path}, the corrections, does not exist; if it was moved, name it with --corrections.")
    table = read_table(path, blanks=True)
    names = [name.lower() for name in table.header]
    if not {"hash", "action"} <= set(names):
        told = ", ".join(table.header)
        raise DataError(f"{path} is no corrections file: it needs the columns hash, action and label, and has {told}.")
    if not table.rows and "check" in names:
        raise DataError(f"{path} holds no line, and some were written: if you struck out all, do without the file.")
    found: dict[str, tuple[int, Correction]] = {}
    for line, cells in zip(table.lines, table.rows, strict=True):
        correction = _correction(path, line, dict(zip(names, cells, strict=True)))
        first, before = found.setdefault(correction.digest, (line, correction))
        if (before.action, before.label) != (correction.action, correction.label):
            raise DataError(f"{path}, lines {first} and {line}, ask for two things of one image: keep one of them.")
    return [correction for _, correction in found.values()]


def _correction(path: Path, line: int, cells: dict[str, str]) -> Correction:
    row = {name: text.strip() for name, text in cells.items()}
    digest, action = row["hash"].lower(), row["action"].lower()
    if len(digest) != 64 or not set(digest) <= HEX:
        raise DataError(f"{path}, line {line}: {digest[:40]!r} is no SHA-256 of 64 hexadecimal digits.")
    if action not in ACTIONS:
        raise DataError(f"{path}, line {line}: action {action[:40]!r} is neither {' nor '.join(ACTIONS)}.")
    label = cells["label"] if row.get("label") else ""  # a class may have a blank at an end of its name
    correction = Correction(digest, action, label, row.get("reason", ""), row.get("image", ""))
    _check(path, line, correction, row.get("check", ""))
    if action == RELABEL and not label:
        raise DataError(f"{path}, line {line}: relabel needs a label.")
    return correction


def _check(path: Path, line: int, correction: Correction, check: str) -> None:
    """DataError where a line that convscope wrote says something else now."""
    found = CHECK.fullmatch(check)
    if check and (found is None or _hash(correction, int(found[1]), int(found[2])) != found[3]):
        raise DataError(f"{path}, line {line}, is not what was written: if you changed it, empty its cell under check.")


def corrected(
    unsplit: Unsplit, digests_N32: np.ndarray, corrections: Sequence[Correction], source: str, struck: int = 0
) -> tuple[Unsplit, np.ndarray]:
    """The images with the corrections applied, and their hashes; a note says how many. UnknownName for a new label.

    ``struck`` lines of the file are not there any more, which the note says too.
    """
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
        if unsplit.targets is not None:
            raise DataError(
                f"{source} relabels images that have no class each: leave them out, or mend what they are given."
            )
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
    note += f"; {strange:,} {'is of an image' if strange == 1 else 'are of images'} not here" if strange else ""
    lines = "line that was written is" if struck == 1 else "lines that were written are"
    note += f"; {struck:,} {lines} not there any more" if struck > 0 else ""
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
