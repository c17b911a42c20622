"""The run of a transfer: what was asked for, whether it is finished, and which one the same command goes on with.

A transfer is finished when ``transfer/transfer.json`` is there, which is written when all else is. Until then the same
command goes on: what is recorded or trained is found, the rest is made.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

from ..classifying.classifier import Classifier
from ..errors import LockedError
from ..locks import check_unheld, lock
from ..recipes import Recipe
from ..storage import to_json
from ..training.request import data_name, recorded_source
from ..training.resuming import footing
from ..training.runs import Run, check_name, create_run, data_difference, free_name
from .options import TransferOptions

FOLDER = "transfer"  # in a run
FINISHED = "transfer.json"  # in that folder, the last file of all
COMPARED = ("recipe", "data", "transfer")  # of a description: the machine may be another


def is_finished(run: Run) -> bool:
    """Whether all of a transfer was written."""
    return (run.folder / FOLDER / FINISHED).exists()


def check_free(folder: Path, name: str | None) -> None:
    """LockedError where the run of that name cannot be gone on with, or is in use: told before images are read."""
    if name is not None:
        run = Run(folder / check_name(name))
        _check_unfinished(run)
        check_unheld(run.folder, f"run {name!r}")


def _check_unfinished(run: Run) -> None:
    if (run.folder / "recipe.json").exists() and (is_finished(run) or not run.is_transferred()):
        raise LockedError(f"run {run.name!r} exists already: choose another --name.")


def asked_for(options: TransferOptions, backbone: Classifier) -> dict[str, Any]:
    """What decides a transfer beside its recipe and its data."""
    names = ("backbone", "augment", "level", "engine", "budget", "fcnn", "quick", "cards")
    asked = {name: getattr(options, name) for name in names}
    if options.continue_from is not None:
        asked["continue_from"] = options.continue_from
    return {**asked, "weights_sha256": backbone.provenance["weights_sha256"]}


def recipe_of(data: str, options: TransferOptions, backbone: Classifier, sides: Mapping[str, str]) -> Recipe:
    """What of a recipe a transfer decides."""
    preprocess = backbone.preprocess
    return Recipe().with_options(
        {
            "model": backbone.architecture.name,
            "data": data_name(data),
            "image_size": preprocess.size,
            "fit": preprocess.fit,
            "stretch": preprocess.stretch,
            "limit": options.limit,
            "bad_images": options.bad_images or "error",
            "sides": dict(sides) or None,
            **recorded_source(options.reading()),
            "augment": "none",
            "balance": options.balance,
            "seed": options.seed,
            "precision": "float32",
        }
    )


def command_of(data: str, options: TransferOptions, name: str) -> str:
    """The command that goes on with a transfer, ready to be pasted into a shell."""
    words = ["convscope", "transfer", data, "--name", name]
    for field in fields(options):
        value = getattr(options, field.name)
        if field.name not in ("name", "progress") and value != field.default:
            option = f"--{field.name.replace('_', '-')}"
            several = value if isinstance(value, (list, tuple)) else [value]
            words += [word for one in several for word in (option, *([] if one is True else [str(one)]))]
    return shlex.join(words)


@contextmanager
def claimed(folder: Path, name: str | None, stem: str, description: dict[str, Any]) -> Iterator[tuple[Run, list[str]]]:
    """A with-block that holds the run of a transfer for this process: one that was stopped, or else a new one.

    Without a name it is the last of this ``stem`` if that was stopped and asked for the same; and else a free one.
    Beside it stand notes. LockedError where the named one is finished, is in use, or was begun with something else.
    """
    run = Run(folder / check_name(name)) if name is not None else _stopped(folder, stem, description)
    with lock(run.folder, f"run {run.name!r}"):
        _check_unfinished(run)
        notes: list[str] = []
        if (run.folder / "recipe.json").exists():
            _refuse_changes(run, description)
            before = run.description()["machine"]
            notes = [f"goes on with run {run.name!r}, which was stopped.", *footing(before, description["machine"])]
        else:
            create_run(folder, run.name, description)
        yield run, notes


def _stopped(folder: Path, stem: str, description: Mapping[str, Any]) -> Run:
    """The last run of this stem, if the same was stopped there and nobody goes on with it; else a new one."""
    free = free_name(folder, stem)
    stem = free.rpartition("-")[0]
    numbers = [p.name.removeprefix(f"{stem}-") for p in folder.glob(f"{stem}-*")]
    last = max((int(number) for number in numbers if number.isdecimal()), default=0)
    run = Run(folder / f"{stem}-{last}")
    if not last or is_finished(run) or not _may_go_on(run, description):
        return Run(folder / free)
    try:
        with lock(run.folder, "it"):
            return run
    except LockedError:
        return Run(folder / free)


def _may_go_on(run: Run, description: Mapping[str, Any]) -> bool:
    if (run.folder / "recipe.json").exists():
        return _difference(run.description(), description) is None
    return all(path.name.startswith(".") for path in run.folder.iterdir())  # stopped before it had a description


def _refuse_changes(run: Run, description: Mapping[str, Any]) -> None:
    difference = _difference(run.description(), description)
    if difference is not None:
        raise LockedError(
            f"run {run.name!r} exists already, and was stopped: {difference}. Ask for the same to go on with it, or "
            "choose another --name."
        )


def _difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """In words, what a transfer was begun with that is not asked for now; None where it is all the same."""
    if FOLDER not in before:
        return "it is no transfer"
    one, other = ({part: box[part] for part in COMPARED} for box in (before, json.loads(to_json(now))))
    if one == other:
        return None
    if one["data"] != other["data"]:
        return data_difference(one["data"], other["data"]) or "its data have another name"
    old, new = ({**Recipe.from_dict(box["recipe"]).flat(), **box[FOLDER]} for box in (one, other))
    changed = next((k for k in new if old.get(k) != new[k]), "recipe")
    return f"it was begun with {changed} {old.get(changed)} and not {new.get(changed)}"
