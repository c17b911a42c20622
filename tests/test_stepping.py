"""A training that is paused, stepped, looked into and stopped ends with the same bits as one that nobody disturbed."""

from __future__ import annotations

import copy
import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import convscope
from convscope.datasets.dataset import assemble
from convscope.datasets.digits import load_digits
from convscope.errors import InterruptedRun, UnknownName, UsageError
from convscope.models.taps import count_hooks
from convscope.page.served import Served
from convscope.page.stepping import MOST_POINTS, Training, Trainings, offered
from convscope.training.command import finish_training, prepare_training
from convscope.training.looking import FILTERS, LEVELS, Probes, choose_probes, layers_with_filters, look
from convscope.training.session import Session
from convscope.training.stepped import LONGEST, Inbox, Stepped, parsed, read_commands

OPTIONS = {"name": "r", "width": 4, "epochs": 1, "limit": 200, "convolution": "direct"}
WORKER = [sys.executable, "-m", "convscope.training.stepped_command"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    convscope.train("digits", runs=folder, **OPTIONS)
    return folder


def bits(folder: Path, every: bool = True) -> dict[str, bytes]:
    """What must be the same: classifier, log, and the checkpoints, or the last of them."""
    run = folder / "r"
    kept = sorted(run.glob("checkpoints/*"))
    assert kept
    found = [run / "log.jsonl", run / "classifier.safetensors", *(kept if every else kept[-1:])]
    return {path.relative_to(run).as_posix(): path.read_bytes() for path in found}


def said(command: str, **more: Any) -> bytes:
    return json.dumps({"command": command, **more}).encode()


class Script:
    """Whoever steps: says the next commands at each pause, and keeps what it is told."""

    def __init__(self, *turns: list[bytes]) -> None:
        self.inbox: Inbox = queue.SimpleQueue()
        self.turns, self.told = list(turns), []

    def __call__(self, told: dict[str, Any]) -> None:
        self.told.append(json.loads(json.dumps(told)))
        if told.get("state") == "paused" and self.turns:
            for line in self.turns.pop(0):
                self.inbox.put(line)

    def of(self, key: str) -> list[Any]:
        return [told[key] for told in self.told if key in told]


def trained(session: Session, script: Script) -> None:
    for _ in Stepped(session, script.inbox, script, paused=True).events():
        pass


def test_a_stepped_and_looked_into_run_has_the_bits_of_an_undisturbed_one(undisturbed: Path, tmp_path: Path) -> None:
    script = Script(
        [said("look", layer="conv1", mode="train"), said("step")],
        [said("look", layer="conv2", mode="eval"), said("lok"), said("step")],
        [said("look", layer=None), said("resume")],
    )
    session = prepare_training("digits", runs=tmp_path, **OPTIONS)
    trained(session, script)
    finish_training(session)
    assert bits(tmp_path) == bits(undisturbed)
    assert not script.turns
    looks = script.of("look")
    assert [(found["layer"], found["mode"], found["step"]) for found in looks] == [
        ("conv1", "train", 1),
        ("conv1", "train", 2),
        ("conv2", "eval", 2),
        ("conv2", "eval", 3),
    ]
    assert [found["change"] is None for found in looks] == [True, False, True, False]
    assert all(0 < found["change"] < 1 for found in looks if found["change"] is not None)
    assert [update for told in script.of("updates") for update, *_ in told] == [1, 2, 3]
    assert script.of("refused") == [
        "no command named 'lok'. Did you mean 'look'? Known: pause, resume, step, look, stop."
    ]
    assert [row["epoch"] for row in script.of("row")] == [1]
    assert count_hooks(session.state.network) == 0


def test_a_pause_lasts_until_it_is_ended(tmp_path: Path) -> None:
    script = Script()
    session = prepare_training("digits", runs=tmp_path, **OPTIONS)
    threading.Timer(1.0, script.inbox.put, [said("stop")]).start()
    start = time.monotonic()
    with pytest.raises(InterruptedRun, match=r"step 1 of 3, everything saved.*--resume"):
        trained(session, script)
    assert time.monotonic() - start >= 0.9
    assert [path.name for path in (tmp_path / "r" / "checkpoints").iterdir()] == ["step-00000001.safetensors"]


def test_a_pause_is_no_time_of_the_training(tmp_path: Path) -> None:
    script = Script()
    session = prepare_training("digits", runs=tmp_path, **OPTIONS)
    pause = 1.0

    def soon(told: dict[str, Any]) -> None:
        script(told)
        if told.get("state") == "paused" and len(script.of("state")) == 1:
            threading.Timer(pause, script.inbox.put, [said("resume")]).start()

    start = time.monotonic()
    for _ in Stepped(session, script.inbox, soon, paused=True).events():
        pass
    told = sum(row["seconds"] for row in session.run.timing())
    assert 0 < told < time.monotonic() - start - 0.9 * pause


def test_nobody_looks_and_nothing_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a weight nor the network is copied, and no image is decoded, for a training that nobody looks into."""

    def refuse(*given: Any, **named: Any) -> Any:
        raise AssertionError("it looked")

    for name in ("look", "weights_of", "choose_probes"):
        monkeypatch.setattr(f"convscope.training.stepped.{name}", refuse)
    script = Script([said("step")], [said("resume")])
    trained(prepare_training("digits", runs=tmp_path, **OPTIONS), script)
    assert script.of("row")


@pytest.mark.parametrize("closed", ["stdin", "stdout"])
def test_a_closed_pipe_saves_and_the_run_is_gone_on_with(undisturbed: Path, tmp_path: Path, closed: str) -> None:
    asked = {"data": "digits", "options": {**OPTIONS, "runs": str(tmp_path)}, "paused": True}
    command = [*WORKER, json.dumps(asked)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as worker:
        assert worker.stdin is not None
        assert worker.stdout is not None
        assert worker.stderr is not None
        states = (json.loads(line).get("state") for line in worker.stdout)
        assert "paused" in states
        if closed == "stdout":
            worker.stdout.close()
            worker.stdin.write(said("step") + b"\n")
            worker.stdin.flush()
        else:
            worker.stdin.close()
            last = json.loads(worker.stdout.readlines()[-1])
            assert last["state"] == "stopped"
            assert "everything saved" in last["said"]
        assert worker.wait(60) == 143
        assert worker.stderr.read() == b""
    assert not (tmp_path / "r" / "log.jsonl").exists()
    convscope.train("digits", runs=tmp_path, name="r", resume=True)
    assert bits(tmp_path, every=False) == bits(undisturbed, every=False)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (b"pause", "one line of JSON"),
        (b"", "one line of JSON"),
        (b"\xff\xfe", "one line of JSON"),
        (b"[" * 3_000, "one line of JSON"),
        (b"[1]", "names itself"),
        (b'{"command": 1}', "names itself"),
        (b'{"layer": "conv1"}', "names itself"),
        (b'{"command": "stpe"}', "or 'step'"),
        (b'{"command": "step", "count": 2}', "step takes no 'count'"),
        (b'{"command": "look", "file": "/etc/passwd"}', "look takes no 'file'"),
        (b'{"command": "' + b"x" * LONGEST + b'"}', "at most 4,096 bytes"),
    ],
)
def test_a_bad_command_is_refused_with_a_sentence(line: bytes, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        parsed(line)


def test_a_layer_or_mode_that_is_not_there_is_refused_and_the_training_goes_on(tmp_path: Path) -> None:
    bad = [said("look", layer="conv9"), said("look", layer="conv1", mode="x"), said("look", layer=1)]
    bad += [said("look", layer="head"), said("look", layer="")]
    script = Script([*bad, said("resume")])
    script.inbox.put(said("look", layer="conv1"))
    trained(prepare_training("digits", runs=tmp_path, **OPTIONS), script)
    early, *refused = script.of("refused")
    assert "before the first update" in early
    assert len(refused) == len(bad)
    assert "Did you mean 'conv" in refused[0]
    assert not script.of("look")
    assert script.of("row")


def test_lines_are_put_together_from_pieces_and_the_end_is_told() -> None:
    import os

    read, write = os.pipe()
    inbox: Inbox = queue.SimpleQueue()
    for piece in (b'{"comm', b'and": "pause"}\n{"a"', b":1}\n", b"x" * 60_000, b"\n", b"half"):
        os.write(write, piece)
    os.close(write)
    read_commands(read, inbox)
    os.close(read)
    lines = [inbox.get() for _ in range(inbox.qsize())]
    assert lines == [said("pause"), b'{"a":1}', b"x" * (LONGEST + 1), None]


# -------------------------------------------------------------------------------------------------------- a look


class Small(torch.nn.Module):
    """A network with all that a look could disturb: running means, dropout, an activation that works in place."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 16, 3, padding=1)
        self.norm = torch.nn.BatchNorm2d(16)
        self.act = torch.nn.ReLU(inplace=True)
        self.drop = torch.nn.Dropout(0.5)
        self.head = torch.nn.Linear(16, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.drop(self.act(self.norm(self.conv(images))).mean((2, 3))))


@pytest.fixture(scope="module")
def probes() -> Probes:
    return choose_probes(assemble(load_digits()), torch.device("cpu"))


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_a_look_leaves_random_state_weights_and_modes_alone(probes: Probes, mode: Any) -> None:
    network = Small().train()
    network.norm.eval()
    before, state = copy.deepcopy(network.state_dict()), torch.get_rng_state()
    look(network, "conv", probes, mode, network.conv.weight.detach().clone())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert (network.training, network.norm.training) == (True, False)
    assert count_hooks(network) == 0


def test_a_look_shows_the_maps_and_their_gradients(probes: Probes) -> None:
    """Against the same network taken apart by hand."""
    network = Small().eval()
    maps = network.conv(probes.images).detach().requires_grad_()
    logits = network.head(F.relu(network.norm(maps)).mean((2, 3)))
    loss = F.cross_entropy(logits, probes.labels)
    (gradients,) = torch.autograd.grad(loss, maps)
    with torch.no_grad():
        earlier = network.conv.weight * 0.5
    found = look(network, "conv", probes, "eval", earlier)
    assert found.loss == pytest.approx(loss.item(), rel=1e-5)
    assert found.change == pytest.approx(1.0, rel=1e-5)  # twice as long as before
    weakest = maps.detach().abs().mean((0, 2, 3)).argsort()[: 16 - FILTERS].tolist()
    assert sorted([*found.filters, *weakest]) == list(range(16))
    for grid, largest, truth in (
        (found.maps, found.largest_map, maps.detach()),
        (found.gradients, found.largest_gradient, gradients),
    ):
        assert grid.dtype == np.int8
        chosen = truth[:, list(found.filters)].transpose(0, 1).numpy()
        assert largest == pytest.approx(np.abs(chosen).max(), rel=1e-5)
        assert np.abs(grid * (largest / LEVELS) - chosen).max() <= 0.51 * largest / LEVELS
    guesses = [probes.classes[int(k)] for k in logits.argmax(1)]
    assert [name for name, _ in found.answers] == guesses


def test_large_maps_are_averaged_down(probes: Probes) -> None:
    network = torch.nn.Sequential(
        torch.nn.Upsample(scale_factor=4), torch.nn.Conv2d(3, 2, 1), torch.nn.Flatten(), torch.nn.LazyLinear(10)
    )
    network(probes.images)
    assert look(network, "1", probes, "eval", None).maps.shape == (2, 8, 64, 64)


def test_probes_are_of_different_classes_and_do_not_move(probes: Probes) -> None:
    again = choose_probes(assemble(load_digits()), torch.device("cpu"))
    assert np.array_equal(again.index, probes.index)
    assert len(set(probes.labels.tolist())) == len(probes.index) == 8
    assert set(probes.index) <= set(assemble(load_digits()).parts["val"])


def test_layers_with_filters_alone_can_be_looked_at(probes: Probes) -> None:
    assert layers_with_filters(Small()) == ["conv"]
    with pytest.raises(UsageError, match=r"'head' has no filters: conv have"):
        look(Small(), "head", probes, "eval", None)
    with pytest.raises(UnknownName):
        look(Small(), "con", probes, "eval", None)


# ------------------------------------------------------------------------------------------------- the page's side

SPEAKS = """
import json, sys
print(json.dumps({"layers": ["conv1"]}), flush=True)
print(json.dumps({"state": "paused", "updates": [[1, 2.5, 0.1]]}), flush=True)
for line in sys.stdin:
    print(json.dumps({"refused": line}), flush=True)
print(json.dumps({"state": "stopped", "said": "saved"}), flush=True)
"""


@pytest.fixture
def trainings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Trainings]:
    """Trainings whose process only repeats what it is told."""
    monkeypatch.setattr("convscope.page.stepping.WORKER", [sys.executable, "-c", SPEAKS])
    made = Trainings(Served(tmp_path))
    yield made
    made.close()


