"""Compare runs on the same images: each is asked once, and then all are set against the first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..classifying.classifier import CLASSES, Classifier
from ..errors import DataError, UsageError
from ..models.user_network import check_needed, is_own
from ..noted import Noted
from ..options import with_options
from ..portable import shortened
from ..progress import counted
from ..recipes import Recipe
from ..storage import commit_json, make_folder
from ..training.runs import Run, runs_folder
from ..training.seen import which_seen
from .comparing import Group, compare_groups, grouped, recipe_difference
from .opening import COMPARISON, Looks, home_of, open_classifier, read_data
from .options import CompareOptions, EvaluateOptions
from .scoring import Evaluated
from .scoring import evaluate as evaluate_classifier
from .task_compare_command import compare_tasks


@dataclass(frozen=True)
class CompareReport(Noted):
    """Runs compared on the same images, the first with each of the others; ``summary`` is what was written."""

    TOLD = ("data", "part", "n")
    groups: tuple[Group, ...]
    folder: Path
    summary: dict[str, Any]


@dataclass(frozen=True)
class _Asked:
    """A run, and how it answered."""

    name: str
    classifier: Classifier
    run: Run | None
    evaluated: Evaluated
    recipe: dict[str, Any] | None

    @property
    def right(self) -> np.ndarray:
        """Bool (N,): which images it has right."""
        return (self.evaluated.logits.argmax(1) == self.evaluated.labels).numpy()

    @property
    def keys(self) -> np.ndarray:
        return self.evaluated.dataset.keys[self.evaluated.index]


@with_options(CompareOptions)
def compare(compared: Sequence[str | Classifier], options: CompareOptions) -> CompareReport:
    """Compare runs on the same images: their own test images, or those of ``data``.

    Runs that differ only in their seeds are one, with the spread between seeds. The first is set against each of the
    others, with a paired test. Each look at a run's own test images is logged in it. Raises UsageError for fewer than
    two, and DataError for runs that have no images in common.
    """
    if isinstance(compared, str) or len(compared) < 2:
        raise UsageError("a comparison needs two runs or more: convscope compare RUN RUN.")
    opened = [_opened(run, options) for run in compared]
    built = [classifier.architecture.name for _, classifier, _ in opened]
    if not any(is_own(name) or options.model in (name, name.split(":")[-1]) for name in built):
        check_needed(options.model, built[0], opened[0][0])
    looks = Looks([name for name, _, _ in opened], runs_folder(options.runs) / "compare")
    if any(classifier.task != CLASSES for _, classifier, _ in opened):
        found = compare_tasks(opened, options, looks)
        return CompareReport((), found.pop("folder"), found)
    asked = [_ask(run, found, options, looks) for run, found in zip(compared, opened, strict=True)]
    asked = [replace(one, name=name) for one, name in zip(asked, _told_apart([a.name for a in asked]), strict=True)]
    _check_same(asked)
    groups = _groups(asked)
    first = asked[0].evaluated
    doubled = _known(asked)
    summary: dict[str, Any] = {
        "data": first.dataset.name,
        "fingerprint": first.dataset.fingerprint,
        "part": first.part,
        "n": len(first.index),
        "known_duplicates": int(doubled.sum()),
        "runs": [_row(group, [a for a in asked if a.name in group.members]) for group in groups],
        "differences": [vars(compare_groups(groups[0], other)) for other in groups[1:]],
        "without_duplicates": _without(groups, doubled),
        "recipes": _recipes(groups, asked),
        "notes": [*_named_twice(asked), *dict.fromkeys(note for a in asked for note in a.evaluated.notes)],
    }
    summary["sentences"] = [compare_groups(groups[0], other).sentence() for other in groups[1:]]
    folder = looks.folder / shortened("-vs-".join(group.name for group in groups))
    summary["looks"] = looks.with_earlier(folder / COMPARISON)
    make_folder(folder)
    commit_json(folder / COMPARISON, summary)
    return CompareReport(tuple(groups), folder, summary)


def _named_twice(asked: Sequence[_Asked]) -> list[str]:
    """A note where one run is named twice, as by ``last``: then it is compared with itself."""
    places = [one.run.folder.resolve() for one in asked if one.run is not None]
    twice = dict.fromkeys(place.name for place in places if places.count(place) > 1)
    return [f"run {name!r} is named twice, and compared with itself." for name in twice]


def _opened(run: str | Classifier, options: CompareOptions) -> tuple[str, Classifier, Run | None]:
    """A run's name, its classifier, and the run itself where it lies in one."""
    classifier, found = open_classifier(
        run, options.runs, options.model, any_task=True, device=options.device, code_for_others=True
    )
    return found.name if found else home_of(run), classifier, found


