"""A model card in the form of Hugging Face's hub (Mitchell and others 2019, arXiv:1810.03993): Markdown under YAML."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from ..classifying.classifier import CLASSES
from ..visible import visible
from .rerunning import rerun_command
from .runs import Run
from .task_page import shown

CARD = "README.md"
TEMPLATE = Path(__file__).with_name("model_card.md")
HUB_TASKS = {"segmentation": "image-segmentation", "detection": "object-detection"}
ANSWERS = {  # what a network of each task is, and what it says of an image
    CLASSES: ("An image classifier", "It answers with one of"),
    "segmentation": ("A network that tells the class of each pixel", "It answers each pixel with one of"),
    "detection": ("A network that finds objects", "It draws boxes around objects of"),
    "multi_label": ("A network that tells which labels an image has", "It answers with some of"),
    "regression": ("A network that tells a number of an image", "It answers with"),
}
_MARKS = re.compile(r"([\\`*_{}\[\]()#+!|<>~$&-])")


def card_of(run: Run, evaluations: list[dict[str, Any]]) -> str:
    """The card of a run with these evaluations, as ``evaluation.json`` has them, each of the run's own task."""
    from jinja2 import Environment, FileSystemLoader

    description = run.description()
    environment = Environment(
        loader=FileSystemLoader(TEMPLATE.parent), trim_blocks=True, lstrip_blocks=True, autoescape=False
    )
    environment.filters["plain"] = plain
    classifier = _classifier(run)
    return environment.get_template(TEMPLATE.name).render(
        name=run.name,
        metadata=_yaml(_metadata(run, classifier, evaluations)),
        description=description,
        classifier=classifier,
        is_of_classes=_task(classifier) == CLASSES,
        answers=ANSWERS.get(_task(classifier), ANSWERS[CLASSES]),
        evaluations=evaluations if _task(classifier) == CLASSES else [shown(e) for e in evaluations],
        command=rerun_command(run) if run.log() else None,
        openings=len(run.openings()),
    )


def plain(value: Any) -> str:
    """A text in which Markdown finds no marks, and HTML no tags."""
    return _MARKS.sub(r"\\\1", visible(str(value)))


def _classifier(run: Run) -> dict[str, Any]:
    """What the classifier's file says of itself, its tensors left unread."""
    from ..classifying.classifier import FILE_NAME
    from ..tensor_files import read_header

    path = run.folder / FILE_NAME
    return read_header(path).meta if path.exists() else {"classes": [], "provenance": {}}


def _task(classifier: dict[str, Any]) -> str:
    return str(classifier.get("task", CLASSES))


def _metadata(run: Run, classifier: dict[str, Any], evaluations: list[dict[str, Any]]) -> dict[str, Any]:
    """What the hub reads: see its documentation of model cards."""
    task = _task(classifier)
    kind = HUB_TASKS.get(task, "image-classification")
    metadata: dict[str, Any] = {
        "library_name": "convscope",
        "pipeline_tag": kind,
        "tags": [kind, "convscope"],
        "metrics": ["accuracy"] if task == CLASSES else sorted({str(e["metric"]) for e in evaluations}),
    }
    if licence := classifier["provenance"].get("licence"):
        metadata |= {"license": "other", "license_name": str(licence)}
    results = [
        {
            "task": {"type": kind},
            "dataset": {"name": e["data"], "type": "image-folder", "split": e["part"]},
            "metrics": [
                {"type": "accuracy", "value": e["top1"], "name": "top-1"}
                if task == CLASSES
                else {"type": e["metric"], "value": e[e["metric"]], "name": e["metric"]}
            ],
        }
        for e in evaluations
    ]
    if results:
        metadata["model-index"] = [{"name": run.name, "results": results}]
    return metadata


def _yaml(values: dict[str, Any]) -> str:
    """Each value as JSON, which is YAML: no text can end it."""
    return "\n".join(f"{name}: {json.dumps(value)}" for name, value in values.items())
