"""An error names an option as it was given: typed on the command line, or as an argument from Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import convscope
from convscope.errors import ConvscopeError, UsageError
from convscope.recipes import Recipe
from convscope.spoken import as_arguments
from following import command, refused, works

WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("batch_size", {"batch_size": 0}, "--batch-size"),
    ("label_smoothing", {"label_smoothing": 2.0}, "--label-smoothing"),
    ("weight_decay", {"weight_decay": -1.0}, "--weight-decay"),
    ("label_from", {"label_from": "(x)"}, "--label-from"),
    ("image_size", {"image_size": 0}, "--image-size"),
]


@pytest.mark.parametrize(("argument", "given", "option"), WRONG)
def test_an_option_is_named_as_it_was_given(argument: str, given: dict[str, Any], option: str, tmp_path: Path) -> None:
    with pytest.raises(ConvscopeError) as caught:
        convscope.train("digits", runs=tmp_path, **given)
    (value,) = given.values()
    typed = refused("train", "digits", "--runs", tmp_path, option, value)
    assert f"`{argument}`" in str(caught.value)
    assert "--" not in str(caught.value)
    assert option in typed
    assert str(caught.value) == as_arguments(typed)


def test_a_recipe_names_its_fields_too() -> None:
    with pytest.raises(ConvscopeError, match=r"^`weight_decay` -1.0 does not do"):
        Recipe().with_options({"weight_decay": -1.0})


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("--limit 0 asks for none.", "`limit` 0 asks for none."),
        ("--image-size or --fit: choose.", "`image_size` or `fit`: choose."),
        ("name it with --method cam.", "name it with `methods` cam."),
        ("a--b and x --y-z.", "a--b and x `y_z`."),
        (
            "first convscope transfer x --image-size 64, or --quick.",
            "first convscope transfer x --image-size 64, or `quick`.",
        ),
        ("go on with: convscope train x --resume.", "go on with: convscope train x --resume."),
    ],
)
def test_commands_to_be_typed_stay_as_they_are(typed: str, told: str) -> None:
    assert as_arguments(typed) == told


def test_what_comes_next_can_be_typed_where_names_have_blanks(tmp_path: Path) -> None:
    small = ["--epochs", 1, "--model", "alexnet", "--width", 4, "--image-size", 16, "--limit", 200]
    said = works("train", "digits", *small, "--name", "r", "--runs", tmp_path / "it's my runs")
    (line,) = (line for line in said.out.splitlines() if line.startswith("next: "))
    works(*command(line))
    assert (tmp_path / "it's my runs" / "r" / "evaluate").is_dir()


def test_arguments_too_many_or_too_few_are_told() -> None:
    with pytest.raises(
        UsageError, match="compare takes compared, and then options by their names: several go into a list"
    ):
        convscope.compare("one", "another")  # pyrefly: ignore - as people do
    with pytest.raises(UsageError, match=r"diagnose: missing a required argument: 'run'; it takes run and data"):
        convscope.diagnose(losses=[1.0, 2.0])  # pyrefly: ignore - as people do


def test_a_whole_number_that_is_none_is_named() -> None:
    with pytest.raises(UsageError, match=r"^`stem` 'x' does not do: "):
        Recipe().with_options({"stem": "x"})
