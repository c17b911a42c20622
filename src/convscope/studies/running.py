"""Runs a claim: a generator of progress that ends with its Outcome. Whoever iterates shows, or stops, as it likes."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..datasets.dataset import Dataset
from ..errors import DamagedFile
from ..locks import lock
from ..machine import describe, pick_device
from ..storage import commit_json, make_folder, read_json
from ..version import __version__
from .arms import MEASURED_BY, Setting, Training, judged, trials
from .claim import Claim
from .judging import OPEN, Judgement
from .plan import Plan, words_of
from .results import Results, Trained
from .study_data import load_study_data


@dataclass(frozen=True)
class Done:
    """One training is done: number ``done`` of ``total``; ``trial`` where it was one that chooses a rate."""

    claim: str
    trained: Trained
    trial: bool
    done: int
    total: int


@dataclass(frozen=True)
class Outcome:
    """A claim run: its verdict, what was measured, and all that is needed to run it again and compare."""

    claim: Claim
    size: str
    judgement: Judgement
    results: Results | None
    dataset: Dataset | None
    seconds: float
    interrupted: bool = False
    versions: dict[str, str] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """ "holds", "does not hold" or "inconclusive"."""
        return self.judgement.verdict

    def to_json(self) -> dict[str, Any]:
        """The stable JSON form."""
        claim, found, data = self.claim, self.results, self.dataset
        return {
            "claim": claim.name,
            "sentence": claim.sentence,
            "question": claim.question,
            "expected": claim.expected,
            "size": self.size,
            "verdict": self.verdict,
            "words": self.judgement.sentence(),
            "quantities": [part.to_json() for part in self.judgement.parts],
            "notes": list(self.judgement.notes),
            "interrupted": self.interrupted,
            "arms": [] if found is None else [_arm_json(found, arm.name) for arm in found.plan.arms],
            "seeds": [] if found is None else list(found.plan.seeds),
            "plan": None if found is None else _plan_json(found.plan),
            "data": None if data is None else _data_json(data),
            "seconds": self.seconds,
            "training_seconds": 0.0 if found is None else _training_seconds(found),
            "versions": self.versions,
            "machine": self.machine,
        }


def run_claim(  # noqa: PLR0913 - each is an option that a user sets by name
    claim: Claim,
    size: str,
    folder: Path,
    *,
    data_root: Path | None = None,
    device: torch.device | None = None,
    minutes: float | None = None,
    plan: Plan | None = None,
) -> Iterator[Done | Outcome]:
    """Train what is not trained yet, and judge: yields a Done after each training, and the Outcome last.

    Results are kept in ``folder``, each training as soon as it is done, the outcome as ``<claim>-<size>.json``. After
    so many ``minutes`` no other training is begun, and the outcome says that it was interrupted; so does that of a
    run that is stopped. ``plan`` stands for that of the size. Raises StorageError, LockedError, UnknownName, and
    UnreachableError for data that is not here.
    """
    start = time.perf_counter()
    plan = claim.plan(size) if plan is None else plan
    make_folder(folder)
    if plan is None:
        nothing = _without_data(claim, size)
        commit_json(folder / f"{claim.name}-{size}.json", nothing.to_json())
        yield nothing
        return
    with lock(folder, "this study"):
        dataset = load_study_data(plan.data, data_root)
        place = Setting(plan, dataset, folder, device or pick_device("cpu"))
        results = Results(plan, {}, {}, len(dataset.class_names))
        deadline = None if minutes is None else start + 60 * minutes
        try:
            for event in _train_all(claim, place, deadline):
                results = _with(results, event)
                yield event
        except (KeyboardInterrupt, GeneratorExit):
            _commit(claim, size, results, place, start)
            raise
        outcome = _commit(claim, size, results, place, start)
    yield outcome


def _without_data(claim: Claim, size: str) -> Outcome:
    note = f"Size {size} has no data that this sentence is about: run it at size medium, with cifar10."
    return Outcome(claim, size, Judgement(OPEN, (), (note,)), None, None, 0.0, versions=versions())


def _commit(claim: Claim, size: str, results: Results, place: Setting, start: float) -> Outcome:
    """Judge and keep the outcome; one that was cut short does not take the place of one that was not."""
    outcome = _judge(claim, size, results, place, time.perf_counter() - start)
    path = place.folder / f"{claim.name}-{size}.json"
    if not (outcome.interrupted and _is_whole(path)):
        commit_json(path, outcome.to_json())
    return outcome


def _is_whole(path: Path) -> bool:
    """Say whether an outcome was kept there that nothing cut short."""
    try:
        return not read_json(path)["interrupted"]
    except DamagedFile:
        return False


def _train_all(claim: Claim, place: Setting, deadline: float | None) -> Iterator[Done]:
    """Every training of the plan, seed by seed, so that what an interruption leaves is paired."""
    tried: dict[str, tuple[Trained, ...]] = {}
    asked = {arm.name: trials(place, arm) for arm in place.plan.arms}
    total, done = sum(map(len, asked.values())) + len(place.plan.seeds) * len(place.plan.arms), 0

    def late() -> bool:
        return deadline is not None and time.perf_counter() > deadline

    for arm in place.plan.arms:
        found = []
        for training in asked[arm.name]:
            if late() and not training.path.exists():
                return
            found.append(training.result())
            done += 1
            yield Done(claim.name, found[-1], True, done, total)
        tried[arm.name] = tuple(found)
    rows: list[list[Training]] = [judged(place, arm, tried[arm.name]) for arm in place.plan.arms]
    for training in (t for of_seed in zip(*rows, strict=True) for t in of_seed):
        if late() and not training.path.exists():
            return
        done += 1
        yield Done(claim.name, training.result(), False, done, total)


def _with(results: Results, event: Done) -> Results:
    name, old = event.trained.arm, results.trials if event.trial else results.trained
    table = {**old, name: (*old.get(name, ()), event.trained)}
    return replace(results, trials=table) if event.trial else replace(results, trained=table)


def _judge(claim: Claim, size: str, results: Results, place: Setting, seconds: float) -> Outcome:
    """The verdict; what diverged or was not trained is said, and an arm without any training leaves it open."""
    missing = any(len(results.trained.get(arm.name, ())) < len(results.plan.seeds) for arm in results.plan.arms)
    whole = all(results.trained.get(arm.name) for arm in results.plan.arms)
    judgement = claim.judge(results) if whole else Judgement(OPEN, ())
    judgement = replace(judgement, notes=(*judgement.notes, *results.lost(), *results.edges()))
    machine = describe(place.device)
    return Outcome(claim, size, judgement, results, place.dataset, seconds, missing, versions(), machine)


def versions() -> dict[str, str]:
    """Of what decides the numbers."""
    own = {"convscope": __version__, "torch": torch.__version__, "numpy": np.__version__}
    return own | {"python": platform.python_version(), "measured_by": str(MEASURED_BY)}


def _arm_json(results: Results, name: str) -> dict[str, Any]:
    (arm,) = (a for a in results.plan.arms if a.name == name)
    there = results.trained.get(name, ())
    return {
        "name": name,
        **arm.to_json(),
        "parameters": there[0].parameters if there else None,
        "rate": there[0].rate if there else None,
        "trials": [t.to_json() for t in results.trials.get(name, ())],
        "trainings": [t.to_json() for t in there],
        "measured": results.measured(name),
        "curve": results.curve(name),
    }


def _plan_json(plan: Plan) -> dict[str, Any]:
    return {
        "steps": plan.steps,
        "batch_size": plan.batch_size,
        "rates": list(plan.rates),
        "trial_share": plan.trial_share,
        "trial_seeds": list(plan.trial_seeds),
        "recipe": dict(plan.recipe),
        "precision": plan.precision,
        "measure": words_of(plan.measure),
        "by_place": list(plan.by_place),
    }


def _data_json(data: Dataset) -> dict[str, Any]:
    counts = {part: len(index) for part, index in data.parts.items()}
    return {"name": data.name, "fingerprint": data.fingerprint, "image_size": data.preprocess.size, **counts}


def _training_seconds(results: Results) -> float:
    tables = (results.trained, results.trials)
    return sum(t.seconds for table in tables for several in table.values() for t in several)
