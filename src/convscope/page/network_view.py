"""The network of a run as the lecture's table: shapes, parameters, work, and how much of an image each layer sees."""

from __future__ import annotations

import functools
from dataclasses import asdict
from typing import Any

from ..errors import ConvscopeError
from ..training.runs import Run
from .explained import layers_of
from .run_view import head_of
from .served import Served
from .stamps import Stamp, stamp


def network_page(served: Served, run: str) -> dict[str, Any]:
    """The rows of the lecture's table, and which of them were explained."""
    found = served.run(run)
    head = head_of(served, run)
    explained = layers_of(served, found)
    shown: dict[str, Any] = {**head, "layers": explained, "rows": [], "size": None, "rules": [], "totals": None}
    try:
        seen = stamp(found.folder / "classifier.safetensors")
        if seen:
            return shown | _table(found, seen)
        shown["problem"] = head["problem"] or f"it has no classifier yet: {found.unfinished()}."
    except ConvscopeError as error:
        shown["problem"] = str(error)
    return shown


@functools.lru_cache(maxsize=32)
def _table(run: Run, seen: Stamp) -> dict[str, Any]:
    """The table of a classifier's network, kept while its file is the same."""
    from ..models.layer_table import lecture_rows, ledger

    classifier = run.classifier()
    size = classifier.preprocess.size
    book = ledger(classifier.network, size)
    rows = [asdict(row) for row in lecture_rows(book)]
    totals = {
        "parameters": book.parameters,
        "multiply_adds": book.multiply_adds,
        "activation_bytes": book.activation_bytes,
    }
    return {"rows": rows, "size": size, "rules": list(book.rules), "totals": totals}
