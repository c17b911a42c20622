"""From what is asked for to a session that can train: the data read, the recipe settled, the run made or found."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ..convolution.timing import is_possible
from ..datasets.dataset import Dataset
from ..datasets.registry import DATASETS
from ..datasets.splits import too_few
from ..errors import DamagedFile, DataError, LockedError, UsageError
from ..machine import describe, pick_device, pick_precision
from ..models.architecture import architecture_of
from ..models.fast_convolutions import every_layer, fastest_layers, shapes_of
from ..models.registry import MODELS, options_of
from ..models.trial import output_fault, try_training
from ..models.user_network import is_own
from ..progress import Progress
from ..recipes import USUAL_BATCH, Recipe
from .batches import Batches
from .continuing import Before
from .estimates import RateRange, check_memory, epoch_seconds, fit_memory, rate_range
from .kept_epochs import kept_every
from .loop import prepare
from .options import Size, TrainOptions
from .request import data_name, left_out, read_dataset, starting_architecture, wanted_recipe
from .resuming import in_processes, resume_command
from .runs import Run, check_name, create_run, data_description, free_name, point_last, runs_folder
from .session import Session, training_batches
from .watching import EVERY

LEAST_EPOCHS = {"small": 1, "medium": 3, "large": 8}  # fewer, and the next smaller size does better: docs/log.md
MOST_EPOCHS = 50  # more gain nothing that was measured
MINUTE = 60.0

WORTH_TIMING = 5e11  # multiplications of all convolutions in all passes: less takes little longer than the timing


@dataclass
class Start:
    """The start of a training: ``recipe`` has nothing left open but what ``_plan`` still finds out."""

    recipe: Recipe
    dataset: Dataset
    device: torch.device
    notes: list[str]
    rates: RateRange | None = None
    before: Before | None = None  # the run that this one goes on from, with more images

    def network(self) -> torch.nn.Module:
        """The network as training begins with it, on a throw-away copy."""
        architecture, initial = starting_architecture(self.recipe, self.dataset)
        network = initial
        if network is None:
            network = architecture.build(len(self.dataset.class_names), seed=self.recipe.loop.seed).to(self.device)
            prepare(network, self.batches())
        return network.to(self.device)

    def batches(self) -> Batches:
        """The batches of the training."""
        return training_batches(self.dataset, self.recipe, self.device)


@dataclass(frozen=True)
class Planned:
    """A training that can begin: its ``session``, the ``description`` of its run, which is not made yet, and the range
    test, if there was one."""

    session: Session
    description: dict[str, Any]
    rates: RateRange | None

    def begin(self) -> Session:
        """Make the run, which from then on can be gone on with."""
        run = self.session.run
        create_run(run.folder.parent, run.name, self.description)
        point_last(run)
        return self.session


def plan_training(data: str, options: TrainOptions) -> Planned:
    """Read the data, settle the recipe: everything before the run is made."""
    check_free(data, options)
    recipe = wanted_recipe(data, options)
    options_of(recipe.model.name)  # an unknown model is told before images are read
    dataset = read_dataset(recipe, options.data_root, options.progress)
    device = pick_device(options.device)
    check_trainable(dataset)
    return make_plan(data, options, _plan(data, options, dataset, device))


def make_plan(data: str, options: TrainOptions, start: Start) -> Planned:
    """The training that begins so: its network built, its run named and described."""
    folder, recipe, dataset, before = runs_folder(options.runs), start.recipe, start.dataset, start.before
    if options.watch or recipe.loop.save_memory:  # both go from layer to layer
        recipe = recipe.with_options({"fused": ()})
    architecture, initial = starting_architecture(recipe, dataset)
    if before is not None:
        initial = before.grown(architecture, dataset.class_names, recipe.loop.seed)
    if options.watch and recipe.loop.compile:
        raise UsageError("a compiled network has no layers to look into: --compile or --watch.")
    name = options.name or free_name(folder, f"{dataset.name}-{_stem(recipe.model.name)}")
    description = {
        "recipe": recipe.to_dict(),
        "data": data_description(dataset),
        "machine": describe(start.device),
        "source": architecture.source,
    }
    if before is not None:
        description["continued"] = before.record()
    run = Run(folder / check_name(name))
    session = Session(
        run=run,
        recipe=recipe,
        dataset=dataset,
        architecture=architecture,
        device=start.device,
        resume_command=resume_command(run, data, options),
        initial=initial,
        notes=start.notes,
        watch=EVERY * options.watch,
        keep_epochs=kept_every(options.keep_epochs),
        keep_memory=options.memory is None,
        before=before,
    )
    return Planned(session, description, start.rates)


def check_free(data: str, options: TrainOptions) -> None:
    """LockedError where a run has the name already: told before images are read."""
    folder = runs_folder(options.runs)
    if options.name is not None and (folder / check_name(options.name) / "recipe.json").exists():
        raise LockedError(_taken(Run(folder / options.name), data, options))


def _taken(run: Run, data: str, options: TrainOptions) -> str:
    """The sentence about a name that a run has: how to go on with it, on its own data, or to leave it."""
    try:
        recorded, description = run.recipe().data.name, run.description()
        is_transfer, processes = "transfer" in description, int(description["machine"].get("processes", 1))
    except DamagedFile:
        recorded, is_transfer, processes = "", True, 1
    if is_transfer:
        return f"run {run.name!r} exists already: choose another --name."
    if recorded != data_name(data) and (recorded in DATASETS or Path(recorded).exists()):  # else they moved
        data = recorded
    command = in_processes(resume_command(run, data, options), processes)
    return f"run {run.name!r} exists already: go on with it by {command}, or choose another --name."


def _stem(model: str) -> str:
    """A model's name as part of a run's: without folders, function and source."""
    return Path(model.split(":")[0]).stem if is_own(model) else model.split(":")[-1]


def _plan(data: str, options: TrainOptions, dataset: Dataset, device: torch.device) -> Start:
    """The start, with what has to be measured settled: size and epochs by time, memory, learning rate."""
    start = settle_recipe(wanted_recipe(data, options), dataset, device, options.progress)
    start.notes += [*filter(None, [left_out(data, options)]), *_tried(start.recipe, dataset)]
    if options.minutes is not None:
        start = _within_minutes(data, options, start)
    if options.memory is not None:
        if not 0 < options.memory < math.inf:
            raise UsageError(f"--memory {options.memory:g} is no number of GB to train in.")
        size = dataset.preprocess.size
        recipe = fit_memory(start.network(), start.recipe, size, options.memory)
        if recipe != start.recipe:
            start.notes.append(f"activations are computed again, to fit a step in {options.memory:g} GB.")
        start.recipe = recipe
    if options.lr == "auto":
        start.rates = rate_range(start.network(), start.batches(), start.recipe)
        start.recipe = start.recipe.with_options({"lr": start.rates.chosen})
        start.notes.append(f"the range test chose the learning rate {start.rates.chosen:g}; see lr.png in the run.")
    return start


def _tried(recipe: Recipe, dataset: Dataset) -> list[str]:
    """Try one step of a network that is not ours, or of one image; a note where its outputs are no logits."""
    images, batch_size = len(dataset.parts["train"]), recipe.loop.batch_size or 2
    batch_size = images // -(-images // batch_size)  # the smallest of an epoch
    if recipe.model.name in MODELS and batch_size > 1:
        return []
    size, classes = dataset.preprocess.size, len(dataset.class_names)
    _, network = architecture_of(recipe.model.name, size, recipe.model.options(), classes)
    try_training(recipe.model.name, network, classes, size, batch_size)
    fault = output_fault(network, torch.zeros(1, 3, size, size)) if is_own(recipe.model.name) else None
    if fault is None:
        return []
    return [
        f"the outputs of {recipe.model.name} are {fault}, and the loss wants logits: take the last layer away, or it "
        "will learn slowly or not at all."
    ]


def _within_minutes(data: str, options: TrainOptions, start: Start) -> Start:
    """The largest size of which enough epochs fit in the time; where something else was named, its epochs only."""
    minutes = options.minutes
    assert minutes is not None
    if options.epochs is not None:
        raise UsageError(f"--minutes {minutes:g} settles the epochs: leave out --epochs, or --minutes.")
    if not 0 < minutes < math.inf:
        raise UsageError(f"--minutes {minutes:g} is no time to train in.")
    free = options.size is None and options.recipe is None and options.model is None
    shortest = math.inf
    sizes: tuple[Size | None, ...] = ("large", "medium", "small") if free else (options.size,)
    for size in sizes:
        tried = settle_recipe(
            wanted_recipe(data, replace(options, size=size)), start.dataset, start.device, options.progress
        )
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


def settle_recipe(recipe: Recipe, dataset: Dataset, device: torch.device, progress: Progress | None = None) -> Start:
    """The recipe with nothing left open, and what was decided, in sentences."""
    precision = pick_precision(recipe.loop.precision, device)
    settled: dict[str, Any] = {"precision": precision, "image_size": dataset.preprocess.size}
    if recipe.loop.batch_size is None:
        settled["batch_size"] = usual_batch_size(recipe, len(dataset.parts["train"]))
    notes = list(dataset.notes)
    if recipe.augment.flip != "none" and not dataset.mirror:
        settled["flip"] = "none"
        notes.append(f"{dataset.name} change their meaning in a mirror: flips are switched off.")
    if is_own(recipe.model.name):
        notes.append(f"{recipe.model.name} is your own code: it is run as it stands.")
    recipe = recipe.with_options(settled)
    if device.type == "cpu":
        check_memory(recipe, len(dataset.class_names), dataset.preprocess.size, len(dataset.parts["train"]))
    chosen, said = _faster(recipe, dataset, device, progress)
    return Start(recipe.with_options(chosen), dataset, device, notes + said)


def _faster(
    recipe: Recipe, dataset: Dataset, device: torch.device, progress: Progress | None
) -> tuple[dict[str, tuple[Any, ...]], list[str]]:
    """The tiles of convolutions that take fewer multiplications and the norms that are fused, as options of a recipe;
    and a note where they were wanted in vain."""
    loop, wanted, size = recipe.loop, recipe.convolution.name, dataset.preprocess.size
    if wanted == "direct":
        return {}, []
    unfit = [
        words
        for words, fits in (
            ("computes on a CPU", device.type == "cpu"),
            ("computes in float32", loop.precision == "float32"),
            ("does not go into a compiled network", not loop.compile),
            ("needs Numba (pip install numba)", is_possible()),
        )
        if not fits
    ]
    if unfit:
        return {}, [f"winograd {unfit[0]}: convolutions are direct."] if wanted == "winograd" else []
    _, network = architecture_of(recipe.model.name, size, recipe.model.options(), len(dataset.class_names))
    if wanted == "winograd":
        return every_layer(network, size), []
    passes = 3 * loop.epochs * len(dataset.parts["train"])
    if passes * sum(shape.multiplications for shape in shapes_of(network, size).values()) < WORTH_TIMING:
        return {}, []
    return fastest_layers(network, size, progress), []


def usual_batch_size(recipe: Recipe, images: int) -> int:
    """A power of two, from 16 to what is usual with the optimizer, that gives an epoch 20 updates where it can."""
    size = USUAL_BATCH.get(recipe.optimizer.name, 128)
    while size > 16 and images < 20 * size:
        size //= 2
    return size


def check_trainable(dataset: Dataset) -> None:
    told = too_few(dataset.name, dataset.parts)
    if told:
        raise DataError(told)
