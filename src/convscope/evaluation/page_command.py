"""`convscope report`: a run's page and its model card, written again from what the run's folder holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..models.user_network import model_words
from ..noted import Noted
from ..options import Runs, with_options
from ..spoken import quoted
from ..training.model_card import CARD
from ..training.page_report import PAGE, doctors_word, lacks, write_page
from ..training.runs import Run, find_run, runs_folder
from .opening import ANSWER


@dataclass(frozen=True)
class PageReport(Noted):
    """A page and a model card that were written; ``summary`` is printed."""

    TOLD = ("run", "page", "card")
    run: Run
    summary: dict[str, Any]

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return self.run.folder

    @property
    def page(self) -> Path:
        """The page: one file that needs no other."""
        return self.run.folder / PAGE


@with_options(Runs)
def report(run: str | Path, options: Runs) -> PageReport:
    """Write ``report.html`` and ``README.md``, a model card, of a RUN; returns where they are.

    UsageError for a run whose first epoch is not over, for a transfer that is not finished, and for one that left only
    the page itself.
    """
    found = find_run(str(run), runs_folder(options.runs))
    if (lacking := lacks(found)) is not None:
        raise UsageError(f"there is nothing to write of run {found.name!r}: {lacking}.")
    page = write_page(found)
    notes = []
    if not list(found.folder.glob(f"evaluate/*/{ANSWER}")):
        data = " DATA" if found.is_adopted() else ""
        does = f"convscope evaluate {quoted(found.folder)}{data}{model_words(_network(found))}"
        notes.append(f"nothing was measured on test images yet: {does} does it.")
    if not found.is_adopted() and doctors_word(found) is None:
        data = found.recipe().data.name
        notes.append(f"nobody has looked through its images for faults yet: convscope doctor {quoted(data)} does it.")
    summary = {"run": str(found.folder), "page": str(page), "card": str(found.folder / CARD), "notes": notes}
    return PageReport(found, summary)


def _network(run: Run) -> str:
    """The name of a run's network, by which it may be code of the user's own."""
    return str(run.description()["adopted"]["network"]) if run.is_adopted() else run.recipe().model.name
