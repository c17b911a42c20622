"""Compare runs of one task other than classes on the same images, image by image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from ..classifying.classifier import Classifier
from ..errors import DataError
from ..portable import shortened
from ..storage import commit_json, make_folder
from ..tasks.paired import PairedFigure, paired_scores
from ..training.runs import Run
from .opening import COMPARISON, Looks
from .options import CompareOptions, EvaluateOptions
from .task_command import read_asked
from .task_scoring import TaskEvaluated, evaluate_task, task_of


@dataclass(frozen=True)
class _Scored:
    """A run, and what its answers are worth."""

    name: str
    classifier: Classifier
    evaluated: TaskEvaluated


def compare_tasks(
    opened: Sequence[tuple[str, Classifier, Run | None]], options: CompareOptions, looks: Looks
) -> dict[str, Any]:
    """The first run against each of the others on the same images; the summary is written beside the runs.

    DataError for runs of several tasks, or without images in common.
    """
    tasks = {classifier.task: name for name, classifier, _ in opened}
    if len(tasks) > 1:
        (one, first), (other, second) = list(tasks.items())[:2]
        raise DataError(f"{first} was trained for the task {one} and {second} for {other}: they cannot be compared.")
    scored = [_score(name, classifier, run, options, looks) for name, classifier, run in opened]
    first = scored[0]
    for other in scored[1:]:
        _check_same(first, other)
    task = task_of(first.classifier)
    pairs = [(first, other, paired_scores(first.evaluated.score, other.evaluated.score)) for other in scored[1:]]
    summary: dict[str, Any] = {
        "data": first.evaluated.dataset.name,
        "fingerprint": first.evaluated.dataset.fingerprint,
        "part": first.evaluated.part,
        "n": len(first.evaluated.index),
        "task": task.name,
        "metric": task.metric(first.classifier.class_names),
        "runs": [_row(one) for one in scored],
        "differences": [{"a": a.name, "b": b.name, **found.to_json()} for a, b, found in pairs],
        "sentences": [_sentence(a.name, b.name, found, task.better) for a, b, found in pairs],
        "notes": list(dict.fromkeys(note for one in scored for note in one.evaluated.dataset.notes)),
    }
    folder = looks.folder / shortened("-vs-".join(one.name for one in scored))
    summary["looks"] = looks.with_earlier(folder / COMPARISON)
    make_folder(folder)
    commit_json(folder / COMPARISON, summary)
    return {**summary, "folder": folder}


def _score(name: str, classifier: Classifier, run: Run | None, options: CompareOptions, looks: Looks) -> _Scored:
    shared = {f.name: getattr(options, f.name) for f in fields(CompareOptions) if f.name != "data"}
    dataset, same, change = read_asked(classifier, name, options.data, EvaluateOptions(**shared))
    if change and options.data is None:
        raise DataError(f"the data changed since {name} was trained: {change}. Name it with --data to compare on it.")
    part = options.part or ("test" if same or dataset.test_given else "all")
    if run is not None and same and part in ("test", "all"):  # before the pass: looking cannot be undone
        looks.log(run, part, len(dataset.subset(part, options.limit)))
    return _Scored(name, classifier, evaluate_task(classifier, dataset, part, options.limit, options.progress))


def _check_same(first: _Scored, other: _Scored) -> None:
    keys = [one.evaluated.dataset.keys[one.evaluated.index].tolist() for one in (first, other)]
    if keys[0] != keys[1] or first.classifier.class_names != other.classifier.class_names:
        raise DataError(
            f"{first.name} was trained on {first.evaluated.dataset.name} and {other.name} on "
            f"{other.evaluated.dataset.name}, or on other parts of it: name images that neither has seen, with --data."
        )


def _row(one: _Scored) -> dict[str, Any]:
    figure = one.evaluated.score.figure
    return {
        "name": one.name,
        "value": figure.value,
        "low": figure.low,
        "high": figure.high,
        "parameters": sum(p.numel() for p in one.classifier.network.parameters()),
        "image_size": one.classifier.preprocess.size,
    }


def _sentence(a: str, b: str, found: PairedFigure, better: str) -> str:
    """What a difference says; of errors a smaller one is better, and the figure of an image is its negative."""
    p = f"p = {found.p:.2g}" if found.p >= 0.001 else "p under 0.001"
    scale, unit = (100, " points") if better == "higher" else (1, "")
    if not found.sure:
        ends = f"{scale * found.difference:+.3g}{unit} [{scale * found.low:+.3g}, {scale * found.high:+.3g}]"
        return f"{a} and {b} do not differ {found.words} ({p}, n = {found.n:,}): {ends}."
    first, second, sign = (a, b, 1) if found.difference > 0 else (b, a, -1)
    low, high = sorted((sign * found.low, sign * found.high))
    return (
        f"{first} is better than {second} {found.words}, by {scale * sign * found.difference:.3g}{unit} "
        f"[{scale * low:.3g}, {scale * high:.3g}] ({p}, n = {found.n:,})."
    )
