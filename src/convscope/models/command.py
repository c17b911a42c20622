"""The lecture's table of a model, the rules it breaks, and the list of all models."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..named_recipes import RECIPES
from ..options import with_options
from .architecture import architecture_of
from .options import ModelOptions
from .registry import MODELS, options_of


@with_options(ModelOptions)
def model_table(name: str, options: ModelOptions) -> Any:
    """The lecture's table of a model: its Ledger, whose ``notes`` are the lecture's rules that it breaks."""
    from .design_rules import broken_rules
    from .layer_table import ledger

    _, network = architecture_of(name, options.image_size, options.of_network(), options.classes)
    book = ledger(network, options.image_size)
    return replace(book, rules=broken_rules(book, options.image_size))


def model_list() -> list[dict[str, Any]]:
    """Every model with its options, its size at 32 x 32 for 10 classes, and the best that was measured of it.

    ``top1`` is the best validation accuracy among the named recipes of the model, None where there is none.
    """
    rows = []
    for name in MODELS:
        book = model_table(name)
        measured = [
            (named.measured.top1, recipe, named.measured)
            for recipe, named in RECIPES.items()
            if named.recipe.model.name == name and named.measured is not None
        ]
        top1, recipe, best = max(measured, default=(None, None, None))
        row = {"name": name, "options": list(options_of(name))}
        row |= {"parameters": book.parameters, "multiply_adds": book.multiply_adds}
        row |= {"top1": top1, "data": best and best.data, "minutes": best and best.minutes, "recipe": recipe}
        rows.append(row)
    return rows
