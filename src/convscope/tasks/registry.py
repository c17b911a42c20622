"""The tasks by name: one file and one line each."""

from __future__ import annotations

from . import classification, detection, multi_label, regression, segmentation
from .task import Task

TASKS: dict[str, Task] = {
    "classification": classification.TASK,
    "multi_label": multi_label.TASK,
    "regression": regression.TASK,
    "detection": detection.TASK,
    "segmentation": segmentation.TASK,
}