def waited(training: Training, key: str, value: Any) -> dict[str, Any]:
    until = time.monotonic() + 30
    while training.shown().get(key) != value and time.monotonic() < until:
        time.sleep(0.02)
    found = training.shown()
    assert found.get(key) == value, found
    return found


def test_the_page_starts_a_training_and_tells_it_what_to_do(trainings: Trainings) -> None:
    training = trainings.start("digits", "alexnet", "3")
    found = waited(training, "state", "paused")
    assert (found["layers"], found["points"], found["name"]) == (["conv1"], [[1, 2.5, 0.1]], "digits-alexnet-1")
    assert training.shown(after="1")["points"] == []
    training.say("look", layer="conv1", mode="eval")
    found = waited(training, "refusals", 1)
    assert json.loads(found["refused"]) == {"command": "look", "layer": "conv1", "mode": "eval"}
    with pytest.raises(UsageError, match="is going on"):
        trainings.start("digits")
    training.close()
    assert waited(training, "state", "stopped")["said"] == "saved"
    with pytest.raises(UsageError, match="is over"):
        training.say("step")
    assert [row["state"] for row in trainings.listed()] == ["stopped"]
    assert trainings.start("digits") is not training  # now that the other is over


def test_what_a_browser_names_is_looked_for_among_what_is_there(trainings: Trainings, tmp_path: Path) -> None:
    for data in ("/etc", "../x", "", str(tmp_path)):
        with pytest.raises(UnknownName):
            trainings.start(data)
    for model in ("x.py:make", "resnet50", ""):
        with pytest.raises(UnknownName):
            trainings.start("digits", model)
    for epochs in ("0", "-1", "1e3", "9" * 20, "1001", ""):
        with pytest.raises(UsageError, match="number of epochs"):
            trainings.start("digits", epochs=epochs)
    with pytest.raises(UnknownName):
        trainings.find("r")
    training = trainings.start("digits")
    with pytest.raises(UnknownName):
        training.say("rm")


