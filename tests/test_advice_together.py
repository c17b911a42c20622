"""What is said of a training by several processes, or of a dry run, followed: it then begins, or is told."""

from __future__ import annotations

import re
import shutil
import socket
import threading
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist

import convscope
from convscope import cli
from convscope.datasets.registry import load_dataset
from convscope.errors import DataError, UsageError
from convscope.models.recomputing import _Alive
from convscope.models.registry import build
from convscope.processes import LAUNCHED
from convscope.recipes import Recipe
from convscope.training import launching
from convscope.training.batches import Batch
from convscope.training.command import prepare_training
from convscope.training.dry_run import IMAGENET
from convscope.training.following import Asked, Follower
from convscope.training.launching import Launch, find_launch, local_device
from convscope.training.loop import loss_of, weight_of
from convscope.training.options import TrainOptions
from convscope.training.ranks import Board, LostRank, _said_of, deadline, joined
from convscope.training.repeated import is_repeated, repetitions
from convscope.training.runs import data_description, find_run, runs_folder
from convscope.training.sharing import backward_by_parts
from convscope.training.together import launch_of
from following import TINY, command, option, photos, refused, works

SMALL: dict[str, Any] = {"limit": 60, "width": 4, "epochs": 1, "device": "cpu"}


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*LAUNCHED, "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)


def said(error: type[Exception], act: Callable[..., Any], *given: Any, **options: Any) -> str:
    """What is said by what refuses."""
    with pytest.raises(error) as caught:
        act(*given, **options)
    return str(caught.value)


