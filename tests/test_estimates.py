"""What is found out before a training: on copies, with nothing moved, and told in numbers where it cannot be had."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch

from convscope import cli
from convscope.datasets.dataset import Dataset, assemble
from convscope.datasets.shapes import load_shapes
from convscope.errors import MemoryExhausted, UnknownName, UsageError
from convscope.models.registry import build
from convscope.named_recipes import SIZES, find_recipe
from convscope.recipes import Recipe
from convscope.training import estimates
from convscope.training import starting as preparing
from convscope.training.batches import Batches
from convscope.training.command import prepare_training
from convscope.training.estimates import BACK_OFF, epoch_seconds, fit_memory, rate_range, step_bytes
from convscope.training.session import training_batches
from convscope.training.starting import LEAST_EPOCHS, MOST_EPOCHS

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data() -> Dataset:
    return assemble(load_shapes(300))


def start(data: Dataset, **options: Any) -> tuple[torch.nn.Module, Batches, Recipe]:
    wanted = {"model": "alexnet", "width": 8, "batch_size": 16, "precision": "float32", "dropout": 0.2}
    recipe = Recipe().with_options({**wanted, **options})
    network = build(recipe.model.name, 6, 32, recipe.model.options(), seed=0)
    return network, training_batches(data, recipe, CPU), recipe


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon"])
def test_a_range_test_finds_a_rate_that_trains_and_leaves_everything_as_found(
    data: Dataset, optimizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimates, "RANGE_UPDATES", 50)
    network, batches, recipe = start(data, optimizer=optimizer, width=2)
    network.train()
    before, generator = deepcopy(network.state_dict()), torch.get_rng_state()
    found = rate_range(network, batches, recipe)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert all(parameter.grad is None for parameter in network.parameters())
    assert torch.equal(torch.get_rng_state(), generator)
    assert network.training
    assert list(found.rates) == sorted(found.rates)
    lowest = found.rates[found.losses.index(min(found.losses))]
    assert found.chosen == pytest.approx(lowest / BACK_OFF.get(optimizer, 1.0), rel=0.05)
    assert rate_range(network, batches, recipe) == found, "it is a function of the network, the data and the recipe"


def test_a_loss_that_never_falls_is_told(data: Dataset) -> None:
    network, batches, recipe = start(data)
    with torch.no_grad():
        network.get_submodule("fc6").bias[0] = float("nan")
    with pytest.raises(UsageError, match="no learning rate up to 3 lowers the loss; give --lr yourself"):
        rate_range(network, batches, recipe)


def test_the_time_of_an_epoch_is_that_of_its_updates_and_validation(data: Dataset) -> None:
    network, batches, recipe = start(data)
    before = deepcopy(network.state_dict())
    one, many = epoch_seconds(network, batches, recipe, 0), epoch_seconds(network, batches, recipe, 10**6)
    assert 0 < one < 60
    assert many > 10 * one
    assert all(torch.equal(t, before[n]) for n, t in network.state_dict().items())


def test_memory_is_given_up_for_time_only_where_it_must_be(data: Dataset) -> None:
    network, _, recipe = start(data, model="resnet56", width=8, dropout=None, batch_size=64)
    fixed, plain, saved = step_bytes(network, recipe, 32)
    assert fixed == 3 * 4 * sum(p.numel() for p in network.parameters()), "weights, gradients and momentum"
    assert saved < 0.4 * plain
    enough = (fixed + 64 * plain) / 1e9
    assert fit_memory(network, recipe, 32, enough * 1.01) is recipe
    assert fit_memory(network, recipe, 32, enough * 0.99).loop.save_memory
    with pytest.raises(MemoryExhausted) as refusal:
        fit_memory(network, recipe, 32, 0.02)
    sentence = str(refusal.value)
    assert sentence.startswith("a step of resnet56 with 64 images needs 0.0")
    assert "and --memory allows 0.02 GB" in sentence
    fitting = int(sentence.split("--batch-size of ")[1].split()[0])
    assert fit_memory(network, recipe.with_options({"batch_size": fitting}), 32, 0.02).loop.save_memory
    with pytest.raises(MemoryExhausted, match="are for the weights alone"):
        fit_memory(network, recipe, 32, 0.001)


def test_every_size_has_its_least_number_of_epochs() -> None:
    assert list(LEAST_EPOCHS) == list(SIZES)
    assert list(LEAST_EPOCHS.values()) == sorted(LEAST_EPOCHS.values())
    assert LEAST_EPOCHS["small"] == 1, "the smallest is taken whenever an epoch fits"


def slow_machine(monkeypatch: pytest.MonkeyPatch, seconds: dict[str, float]) -> None:
    """An epoch takes so many seconds, by the recipe's width."""
    widths = {find_recipe(SIZES[size]).recipe.model.width: s for size, s in seconds.items()}
    monkeypatch.setattr(preparing, "epoch_seconds", lambda n, b, recipe, v: widths.get(recipe.model.width, 1.0))