def _ask(
    run: str | Classifier, opened: tuple[str, Classifier, Run | None], options: CompareOptions, looks: Looks
) -> _Asked:
    name, classifier, found = opened
    shared = {f.name: getattr(options, f.name) for f in fields(CompareOptions) if f.name != "data"}
    dataset, same, change = read_data(
        classifier, run if isinstance(run, str) else name, options.data, "compare", EvaluateOptions(**shared)
    )
    if change and options.data is None:
        raise DataError(f"the data changed since {name} was trained: {change}. Name it with --data to compare on it.")
    part = options.part or ("test" if same or dataset.test_given else "all")
    if found is not None and same and part in ("test", "all"):  # before the pass: looking cannot be undone
        looks.log(found, part, len(dataset.subset(part, options.limit)))
    told = counted(options.progress, f"evaluating {name}")
    try:
        evaluated = evaluate_classifier(classifier, dataset, part, options.limit, progress=told)
    except DataError as error:
        raise DataError(f"{name}: {error}") from None
    recipe = classifier.provenance.get("recipe")
    flat = Recipe.from_dict(recipe).flat() if recipe is not None and "transfer" not in classifier.provenance else None
    return _Asked(name, classifier, found, evaluated, flat)


def _check_same(asked: Sequence[_Asked]) -> None:
    """DataError where two were not asked about the same images with the same labels."""
    first = asked[0]
    for other in asked[1:]:
        if first.evaluated.dataset.class_names != other.evaluated.dataset.class_names or not np.array_equal(
            first.keys, other.keys
        ):
            if sorted(first.classifier.class_names) != sorted(other.classifier.class_names):
                told = (f"{one.name} tells apart {_first_names(one.classifier.class_names)}" for one in (first, other))
                raise DataError(f"{' and '.join(told)}: runs are compared that have the same classes.")
            raise DataError(
                f"{first.name} was trained on {first.evaluated.dataset.name} and {other.name} on "
                f"{other.evaluated.dataset.name}, or on other parts of it: name images that neither has seen, with "
                "--data."
            )


def _first_names(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3:,} more" if len(names) > 3 else "")


def _groups(asked: Sequence[_Asked]) -> list[Group]:
    names = [a.name for a in asked]
    found = []
    for numbers in grouped(names, [a.recipe for a in asked]):
        name = names[numbers[0]] if len(numbers) == 1 else f"{names[numbers[0]]} ({len(numbers)} seeds)"
        found.append(Group(name, tuple(names[i] for i in numbers), np.stack([asked[i].right for i in numbers])))
    if len(found) == 1 and len(asked) > 1:  # only seeds differ: then these are what is compared
        found = [Group(a.name, (a.name,), a.right[None]) for a in asked]
    return found


def _told_apart(names: Sequence[str]) -> list[str]:
    twice = {name for name in names if names.count(name) > 1}
    return [f"{name} ({i})" if name in twice else name for i, name in enumerate(names, 1)]


def _row(group: Group, members: Sequence[_Asked]) -> dict[str, Any]:
    accuracy = group.accuracy()
    scores = [m.evaluated.scores for m in members]
    return {
        "name": group.name,
        "members": list(group.members),
        "top1": accuracy.value,
        "top1_low": accuracy.low,
        "top1_high": accuracy.high,
        "by_seed": group.right.mean(1).tolist(),
        "loss": float(np.mean([s.loss for s in scores])),
        "ece": float(np.mean([s.calibration.ece for s in scores])),
        "parameters": sum(p.numel() for p in members[0].classifier.network.parameters()),
        "image_size": members[0].classifier.preprocess.size,
        "training_seconds": _seconds([m.run for m in members]),
        "test_openings": sum(len(m.run.openings()) for m in members if m.run) if any(m.run for m in members) else None,
    }


def _seconds(runs: Iterable[Run | None]) -> float | None:
    """Seconds of all their trainings; None where one is not known."""
    rows = [run.timing() if run is not None else [] for run in runs]
    return sum(row["seconds"] for timing in rows for row in timing) if all(rows) else None


def _known(asked: Sequence[_Asked]) -> np.ndarray:
    """Bool (N,): the images of which some run has seen a copy, or nearly one, in its training or validation."""
    evaluated = asked[0].evaluated
    found = np.zeros(len(evaluated.index), bool)
    for one in asked:
        seen = which_seen(one.run.folder, one.evaluated.dataset, one.evaluated.index) if one.run else None
        for known in seen or ():
            found |= known
    return found


def _without(groups: Sequence[Group], doubled: np.ndarray) -> list[dict[str, Any]] | None:
    """The differences on the images of which no run has seen a copy; None where that are all or none."""
    if not doubled.any() or doubled.all():
        return None
    rest = [Group(g.name, g.members, g.right[:, ~doubled]) for g in groups]
    return [vars(compare_groups(rest[0], other)) for other in rest[1:]]


def _recipes(groups: Sequence[Group], asked: Sequence[_Asked]) -> dict[str, dict[str, Any] | None]:
    """How the recipe of each differs from the first's: {name: {option: [first's, its]}}; None where one has none."""
    by_name = {a.name: a.recipe for a in asked}
    first = by_name[groups[0].members[0]]
    return {g.name: recipe_difference(first, by_name[g.members[0]]) for g in groups[1:]}
