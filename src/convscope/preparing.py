"""From what is asked for to a session that can train: the data read, the recipe settled, the run made or found."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from . import report
from .batches import Batches
from .classifier import Architecture, architecture_of, load_weight_file
from .datasets import DATASETS, Dataset, Progress
from .datasets import load as load_dataset
from .errors import DataError, LockedError, UnknownName, UsageError
from .machine import describe, pick_device, pick_precision
from .models import options_of
from .models.own import is_own
from .planning import RateRange, epoch_seconds, fit_memory, rate_range
from .recipes import RECIPES, SIZES, USUAL_BATCH, Recipe, find_recipe
from .recompute import recomputing
from .runs import (
    Run,
    check_name,
    checkpoints,
    create_run,
    data_description,
    data_difference,
    find_run,
    free_name,
    runs_folder,
)
from .session import Session, training_batches
from .storage import commit_bytes
from .training import prepare
from .watch import EVERY

LEAST_EPOCHS = {"small": 1, "medium": 3, "large": 8}  # fewer, and the next smaller size does better: docs/log.md
MOST_EPOCHS = 50  # more gain nothing that was measured
MINUTE = 60.0


@dataclass(frozen=True)
class TrainRequest:
    """A training as it is asked for: ``options`` are flat names of recipe fields, None where nothing was said.

    ``options["lr"]`` may be "auto". ``size`` is a name of SIZES; ``minutes`` settles the epochs, and the size too
    where neither it nor a recipe or model is named. ``memory``: 10^9 bytes that a training step may take.
    ``watch``: look inside the network every 10th step.
    """

    data: str
    recipe: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    name: str | None = None
    resume: bool = False
    device: str = "auto"
    data_root: Path | None = None
    runs: Path | None = None
    size: str | None = None
    minutes: float | None = None
    memory: float | None = None
    watch: bool = False


@dataclass
class _Start:
    """What a training starts with: ``recipe`` has nothing left open but what ``_plan`` still finds out."""

    recipe: Recipe
    dataset: Dataset
    device: torch.device
    notes: list[str]
    rates: RateRange | None = None

    def network(self) -> torch.nn.Module:
        """The network as training begins with it, on a throw-away copy."""
        architecture, initial = _architecture(self.recipe, self.dataset)
        network = initial
        if network is None:
            network = architecture.build(len(self.dataset.class_names), seed=self.recipe.loop.seed).to(self.device)
            prepare(network, self.batches())
        return network.to(self.device)

    def batches(self) -> Batches:
        """The batches of the training."""
        return training_batches(self.dataset, self.recipe, self.device)


def prepare_training(request: TrainRequest, progress: Progress | None = None) -> Session:
    """Read the data, settle the recipe, make or find the run: everything before the first update.

    Iterate ``session.events()`` to train; ``session.notes`` are sentences to show first.
    """
    folder = runs_folder(request.runs)
    if request.resume:
        return _resume(request, folder, progress)
    recipe = _wanted(request)
    if request.name is not None and (folder / check_name(request.name) / "recipe.json").exists():
        raise LockedError(f"run {request.name!r} exists already: go on with it by --resume, or choose another --name.")
    options_of(recipe.model.name)  # an unknown model is told before images are read
    dataset = read_dataset(recipe, request.data_root, progress)
    device = pick_device(request.device)
    _check_trainable(dataset)
    start = _plan(request, dataset, device)
    recipe = start.recipe
    architecture, initial = _architecture(recipe, dataset)
    if request.watch and recipe.loop.compile:
        raise UsageError("a compiled network has no layers to look into: --compile or --watch.")
    name = request.name or free_name(folder, f"{dataset.name}-{_stem(recipe.model.name)}")
    description = {
        "recipe": recipe.to_dict(),
        "data": data_description(dataset),
        "machine": describe(device),
        "source": architecture.source,
    }
    run = create_run(folder, name, description)
    sheet = report.augmentation_preview(dataset, recipe.augment, recipe.loop.seed)
    commit_bytes(run.folder / "augment.png", sheet.png)
    if start.rates is not None:
        report.write_rates(run, start.rates)
    return Session(
        run,
        recipe,
        dataset,
        architecture,
        device,
        _resume_command(run, request),
        initial,
        start.notes,
        watch=EVERY * request.watch,
    )


def _stem(model: str) -> str:
    """A model's name as part of a run's: without folders, function and source."""
    return Path(model.split(":")[0]).stem if is_own(model) else model.split(":")[-1]


def _plan(request: TrainRequest, dataset: Dataset, device: torch.device) -> _Start:
    """The start, with what has to be measured settled: size and epochs by time, memory, learning rate."""
    start = _settle(_wanted(request), dataset, device)
    if request.minutes is not None:
        start = _within_minutes(request, start)
    if request.memory is not None:
        if not 0 < request.memory < math.inf:
            raise UsageError(f"--memory {request.memory:g} is no number of GB to train in.")
        size = dataset.preprocess.size
        recipe = fit_memory(start.network(), start.recipe, size, request.memory)
        if recipe != start.recipe:
            start.notes.append(f"activations are computed again, to fit a step in {request.memory:g} GB.")
        start.recipe = recipe
    if request.options.get("lr") == "auto":
        start.rates = rate_range(start.network(), start.batches(), start.recipe)
        start.recipe = start.recipe.with_options({"lr": start.rates.chosen})
        start.notes.append(f"the range test chose the learning rate {start.rates.chosen:g}; see lr.png in the run.")
    return start


def _within_minutes(request: TrainRequest, start: _Start) -> _Start:
    """The largest size of which enough epochs fit in the time; where something else was named, its epochs only."""
    minutes = request.minutes
    assert minutes is not None
    if request.options.get("epochs") is not None:
        raise UsageError(f"--minutes {minutes:g} settles the epochs: leave out --epochs, or --minutes.")
    if not 0 < minutes < math.inf:
        raise UsageError(f"--minutes {minutes:g} is no time to train in.")
    free = request.size is None and request.recipe is None and request.options.get("model") is None
    shortest = math.inf
    for size in reversed(SIZES) if free else (request.size,):
        tried = _settle(_wanted(replace(request, size=size)), start.dataset, start.device)
        validation = len(start.dataset.parts["val"])
        seconds = epoch_seconds(tried.network(), tried.batches(), tried.recipe, validation)
        shortest = min(shortest, seconds)
        epochs = min(int(minutes * MINUTE / seconds), MOST_EPOCHS)
        if epochs >= (LEAST_EPOCHS[str(size)] if free else 1):
            tried.recipe = tried.recipe.with_options({"epochs": epochs})
            what = f"size {size}" if size else tried.recipe.model.name
            tried.notes.append(
                f"{what}, {epochs} epochs of about {seconds:.3g} s: what fits in {minutes:g} minutes here"
                f"{', and more would gain nothing' if epochs == MOST_EPOCHS else ''}."
            )
            return tried
    raise UsageError(
        f"one epoch takes about {shortest:.3g} s here, and --minutes {minutes:g} leaves {minutes * MINUTE:.3g} s: "
        "give it more time, or fewer images with --limit."
    )


def preview(request: TrainRequest, target: Path, progress: Progress | None = None) -> Path:
    """Write the augmentation sheet that a training with this request would begin with."""
    recipe = _wanted(request)
    dataset = read_dataset(recipe, request.data_root, progress)
    recipe = _settle(recipe, dataset, pick_device(request.device)).recipe
    commit_bytes(target, report.augmentation_preview(dataset, recipe.augment, recipe.loop.seed).png)
    return target


def _wanted(request: TrainRequest) -> Recipe:
    """The recipe asked for, its "auto" rate left at the recipe's own until it is found out."""
    name = request.recipe
    if request.size is not None:
        if name is not None:
            raise UsageError(f"--size {request.size} is a recipe of its own: leave out --recipe {name}, or --size.")
        if request.size not in SIZES:
            raise UnknownName("size", request.size, SIZES)
        name = SIZES[request.size]
    named = find_recipe(name or (request.data if request.data in RECIPES else "default"))
    options = {"data": data_name(request.data), **request.options}
    if options.get("lr") == "auto":
        del options["lr"]
    if options.get("weights") is not None:
        options["weights"] = str(Path(options["weights"]).resolve())
    return named.recipe.with_options(options)


