"""A training as it is asked for: its recipe, its data, and the network it starts from."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from ..datasets.dataset import Dataset
from ..datasets.named_before import check_named, remember
from ..datasets.registry import DATASETS, load_dataset
from ..datasets.shard_places import is_address, is_pattern
from ..errors import UnknownName, UsageError
from ..images.preprocess import Preprocess
from ..models.architecture import Architecture, architecture_of, load_weight_file
from ..models.recomputing import recomputing
from ..named_recipes import RECIPES, SIZES, find_recipe
from ..options import SourceOptions
from ..progress import Progress
from ..recipes import Model, Recipe, Source
from ..storage import expanded
from .options import TrainOptions

PLACES = ("images", "corrections")  # the options beside DATA that say where something lies


def wanted_recipe(data: str, options: TrainOptions) -> Recipe:
    """The recipe asked for, its "auto" rate left at the recipe's own until it is found out."""
    recipe = named_recipe(data, options)
    changes = {"data": data_name(data), **options.of_recipe()}
    if changes.get("lr") == "auto":
        del changes["lr"]
    if options.weights is not None:
        changes["weights"] = named_weights(options.weights)
    changes |= named_places(options)
    if changes.get("model", recipe.model.name) != recipe.model.name:  # what it says of another network is left out
        recipe = dataclasses.replace(recipe, model=Model(recipe.model.name))
    return recipe.with_options(changes)


def recorded_source(said: Mapping[str, Any]) -> dict[str, Any]:
    """How images and labels are read, as a run remembers it: the fields that were given, with places in full."""
    given = {name: said[name] for name in vars(Source()) if said.get(name) is not None}
    return given | _in_full(given)


def named_places(options: SourceOptions) -> dict[str, str]:
    """Where images and corrections are said to lie, in full, so that it means the same from another folder."""
    return _in_full(vars(options))


def _in_full(said: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(expanded(said[name]).resolve()) for name in PLACES if said.get(name) is not None}


def named_weights(path: Path) -> str:
    """A weight file's path as a run remembers it; from now on it may be read when a run's record names it."""
    whole = Path(path).resolve()
    remember(whole)
    return str(whole)


def named_recipe(data: str, options: TrainOptions) -> Recipe:
    """The recipe to start from: by its name or size, that of the data, or the default."""
    name = options.recipe
    if options.size is not None:
        if name is not None:
            raise UsageError(f"--size {options.size} is a recipe of its own: leave out --recipe {name}, or --size.")
        if options.size not in SIZES:
            raise UnknownName("size", options.size, SIZES)
        name = SIZES[options.size]
    return find_recipe(name or (data if data in RECIPES else "default")).recipe


def left_out(data: str, options: TrainOptions) -> str | None:
    """In a sentence, what the recipe says of another network than is asked for; None where it says nothing."""
    named = named_recipe(data, options).model
    said = [f"{option.replace('_', '-')} {value}" for option, value in named.options().items() if value is not None]
    if options.model in (None, named.name) or not said:
        return None
    return f"the recipe is for {named.name}: what it says of that network ({', '.join(said)}) is left out."


def data_name(data: str) -> str:
    """A dataset's name as a run remembers it: paths in full, so that they mean the same from another folder."""
    path = expanded(data)
    if data not in DATASETS and (os.path.exists(path) or (is_pattern(data) and not is_address(data))):
        return str(path.resolve())
    return data


def read_dataset(
    recipe: Recipe,
    data_root: Path | None,
    progress: Progress | None,
    recorded_in: str | None = None,
    preprocess: Preprocess | None = None,
) -> Dataset:
    """The dataset of a recipe, as it is trained on; ``recorded_in`` and ``preprocess`` as ``load_dataset`` has them."""
    data = recipe.data
    return load_dataset(
        data.name,
        data_root=data_root,
        image_size=data.image_size,
        fit=data.fit,
        stretch=data.stretch,
        limit=data.limit,
        bad_images=data.bad_images,
        fold=data.fold,
        stream=recipe.reading.stream,
        progress=progress,
        recorded_in=recorded_in,
        preprocess=preprocess,
        sides=data.sides,
        **vars(recipe.source),
    )


def starting_architecture(recipe: Recipe, dataset: Dataset, begun: bool = False) -> tuple[Architecture, Any]:
    """The architecture, and the network to start from: None where the seed or a checkpoint gives the weights."""
    size, classes = dataset.preprocess.size, len(dataset.class_names)
    architecture, network = architecture_of(recipe.model.name, size, recipe.model.options(), classes)
    if recipe.loop.compile and recipe.loop.save_memory:
        raise UsageError("a compiled network cannot compute its activations again: --compile or --save-memory.")
    with recomputing(network, recipe.loop.save_memory):
        pass  # a network that cannot be cut is told now
    if recipe.model.weights is None or begun:
        return architecture, None
    load_recorded_weights(network, recipe, "its recipe")
    return architecture, network


def load_recorded_weights(network: nn.Module, recipe: Recipe, record: str) -> None:
    """Put in the weights that a recipe starts from; UsageError for a file that no user has named here."""
    assert recipe.model.weights is not None
    path = Path(recipe.model.weights)
    check_named({"--weights": path}, record)
    load_weight_file(network, path)
