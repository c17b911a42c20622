"""Which run `last` is: its name in a sealed file beside the runs, for a name that rots may be that of another run."""

from __future__ import annotations

import os
import re
from pathlib import Path

from ..errors import DamagedFile, UsageError
from ..reading import open_regular
from ..storage import commit_json, read_json

LAST = ".last"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")  # what a run may be called


def point_at(folder: Path, name: str) -> None:
    """Make ``last`` mean the run of that name in a folder of runs."""
    commit_json(folder / LAST, {"run": name})


def pointed_at(folder: Path) -> str:
    """The name of the last run in a folder; earlier versions wrote it plain. UsageError where there is none yet."""
    pointer = folder / LAST
    if not os.path.exists(pointer):
        raise UsageError(f"there is no last run in {folder}; train one, or say where runs are with --runs.")
    with open_regular(pointer) as handle:
        text = handle.read(200).decode(errors="replace").strip()
    name = text if NAME.fullmatch(text) else str(read_json(pointer).get("run"))
    if not NAME.fullmatch(name):
        raise DamagedFile(f"{pointer} does not name a run.")
    return name
