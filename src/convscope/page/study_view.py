"""The lecture's claims with their verdicts, as far as they were run."""

from __future__ import annotations

from typing import Any

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


def study_page(served: Served) -> dict[str, Any]:
    """Each claim, with the results of every size that was run."""
    found: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(served.folder.glob("study/*.json")):
        with left_out(path, KeyError):
            box = served.json.read(path)
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