def as_torchrun(monkeypatch: pytest.MonkeyPatch, **changed: str) -> None:
    """The environment of the first of two processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    for name, value in {**place, "RANK": "0", "WORLD_SIZE": "2", **changed}.items():
        monkeypatch.setenv(name, value)


# ------------------------------------------------------------------------------------------------------- how many


def test_as_many_processes_as_there_may_be() -> None:
    sentence = said(UsageError, find_launch, 0)
    first, last = re.findall(r"from (\d+) to ([\d,]+)", sentence)[0]
    assert find_launch(int(first)) is None
    assert find_launch(int(last.replace(",", ""))) == Launch(1024)


def test_under_torchrun_what_is_said_to_be_left_out_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    as_torchrun(monkeypatch)
    assert "leave out --processes" in said(UsageError, find_launch, 2)
    launch = find_launch(None)
    assert launch is not None
    assert (launch.rank, launch.size) == (0, 2)
    options = TrainOptions(seeds=2, runs=tmp_path)
    assert "leave out --seeds and --folds, or take --processes" in said(UsageError, repetitions, "shapes", options)
    assert not is_repeated(replace(options, seeds=None))
    _take_out(monkeypatch)
    assert [one.processes for one in repetitions("shapes", replace(options, processes=2))] == [2, 2]


def _take_out(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in LAUNCHED:
        monkeypatch.delenv(name)


def test_a_command_that_processes_do_not_share_is_started_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    as_torchrun(monkeypatch)
    assert cli.run(["models"]) == 2
    assert "models is not shared by torchrun's processes, of which each would do it: start it once" in (
        capsys.readouterr().err
    )
    assert cli.run(["models", "--help"]) == cli.run(["--version"]) == 0
    _take_out(monkeypatch)
    assert cli.run(["models"]) == 0


@pytest.mark.slow
def test_seeds_are_repeated_by_processes_that_are_started_here() -> None:
    together = convscope.train_repeatedly("shapes", seeds=2, processes=2, **SMALL)
    assert len(together.reports) == 2


def test_a_variable_that_is_no_number_is_taken_out_or_set_as_torchrun_does(monkeypatch: pytest.MonkeyPatch) -> None:
    as_torchrun(monkeypatch, RANK="x")
    assert "RANK=x is no number: torchrun sets it; take it out" in said(UsageError, find_launch, None)
    monkeypatch.setenv("RANK", "0")
    assert find_launch(None) is not None
    monkeypatch.delenv("RANK")
    assert find_launch(None) is None


def test_processes_train_on_the_device_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pick = launching.pick_device
    monkeypatch.setattr(launching, "pick_device", lambda name: torch.device("mps") if name == "auto" else pick(name))
    sentence = said(UsageError, local_device, "auto", Launch(2))
    assert local_device(option(sentence, "device")[1], Launch(2)) == torch.device("cpu")
    board = Board(dist.HashStore(), 0, 1, patience=5.0)
    with pytest.raises(UsageError) as caught, joined(board, "p", torch.device("mps"), loopback=True):
        pass
    with joined(board, "p", torch.device(option(str(caught.value), "device")[1]), loopback=True) as team:
        assert team.gathered(torch.ones(1)).tolist() == [[1.0]]


def test_a_group_of_the_programs_own_is_ended_before() -> None:
    store, board, cpu = dist.HashStore(), Board(dist.HashStore(), 0, 1, patience=5.0), torch.device("cpu")
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        with pytest.raises(UsageError, match="end it before the training begins"), joined(board, "p", cpu, True):
            pass
    finally:
        dist.destroy_process_group()
    with joined(board, "p", cpu, loopback=True) as team:
        assert team.size == 1


def test_a_process_that_comes_late_is_given_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    store = dist.HashStore()
    monkeypatch.setenv("CONVSCOPE_DEADLINE", "0.1")
    sentence = said(LostRank, Board(store, 0, 2, deadline()).wait, {1: "p/here/1"}, "p")
    assert "see whether it runs" in sentence
    (variable,) = re.findall(r"give it longer by (\w+)", sentence)
    monkeypatch.setenv(variable, "20")

    def come() -> None:
        time.sleep(0.4)
        Board(store, 1, 2, 20.0).say("p/here/1", "here")

    late = threading.Thread(target=come)
    late.start()
    assert Board(store, 0, 2, deadline()).wait({1: "p/here/1"}, "p") == {1: "here"}
    late.join()


# -------------------------------------------------------------------------------------------------- batches and data


def test_a_batch_has_an_image_for_each_part() -> None:
    given = {**SMALL, "processes": 2, "accumulate": 3}
    sentence = said(UsageError, prepare_training, "shapes", batch_size=3, **given)
    assert "2 processes and `accumulate` 3: take a larger `batch_size`, or less of these" in sentence
    prepare_training("shapes", batch_size=12, **given)
    prepare_training("shapes", batch_size=3, **{**given, "processes": None, "accumulate": 1})


def test_one_of_two_options_is_left_out() -> None:
    given = {**SMALL, "processes": 2}
    sentence = said(UsageError, prepare_training, "shapes", compile=True, sync_batch_norm=True, **given)
    assert "`compile` or `sync_batch_norm`" in sentence
    prepare_training("shapes", compile=True, **given)
    prepare_training("shapes", sync_batch_norm=True, **given)
    options = TrainOptions(processes=2, memory=1.0, device="cpu")
    assert "--memory is settled for one process, and there are 2: leave it out" in said(UsageError, launch_of, options)
    assert launch_of(replace(options, memory=None)) == Launch(2)


def _loss(outputs: torch.Tensor, part: Batch) -> torch.Tensor:
    return loss_of(outputs, part, 0.0, None)


def test_smaller_batches_or_parts_take_less_memory() -> None:
    sentence, _ = _said_of(torch.OutOfMemoryError("CUDA out of memory"))
    assert "does not fit in memory: take a smaller --batch-size, or --accumulate" in sentence
    network = build("resnet20", 2, 32, {"width": 4}, seed=0)

    def peak(images: int, parts: int) -> int:
        own = deepcopy(network)
        batch = Batch(torch.rand(images, 3, 32, 32), torch.arange(images) % 2, np.arange(images))
        with _Alive(own) as alive:
            backward_by_parts(batch, parts, own, _loss, lambda part: weight_of(part, None))
        return alive.peak

    whole = peak(32, 1)
    assert peak(8, 1) < 0.3 * whole
    assert peak(32, 4) < 0.4 * whole


def test_every_process_is_given_the_same_data(tmp_path: Path) -> None:
    one, other = photos(tmp_path / "one"), tmp_path / "other"
    shutil.copytree(one, other)
    gone = next((other / "ant").iterdir())
    gone.unlink()
    recipe = Recipe().with_options({"data": str(one), "image_size": 16})

    def read() -> Any:
        follower: Any = object.__new__(Follower)
        follower.asked, follower.recipe, follower._moved = Asked(str(other)), recipe, time.monotonic()
        follower.board, follower.place = Board(dist.HashStore(), 1, 2, 5.0), "p"
        told = load_dataset(str(one), image_size=16)
        follower.told = {"preprocess": None, "data": data_description(told)}
        return follower._read()

    assert said(DataError, read).endswith("Give every process the same data.")
    shutil.copy(one / "ant" / gone.name, gone)
    assert len(read()) == 24


# ------------------------------------------------------------------------------------------------- after a lost process


def test_what_lost_a_process_goes_on_as_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    photos(tmp_path / "photos")
    common: dict[str, Any] = {"model": "resnet20", "width": 4, "image_size": 16, "device": "cpu", "epochs": 2}
    session = prepare_training("photos", name="r", **common)
    events = session.events()
    next(event for event in events if isinstance(event, dict))
    events.close()
    sentence = session._go_on()
    assert sentence.startswith("What was saved last is kept; go on with: convscope train")
    works(*command(sentence))
    assert len(session.run.log()) == 2


@pytest.mark.parametrize("way", ["name", "resume"])
def test_what_lost_a_process_at_once_begins_again(way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    photos(tmp_path / "photos")
    common: dict[str, Any] = {"model": "resnet20", "width": 4, "image_size": 16, "device": "cpu", "epochs": 1}
    session = prepare_training("photos", name="r", **common)
    events = session.events()
    next(events)
    events.close()
    (named,) = option(session._go_on(), way)[:1]
    if way == "name":
        works("train", "photos", *TINY, named, "other")
    else:
        works("train", "photos", "--name", "r", named)
    assert len(find_run("r" if way == "resume" else "other", runs_folder()).log()) == 1


def test_one_process_has_nothing_to_synchronise(tmp_path: Path) -> None:
    weights = []
    for synced in (False, True):
        session = prepare_training("shapes", runs=tmp_path, sync_batch_norm=synced, **{**SMALL, "model": "resnet20"})
        assert any(note.startswith("--sync-batch-norm changes nothing here") for note in session.notes) == synced
        list(session.events())
        weights.append(session.state.network.state_dict())
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


# ------------------------------------------------------------------------------------------------------- a dry run


def test_what_a_dry_run_is_asked_for(tmp_path: Path) -> None:
    tiny = [*"--model alexnet --width 4 --image-size 16 --batch-size 8 --device cpu".split(), "--runs", tmp_path]
    right = {"--dry-run": "1", "--hardware": "989,3350", "--price-per-hour": "2.5"}

    def words(changed: dict[str, str]) -> list[object]:
        return ["train", IMAGENET, *tiny, *(word for pair in changed.items() for word in pair)]

    none = refused(*words({"--hardware": "989,3350"}))
    assert "--hardware is for a --dry-run, and this is a training" in none
    few = refused(*words(right | {"--dry-run": "0"}))
    assert "a number of steps from 1" in few
    fast = refused(*words(right | {"--hardware": "fast"}))
    (example,) = re.findall(r"as ([\d,]+) for", fast)
    assert "is no price" in refused(*words(right | {"--price-per-hour": "-1"}))
    assert f"{IMAGENET} has no images to learn from: it is for --dry-run" in refused(*words({}))
    shared = works(*words({"--dry-run": "1", "--processes": "2"})).out
    assert "timed in one process; 2 would share each batch" in shared
    assert "cost: " in works(*words(right | {"--hardware": example})).out
