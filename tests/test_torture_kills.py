"""What looks at a kill and at a training that went on sees a fault that is planted, and says which."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import convscope
from convscope import storage
from convscope.storage import commit_json, commit_lines, read_json
from convscope.tensor_files import commit_tensors, read_tensors
from convscope.training.runs import Run, checkpoints
from kill_commands import COMMANDS, KILLED, TRIES, Undisturbed, flaw_of, unkept
from kill_moments import Moments
from kill_points import Ended, remains
from torture import kills, steps


class Scripted:
    """Stands where a Killer does: each command that is run does the next of some deeds."""

    def __init__(self, *deeds: Any) -> None:
        self.deeds, self.ran = list(deeds), []

    def run(self, folder: Path, words: list[str], *how: Any) -> Ended:
        self.ran.append(words)
        code, said, files = self.deeds.pop(0)
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
        return Ended(code, said, 0.1)


@pytest.fixture
def whole(tmp_path: Path) -> Undisturbed:
    """A command that writes two files."""
    (tmp_path / "before").mkdir()
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "a").write_text("1")
    (tmp_path / "here" / "b").write_text("2")
    return Undisturbed(["make"], tmp_path / "before", tmp_path / "here", remains(tmp_path / "here"), Ended(0, "", 1.0))


KILL, WHOLE = (KILLED, "", {"a": "1"}), (0, "", {"a": "1", "b": "2"})


@pytest.mark.parametrize(
    ("deeds", "flaw"),
    [
        ([KILL, WHOLE], ""),
        ([(KILLED, "", WHOLE[2])], ""),
        ([(0, "", {})], "it was not killed: exit code 0"),
        ([KILL, (74, "the disk is full", {})], "typed again it ends with exit code 74: the disk is full"),
        ([KILL, (0, "", {"b": "3"})], "other than undisturbed: b"),
        ([KILL, (0, "", {})], "other than undisturbed: b"),
        ([KILL, (0, "", {"b": "2", ".b.tmp-1-0123456789ab": ""})], "other than undisturbed: .b.tmp-1-0123456789ab"),
        ([(KILLED, "written: b\n", {"a": "1"}), WHOLE], "announced but not there: b; "),
        ([(KILLED, "written: a\n", {"a": "1"}), WHOLE], ""),
    ],
)
def test_what_a_kill_spoils_is_seen(whole: Undisturbed, deeds: list[Any], flaw: str) -> None:
    killer: Any = Scripted(*deeds)
    assert flaw_of(killer, whole, 1)[1].startswith(flaw)
    assert bool(flaw) == bool(flaw_of(Scripted(*deeds), whole, 1)[1])  # pyrefly: ignore[bad-argument-type]


def test_a_kill_that_comes_after_the_end_is_made_sooner(whole: Undisturbed) -> None:
    killer: Any = Scripted((0, "", {}), KILL, WHOLE)
    assert flaw_of(killer, whole, after=1.0)[1] == ""
    killer = Scripted(*[(0, "", {})] * TRIES)
    assert "not killed" in flaw_of(killer, whole, after=1.0)[1]


def test_a_training_is_gone_on_with_as_its_refusal_says(whole: Undisturbed) -> None:
    refusal = "run 'r' exists already: go on with it by convscope train x --resume, or choose another --name."
    killer: Any = Scripted(KILL, (73, refusal, {}), WHOLE)
    training = Undisturbed(["train", "x"], whole.before, whole.place, whole.remained, whole.ended)
    assert flaw_of(killer, training, 1)[1] == ""
    assert killer.ran[-1] == ["train", "x", "--resume"]
    killer = Scripted(KILL, (73, "no.", {}))
    assert "how to go on is not told" in flaw_of(killer, training, 1)[1]


def test_epochs_and_marks_that_were_announced_are_looked_for(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "r"
    (run / "checkpoints").mkdir(parents=True)
    (run / "log.jsonl").write_text("{}\n")
    said = "epoch 1/2  train\nepoch 2/2  train\n"
    assert unkept(tmp_path, said[:18]) == ["epoch 1"]  # there is no checkpoint
    (run / "checkpoints" / "step-1").touch()
    assert unkept(tmp_path, said[:18]) == []
    assert unkept(tmp_path, said) == ["epoch 2"]
    first, second = "ab" * 32, "cd" * 32
    (run / "doctor").mkdir()
    (run / "doctor" / "corrections.csv").write_text(f"hash,action\n{first},leave-out,,,\n")
    said = f"marked {first} relabel\nmarked {first} leave-out\nmarked {second} keep\n"
    assert unkept(tmp_path, said) == []
    assert unkept(tmp_path, f"{said}marked {first} relabel\n") == ["abababab relabel"]
    assert unkept(tmp_path, f"{said}marked {first} relabel\nmarking {first} leave-out\n") == []
    assert unkept(tmp_path, f"{said}marked {second} leave-out\n") == ["cdcdcdcd leave-out"]
    assert unkept(tmp_path, "written: runs/r (log.jsonl, a.png)\n") == ["runs/r/a.png"]


def test_moments_inside_a_save_are_told_from_others(tmp_path: Path) -> None:
    child = os.fork()  # what is counted is replaced in that process alone
    if child == 0:
        try:
            moments = Moments(0)
            moments.install()
            storage.commit_text(tmp_path / "file", "text")
            between = [m for m in range(1, moments.count + 1) if m not in moments.inside]
            found = f"{moments.count} {moments.inside} {between} {moments.turns}"
            (tmp_path / "told").write_text(found)
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    # before it is opened | opened, half written, flushed, flushed, read, read, to be renamed | renamed, and the folder
    assert (tmp_path / "told").read_text() == "11 [2, 3, 4, 5, 6, 7, 8] [1, 9, 10, 11] [8, 9]"


def test_moments_are_taken_once_and_half_of_the_kills_are_inside_a_save() -> None:
    whole: Any = SimpleNamespace(ended=Ended(0, "", 1.0, 101, [], list(range(1, 61))))
    taken: dict[str, list[int]] = {}
    turns: list[str] = []
    for seed in range(2):
        plan = kills.Plan(seed, 4 * len(COMMANDS))
        for number in range(4 * len(COMMANDS)):
            name, turn = plan.turn(number)
            turns.append(turn)
            moment = plan.moment(name, turn, whole)
            assert (moment is None) == (turn == "at any time")
            if moment is not None:
                assert (moment <= 60) == (turn == "inside a save")
                taken.setdefault(name, []).append(moment)
    assert turns.count("inside a save") == len(turns) / 2
    assert len(taken) == len(COMMANDS)
    assert all(len(set(moments)) == len(moments) == 6 for moments in taken.values())


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of as many updates as the attack's, on images that cost little."""
    folder = tmp_path_factory.mktemp("trained")
    options = {"width": 4, "epochs": steps.EPOCHS, "limit": 64, "batch_size": 4}
    convscope.train("digits", runs=folder / "runs", name="r", **options)
    return folder


