"""The lecture's claims with their verdicts, as far as they were run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import DamagedFile
from ..schemas import Schema, check_schema
from ..studies.registry import CLAIMS
from .left_out import left_out
from .served import Served

KEPT = (
    "claim",
    "sentence",
    "question",
    "expected",
    "size",
    "verdict",
    "words",
    "quantities",
    "notes",
    "seeds",
    "seconds",
)


class Quantity(Schema):
    """A number that a verdict rests on."""

    quantity: str
    told: str
    wanted: str


class Outcome(Schema):
    """What the page shows of an outcome."""

    claim: str
    size: str
    verdict: str
    quantities: list[Quantity]
    notes: list[str]
    seeds: list[int]
    seconds: float


def _outcome(served: Served, path: Path) -> dict[str, Any]:
    """What a file says; DamagedFile for another, and for a link, which may lead to any file of this machine."""
    if path.is_symlink():
        raise DamagedFile(f"{path} is a link.")
    box = served.json.read(path)
    check_schema(Outcome, box, path, "a claim's outcome")
    return box


def study_page(served: Served) -> dict[str, Any]:
    """Each claim, with the results of every size that was run."""
    found: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(served.folder.glob("study/*.json")):
        with left_out(path):
            box = _outcome(served, path)
            found.setdefault(box["claim"], []).append({key: box.get(key) for key in KEPT})
    rows = [
        {"name": name, "sentence": claim.sentence, "question": claim.question, "results": found.get(name, [])}
        for name, claim in CLAIMS.items()
    ]
    counts: dict[str, int] = {}
    for row in rows:
        for result in row["results"]:
            counts[result["verdict"]] = counts.get(result["verdict"], 0) + 1
    return {"claims": rows, "counts": counts}