def test_data_of_runs_are_offered_where_they_were_named_on_this_machine(undisturbed: Path) -> None:
    assert list(offered(Served(undisturbed))) == ["cifar10", "digits", "shapes"]


def test_a_long_curve_is_thinned_and_a_lost_process_is_told(trainings: Trainings) -> None:
    training = trainings.start("digits")
    waited(training, "state", "paused")
    with training.lock:
        training._take({"updates": [[n, 1.0, 0.1] for n in range(2, 2 * MOST_POINTS)]})
        training._take({"updates": [[2 * MOST_POINTS, 1.0, 0.1]]})
    points = training.shown()["points"]
    assert len(points) <= MOST_POINTS + 1
    assert points[-1][0] == 2 * MOST_POINTS
    training.process.kill()
    assert "ended unasked" in waited(training, "state", "failed")["said"]


def test_the_addresses_need_the_token(trainings: Trainings) -> None:
    pytest.importorskip("starlette")
    from convscope.page.application import application
    from convscope.page.routes import Page
    from page_client import HOST, request

    page = Page(trainings.served)
    page.__dict__["trainings"] = trainings
    guarded = application(page, [HOST])
    host, token = ("host", HOST), ("x-convscope-token", page.served.token)
    assert request(guarded, "/train?data=digits", "POST", [host]).status == 403
    assert trainings.listed() == []
    assert request(guarded, "/train?data=nothing", "POST", [host, token]).status == 404
    assert request(guarded, "/train?data=digits&epochs=x", "POST", [host, token]).status == 422
    name = request(guarded, "/train?data=digits&paused=1", "POST", [host, token]).json()["name"]
    waited(trainings.find(name), "state", "paused")
    for command in ("step", "pause", "resume", "stop", "look"):
        assert request(guarded, f"/train/{name}/{command}", "POST", [host]).status == 403
    assert trainings.find(name).refusals == 0
    assert request(guarded, f"/train/{name}/step", "POST", [host, token]).status == 200
    waited(trainings.find(name), "refusals", 1)
    assert request(guarded, f"/train/{name}/rm", "POST", [host, token]).status == 404
    assert request(guarded, "/train/x/step", "POST", [host, token]).status == 404
    assert request(guarded, f"/train/{name}").status == request(guarded, "/train").status == 200
    assert request(guarded, f"/train/{name}.json?after=0").json()["points"] == [[1, 2.5, 0.1]]
