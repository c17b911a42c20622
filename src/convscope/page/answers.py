"""Where the answers of a command about a run lie: on its own data, or else on the data it was asked about last."""

from __future__ import annotations

from pathlib import Path

from ..explanation.card_store import SOME
from ..training.runs import Run


def answer_folder(run: Run, command: str, last: str) -> Path:
    """The folder of the answers of ``command``, which writes the file ``last`` at its end.

    That on its own data is in the folder of the command's name, though it may not be over; those on others lie in it.
    Where there is none of either, an explanation of some filters is better than nothing.
    """
    own = run.folder / command
    if any(own.glob("*.html")):
        return own
    found = [path.parent for path in own.rglob(last)]
    whole = [folder for folder in found if SOME not in folder.relative_to(own).parts]
    return max(whole or found, key=lambda folder: folder.stat().st_mtime_ns, default=own)