def data_name(data: str) -> str:
    """A dataset's name as a run remembers it: paths in full, so that they mean the same from another folder."""
    path = Path(data).expanduser()
    return str(path.resolve()) if data not in DATASETS and path.exists() else data


def read_dataset(recipe: Recipe, data_root: Path | None, progress: Progress | None) -> Dataset:
    """The dataset of a recipe, as it is trained on."""
    data = recipe.data
    return load_dataset(
        data.name,
        data_root=data_root,
        image_size=data.image_size,
        fit=data.fit,
        limit=data.limit,
        bad_images=data.bad_images,
        progress=progress,
    )


def _settle(recipe: Recipe, dataset: Dataset, device: torch.device) -> _Start:
    """The recipe with nothing left open, and what was decided, in sentences."""
    precision = pick_precision(recipe.loop.precision, device)
    settled: dict[str, Any] = {"precision": precision, "image_size": dataset.preprocess.size}
    if recipe.loop.batch_size is None:
        most = USUAL_BATCH.get(recipe.optimizer.name, 128)
        settled["batch_size"] = _batch_size(len(dataset.parts["train"]), most)
    notes = list(dataset.notes)
    if recipe.augment.flip != "none" and not dataset.mirror:
        settled["flip"] = "none"
        notes.append(f"{dataset.name} change their meaning in a mirror: flips are switched off.")
    if is_own(recipe.model.name):
        notes.append(f"{recipe.model.name} is your own code: it is run as it stands.")
    return _Start(recipe.with_options(settled), dataset, device, notes)


