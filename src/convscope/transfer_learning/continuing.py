"""A transfer that goes on from an earlier one with more images: what must stay, and whether the new images helped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..classifying.prediction import logits
from ..datasets.dataset import Dataset, Listing, Undecoded
from ..errors import UsageError
from ..evaluation.opening import log_look
from ..recipes import Recipe
from ..training.continuing import PLACE, TOLD, Before, Helped, helped, open_before, right, sides_of
from ..training.runs import Run
from .begun import FOLDER, is_finished

FREE = ("engine", "cards", "continue_from")  # what may be asked otherwise: it decides no answer
OF_RECIPE = ("image_size", "fit", "stretch", "balance", "seed")


def open_transfer(run: str, runs: Path) -> Before:
    """The transfer to go on from. UsageError or DataError for another kind of run, or one of unknown images."""
    before = open_before(run, runs, None)
    if FOLDER not in before.run.description():
        raise UsageError(
            f"run {before.run.name!r} was made by train: convscope train DATA --continue-from goes on from it."
        )
    if not is_finished(before.run):
        raise UsageError(f"run {before.run.name!r} was stopped: its own command again finishes it, then go on from it.")
    return before


def check_same(before: Before, recipe: Recipe, asked: Mapping[str, Any], class_names: Iterable[str]) -> None:
    """UsageError where it is not the same transfer: then not the new images alone would make the difference."""
    if not set(class_names) & set(before.classifier.class_names):
        names = ", ".join(map(repr, before.classifier.class_names[:TOLD]))
        raise UsageError(f"the classes of run {before.run.name!r} are {names}, and these images are of none of them.")
    old, new = _decisive(before.run.recipe(), before.run.description()[FOLDER]), _decisive(recipe, asked)
    changed = [name for name in new if name != "weights_sha256" and old.get(name) != new[name]]
    if not changed and old["weights_sha256"] != new["weights_sha256"]:
        raise UsageError(f"run {before.run.name!r} took other weights of its backbone: give the same --weights.")
    if changed:
        had = ", ".join(_told(f"--{name.replace('_', '-')}", old.get(name), new[name]) for name in changed)
        raise UsageError(f"run {before.run.name!r} was made {had}: ask for the same, so that only the images differ.")


def _told(option: str, old: Any, new: Any) -> str:
    """With what an earlier transfer was made, and not as is asked for now."""
    if isinstance(new, bool):
        return f"{'without' if new else 'with'} {option}"
    return f"with {option} {old} and not {new}"


def _decisive(recipe: Recipe, asked: Mapping[str, Any]) -> dict[str, Any]:
    flat = recipe.flat()
    return {k: v for k, v in asked.items() if k not in FREE} | {name: flat[name] for name in OF_RECIPE}


def kept_apart(before: Before, listed: Listing, dataset: Dataset) -> Listing:
    """The images, each in the part where the earlier transfer had it."""
    return replace(listed, unsplit=replace(listed.unsplit, sides=sides_of(before.images, dataset)))


def compare_with_before(
    before: Before, run: Run, dataset: Dataset, listed: Listing, new_logits: torch.Tensor
) -> Helped | None:
    """Compare the two on the test images of the earlier one, which it is asked about now; None where there are none.

    ``new_logits`` (N, K) are those of the new one, of all of the dataset's test images.
    """
    index = before.test_images(dataset)
    if not len(index):
        return None
    log_look(before.run, "test", len(index), f"{PLACE} in {run.name}")
    preprocess, asked = before.classifier.preprocess, np.isin(dataset.parts["test"], index)
    images: Any = Undecoded(listed, preprocess)
    old_logits = logits(before.classifier.network, images, preprocess, index)
    old = right(old_logits, before.classifier.class_names, dataset, index)
    return helped(before, dataset, old, right(new_logits[torch.from_numpy(asked)], dataset.class_names, dataset, index))
