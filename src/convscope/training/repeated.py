"""The same training several times, with other seeds or other folds: the options of each, and what they say together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..classifying.intervals import Interval, over_seeds, wilson
from ..errors import LockedError, UsageError
from ..portable import folder_name
from ..processes import is_launched
from .options import TrainOptions
from .runs import list_runs, runs_folder

MOST = 99


@dataclass(frozen=True)
class Together:
    """What repeated trainings say: the accuracy with its interval, of which images, and the spread between them.

    ``values`` holds one accuracy a training; ``spread`` is their standard deviation. Over seeds all were asked about
    the same ``accuracy.n`` images; over folds each image once, of a network that was not trained on it.
    """

    accuracy: Interval
    values: tuple[float, ...]
    spread: float


def is_repeated(options: TrainOptions) -> bool:
    """Whether several trainings are asked for."""
    return options.seeds is not None or options.folds is not None


def repetitions(data: str, options: TrainOptions) -> list[TrainOptions]:
    """The options of each training, with its name. UsageError for what cannot be repeated so."""
    if is_launched():
        raise UsageError("torchrun's processes train once: leave out --seeds and --folds, or take --processes instead.")
    if not is_repeated(options):
        raise UsageError("how many trainings, and of what: --seeds or --folds says it.")
    if options.seeds is not None and options.folds is not None:
        raise UsageError("--seeds and --folds are two ways to repeat a training: choose one.")
    kind = "seeds" if options.seeds is not None else "folds"
    count = getattr(options, kind)
    if not 2 <= count <= MOST:
        raise UsageError(f"--{kind} {count} is no number of trainings: it is from 2 to {MOST}.")
    if options.fold is not None and kind == "folds":
        raise UsageError(f"--folds {count} trains on each fold in turn: leave out --fold {options.fold}.")
    if options.resume and options.name is None:
        raise UsageError(
            f"several runs are gone on with by the name they have in common: --name NAME --{kind} {count} --resume."
        )
    stem, first = options.name or _free(data, options, kind), options.seed or 0
    plain = replace(options, seeds=None, folds=None)
    made = set(list_runs(runs_folder(options.runs)))
    found = []
    for i in range(count):
        name = f"{stem}-{kind[:-1]}-{first + i if kind == 'seeds' else i + 1}"
        own: dict[str, Any] = {"seed": first + i} if kind == "seeds" else {"fold": f"{i + 1}/{count}"}
        if name in made and not options.resume:
            raise LockedError(
                f"run {name!r} exists already: go on with all of them by --name {stem} --{kind} {count} --resume, "
                "or choose another --name."
            )
        found.append(replace(plain, name=name, resume=options.resume and name in made, **own))
    return found


def _free(data: str, options: TrainOptions, kind: str) -> str:
    """A stem that no run's name begins with."""
    made = list_runs(runs_folder(options.runs))
    for number in range(1, len(made) + 2):
        stem = f"{folder_name(data)}-{number}"
        if not any(name.startswith(f"{stem}-{kind[:-1]}-") for name in made):
            break
    return stem


def together(summaries: Sequence[dict[str, Any]], folds: bool) -> Together:
    """What the summaries of the trainings say together."""
    values = tuple(summary["val_top1"] for summary in summaries)
    counts = [summary["val_n"] for summary in summaries]
    if folds:
        right = sum(round(value * n) for value, n in zip(values, counts, strict=True))
        accuracy = wilson(right, sum(counts))
    else:
        accuracy = over_seeds(values, counts[0])
    return Together(accuracy, values, float(np.std(values, ddof=1)))


def sentence(found: Together, folds: bool) -> str:
    """What they say, in a sentence."""
    of, values = found.accuracy, found.values
    mean, low, high, least, most, spread = (
        100 * share for share in (of.value, of.low, of.high, min(values), max(values), found.spread)
    )
    if folds:
        asked = f"{of.n:,} images right, each asked once of a network that was not trained on it"
    else:
        asked = f"{of.n:,} validation images right on average"
    return (
        f"{mean:.1f} % [{low:.1f}, {high:.1f}] of {asked}; the {len(values)} {'folds' if folds else 'seeds'}: "
        f"{least:.1f} to {most:.1f}, standard deviation {spread:.1f}."
    )
