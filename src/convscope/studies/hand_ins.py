"""Many people's outcomes of the lecture's claims, side by side: their verdicts, seeds, data and versions.

Each is a file ``runs/study/CLAIM-SIZE.json`` as `convscope study` wrote it. Its seal tells that it is as it was
written; it is no signature, for whoever reads this code can make another.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from ..errors import DamagedFile, DataError, UsageError
from ..reading import parse_bounded, read_regular_text
from ..schemas import Schema, check_schema
from ..storage import expanded, read_json

MOST = 10_000  # files
LARGEST = 8 * 2**20  # bytes of one: larger ones in a folder are none
RECIPE = "recipe.json"  # in the folder of a run


class HandedQuantity(Schema):
    """A number that a verdict rests on."""

    quantity: str
    told: str


class HandedData(Schema):
    """The images that were used."""

    name: str
    fingerprint: str


class HandedIn(Schema):
    """An outcome; what is not named here is let through unread."""

    claim: str
    size: str
    verdict: str
    quantities: list[HandedQuantity]
    interrupted: bool
    seeds: list[int]
    data: HandedData | None
    training_seconds: float
    versions: dict[str, str]
    machine: dict[str, str | int | float | None]


@dataclass(frozen=True)
class HandIn:
    """One outcome, and whose it is: the folder or the file that it came in."""

    who: str
    path: Path
    said: HandedIn


def is_hand_in(given: str, runs: Path) -> bool:
    """Whether a name is that of a JSON file, or of a folder that is no run, and none of the ``runs`` has that name.

    UsageError for a page, which is no JSON.
    """
    path = expanded(given)
    if os.path.isfile(runs / given / RECIPE):
        return False
    if path.is_dir():
        return not (path / RECIPE).exists()
    if path.suffix.lower() in (".html", ".htm") and path.exists():
        raise UsageError(f"{path} is a page to be read: compare the JSON files of a study, which lie beside it.")
    return path.suffix.lower() == ".json"


def read_hand_ins(given: Sequence[str | Path]) -> tuple[list[HandIn], list[tuple[Path, str]]]:
    """The outcomes in these files and folders, and the files that hold none, each with the reason.

    What lies in a run, and other JSON in a folder, is passed over. UsageError where there is no JSON file at all.
    """
    files = _files(given)
    if not files:
        raise UsageError("there is no JSON file to compare: name those that `convscope study` wrote, or their folder.")
    found, refused = [], []
    for who, path in _named(files, [expanded(one) for one in given]):
        try:
            if path.is_symlink() and path not in map(expanded, given):
                raise DamagedFile(f"{path} is a link, which may lead to any file of this machine.")
            said = check_schema(HandedIn, read_json(path), path, "a claim's outcome")
        except (DamagedFile, DataError) as error:
            refused.append((path, str(error)))
        else:
            found.append(HandIn(who, path, said))
    return _told_apart(found), refused


def _told_apart(found: Sequence[HandIn]) -> list[HandIn]:
    """The outcomes; where somebody has two of one claim, the files' names are added to theirs."""
    count = Counter((one.who, one.said.claim, one.said.size) for one in found)
    twice = [one for one in found if count[one.who, one.said.claim, one.said.size] > 1]
    root = Path(os.path.commonpath([one.path.resolve().parent.parent for one in twice])) if twice else Path()
    return [replace(one, who=one.path.resolve().relative_to(root).as_posix()) if one in twice else one for one in found]


def _files(given: Iterable[str | Path]) -> list[Path]:
    found: dict[Path, None] = {}
    for one in given:
        path = expanded(one)
        if not path.exists() and path.suffix.lower() != ".json":
            raise UsageError(f"there is no file or folder {path}.")
        inside = list(islice(path.rglob("*.json"), MOST + 1)) if path.is_dir() else [path]
        if len(found) + len(inside) > MOST:
            raise UsageError(f"these are more than {MOST:,} JSON files: name a folder with {MOST:,} at most.")
        found |= dict.fromkeys(file for file in sorted(inside) if not path.is_dir() or _may_be(file, path))
    return list(found)


def _may_be(file: Path, folder: Path) -> bool:
    """Whether a file within a folder may be an outcome: not one of a run's, nor JSON that names no claim."""
    if any((parent / RECIPE).exists() for parent in file.parents if parent.is_relative_to(folder)):
        return False
    try:
        if not file.is_symlink() and file.stat().st_size > LARGEST:
            return False
        box = parse_bounded(read_regular_text(file)) if not file.is_symlink() else None
    except (DamagedFile, OSError, ValueError, RecursionError):
        return True  # why it is none is told
    return not isinstance(box, dict) or "claim" in box


