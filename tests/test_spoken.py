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
        (
            "by convscope train '/my photos (1)' --name p; not --lr.",
            "by convscope train '/my photos (1)' --name p; not `lr`.",
        ),
        ("convscope predict r --tile, and --merge makes one.", "convscope predict r --tile, and `merge` makes one."),
        (
            "by torchrun --nproc-per-node 2 -m convscope train a,b --resume",
            "by torchrun --nproc-per-node 2 -m convscope train a,b --resume",
        ),
        ("name them with DATA and --masks.", "name them with `data` and `masks`."),
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
        UsageError,
        match="compare: too many positional arguments; it takes compared, and options by their names; several go",
    ):
        convscope.compare("one", "another")  # pyrefly: ignore - as people do
    with pytest.raises(
        UsageError,
        match=r"diagnose: missing a required argument: 'run'; it takes run and data, and options by their names\.$",
    ):
        convscope.diagnose(losses=[1.0, 2.0])  # pyrefly: ignore - as people do
    with pytest.raises(
        UsageError, match=r"train: too many positional arguments; it takes data, and options by their names\.$"
    ):
        convscope.train("one", "another")  # pyrefly: ignore - as people do
    with pytest.raises(UsageError, match="Did you mean 'images'"):
        convscope.predict("run", image="a.png")  # pyrefly: ignore - as people do
    with pytest.raises(UsageError, match=r"no option named 'pth'\. Did you mean 'path'\? Known: path"):
        convscope.Classifier.load(pth="x")  # pyrefly: ignore - as people do


def test_a_whole_number_that_is_none_is_named() -> None:
    with pytest.raises(UsageError, match=r"^`stem` 'x' does not do: "):
        Recipe().with_options({"stem": "x"})
