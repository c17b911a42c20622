"""The evaluations that a run's folder tells of."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import DamagedFile
from ..storage import read_json
from .runs import Run


def told_evaluations(run: Run, left_out: list[str] | None = None) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Each evaluation, its file and figures. What rotted is told to what is ``left_out``; DamagedFile without that."""
    for path in sorted(run.folder.glob("evaluate/*/evaluation.json")):
        try:
            yield path, read_json(path)
        except DamagedFile as error:
            if left_out is None:
                raise
            left_out.append(f"{error} Evaluate again on these images, or remove the file.")
