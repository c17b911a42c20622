"""The options of every command, frozen: a new flag is a decision, and it is taken here."""

from __future__ import annotations

import inspect

import pytest

from convscope import cli
from convscope.recipes import Recipe

RECIPE_OPTIONS = set(
    "model epochs batch_size lr optimizer momentum weight_decay schedule warmup label_smoothing clip patience augment "
    "flip mixup cutmix balance ema save_memory width depth batch_norm dropout stem shortcut weights image_size fit "
    "limit bad_images seed precision compile".split()
)
OPTIONS = {
    "train": RECIPE_OPTIONS
    | {
        "data",
        "recipe",
        "size",
        "minutes",
        "memory",
        "watch",
        "device",
        "name",
        "resume",
        "preview",
        "data_root",
        "runs",
        "json",
    },
    "evaluate": {"run", "data", "part", "limit", "views", "model", "weights", "data_root", "runs", "json"},
    "predict": {"run", "images", "top", "views", "model", "weights", "runs", "json", "csv"},
    "explain": set(
        "run data layer filter image target method sanity count least seeds ablate limit from_exemplar seed weights "
        "model data_root runs json".split()
    ),
    "diagnose": set("run data layer norm images double weights model data_root runs json".split()),
    "features": set(
        "data backbone weights layer maps augment level dtype engine image_size fit limit bad_images seed device "
        "data_root json".split()
    ),
    "transfer": set(
        "data backbone weights budget augment level balance cards engine image_size fit limit bad_images seed device "
        "name data_root runs json".split()
    ),
    "study": set("claims size list html minutes device data_root runs json".split()),
    "similar": set("run image data count engine model weights data_root runs json".split()),
    "export": {"run", "format", "output", "model", "weights", "runs", "json"},
    "models": set("name classes image_size width depth batch_norm dropout stem shortcut pretrained json".split()),
    "demo": {"runs"},
}
# The dial --augment sets these together; they are in the recipe so that a run says what was done.
BEHIND_THE_DIAL = {"translate", "zoom", "rotate", "brightness", "contrast", "cutout"}


def test_the_commands_are_these() -> None:
    assert {name for name in cli.app if not name.startswith("-")} == set(OPTIONS)


@pytest.mark.parametrize("command", OPTIONS)
def test_the_options_are_these(command: str) -> None:
    function = getattr(cli, command)
    assert set(inspect.signature(function).parameters) == OPTIONS[command]


@pytest.mark.parametrize("command", OPTIONS)
def test_every_option_is_explained(command: str) -> None:
    text = inspect.getdoc(getattr(cli, command)) or ""
    described = {line for line in text.splitlines() if line and not line.startswith(" ")}
    assert OPTIONS[command] <= described


def test_every_field_of_a_recipe_can_be_set() -> None:
    assert set(Recipe().flat()) - BEHIND_THE_DIAL == RECIPE_OPTIONS | {"data"}
