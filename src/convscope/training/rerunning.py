"""The command that trains a run again: its data, and the options in which its recipe differs from the usual one."""

from __future__ import annotations

import shlex
from dataclasses import fields
from pathlib import Path
from typing import Any

from ..recipes import OPERATIONS, Recipe
from ..renaming import options_of
from .options import TrainOptions
from .request import named_recipe
from .runs import Run


def rerun_command(run: Run) -> str:
    """The command, ready to be pasted into a shell; UsageError for a network that was trained elsewhere."""
    recipe = run.recipe()
    words = ["convscope", "train", recipe.data.name]
    if before := run.description().get("continued"):
        words += ["--continue-from", before["run"]]
        words += [] if before.get("epoch") is None else ["--from-epoch", str(before["epoch"])]
    for name, value in rerun_options(recipe).items():
        option = f"--{name.replace('_', '-')}"
        for one in value if isinstance(value, tuple) else (value,):
            words += [option] if one is True else [option, str(one)]
    return shlex.join(words)


def rerun_options(recipe: Recipe) -> dict[str, Any]:
    """Those options of `convscope train` that must be given, so that it trains by this recipe."""
    asked, usual = recipe.flat(), named_recipe(recipe.data.name, TrainOptions())
    known = {field.name for field in fields(TrainOptions)}
    given: dict[str, Any] = {}
    for name in ("optimizer", "augment"):  # each brings values of its own, from which the rest may differ
        if asked[name] != usual.flat()[name]:
            given[name] = asked[name]
    plain = usual.with_options(given).flat()
    given |= {n: v for n, v in asked.items() if n in known and v != plain[n] and v is not None and v is not False}
    return given | options_of(recipe.source.renamed)


def set_in_python(recipe: Recipe) -> dict[str, float]:
    """The amounts of augmentation that differ from those of the recipe's level: only Python takes them."""
    usual = named_recipe(recipe.data.name, TrainOptions()).with_options({"augment": recipe.augment.name}).augment
    amounts = {operation: recipe.augment.amount(operation) for operation in OPERATIONS}
    return {operation: amount for operation, amount in amounts.items() if amount != usual.amount(operation)}


def own_code(run: Run) -> Path | None:
    """The file of the user's own network, without which the command trains nothing; None for other networks."""
    source = run.recipe().model.name.rpartition(":")[0]
    return Path(source) if source.endswith(".py") else None
