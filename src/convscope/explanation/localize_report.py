"""What `localize` writes: JSON, a table of boxes and a sheet. Computes nothing."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..canvas.figures import Drawing
from ..noted import Noted
from ..storage import commit_json, commit_text, write_derived
from ..visible import cell, path_cell
from . import localize_drawing as drawing
from .boxes import Box
from .localize_drawing import Shown
from .scored_maps import Judged

ANSWER = "localize.json"
COLUMNS = "image class left top right bottom width height mask_share mask_iou box_iou used_for".split()


@dataclass(frozen=True)
class BoxRow:
    """The box of one image, ``size`` (width, height), in its own pixels; None where its map is the same everywhere.

    ``share`` of its pixels are in the mask; ``judged`` is what it is worth, where there is a mask to score it.
    """

    image: str
    class_name: str
    size: tuple[int, int]
    box: Box | None
    share: float
    judged: Judged | None = None

    def cells(self) -> list[str]:
        """Those of COLUMNS."""
        top, left, bottom, right = ("",) * 4 if self.box is None else map(str, self.box)
        worth = self.judged
        scores = ["", "", ""] if worth is None else [f"{worth.mask:.4f}", f"{worth.box:.4f}", worth.used_for]
        size = [str(side) for side in self.size]
        named = [path_cell(self.image), cell(self.class_name)]
        return [*named, left, top, right, bottom, *size, f"{self.share:.4f}", *scores]


@dataclass(frozen=True)
class LocalizeReport(Noted):
    """Boxes out of class maps, in ``folder``: ``boxes`` has one an image, ``summary`` what they are worth."""

    TOLD = ("run", "data", "images", "method")
    folder: Path
    summary: dict[str, Any]
    boxes: tuple[BoxRow, ...]
    sheet: Drawing | None = None

    def _repr_png_(self) -> bytes | None:
        return None if self.sheet is None else self.sheet.png


def write_localized(report: LocalizeReport, shown: Sequence[Shown], class_names: Sequence[str]) -> LocalizeReport:
    """Write the sheet, the table and, last, the JSON file; returns the report with its sheet."""
    scored = report.summary["scored"] is not None
    heading = "Masks and boxes out of class maps" + (": the best and the worst of those scored" if scored else "")
    sheet = drawing.overlays(shown, class_names, heading)
    write_derived(report.folder / "overlays.png", sheet.png)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([COLUMNS, *(row.cells() for row in report.boxes)])
    commit_text(report.folder / "boxes.csv", text.getvalue())
    commit_json(report.folder / ANSWER, report.summary)
    return replace(report, sheet=sheet)
