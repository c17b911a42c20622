"""Recipes: whole through JSON, flat as options, and plain about what does not do."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from typing import Any

import pytest

from convscope.errors import UnknownName, UsageError
from convscope.recipes import AUGMENTS, OPTIMIZERS, RECIPES, Augment, Recipe, find_recipe


@pytest.mark.parametrize("name", RECIPES)
def test_a_named_recipe_survives_json_and_makes_a_claim(name: str) -> None:
    named = find_recipe(name)
    assert Recipe.from_dict(json.loads(json.dumps(named.recipe.to_dict()))) == named.recipe
    assert len(named.claim) > 10


def test_sections_are_small_and_flat_names_are_unique() -> None:
    sections = Recipe().to_dict()
    assert max(len(fields) for fields in sections.values()) <= 8
    assert len(Recipe().flat()) == sum(len(fields) for fields in sections.values())


@pytest.mark.parametrize(
    ("option", "value"),
    [("epochs", 3), ("lr", 0.5), ("model", "vgg"), ("data", "shapes"), ("batch_norm", False), ("dropout", 0.25)],
)
def test_an_option_changes_its_field_and_no_other(option: str, value: Any) -> None:
    changed = Recipe().with_options({option: value, "seed": None}).flat()
    assert changed == Recipe().flat() | {option: value}


@pytest.mark.parametrize("level", AUGMENTS)
def test_a_level_replaces_the_whole_section(level: str) -> None:
    assert Recipe(augment=AUGMENTS["strong"]).with_options({"augment": level}).augment == AUGMENTS[level]
    assert AUGMENTS[level].name == level


def test_levels_grow() -> None:
    parts = [f.name for f in dataclasses.fields(Augment) if f.name not in ("name", "flip")]
    for weaker, stronger in (("none", "light"), ("light", "standard"), ("standard", "strong")):
        assert all(getattr(AUGMENTS[weaker], p) <= getattr(AUGMENTS[stronger], p) for p in parts)


def test_another_optimizer_brings_its_own_rate_unless_one_is_given() -> None:
    assert Recipe().with_options({"optimizer": "adamw"}).optimizer == OPTIMIZERS["adamw"]
    assert Recipe().with_options({"optimizer": "adamw", "lr": 0.5}).optimizer.lr == 0.5
    assert Recipe().with_options({"optimizer": "sgd", "lr": 0.5}).with_options({"optimizer": "sgd"}).optimizer.lr == 0.5


@pytest.mark.parametrize(
    ("options", "offered"),
    [
        ({"optimizer": "adam"}, "adamw"),
        ({"schedule": "cosin"}, "cosine"),
        ({"augment": "lite"}, "light"),
        ({"precision": "float23"}, "float32"),
        ({"bad_pictures": "skipp"}, "skip"),
        ({"epoch": 3}, "epochs"),
    ],
)
def test_unknown_names_get_the_nearest(options: dict[str, Any], offered: str) -> None:
    with pytest.raises(UnknownName, match=f"Did you mean .*'{offered}'"):
        Recipe().with_options(options)


@pytest.mark.parametrize(
    "options",
    [{"lr": 0}, {"epochs": 0}, {"epochs": 1.5}, {"dropout": 1.0}, {"momentum": -0.1}, {"width": -3}, {"seed": "x"}],
)
def test_bad_values_get_one_sentence(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        Recipe().with_options(options)
    assert "\n" not in str(caught.value)
    assert next(iter(options)) in str(caught.value)


def test_a_recipe_cannot_be_changed_or_extended() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Recipe().loop.epochs = 3  # type: ignore[misc]
    with pytest.raises(UsageError):
        Recipe.from_dict({"model": {"name": "alexnet", "colour": "red"}})
    with pytest.raises(UnknownName, match="lecture-6"):
        find_recipe("lecture6")


def test_recipes_need_no_torch() -> None:
    code = "import sys, convscope.recipes; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
