"""Go on with a run that was stopped: the same recipe, the same data, and the command to type for it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..datasets.dataset import Dataset
from ..errors import DataError, UsageError
from ..images.preprocess import Preprocess
from ..locks import check_unheld
from ..machine import describe, pick_device
from ..models.architecture import Architecture, check_described, check_recorded, named_again
from ..models.user_network import is_own, source_hash
from ..named_recipes import SIZES, find_recipe
from ..recipes import Recipe
from ..renaming import spelled
from ..tensor_files import is_whole, read_header
from .continuing import open_recorded
from .kept_epochs import kept_every
from .options import TrainOptions
from .request import PLACES, data_name, named_places, named_weights, read_dataset, starting_architecture
from .runs import (
    Run,
    checkpoints,
    data_description,
    data_difference,
    find_run,
    runs_folder,
)
from .session import Session
from .watching import EVERY


def resume_command(run: Run, data: str, options: TrainOptions) -> str:
    """The command that goes on with a run, ready to be pasted into a shell."""
    places = {"--data-root": options.data_root, "--runs": options.runs}
    words = ["convscope", "train", data, "--name", run.name, "--resume"]
    words += [w for option, path in places.items() if path is not None for w in (option, str(path))]
    words += ["--device", options.device] if options.device != "auto" else []
    words += ["--model", options.model] if options.model is not None and is_own(options.model) else []
    words += ["--watch"] if options.watch else []
    words += ["--keep-epochs", str(options.keep_epochs)] if options.keep_epochs else []
    return shlex.join(words)


def in_processes(command: str, count: int, *, by_torchrun: bool = False) -> str:
    """The command that trains, in so many processes: a run goes on bit for bit in as many as before."""
    if count == 1:
        return command
    return f"torchrun --nproc-per-node {count} -m {command}" if by_torchrun else f"{command} --processes {count}"


def resume_training(data: str, options: TrainOptions) -> Session:
    """Go on with a run that was stopped. UsageError or DataError where recipe, data or code are not what they were."""
    run = find_run(options.name or "last", runs_folder(options.runs))
    check_unheld(run.folder, f"run {run.name!r}")
    asked = {"minutes": options.minutes, "memory": options.memory, "continue-from": options.continue_from}
    asked["from-epoch"] = options.from_epoch
    for option in (name for name, value in asked.items() if value is not None):
        raise UsageError(
            f"a resumed run keeps its recipe: leave out --{option}, or start a new run with another --name."
        )
    before, recipe = run.description(), _named_recipe(run, options)
    _refuse_changes(run, recipe, data, options)
    here = recipe.with_options({"data": data_name(data), **named_places(options)})
    continued = before.get("continued")
    preprocess = None if continued is None else Preprocess.from_dict(continued["preprocess"])
    dataset = read_dataset(here, options.data_root, options.progress, preprocess=preprocess)
    difference = data_difference(before["data"], data_description(dataset))
    if difference:
        raise DataError(
            f"the data changed since run {run.name!r} began: {difference}. Start a new run with another --name."
        )
    _check_network(run, recipe, dataset)
    architecture, initial = starting_architecture(recipe, dataset, begun=bool(checkpoints(run)))
    earlier = None if continued is None else open_recorded(continued, run.name, options.model)
    if earlier is not None and not checkpoints(run):
        initial = earlier.grown(architecture, dataset.class_names, recipe.loop.seed)
    device = pick_device(options.device)
    notes = [*dataset.notes, *footing(before["machine"], describe(device))]
    if options.watch and recipe.convolution.fused:
        recipe = recipe.with_options({"fused": ()})
        notes.append("batch norms are watched by themselves now, so not bit for bit as if undisturbed.")
    return Session(
        run=run,
        recipe=recipe,
        dataset=dataset,
        architecture=architecture,
        device=device,
        resume_command=resume_command(run, data, options),
        initial=initial,
        notes=notes,
        watch=EVERY * options.watch,
        keep_epochs=kept_every(options.keep_epochs),
        before=earlier,
    )


def _check_network(run: Run, recipe: Recipe, dataset: Dataset) -> None:
    """Compare the network of the recipe with the newest checkpoint, or its size with sense, before it is built."""
    options = {k: v for k, v in recipe.model.options().items() if v is not None}
    architecture, classes = Architecture(recipe.model.name, dataset.preprocess.size, options), len(dataset.class_names)
    headers = [(path, read_header(path)) for path in checkpoints(run)[-1:] if is_whole(path)]
    for path, header in headers:
        tensors = {n.removeprefix("network/"): t for n, t in header.tensors.items() if n.startswith("network/")}
        check_described(architecture, classes, replace(header, tensors=tensors), path)
    if not headers:
        check_recorded(architecture, classes, f"run {run.name!r}")


def _named_recipe(run: Run, options: TrainOptions) -> Recipe:
    """The run's recipe, its code named again where that is the user's own. UsageError or DataError otherwise."""
    recipe = run.recipe()
    name = named_again(recipe.model.name, f"run {run.name!r}", options.model)
    if is_own(name) and source_hash(name) != run.description().get("source"):
        raise DataError(f"the code of {name} changed since run {run.name!r} began, or is another: start a new run.")
    return recipe.with_options({"model": name})


def footing(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """A sentence when the machine or its libraries are not those the run began on, for then bits may differ."""
    changed = [k for k in now if before.get(k) != now[k] and k != "platform"]
    words = "; ".join(f"{k} was {before.get(k)!r} and is {now[k]!r}" for k in changed)
    return [f"resumed on another footing, so not bit for bit as if undisturbed: {words}."] if changed else []


def _refuse_changes(run: Run, recipe: Recipe, data: str, options: TrainOptions) -> None:
    """A resumed run keeps its recipe: what is asked for beside --resume must be what the run was started with."""
    given = {k: v for k, v in options.of_recipe().items() if v != "auto" and k not in PLACES}
    if options.weights is not None:
        given["weights"] = named_weights(options.weights)
    wanted: dict[str, Any] = {}  # data and corrections may lie elsewhere now: their content is compared
    recipe_name = SIZES.get(options.size or "", options.recipe)
    if recipe_name is not None:
        own = {
            "precision",
            "image_size",
            "batch_size",
            "flip",
            "tiles",
            "fused",
            "sides",
        }  # what a run finds for itself
        named = find_recipe(recipe_name).recipe.flat()
        wanted |= {k: v for k, v in named.items() if k not in own | {"data"}}
    before = recipe.flat()
    for option, value in {**wanted, **given}.items():
        if option in before and before[option] != value:
            was, asked = (
                (spelled(before[option]), spelled(value))
                if option == "renamed"
                else (f"--{option.replace('_', '-')} {before[option]}", value)
            )
            raise UsageError(
                f"run {run.name!r} was started with {was} and not {asked}; a resumed run keeps its recipe, so leave "
                "the option out, or start a new run with another --name."
            )
