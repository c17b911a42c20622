"""A training that goes on from a run with more images: how it begins, and how it is compared at its end."""

from __future__ import annotations

from dataclasses import fields, replace

from ..classifying.prediction import logits
from ..errors import UsageError
from ..machine import pick_device
from ..models.architecture import named_again
from ..models.user_network import is_own
from ..recipes import Recipe, Source
from ..storage import commit_json
from .continuing import CONTINUED, Before, growth, helped, log_looks, nobody_knows, open_before, right, sides_of
from .options import NetworkOptions, TrainOptions
from .request import data_name, read_dataset, recorded_source
from .runs import runs_folder
from .session import Session
from .starting import Planned, check_free, check_trainable, make_plan, settle_recipe

OTHERWISE = ("recipe", "size", "minutes", "memory", "weights")  # options that would choose or load another network
KEPT = (*(field.name for field in fields(NetworkOptions)), "image_size", "fit", "stretch")


def plan_continuation(data: str, options: TrainOptions) -> Planned:
    """Read the grown data on the sides where the run had them, with its network and preprocess, before a run is made.

    UsageError for options that ask for another network, or other images of it.
    """
    check_free(data, options)
    assert options.continue_from is not None
    before = open_before(options.continue_from, runs_folder(options.runs), options.model, options.from_epoch)
    recipe = continued_recipe(before, data, options)
    preprocess = before.classifier.preprocess
    dataset = read_dataset(recipe, options.data_root, options.progress, preprocess=preprocess)
    sides = sides_of(before.images, dataset)
    if sides:
        recipe = replace(recipe, data=replace(recipe.data, sides=sides))
        dataset = read_dataset(recipe, options.data_root, options.progress, preprocess=preprocess)
    check_trainable(dataset)
    start = settle_recipe(recipe, dataset, pick_device(options.device), options.progress)
    start.before = before
    if before.epoch is not None:
        start.notes.append(f"its weights are those of run {before.run.name!r} after epoch {before.epoch}.")
    start.notes.append(growth(before, dataset).sentence())
    return make_plan(data, options, start)


def continued_recipe(before: Before, data: str, options: TrainOptions) -> Recipe:
    """The run's recipe on the data as they are now, with what may change beside it."""
    name, recipe = before.run.name, before.run.recipe()
    if "transfer" in before.classifier.provenance:
        raise UsageError(f"run {name!r} was made by transfer: convscope transfer DATA --continue-from goes on from it.")
    for option in OTHERWISE:
        if getattr(options, option) is not None:
            raise UsageError(f"--continue-from {name} keeps that run's network and recipe: leave out --{option}.")
    if options.lr == "auto":
        raise UsageError("--continue-from finds no rate, for the network is trained already: give --lr a number.")
    given, had = options.of_recipe(), recipe.flat()
    for option in KEPT:
        own = option == "model" and is_own(had["model"])  # code of a user's own is named again
        if option in given and given[option] != had[option] and not own:
            raise UsageError(
                f"run {name!r} has {option.replace('_', '-')} {had[option]} and not {given[option]}; what goes on from "
                "it keeps network and preprocess, so leave the option out."
            )
    recipe = replace(
        recipe,
        model=replace(recipe.model, name=named_again(had["model"], name, options.model), weights=None),
        data=replace(recipe.data, name=data_name(data), sides=None),
        source=recipe.source if recipe.data.name == data_name(data) else Source(renamed=recipe.source.renamed),
    )
    given.pop("model", None)
    return recipe.with_options(given | recorded_source(given) | {"tiles": (), "fused": ()})


def compare_with_before(session: Session, before: Before) -> None:
    """Ask both networks about the test images of the earlier run, once, and write what came of it."""
    if (session.run.folder / CONTINUED).exists():
        return
    dataset = session.dataset
    index = before.test_images(dataset)
    if not len(index):
        session.notes.append(nobody_knows(before))
        return
    log_looks(before, session.run, len(index))
    own = session.architecture.name if is_own(session.architecture.name) else None
    found = []
    for classifier in (before.classifier, session.run.classifier(own)):
        scores = logits(classifier.network, dataset.images, classifier.preprocess, index)
        found.append(right(scores, classifier.class_names, dataset, index))
    commit_json(session.run.folder / CONTINUED, helped(before, dataset, *found).to_json())
