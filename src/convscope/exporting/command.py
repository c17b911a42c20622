"""`convscope export`: a run as one file that predicts the same elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..evaluation.opening import home_of, open_classifier
from ..training.runs import runs_folder
from .formats import Exported, export_classifier


@dataclass(frozen=True)
class ExportReport:
    """What was exported, and the ``summary`` that is printed."""

    exported: Exported
    summary: dict[str, Any]


def export(
    run: str,
    *,
    format: str = "onnx",
    output: Path | None = None,
    model: str | None = None,
    weights: Path | None = None,
    runs: Path | None = None,
) -> ExportReport:
    """Write a RUN as ``onnx`` with a plain script beside it, or as ``safetensors``; by default into its ``export``.

    The file is only written when it answers 16 generated images as the network does.
    """
    classifier, found = open_classifier(run, runs, model, weights)
    home = found.folder if found else runs_folder(runs) / home_of(run)
    exported = export_classifier(classifier, output or home / "export", home.name, format)
    summary = {
        "run": run,
        "format": format,
        "files": [str(path) for path in exported.files],
        "bytes": exported.bytes,
        "max_difference": exported.max_difference,
        "tolerance": exported.tolerance,
        "classes": len(classifier.class_names),
        "image_size": classifier.preprocess.size,
    }
    return ExportReport(exported, summary)
