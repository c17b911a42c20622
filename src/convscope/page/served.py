"""What one start of the page serves: runs by name, and what was computed about them. Everything is read when asked for.

Nothing that a browser sends is ever opened: a name is looked for among those that are there.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import UnknownName
from ..training.runs import Run, find_run, list_runs
from .kept_json import KeptJson


@dataclass(frozen=True)
class Served:
    """The runs of a folder, or only those that were ``named``; ``token`` is that of this start."""

    folder: Path
    named: Mapping[str, Run] | None = None
    token: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    json: KeptJson = field(default_factory=KeptJson)

    def runs(self) -> dict[str, Run]:
        """The runs by the name that their address has, in order."""
        if self.named is not None:
            return dict(self.named)
        return {name: Run(self.folder / name) for name in list_runs(self.folder)}

    def run(self, name: str) -> Run:
        """The run of that name. UnknownName where it is not served, DamagedFile for one with a link in it."""
        runs = self.runs()
        if name not in runs:
            raise UnknownName("run", name, runs)
        return find_run(str(runs[name].folder.resolve()), self.folder)


def serve_named(names: Sequence[str], folder: Path) -> dict[str, Run] | None:
    """The runs named by name or path; of two of one name the second is told apart by a number. None for all."""
    found: dict[str, Run] = {}
    for given in names:
        run = find_run(given, folder)
        name, number = run.name, 2
        while name in found:
            name, number = f"{run.name}-{number}", number + 1
        found[name] = run
    return found or None
