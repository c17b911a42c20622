"""What an evaluation writes: JSON, the confusion matrix, calibration and mistakes. Computes nothing."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..canvas.figures import Drawing
from ..canvas.sprites import fitted, sprite
from ..classifying.calibration import Calibrated
from ..classifying.metrics import mistakes_of
from ..classifying.prediction import Prediction, Unreadable
from ..errors import UsageError
from ..folders import fresh_folder
from ..noted import Noted
from ..reading import open_regular
from ..storage import commit_json, write_derived
from ..visible import cell, path_cell
from . import drawing
from .opening import ANSWER
from .scoring import Evaluated
from .task_answers import OF_TASKS, Answer, task_csv

MISTAKES = 20  # images on the sheet of mistakes
WRONG, ACROSS = 1024, 32  # mistakes that a page shows, and how many in a row of their file
SIDE = 64  # px of such an image
SECOND = ("label", "labels", "value", "error")  # column of a table of answers; of masks, a share
MOST_HEADER = 1 << 20  # bytes of a table's first line
SHOWN = 50  # answers that a notebook shows


@dataclass(frozen=True)
class EvaluationReport(Noted):
    """An evaluation that was written to ``folder``; ``evaluated`` holds every number, ``summary`` the printed ones."""

    TOLD = ("data", "part", "n", "top1", "top1_low", "top1_high", "loss")
    evaluated: Evaluated
    folder: Path
    summary: dict[str, Any]
    at_temperature: Calibrated | None = None

    @cached_property
    def confusion(self) -> Drawing | None:
        """The confusion matrix; None above 1000 classes."""
        scores = self.evaluated.scores
        return drawing.confusion(scores.confusion, scores.classes) if scores.confusion is not None else None

    @cached_property
    def calibration(self) -> Drawing:
        """Tell how far a probability can be believed."""
        return drawing.calibration(self.evaluated.scores.calibration)

    @cached_property
    def calibrated(self) -> Drawing | None:
        """The same at the temperature; None where none was fitted."""
        found = self.at_temperature
        return drawing.calibration(found.reliability, found.temperature) if found else None

    @cached_property
    def mistakes(self) -> Drawing | None:
        """The most confident mistakes; None when there are none."""
        found = self.evaluated.scores.mistakes[:MISTAKES]
        if not found:
            return None
        images = np.asarray(self.evaluated.dataset.images[self.evaluated.index[[m.index for m in found]]])
        return drawing.mistakes(images, found, self.evaluated.scores.classes)

    def _repr_png_(self) -> bytes:
        return (self.confusion or self.calibration).png


class Predictions(Noted, list[Prediction | Answer]):
    """The answers to images, in their order, with ``notes``; a notebook shows the likeliest class of each."""

    def __init__(self, answers: Iterable[Prediction | Answer], notes: Iterable[str] = ()) -> None:
        super().__init__(answers)
        self.summary = {"notes": list(notes)}

    def csv(self) -> str:
        """Comma-separated values, one line an image under a header."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        if any(isinstance(answer, OF_TASKS) for answer in self):
            return task_csv(self)
        writer.writerow(["path", "label", "probability", "error"])
        for row in (answer.to_json() for answer in self):
            told = [cell(str(row.get("label", ""))), row.get("probability", ""), cell(str(row.get("error", "")))]
            writer.writerow([path_cell(str(row["path"])), *told])
        return text.getvalue()

    def told(self) -> Iterable[tuple[str, str]]:
        """Each image, and what is on it, or why it cannot be read."""
        for answer in self[:SHOWN]:
            if isinstance(answer, Unreadable):
                yield answer.path, answer.error
            elif isinstance(answer, Prediction):
                yield answer.path, f"{answer.label} {100 * answer.probability:.1f} %"
            else:
                yield answer.path, answer.words()
        if len(self) > SHOWN:
            yield "...", f"and {len(self) - SHOWN} more"


def check_replaced(path: Path) -> None:
    """UsageError where a file that is no table of answers would be replaced by one."""
    if not path.is_file() or not path.stat().st_size:
        return
    with open_regular(path) as handle:
        header = handle.readline(MOST_HEADER).decode("utf-8-sig", errors="replace").strip().split(",")
    known = header[1:2] and (header[1] in SECOND or header[1].startswith("share("))
    if header[0] != "path" or header[-1] != "error" or not known:
        raise UsageError(f"{path} is there and holds no answers, and is not replaced by them: name another file.")


def write_evaluation(report: EvaluationReport) -> EvaluationReport:
    """Write one evaluation: JSON and images into its folder, replaced whole; returns it."""
    folder, summary = report.folder, report.summary
    with fresh_folder(folder) as place:
        commit_json(place / ANSWER, summary)
        _write_wrong(report.evaluated, place)
        for name in ("confusion", "calibration", "calibrated", "mistakes"):
            image = getattr(report, name)
            if image is not None:
                write_derived(place / f"{name}.png", image.png)
    return report


def _write_wrong(evaluated: Evaluated, folder: Path) -> None:
    """The mistakes, as many as a page shows, and small images of them: what the cells of the confusion open."""
    found = mistakes_of(evaluated.logits.numpy(), evaluated.labels.numpy(), WRONG)
    dataset, index = evaluated.dataset, evaluated.index
    rows = [asdict(mistake) | {"origin": dataset.origins(int(index[mistake.index]))} for mistake in found]
    commit_json(folder / "wrong.json", {"across": ACROSS, "mistakes": rows})
    if found:
        side = max(SIDE // 2, min(SIDE, dataset.preprocess.size))
        images = [fitted(np.asarray(dataset.images[index[mistake.index]]), side) for mistake in found]
        lines = [images[i : i + ACROSS] for i in range(0, len(images), ACROSS)]
        write_derived(folder / "wrong.jpg", sprite(lines, side, ACROSS))
