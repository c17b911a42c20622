"""Runs side by side: their curves, what their recipes have otherwise, and the paired tests that were made."""

from __future__ import annotations

from typing import Any

from ..errors import ConvscopeError
from ..evaluation.comparing import recipe_difference
from .left_out import left_out
from .run_view import run_page
from .served import Served


def compare_page(served: Served, run: list[str] | tuple[str, ...] = ()) -> dict[str, Any]:
    """The runs that were picked; a comparison that was computed is shown where it holds two of them."""
    names = list(dict.fromkeys(run))
    pages = [run_page(served, name) for name in names]
    differences = [
        {"a": names[0], "b": name, "options": recipe_difference(pages[0]["recipe"], page["recipe"])}
        for name, page in zip(names[1:], pages[1:], strict=True)
    ]
    keys = ("run", "kind", "problem", "summary", "way", "curves", "evaluations", "recipe")
    return {
        "picked": names,
        "runs": [{key: page[key] for key in keys} for page in pages],
        "differences": differences,
        "tests": _tests(served, names),
    }


def _tests(served: Served, names: list[str]) -> list[dict[str, Any]]:
    """What `convscope compare` found about two of these runs or more."""
    folders = {served.run(name).folder.name for name in names}
    found = []
    for path in sorted(served.folder.glob("compare/*/comparison.json")):
        with left_out(path, ConvscopeError, KeyError, TypeError):
            box = served.json.read(path)
            members = {member for row in box["runs"] for member in row["members"]}
            if len(members & folders) > 1:
                keys = ("data", "part", "n", "runs", "sentences", "known_duplicates")
                found.append({key: box[key] for key in keys})
    return found