def spoiled(folder: Path, fault: str) -> None:
    run = Run(folder / "runs" / "r")
    if fault == "a weight":
        path = checkpoints(run)[-1]
        tensors, meta = read_tensors(path)
        tensors["network/conv1.weight" if "network/conv1.weight" in tensors else next(iter(tensors))].view(-1)[0] += 1
        commit_tensors(path, tensors, meta)
    elif fault == "a tensor gone":
        path = checkpoints(run)[-1]
        tensors, meta = read_tensors(path)
        commit_tensors(path, dict(list(tensors.items())[1:]), meta)
    elif fault == "the log":
        rows = run.log()
        rows[-1]["train_loss"] += 1e-9
        commit_lines(run.folder / "log.jsonl", rows)
    elif fault == "begun anew":
        rows = run.timing()
        rows[-1]["images"] += 4
        commit_lines(run.folder / "timing.jsonl", rows)
    elif fault == "another file":
        commit_json(run.folder / "recipe.json", read_json(run.folder / "recipe.json") | {"source": "x"})


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("", ""),
        ("a weight", "of the last checkpoint is another"),
        ("a tensor gone", "of the last checkpoint is another"),
        ("the log", "the log is another"),
        ("begun anew", "were trained on after it went on"),
        ("another file", "other than undisturbed: runs/r/recipe.json"),
    ],
)
def test_what_differs_in_a_training_that_went_on_is_seen(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, said: str
) -> None:
    shutil.copytree(trained / "runs", tmp_path / "runs")
    images = [row["images"] for row in Run(trained / "runs" / "r").timing()]
    monkeypatch.setattr(steps, "STEPS", images[0])  # as if each image were a batch of its own
    monkeypatch.setattr(steps, "BATCH", 1)
    summary = tmp_path / "runs" / "r" / "summary.json"  # it says where the run lies
    summary.write_text(summary.read_text(encoding="utf-8").replace(str(trained), str(tmp_path)), encoding="utf-8")
    spoiled(tmp_path, fault)
    found = steps.flaw_of(tmp_path, Ended(0, "", 1.0), trained, images[0])
    assert said in found
    assert bool(said) == bool(found)


def test_a_training_that_does_not_go_on_is_seen(trained: Path) -> None:
    assert "exit code 65" in steps.flaw_of(trained, Ended(65, "damaged", 1.0), trained, 12)


def test_steps_are_every_update_optimizer_and_number_of_threads() -> None:
    assert len(set(steps.EVERY)) == len(steps.EVERY) == 48 * 3 * 3
