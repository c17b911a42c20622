"""Many people's outcomes of the lecture's claims, side by side: their verdicts, seeds, data and versions.

Each is a file ``runs/study/CLAIM-SIZE.json`` as `convscope study` wrote it. Its seal tells that it is as it was
written; it is no signature, for whoever reads this code can make another.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DamagedFile, DataError, UsageError
from ..schemas import Schema, check_schema
from ..storage import expanded, read_json

MOST = 10_000  # files


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


def is_hand_in(given: str) -> bool:
    """Whether a name is that of a JSON file, or of a folder that holds some and is no run."""
    path = expanded(given)
    if path.is_dir():
        return not (path / "recipe.json").exists() and any(path.rglob("*.json"))
    return path.suffix.lower() == ".json"


def read_hand_ins(given: Sequence[str | Path]) -> tuple[list[HandIn], list[tuple[Path, str]]]:
    """The outcomes in these files and folders, and the files that hold none, each with the reason.

    UsageError where there is no JSON file at all.
    """
    files = _files(given)
    if not files:
        raise UsageError("there is no JSON file to compare: name those that `convscope study` wrote, or their folder.")
    found, refused = [], []
    for who, path in _named(files):
        try:
            if path.is_symlink() and path not in map(expanded, given):
                raise DamagedFile(f"{path} is a link, which may lead to any file of this machine.")
            said = check_schema(HandedIn, read_json(path), path, "a claim's outcome")
        except (DamagedFile, DataError) as error:
            refused.append((path, str(error)))
        else:
            found.append(HandIn(who, path, said))
    return found, refused


def _files(given: Iterable[str | Path]) -> list[Path]:
    found: dict[Path, None] = {}
    for one in given:
        path = expanded(one)
        inside = sorted(path.rglob("*.json")) if path.is_dir() else [path]
        found |= dict.fromkeys(inside)
    if len(found) > MOST:
        raise UsageError(f"these are {len(found):,} JSON files: name a folder with {MOST:,} at most.")
    return list(found)


def _named(files: Sequence[Path]) -> list[tuple[str, Path]]:
    """Each file with whose it is: the folders that tell it from the others, or its name where all lie in one."""
    folders = {path.parent for path in files}
    if len(folders) == 1:
        return [(path.stem, path) for path in files]
    root = Path(os.path.commonpath([folder.resolve() for folder in folders]))
    return [(path.parent.resolve().relative_to(root).as_posix().replace("/study", ""), path) for path in files]


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
    name, notes = rows[0].said.claim, []
    for what, values in (
        ("other images", {one.who: one.said.data.fingerprint if one.said.data else "" for one in rows}),
        ("other versions", {one.who: str(sorted(one.said.versions.items())) for one in rows}),
        ("other seeds", {one.who: str(one.said.seeds) for one in rows}),
    ):
        common = max(set(values.values()), key=list(values.values()).count)
        others = [who for who, value in values.items() if value != common]
        if others:
            notes.append(f"{name}: {_list(others)} used {what} than most.")
    same: dict[tuple[float, ...], list[str]] = {}
    for one in rows:
        if one.said.training_seconds:
            same.setdefault((one.said.training_seconds,), []).append(one.who)
    notes += [
        f"{name}: {_list(who)} took the same time to a millionth of a second: they are one training, handed in twice."
        for who in same.values()
        if len(who) > 1
    ]
    return notes


def _list(names: Sequence[str]) -> str:
    shown = ", ".join(names[:5])
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown
