"""`convscope export`: a run as one file that predicts the same elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..classifying.classifier import Classifier
from ..evaluation.opening import home_of, open_classifier
from ..models.pretrained import licence_note
from ..noted import Noted
from ..options import with_options
from ..training.runs import runs_folder
from .formats import Exported, export_classifier
from .options import ExportOptions


@dataclass(frozen=True)
class ExportReport(Noted):
    """What was exported, and the ``summary`` that is printed."""

    TOLD = ("format", "bytes", "max_difference", "tolerance", "classes", "image_size")
    exported: Exported
    summary: dict[str, Any]

    @property
    def folder(self) -> Path:
        """Where the files are."""
        return self.exported.files[0].parent


@with_options(ExportOptions)
def export(run: str | Classifier, options: ExportOptions) -> ExportReport:
    """Write a RUN as ``onnx`` with a plain script beside it, or as ``safetensors``; by default into its ``export``.

    The file is only written when it answers 16 generated images as the network does. Of a network that finds boxes the
    ``onnx`` file gives a box and scores for each place, and the script drops those that overlap.
    """
    classifier, found = open_classifier(run, options.runs, options.model, options.weights, any_task=True)
    home = found.folder if found else runs_folder(options.runs) / home_of(run)
    exported = export_classifier(classifier, options.output or home / "export", home.name, options.format)
    licence = classifier.provenance.get("licence")
    notes = [licence_note(home.name, licence) if licence else None, _of_boxes(classifier, options.format)]
    summary = {
        "run": run if isinstance(run, str) else home.name,
        "format": options.format,
        "files": [str(path) for path in exported.files],
        "bytes": exported.bytes,
        "max_difference": exported.max_difference,
        "tolerance": exported.tolerance,
        "classes": len(classifier.class_names),
        "image_size": classifier.preprocess.size,
        "notes": [note for note in notes if note],
    }
    return ExportReport(exported, summary)


def _of_boxes(classifier: Classifier, format: str) -> str | None:
    if classifier.task != "detection" or format != "onnx":
        return None
    return (
        "the ONNX file gives the scores and the box of each place; the script beside it drops those that overlap or "
        "stay below the threshold."
    )