@pytest.mark.parametrize(
    ("minutes", "size", "epochs"),
    [
        (100, "large", MOST_EPOCHS),
        (8, "large", 8),
        (7.9, "medium", 39),
        (0.6, "medium", 3),
        (0.5, "small", 15),
        (0.1, "small", 3),
    ],
)
def test_minutes_pick_the_largest_size_of_which_enough_epochs_fit(
    minutes: float, size: str, epochs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow_machine(monkeypatch, {"small": 2.0, "medium": 12.0, "large": 60.0})
    session = prepare_training("shapes", limit=150, minutes=minutes, runs=tmp_path)
    assert session.recipe.model == find_recipe(SIZES[size]).recipe.model
    assert session.recipe.loop.epochs == epochs
    assert any(f"size {size}, {epochs} epochs of about" in note for note in session.notes)


def test_minutes_keep_a_model_that_was_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow_machine(monkeypatch, {"small": 2.0, "medium": 12.0, "large": 60.0})
    session = prepare_training("shapes", limit=150, model="vgg", width=4, minutes=0.1, runs=tmp_path)
    assert (session.recipe.model.name, session.recipe.loop.epochs) == ("vgg", 6)


@pytest.mark.parametrize(
    ("wanted", "error", "sentence"),
    [
        ({"minutes": 0.01}, UsageError, "one epoch takes about 2 s here, and `minutes` 0.01 leaves 0.6 s"),
        ({"minutes": -1.0}, UsageError, "`minutes` -1 is no time to train in"),
        ({"minutes": 5.0, "epochs": 3}, UsageError, "`minutes` 5 settles the epochs: leave out `epochs`"),
        (
            {"size": "medium", "recipe": "digits"},
            UsageError,
            "`size` medium is a recipe of its own: leave out `recipe`",
        ),
        ({"size": "huge"}, UnknownName, "no size named 'huge'.*small, medium, large"),
        ({"memory": -1.0}, UsageError, "`memory` -1 is no number of GB"),
        ({"memory": 0.0001}, MemoryExhausted, "and `memory` allows 0.0001 GB"),
        ({"compile": True, "save_memory": True}, UsageError, "`compile` or `save_memory`"),
    ],
)
def test_what_cannot_be_planned_is_one_sentence(
    wanted: dict[str, Any], error: type[Exception], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow_machine(monkeypatch, {"small": 2.0, "medium": 12.0, "large": 60.0})
    with pytest.raises(error, match=sentence):
        prepare_training("shapes", limit=150, runs=tmp_path, **wanted)
    assert not list(tmp_path.glob("*/recipe.json")), "no run is made for what cannot begin"


def test_an_automatic_rate_is_written_into_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "shapes", "--limit", "150", "--width", "4", "--epochs", "1", "--lr", "auto", "--name", "r"]
    assert cli.run([*words, "--runs", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "r" / "lr.json").read_text())
    assert json.loads((tmp_path / "r" / "recipe.json").read_text())["recipe"]["optimizer"]["lr"] == found["chosen"]
    assert (tmp_path / "r" / "lr.png").stat().st_size > 1000
    assert f"the range test chose the learning rate {found['chosen']:g}" in capsys.readouterr().err
    again = ["train", "shapes", "--name", "r", "--resume", "--runs", str(tmp_path)]
    assert cli.run([*again, "--lr", "auto"]) == 0
    assert cli.run([*again, "--minutes", "3"]) == 2
    assert "a resumed run keeps its recipe: leave out --minutes" in capsys.readouterr().err


def test_what_a_machine_cannot_hold_is_refused_with_what_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it is built: a word too much on the command line should not take a machine's memory."""
    monkeypatch.setattr(estimates, "memory_of_machine", lambda: 8 * 10**9)
    deep = Recipe().with_options({"model": "vgg", "depth": 400, "width": 64, "batch_size": 4096})
    many = 50_000  # images
    with pytest.raises(
        MemoryExhausted, match=r"this machine has 8: try --batch-size (\d+), --accumulate or --save-memory"
    ) as told:
        estimates.check_memory(deep, 10, 32, many)
    fitting = int(str(told.value).split("--batch-size ")[1].split(",")[0])
    estimates.check_memory(deep, 10, 32, fitting)  # there are no more to make a batch of
    estimates.check_memory(deep.with_options({"accumulate": -(-4096 // fitting)}), 10, 32, many)
    estimates.check_memory(deep.with_options({"batch_size": 2 * fitting, "precision": "bfloat16"}), 10, 32, many)
    estimates.check_memory(deep.with_options({"batch_size": fitting}), 10, 32, many)
    with pytest.raises(MemoryExhausted):
        estimates.check_memory(deep.with_options({"batch_size": fitting + 1}), 10, 32, many)
    estimates.check_memory(deep.with_options({"save_memory": True}), 10, 32, many)
    monkeypatch.setattr(estimates, "memory_of_machine", lambda: 10**9)
    with pytest.raises(MemoryExhausted, match="try a smaller --depth or --width"):
        estimates.check_memory(deep.with_options({"batch_size": 1}), 10, 32, many)
    estimates.check_memory(deep.with_options({"batch_size": 1, "depth": 60}), 10, 32, many)
    with pytest.raises(UsageError, match="more than 20,000 tensors"):
        estimates.check_memory(deep.with_options({"depth": 50_000}), 10, 32, many)
    monkeypatch.setattr(estimates, "memory_of_machine", lambda: None)
    estimates.check_memory(deep, 10, 32, many)
