"""Recipes: whole through JSON, flat as options, and plain about what does not do."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convscope.errors import UnknownName, UsageError
from convscope.named_recipes import RECIPES, find_recipe
from convscope.recipes import AUGMENTS, OPERATIONS, OPTIMIZERS, Recipe


@pytest.mark.parametrize("name", RECIPES)
def test_a_named_recipe_survives_json_and_makes_a_claim(name: str) -> None:
    named = find_recipe(name)
    assert Recipe.from_dict(json.loads(json.dumps(named.recipe.to_dict()))) == named.recipe
    assert len(named.claim) > 10


@pytest.mark.parametrize("name", [name for name, named in RECIPES.items() if named.measured is not None])
def test_what_was_measured_stands_in_the_log_of_that_recipe(name: str) -> None:
    named = find_recipe(name)
    folder = Path(__file__).resolve().parents[1] / str(named.log)
    rows, timing = (
        [json.loads(line) for line in (folder / f"{file}.jsonl").read_text().splitlines()] for file in ("log", "timing")
    )
    assert named.measured is not None
    assert max(row["val_top1"] for row in rows) == named.measured.top1
    assert sum(row["seconds"] for row in timing) / 60 == pytest.approx(named.measured.minutes, abs=0.05)
    assert f"{100 * named.measured.top1:.1f} %" in named.claim or name == "lecture-6", "its claim is a mean of seeds"
    trained = Recipe.from_dict(json.loads((folder / "recipe.json").read_text())["recipe"]).flat()
    trained["clip"] = trained["clip"] or 0.0  # older logs wrote null for none
    assert trained["data"] == named.measured.data
    settled = {"precision", "image_size", "batch_size", "data"}
    wanted = named.recipe.flat()
    assert not [key for key in wanted if key not in settled and trained[key] != wanted[key]]


def test_sections_are_small_and_flat_names_are_unique() -> None:
    sections = Recipe().to_dict()
    assert max(len(fields) for fields in sections.values()) <= 8
    assert len(Recipe().flat()) == sum(len(fields) for fields in sections.values()) - 1 + len(OPERATIONS)


# A value for every option that is not its default; optimizer and augment replace their sections and are tested below.
OTHERS = {
    **{"model": "vgg", "width": 7, "depth": 5, "batch_norm": False, "dropout": 0.25, "weights": "some-file"},
    **{"accumulate": 3, "sync_batch_norm": True},
    **{
        "data": "shapes",
        "image_size": 48,
        "fit": "pad",
        "limit": 100,
        "bad_images": "skip",
        "stretch": True,
        "fold": "2/5",
    },
    **{"lr": 0.5, "momentum": 0.0, "weight_decay": 0.0, "schedule": "cosine", "warmup": 0.0, "clip": 0.0},
    **{"label_smoothing": 0.0, "flip": "random", "translate": 0.5, "zoom": 2.0, "rotate": 180.0, "brightness": 0.5},
    **{"contrast": 0.5, "cutout": 0.5, "epochs": 3, "batch_size": 16, "patience": 2, "precision": "bfloat16"},
    **{"compile": True, "seed": 2**63 - 1, "stem": "small", "shortcut": "projection", "mixup": 0.2, "cutmix": 1.0},
    **{"path_column": "file", "label_column": "kind", "images": "photos", "suffix": ".jpg"},
    **{"label_from": "^([a-z]+)", "group": "patient", "corrections": "corrections.csv", "renamed": {"old": "new"}},
    "sides": {"0" * 16: "test"},
    **{"balance": True, "ema": 0.99, "save_memory": True},
    **{"convolution": "direct", "tiles": (("conv2", 4, 0, 4),), "fused": ("norm1",)},
    "stream": True,
}


def test_every_option_is_tried() -> None:
    assert OTHERS.keys() | {"optimizer", "augment"} == Recipe().flat().keys()


@pytest.mark.parametrize(("option", "value"), OTHERS.items())
def test_an_option_changes_its_field_and_no_other(option: str, value: Any) -> None:
    before = Recipe().flat()
    assert before[option] != value
    recipe = Recipe().with_options({option: value, "seed" if option != "seed" else "lr": None})
    assert recipe.flat() == before | {option: value}
    assert json.loads(json.dumps(recipe.to_dict())) == recipe.to_dict()  # what is read of it again is equal to it
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    assert Recipe().flat() == before


def test_options_are_changed_together_and_none_of_them_changes_nothing() -> None:
    assert Recipe().with_options(OTHERS).flat() == Recipe().flat() | OTHERS
    assert Recipe().with_options({}) == Recipe()
    assert Recipe().with_options(dict.fromkeys(Recipe().flat())) == Recipe()


@pytest.mark.parametrize("level", AUGMENTS)
def test_a_level_replaces_the_whole_section(level: str) -> None:
    assert Recipe(augment=AUGMENTS["strong"]).with_options({"augment": level}).augment == AUGMENTS[level]
    assert AUGMENTS[level].name == level


@pytest.mark.parametrize("options", [{"augment": "light", "zoom": 0.5}, {"zoom": 0.5, "augment": "light"}])
def test_a_part_beside_a_level_is_kept_in_any_order(options: dict[str, Any]) -> None:
    assert Recipe().with_options(options).augment == dataclasses.replace(
        AUGMENTS["light"], amounts={"translate": 0.0625, "zoom": 0.5}
    )


def test_levels_grow() -> None:
    for weaker, stronger in (("none", "light"), ("light", "standard"), ("standard", "strong")):
        assert all(AUGMENTS[weaker].amount(o) <= AUGMENTS[stronger].amount(o) for o in OPERATIONS)


def test_another_optimizer_brings_its_own_rate_unless_one_is_given() -> None:
    assert Recipe().with_options({"optimizer": "adamw"}).optimizer == OPTIMIZERS["adamw"]
    for options in ({"optimizer": "adamw", "lr": 0.5}, {"lr": 0.5, "optimizer": "adamw"}):
        assert Recipe().with_options(options).optimizer == dataclasses.replace(OPTIMIZERS["adamw"], lr=0.5)
    tuned = Recipe().with_options({"lr": 0.5, "momentum": 0.1})
    assert tuned.with_options({"optimizer": "adamw"}).optimizer == OPTIMIZERS["adamw"]
    assert Recipe().with_options({"optimizer": "adamw"}).with_options({"optimizer": "sgd"}) == Recipe()
    assert all(table.name == name for name, table in OPTIMIZERS.items())
    assert Recipe().with_options({"optimizer": "sgd", "lr": 0.5}).with_options({"optimizer": "sgd"}).optimizer.lr == 0.5


@pytest.mark.parametrize(
    ("options", "offered"),
    [
        ({"optimizer": "adam"}, "adamw"),
        ({"schedule": "cosin"}, "cosine"),
        ({"augment": "lite"}, "light"),
        ({"flip": "Randm"}, "random"),
        ({"learning_smoothing": 0.1}, "label_smoothing"),
        ({"precision": "float23"}, "float32"),
        ({"bad_images": "skipp"}, "skip"),
        ({"epoch": 3}, "epochs"),
    ],
)
def test_unknown_names_get_the_nearest(options: dict[str, Any], offered: str) -> None:
    with pytest.raises(UnknownName, match=f"Did you mean .*'{offered}'"):
        Recipe().with_options(options)


NAN, INF = float("nan"), float("inf")
BAD = [
    *[("lr", v) for v in (0, -1, NAN, INF, "fast", "a\nb", [1], 10**400)],
    *[("epochs", v) for v in (0, -1, 1.5, "x", 10**9 + 1, NAN, [3])],
    *[("dropout", v) for v in (1.0, -0.1)],
    *[("momentum", v) for v in (-0.1, 1)],
    *[("warmup", v) for v in (1.0, -0.1, NAN)],
    *[("seed", v) for v in ("x", -1, 2**63)],
    *[("weight_decay", -1e-9), ("clip", -1), ("clip", INF), ("label_smoothing", 1), ("zoom", 2.1), ("rotate", 181)],
    *[("width", -3), ("depth", 0), ("image_size", 0), ("limit", 0), ("batch_size", 0), ("patience", 0)],
    *[("batch_norm", "perhaps"), ("compile", 2), ("weights", 3), ("model", 3), ("schedule", []), ("optimizer", 5)],
    *[("translate", 1), ("brightness", 1), ("contrast", 1), ("cutout", 1), ("augment", {}), ("optimizer", ["sgd"])],
]


@pytest.mark.parametrize(("option", "value"), BAD)
def test_bad_values_get_one_sentence(option: str, value: Any) -> None:
    with pytest.raises(UsageError) as caught:
        Recipe().with_options({option: value})
    message = str(caught.value)
    assert message.startswith(f"`{option}` {value!r} does not do: ")
    assert message.endswith(".")
    assert "\n" not in message
    assert caught.value.exit_code == 2


ANYTHING = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=9), st.binary(max_size=3),
    st.lists(st.integers(), max_size=2), st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)  # fmt: skip


@settings(deadline=None, max_examples=300)
@given(st.dictionaries(st.sampled_from([*Recipe().flat(), "unheard_of"]), ANYTHING, max_size=3))
def test_whatever_is_given_makes_a_recipe_for_json_or_one_line(options: dict[str, Any]) -> None:
    recipe = told = None
    try:
        recipe = Recipe().with_options(options)
    except UsageError as error:
        told = str(error)
    if recipe is not None:
        assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict(), allow_nan=False))) == recipe
    else:
        assert str(told).endswith(".")
        assert "\n" not in str(told)


@pytest.mark.parametrize(
    ("values", "word"),
    [
        (None, "recipe"),
        ([], "recipe"),
        ({"loop": 3}, "loop"),
        ({"model": None}, "model"),
        ({"modle": {}}, "modle"),
        ({"loop": {"epochs": "x"}}, "`epochs`"),
        ({"loop": {"epoch": 3}}, "`epoch`"),
        ({1: 2}, "1"),
    ],
)
def test_values_that_are_no_recipe_get_one_sentence(values: Any, word: str) -> None:
    with pytest.raises(UsageError, match=f"^{word} .*\\.$") as caught:
        Recipe.from_dict(values)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a\nb", "", "x" * 1000])
def test_unknown_names_of_any_kind_get_one_line(name: str) -> None:
    for ask in (
        lambda: find_recipe(name),
        lambda: Recipe().with_options({"optimizer": name}),
        lambda: Recipe().with_options({"schedule": name}),
        lambda: Recipe().with_options({name: 1}),
    ):
        with pytest.raises(UnknownName) as caught:
            ask()
        assert "\n" not in str(caught.value)
        assert "Known: " in str(caught.value)


def test_a_recipe_cannot_be_changed_or_extended() -> None:
    recipe = Recipe()
    for record in (recipe, *(getattr(recipe, f.name) for f in dataclasses.fields(recipe)), RECIPES["default"]):
        for part in dataclasses.fields(record):
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(record, part.name, getattr(record, part.name))
    assert hash(recipe) == hash(Recipe())
    with pytest.raises(UsageError):
        Recipe.from_dict({"model": {"name": "alexnet", "colour": "red"}})
    with pytest.raises(UnknownName, match="lecture-6"):
        find_recipe("lecture6")


def test_recipes_need_no_torch() -> None:
    code = "import sys, convscope.recipes; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