def _named(files: Sequence[Path], given: Sequence[Path]) -> list[tuple[str, Path]]:
    """Each file with whose it is: the folders in which it lies under what was named, or its own name without any."""
    folders = [path if path.is_dir() else path.parent for path in given]
    root = Path(os.path.commonpath([folder.resolve() for folder in folders]))
    named = []
    for path in files:
        inside = path.parent.resolve().relative_to(root).parts
        inside = inside[:-1] if inside[-1:] == ("study",) else inside
        named.append(("/".join(inside) or path.stem, path))
    return named


def side_by_side(found: Sequence[HandIn], refused: Sequence[tuple[Path, str]]) -> dict[str, Any]:
    """What is told of hand-ins: by claim and size each one's verdict and what it rests on, and what is odd."""
    claims: dict[tuple[str, str], list[HandIn]] = {}
    for one in found:
        claims.setdefault((one.said.claim, one.said.size), []).append(one)
    return {
        "hand_ins": len(found),
        "claims": [
            {
                "claim": claim,
                "size": size,
                "agree": len({one.said.verdict for one in rows}) == 1,
                "rows": [_row(one) for one in rows],
            }
            for (claim, size), rows in sorted(claims.items())
        ],
        "refused": [{"path": str(path), "error": error} for path, error in refused],
        "notes": [note for _, rows in sorted(claims.items()) for note in _odd(rows)],
    }


def _row(one: HandIn) -> dict[str, Any]:
    said = one.said
    return {
        "who": one.who,
        "path": str(one.path),
        "verdict": said.verdict,
        "told": [f"{q.quantity}: {q.told}" for q in said.quantities],
        "interrupted": said.interrupted,
        "seeds": said.seeds,
        "data": said.data.fingerprint if said.data else None,
        "versions": said.versions,
        "machine": said.machine.get("device"),
        "training_seconds": said.training_seconds,
    }


def _odd(rows: Sequence[HandIn]) -> list[str]:
    """Sentences on what makes hand-ins of one claim incomparable, or the same."""
    name = rows[0].said.claim
    notes = [
        f"{name}: {told}"
        for told in (
            _unlike(rows, "images", lambda said: said.data.fingerprint if said.data else ""),
            _unlike(rows, "versions", lambda said: str(sorted(said.versions.items()))),
            _unlike(rows, "seeds", lambda said: str(said.seeds)),
        )
        if told
    ]
    same: dict[float, list[str]] = {}
    for one in rows:
        if one.said.training_seconds:
            same.setdefault(one.said.training_seconds, []).append(one.who)
    notes += [
        f"{name}: {_list(who)} took the same time to a millionth of a second: they are one training, handed in "
        f"{'twice' if len(who) == 2 else f'{len(who)} times'}."
        for who in same.values()
        if len(who) > 1
    ]
    return notes


def _unlike(rows: Sequence[HandIn], what: str, value: Callable[[HandedIn], str]) -> str:
    """Who used other ``what`` than most, or where there are no most, who used which; nothing where all agree."""
    groups: dict[str, list[HandIn]] = {}
    for one in rows:
        groups.setdefault(value(one.said), []).append(one)
    common, *others = sorted(groups.values(), key=len, reverse=True)
    if not others:
        return ""
    which = _differing(common[0], others[0][0]) if what == "versions" and len(others) == 1 else ""
    if len(common) > len(others[0]):
        return f"{_list([one.who for group in others for one in group])} used other {what}{which} than most."
    told = "; ".join(_list([one.who for one in group]) for group in (common, *others))
    return f"these used different {what}{which}: {told}."


def _differing(a: HandIn, b: HandIn) -> str:
    """The versions in which two differ, in brackets: b's, and a's."""
    names = sorted({*a.said.versions, *b.said.versions})
    told = [(n, b.said.versions.get(n, "none"), a.said.versions.get(n, "none")) for n in names]
    return f" ({', '.join(f'{n} {theirs}, not {ours}' for n, theirs, ours in told if ours != theirs)})"


def _list(names: Sequence[str]) -> str:
    shown = ", ".join(names[:5])
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown
