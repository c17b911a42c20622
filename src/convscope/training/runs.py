"""A run on disk: recipe, log, checkpoints, the best classifier. Where it lies, what it holds, how it is read again.

runs/<name>/
  recipe.json               every hyper-parameter, the data's fingerprint and counts, versions, hardware
  log.jsonl                 what the recipe determines, one line an epoch: byte-identical when repeated or resumed
  timing.jsonl              seconds and rates, which no equality test reads
  checkpoints/              the last two, each one sealed file
  classifier.safetensors    the best epoch's classifier, and classifier.json for people to read
  diverged.json             where it last ran away, if it did
  openings.jsonl            each time the test images were looked at
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from ..classifying.classifier import FILE_NAME, Classifier
from ..datasets.dataset import Dataset
from ..errors import DamagedFile, LockedError, UnknownName, Untrained, UsageError
from ..folders import check_own_files
from ..locks import holder
from ..models.architecture import load_weights
from ..models.user_network import model_words
from ..portable import RESERVED
from ..recipes import Recipe
from ..schemas import Schema, check_schema
from ..storage import (
    FORMAT,
    check_format,
    check_free,
    commit_json,
    commit_lines,
    discard,
    expanded,
    make_folder,
    read_json,
    read_lines,
    seal_of,
)
from ..tensor_files import commit_tensors, read_tensors
from .last import NAME, point_at, pointed_at
from .loop import TrainState
from .records import CheckpointMeta, Divergence, LogRow, Opening, RunDescription, TimingRow

KEPT_CHECKPOINTS = 2
DIVERGED = "diverged.json"


@dataclass(frozen=True)
class Run:
    """A run's folder; everything is read from disk when asked for."""

    folder: Path

    def __fspath__(self) -> str:
        """The folder: a Run may stand wherever a run's path may."""
        return str(self.folder)

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.folder.name

    def description(self) -> dict[str, Any]:
        """The content of ``recipe.json``: recipe, data and machine. DamagedFile when it is not what was written."""
        path = self.folder / "recipe.json"
        box = read_json(path)
        check_format(path, box.get("format"), "a run's description")
        said = check_schema(RunDescription, box, path, "a run's description")
        if said.adopted is None and (said.recipe is None or said.data is None):
            raise DamagedFile(f"{path} is not a run's description: it lacks the recipe or the data.")
        return box

    def is_adopted(self) -> bool:
        """Whether its network was trained elsewhere, so that there is no recipe and no log."""
        return self.description().get("adopted") is not None

    def is_transferred(self) -> bool:
        """Whether it is the run of a transfer, which trains on features and has no recipe of epochs."""
        return "transfer" in self.description()

    def unfinished(self) -> str:
        """What is not over in a run that has no classifier, in words."""
        if self.is_transferred():
            return "its transfer is not finished, and the same command on the same images goes on with it"
        if self.diverged() is not None:
            return "it ran away before its first epoch was over"
        if holder(self.folder) is not None or self.is_adopted():
            return "its first epoch is not over"
        recipe, home = self.recipe(), self.folder.parent
        where = [] if home.resolve() == runs_folder().resolve() else ["--runs", str(home)]
        words = shlex.join(["convscope", "train", recipe.data.name, "--name", self.name, *where, "--resume"])
        words += model_words(recipe.model.name)
        return f"its first epoch is not over, and nobody trains it ({words} goes on)"

    def recipe(self) -> Recipe:
        """The recipe, its precision and image size resolved. UsageError for an adopted run, which has none."""
        if self.is_adopted():
            raise UsageError(f"the network of run {self.name!r} was trained elsewhere: there is no recipe of it here.")
        try:
            return Recipe.from_dict(self.description()["recipe"])
        except UsageError as error:
            raise DamagedFile(f"{self.folder / 'recipe.json'} holds no recipe: {error}") from None

    def log(self) -> list[dict[str, Any]]:
        """One row an epoch: loss, accuracy and rate."""
        return self._rows("log.jsonl", LogRow)

    def timing(self) -> list[dict[str, Any]]:
        """One row an epoch: seconds and rates."""
        return self._rows("timing.jsonl", TimingRow)

    def _rows(self, name: str, schema: type[Schema]) -> list[dict[str, Any]]:
        path = self.folder / name
        rows = read_lines(path)
        for row in rows:
            check_schema(schema, row, path, f"a {path.stem} of this run")
        return rows

    def openings(self) -> list[dict[str, Any]]:
        """One row for each time the test images were looked at."""
        return self._rows("openings.jsonl", Opening)

    def log_opening(self, row: dict[str, Any]) -> int:
        """Note that the test images were looked at; returns how often that has happened now."""
        rows = [*self.openings(), {"at": datetime.now(UTC).isoformat(timespec="seconds"), **row}]
        commit_lines(self.folder / "openings.jsonl", rows)
        return len(rows)

    def diverged(self) -> dict[str, Any] | None:
        """The place where training ran away, {"epoch", "step", "lr", "loss", "images"}; None if it got past it."""
        path = self.folder / DIVERGED
        if not path.exists():
            return None
        found = read_json(path)
        place = check_schema(Divergence, found, path, "where a training ran away")
        return found if place.epoch > len(self.log()) else None

    def log_divergence(self, details: dict[str, Any]) -> Path:
        """Note where the training ran away, instead of where it did before; returns the file."""
        commit_json(self.folder / DIVERGED, details)
        return self.folder / DIVERGED

    def classifier(self, model: str | None = None) -> Classifier:
        """The best epoch's classifier; Untrained while there is none."""
        path = self.folder / FILE_NAME
        if not path.exists():
            raise Untrained(f"run {self.name!r} has no classifier yet: {self.unfinished()}.")
        return Classifier.load(path, model)


def runs_folder(chosen: Path | None = None) -> Path:
    """The folder of runs: as chosen, else ``$CONVSCOPE_RUNS``, else ``runs`` in the current folder."""
    return chosen or Path(os.environ.get("CONVSCOPE_RUNS") or "runs")


def find_run(name: str, folder: Path) -> Run:
    """The run of that name, path, or ``last``; UnknownName otherwise."""
    if name == "last":
        name = pointed_at(folder)
    for path in (folder / name, expanded(name)):
        if os.path.isfile(path / "recipe.json"):
            check_own_files(path)
            return Run(path)
    raise UnknownName("run", name, list_runs(folder))


def list_runs(folder: Path) -> list[str]:
    """The names of the runs in a folder."""
    return sorted(p.parent.name for p in folder.glob("*/recipe.json"))


def free_name(folder: Path, stem: str) -> str:
    """A name that no run has yet: the stem and the first free number."""
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", stem)[:80].strip("-._") or "run"
    stem = f"run-{stem}" if RESERVED.match(stem) else stem
    number = 1
    while (folder / f"{stem}-{number}").exists():
        number += 1
    return f"{stem}-{number}"


def check_name(name: str) -> str:
    """The name itself; UsageError when it cannot be a folder's name everywhere."""
    if not NAME.fullmatch(name) or name == "last":
        raise UsageError(f"{name!r} cannot be a run's name: letters, digits, '.', '_' and '-' only, and not 'last'.")
    if name.endswith(".") or RESERVED.match(name):
        raise UsageError(f"{name!r} cannot be a run's name: Windows has no folder of that name. Choose another.")
    return name


def create_run(folder: Path, name: str, description: dict[str, Any]) -> Run:
    """A new run's folder with its description; LockedError when the name is taken."""
    run = Run(folder / check_name(name))
    if (run.folder / "recipe.json").exists():
        raise LockedError(f"run {name!r} exists already: go on with it by --resume, or choose another --name.")
    make_folder(run.folder)
    commit_json(run.folder / "recipe.json", {"format": FORMAT, **description})
    return run


def point_last(run: Run) -> None:
    """Make ``last`` mean this run."""
    point_at(run.folder.parent, run.name)


def data_description(dataset: Dataset) -> dict[str, Any]:
    """A run's record of its data: enough to name what changed."""
    return {"name": dataset.name, "fingerprint": dataset.fingerprint, "counts": dataset.counts()}


def data_difference(before: dict[str, Any], now: dict[str, Any]) -> str | None:
    """In words, how the data changed since the run began; None where they are the same."""
    if before["fingerprint"] == now["fingerprint"]:
        return None
    for part, old in before["counts"].items():
        new = now["counts"].get(part, {})
        for name in sorted({*old, *new}):
            if old.get(name, 0) != new.get(name, 0):
                return f"class {name!r} has {new.get(name, 0)} images in {part} and had {old.get(name, 0)}"
    return "as many images as before, but their content, labels or parts are others"


# --------------------------------------------------------------------------------------------------- checkpoints


@dataclass
class RunProgress:
    """Kept in a checkpoint beside the training state: the best so far, and how many epochs ago that was."""

    best_top1: float = -1.0
    best_epoch: int = 0
    finished: bool = False


def save_checkpoint(run: Run, state: TrainState, progress: RunProgress, updates: int) -> Path:
    """Write one sealed checkpoint, then drop all but the last two, if that can be. StorageError: older ones stay."""
    tensors, counters = state_tensors(state)
    meta = {
        "kind": "checkpoint",
        "format": FORMAT,
        "state": counters,
        "progress": vars(progress),
        "recipe": seal_of(run.description()),
        "log": _log_seal(run, state.epoch),
    }
    path = run.folder / "checkpoints" / f"step-{updates:08d}.safetensors"
    commit_tensors(path, tensors, meta)
    with contextlib.suppress(OSError):
        for old in checkpoints(run)[:-KEPT_CHECKPOINTS]:
            discard(old)
    return path


def state_tensors(state: TrainState) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """All that a training needs to go on, as tensors and counters; `restore_state` takes them."""
    tensors = {f"network/{name}": t for name, t in state.network.state_dict().items()}
    if state.averaged is not None:
        tensors |= {f"averaged/{name}": t for name, t in state.averaged.state_dict().items()}
    optimizer = state.optimizer.state_dict()["state"]
    for number, values in optimizer.items():
        tensors |= {f"optimizer/{number}/{k}": v for k, v in values.items() if isinstance(v, torch.Tensor)}
    return tensors, {k: getattr(state, k) for k in ("epoch", "step", "loss_sum", "correct", "seen")}


def checkpoints(run: Run) -> list[Path]:
    """The checkpoints of a run, the oldest first."""
    return sorted((run.folder / "checkpoints").glob("step-*.safetensors"))


def load_checkpoint(run: Run, state: TrainState) -> tuple[RunProgress, list[str]]:
    """Put the newest whole checkpoint into ``state``; returns the progress, and notes on damaged ones passed over.

    Without any checkpoint the state stays as it was. Raises DamagedFile when there are some and none is whole.
    """
    notes: list[str] = []
    paths = checkpoints(run)
    for path in reversed(paths):
        try:
            tensors, meta = read_tensors(path)
            check_format(path, meta.get("format") if meta.get("kind") == "checkpoint" else None, "a checkpoint")
            said = check_schema(CheckpointMeta, meta, path, "a checkpoint")
            restore_state(state, tensors, vars(said.state), path)
        except DamagedFile as error:
            notes.append(str(error))
            continue
        _check_belonging(run, said)
        return RunProgress(**vars(said.progress)), notes
    if paths:
        raise DamagedFile(f"no checkpoint of run {run.name!r} is whole: {' '.join(notes)} Nothing was deleted.")
    return RunProgress(), notes


def _log_seal(run: Run, epochs: int) -> str:
    """The seal of the log's first epochs."""
    seal = ""
    for row in run.log():
        if row["epoch"] <= epochs:
            seal = seal_of(row, seal)
    return seal


def _check_belonging(run: Run, said: CheckpointMeta) -> None:
    """DamagedFile where recipe or log, each whole in itself, are not those the checkpoint was taken with."""
    for name, seal in (("recipe.json", seal_of(run.description())), ("log.jsonl", _log_seal(run, said.state.epoch))):
        if getattr(said, name.split(".")[0]) != seal:
            raise DamagedFile(
                f"{run.folder / name} is not the one that the checkpoint of run {run.name!r} was taken with: put the "
                "old one back, or start a new run with another --name."
            )


def restore_state(state: TrainState, tensors: dict[str, torch.Tensor], counters: dict[str, Any], path: Path) -> None:
    """Go back to what `state_tensors` told. DamagedFile naming ``path`` for tensors of another training."""
    for part in ("network", "averaged"):
        weights = {n.removeprefix(f"{part}/"): t for n, t in tensors.items() if n.startswith(f"{part}/")}
        if part == "averaged" and weights:
            state.averaged = deepcopy(state.network)
        if weights or part == "network":
            load_weights(getattr(state, part), weights, path)
    parameters = [p for group in state.optimizer.param_groups for p in group["params"]]
    kept: dict[int, dict[str, Any]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer/"):
            _, number, key = [*name.split("/"), "", ""][:3]
            if not number.isdecimal() or int(number) >= len(parameters):
                raise DamagedFile(f"{path} is not a checkpoint of this run: it holds {name!r}.")
            like = parameters[int(number)]
            # A fused optimizer walks memory, so a buffer must lie in it as its parameter does (channels last).
            value = torch.empty_like(like).copy_(tensor) if tensor.shape == like.shape else tensor
            kept.setdefault(int(number), {})[key] = value
    state.optimizer.load_state_dict({"state": kept, "param_groups": state.optimizer.state_dict()["param_groups"]})
    for name, value in counters.items():
        setattr(state, name, value)


def check_room(run: Run, state: TrainState) -> None:
    """StorageError before any work is done when the disk cannot hold the checkpoints to come."""
    size = sum(t.numel() * t.element_size() for t in state.network.state_dict().values()) * 3
    check_free(run.folder / "checkpoints", 4 * size, "this run")
