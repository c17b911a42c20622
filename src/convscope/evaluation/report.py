"""What an evaluation writes: JSON, the confusion matrix, calibration and mistakes. Computes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..canvas.figures import Drawing
from ..canvas.pages import with_notes
from ..folders import fresh_folder
from ..storage import commit_json, sweep_temporaries, write_derived
from . import drawing
from .opening import ANSWER
from .scoring import Evaluated

MISTAKES = 20  # images on the sheet of mistakes


@dataclass(frozen=True)
class EvaluationReport:
    """An evaluation that was written to ``folder``; ``evaluated`` holds every number, ``summary`` the printed ones."""

    evaluated: Evaluated
    folder: Path
    summary: dict[str, Any]

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
    def mistakes(self) -> Drawing | None:
        """The most confident mistakes; None when there are none."""
        found = self.evaluated.scores.mistakes[:MISTAKES]
        if not found:
            return None
        images = np.asarray(self.evaluated.dataset.images[self.evaluated.index[[m.index for m in found]]])
        return drawing.mistakes(images, found, self.evaluated.scores.classes)

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences to read."""
        return tuple(self.summary["notes"])

    def _repr_png_(self) -> bytes:
        return (self.confusion or self.calibration).png

    def _repr_html_(self) -> str:
        return with_notes(self.confusion or self.calibration, self.notes)


def write_evaluation(evaluated: Evaluated, folder: Path, summary: dict[str, Any]) -> EvaluationReport:
    """Write one evaluation: JSON and images into ``folder``, replaced whole."""
    report = EvaluationReport(evaluated, folder, summary)
    sweep_temporaries(folder.parent)
    with fresh_folder(folder) as place:
        commit_json(place / ANSWER, summary)
        images = {"confusion": report.confusion, "calibration": report.calibration, "mistakes": report.mistakes}
        for name, image in images.items():
            if image is not None:
                write_derived(place / f"{name}.png", image.png)
    return report
