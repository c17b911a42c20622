"""Options are declared once: each has its help beside it, and what Python takes is what the command line takes."""

from __future__ import annotations

import inspect
from typing import Any, get_args

import pytest

import convscope
from convscope import cli, options
from convscope.classifying.prediction import VIEWS
from convscope.cli.commands import COMMANDS
from convscope.datasets.splits import PARTS
from convscope.errors import UnknownName
from convscope.exporting.formats import EXPORTS
from convscope.exporting.options import Format
from convscope.feature_store.engines import ENGINES
from convscope.named_recipes import SIZES
from convscope.recipes import OPERATIONS, SCHEDULES, Recipe
from convscope.training import schedules
from convscope.training.options import Size, TrainOptions

# The dial --augment sets these together; they are in the recipe so that a run says what was done.
BEHIND_THE_DIAL = {*OPERATIONS, "tiles", "fused", "sides"}
AS_ONE_TABLE = {"renamed"}  # of the options merge and rename
ONLY_TYPED = {"json", "preview", "csv", "html", "list", "fix"}  # how an answer is shown is for the command line alone
IN_PYTHON = {
    "train",
    "evaluate",
    "predict",
    "explain",
    "localize",
    "diagnose",
    "doctor",
    "features",
    "transfer",
    "study",
    "similar",
    "export",
}


def arguments(command: str) -> list[Any]:
    """What a command takes, as its parser has it."""
    found = cli.app[command].assemble_argument_collection(parse_docstring=True)
    return [argument for argument in found if argument.parse and argument.show]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_explained(command: str) -> None:
    assert not [a.name for a in arguments(command) if not (a.parameter.help or "").endswith((".", ")"))]


@pytest.mark.parametrize("command", sorted(IN_PYTHON))
def test_python_takes_what_the_command_line_takes(command: str) -> None:
    typed = {a.name.removeprefix("--").replace("-", "_") for a in arguments(command) if a.name.startswith("--")}
    keywords = inspect.signature(getattr(convscope, command)).parameters
    assert typed - ONLY_TYPED - keywords.keys() <= (
        {"image", "target", "method", "sanity"} if command == "explain" else set()
    )


def test_every_field_of_a_recipe_can_be_set() -> None:
    fields = set(inspect.signature(TrainOptions).parameters)
    assert set(Recipe().flat()) - BEHIND_THE_DIAL - AS_ONE_TABLE - {"data"} <= fields


@pytest.mark.parametrize(
    ("literal", "table"),
    [
        (Size, SIZES),
        (options.Views, VIEWS),
        (options.Engines, ENGINES),
        (Format, EXPORTS),
        (options.Part, [*PARTS, "all"]),
    ],
)
def test_a_choice_is_what_its_table_holds(literal: Any, table: Any) -> None:
    assert list(get_args(literal)) == list(table)


def test_the_schedules_that_a_recipe_may_name_are_those_that_exist() -> None:
    assert tuple(schedules.SCHEDULES) == SCHEDULES


def test_an_option_that_does_not_exist_offers_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"no option named 'bad_pictures'\. Did you mean 'bad_images'\?"):
        convscope.train("digits", bad_pictures="skip")
    assert cli.run(["train", "digits", "--bad-pictures", "skip"]) == 2


def test_options_are_keywords_that_an_editor_can_see() -> None:
    seen = inspect.signature(convscope.train)
    assert seen.parameters["lr"].kind is inspect.Parameter.KEYWORD_ONLY
    assert seen.parameters["lr"].default is None
    with pytest.raises(TypeError):
        convscope.train()