def _batch_size(images: int, most: int) -> int:
    """A power of two from 16 to ``most`` that gives an epoch 20 updates where it can."""
    size = most
    while size > 16 and images < 20 * size:
        size //= 2
    return size


def _architecture(recipe: Recipe, dataset: Dataset, begun: bool = False) -> tuple[Architecture, Any]:
    """The architecture, and the network to start from: None where the seed or a checkpoint gives the weights."""
    size, classes = dataset.preprocess.size, len(dataset.class_names)
    architecture, network = architecture_of(recipe.model.name, size, recipe.model.options(), classes)
    if recipe.loop.compile and recipe.loop.save_memory:
        raise UsageError("a compiled network cannot compute its activations again: --compile or --save-memory.")
    with recomputing(network, recipe.loop.save_memory):
        pass  # a network that cannot be cut is told now
    if recipe.model.weights is None or begun:
        return architecture, None
    load_weight_file(network, Path(recipe.model.weights))
    return architecture, network


def _check_trainable(dataset: Dataset) -> None:
    counts = {part: len(dataset.parts[part]) for part in ("train", "val")}
    if counts["train"] < 2 or not counts["val"]:
        raise DataError(
            f"{dataset.name} has {len(dataset)} images: {counts['train']} to train on, {counts['val']} to validate "
            "with; a class needs at least two different images, better fifty."
        )


def _resume_command(run: Run, request: TrainRequest) -> str:
    """What to type to go on with a run, ready to be pasted into a shell."""
    places = {"--data-root": request.data_root, "--runs": request.runs}
    words = ["convscope", "train", request.data, "--name", run.name, "--resume"]
    words += [w for option, path in places.items() if path is not None for w in (option, str(path))]
    words += ["--device", request.device] if request.device != "auto" else []
    return shlex.join(words)


def _resume(request: TrainRequest, folder: Path, progress: Progress | None) -> Session:
    run = find_run(request.name or "last", folder)
    for option in ("minutes", "memory"):
        if getattr(request, option) is not None:
            raise UsageError(
                f"a resumed run keeps its recipe: leave out --{option}, or start a new run with another --name."
            )
    before, recipe = run.description(), run.recipe()
    _refuse_changes(run, recipe, request)
    dataset = read_dataset(recipe, request.data_root, progress)
    difference = data_difference(before["data"], data_description(dataset))
    if difference:
        raise DataError(
            f"the data changed since run {run.name!r} began: {difference}. Start a new run with another --name."
        )
    architecture, initial = _architecture(recipe, dataset, begun=bool(checkpoints(run)))
    if architecture.source != before.get("source"):
        raise DataError(f"the code of {recipe.model.name} changed since run {run.name!r} began; start a new run.")
    device = pick_device(request.device)
    notes = [*dataset.notes, *_footing(before["machine"], describe(device))]
    return Session(
        run,
        recipe,
        dataset,
        architecture,
        device,
        _resume_command(run, request),
        initial,
        notes,
        watch=EVERY * request.watch,
    )


def _footing(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """A sentence when the machine or its libraries are not those the run began on, for then bits may differ."""
    changed = [k for k in now if before.get(k) != now[k] and k != "platform"]
    words = "; ".join(f"{k} was {before.get(k)!r} and is {now[k]!r}" for k in changed)
    return [f"resumed on another footing, so not bit for bit as if undisturbed: {words}."] if changed else []


def _refuse_changes(run: Run, recipe: Recipe, request: TrainRequest) -> None:
    """A resumed run keeps its recipe: what is asked for beside --resume must be what the run was started with."""
    given = {k: v for k, v in request.options.items() if v is not None and v != "auto"}
    wanted: dict[str, Any] = {"data": data_name(request.data)}
    recipe_name = SIZES.get(request.size or "", request.recipe)
    if recipe_name is not None:
        settled = {"precision", "image_size", "batch_size", "flip"}  # a run may have found its own values for these
        named = find_recipe(recipe_name).recipe.flat()
        wanted |= {k: v for k, v in named.items() if k not in settled | {"data"}}
    before = recipe.flat()
    for option, value in {**wanted, **given}.items():
        if option in before and before[option] != value:
            name = "DATA" if option == "data" else f"--{option.replace('_', '-')}"
            raise UsageError(
                f"run {run.name!r} was started with {name} {before[option]} and not {value}; a resumed run keeps its "
                "recipe, so leave the option out, or start a new run with another --name."
            )
