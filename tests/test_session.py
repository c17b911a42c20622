"""A run that is stopped, killed, damaged, resumed or refused: nothing is lost, and no bit differs."""

from __future__ import annotations

import errno
import multiprocessing
import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import convscope
from convscope import machine, storage, tensor_files
from convscope.cli.application import run as run_cli
from convscope.errors import (
    DamagedFile,
    DataError,
    DivergedError,
    InterruptedRun,
    LockedError,
    StorageError,
    UsageError,
)
from convscope.training import request as request_module
from convscope.training import session
from convscope.training.runs import Run, checkpoints, data_difference
from convscope.training.session import Session

SMALL = {"width": 4, "epochs": 3, "batch_size": 32, "limit": 150, "dropout": 0.2, "augment": "strong"}
LONGER = SMALL | {"epochs": 5, "limit": 300}


def request(runs: Path, resume: bool = False, options: dict[str, Any] | None = None) -> dict[str, Any]:
    chosen = ({} if resume else SMALL) if options is None else options
    return {"data": "shapes", "name": "r", "resume": resume, "device": "cpu", "runs": runs, **chosen}


def prepare(wanted: dict[str, Any]) -> Session:
    options = dict(wanted)
    return convscope.prepare_training(options.pop("data"), **options)


def finish(wanted: dict[str, Any]) -> Run:
    prepared = prepare(wanted)
    for _ in prepared.events():
        pass
    return prepared.run


def contents(run: Run) -> dict[str, bytes]:
    """The bytes of all that a recipe determines."""
    files = [run.folder / "log.jsonl", run.folder / "classifier.safetensors", checkpoints(run)[-1]]
    return {path.name: path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return finish(request(tmp_path_factory.mktemp("undisturbed")))


def test_a_run_repeats_byte_for_byte(undisturbed: Run, tmp_path: Path) -> None:
    assert contents(finish(request(tmp_path))) == contents(undisturbed)


@pytest.mark.parametrize("part", ["val", "test"])
def test_no_image_or_label_of_the_test_part_decides_anything(undisturbed: Run, tmp_path: Path, part: str) -> None:
    """With others in their place the same is trained and kept; with other validation images it is not."""
    prepared = prepare(request(tmp_path))
    here = prepared.dataset.subset(part)
    prepared.dataset.images[here] = 255 - prepared.dataset.images[here]
    prepared.dataset.labels[here] = (prepared.dataset.labels[here] + 1) % len(prepared.dataset.class_names)
    for _ in prepared.events():
        pass
    assert (contents(prepared.run) == contents(undisturbed)) == (part == "test")


def test_the_log_has_a_row_an_epoch_and_the_best_is_kept(undisturbed: Run) -> None:
    rows = undisturbed.log()
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    best = max(rows, key=lambda row: (row["val_top1"], -row["epoch"]))
    classifier = undisturbed.classifier()
    assert classifier.provenance["epoch"] == best["epoch"]
    assert classifier.provenance["val_top1"] == best["val_top1"]
    assert len(checkpoints(undisturbed)) == 2
    assert [row["epoch"] for row in undisturbed.timing()] == [1, 2, 3]


@pytest.mark.parametrize("stop_after", [1, 2, 5, 7])
def test_stopped_by_a_signal_and_resumed_is_as_if_undisturbed(
    undisturbed: Run, tmp_path: Path, stop_after: int
) -> None:
    prepared = prepare(request(tmp_path))
    events = prepared.events()
    with pytest.raises(session.InterruptedRun) as caught:
        for number, _ in enumerate(events, 1):
            if number == stop_after:
                os.kill(os.getpid(), signal.SIGTERM)
    assert caught.value.exit_code == 143
    assert "--resume" in str(caught.value)
    assert contents(finish(request(tmp_path, resume=True))) == contents(undisturbed)


@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": "muon", "model": "speednet", "dropout": None, "ema": 0.95},
        {"mixup": 0.4, "cutmix": 1.0, "balance": True, "save_memory": True},
    ],
    ids=["muon, speednet, averaged", "mixed, balanced, recomputed"],
)
def test_whatever_is_switched_on_a_stopped_run_goes_on_as_if_undisturbed(
    options: dict[str, Any], tmp_path: Path
) -> None:
    wanted = SMALL | {"epochs": 2} | options
    whole = finish(request(tmp_path / "whole", options=wanted))
    prepared = prepare(request(tmp_path / "cut", options=wanted))
    events = prepared.events()
    for _ in range(6):
        next(events)
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(InterruptedRun):
        list(events)
    assert contents(finish(request(tmp_path / "cut", resume=True))) == contents(whole)


def test_averaged_weights_are_what_is_validated_and_kept(tmp_path: Path) -> None:
    run = finish(request(tmp_path, options=SMALL | {"epochs": 1, "ema": 0.9}))
    tensors, _ = tensor_files.read_tensors(checkpoints(run)[-1])
    kept = run.classifier().network.state_dict()
    assert any(not torch.equal(t, tensors[f"network/{n}"]) for n, t in kept.items())
    assert all(torch.equal(t, tensors[f"averaged/{n}"]) for n, t in kept.items())


@pytest.fixture
def interruptible() -> Iterator[None]:
    """SIGINT as in a terminal's foreground: a shell starts what runs in the background with it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_handlers_are_put_back_and_a_second_signal_ends_at_once(tmp_path: Path, interruptible: None) -> None:
    events = prepare(request(tmp_path)).events()
    next(events)
    os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)
    events.close()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_what_is_ignored_stays_ignored(tmp_path: Path) -> None:
    """Under nohup a hang-up must not stop a run."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        events = prepare(request(tmp_path)).events()
        next(events)
        os.kill(os.getpid(), signal.SIGHUP)
        assert len(list(events)) > 5
    finally:
        signal.signal(signal.SIGHUP, before)


def _train_child(runs: Path, options: dict[str, Any]) -> None:
    """In a child process: start or go on with run "r" until it is done, saving as often as it can."""
    torch.set_num_threads(1)
    session.CHECKPOINT_SECONDS = 0.02
    machine.PEAK_SIDE = 512  # a second of timing that decides nothing here
    exists = (runs / "r" / "recipe.json").exists()
    finish(request(runs, resume=exists, options={} if exists else options))


def _kill_chain(runs: Path, options: dict[str, Any], seed: int) -> int:
    """Start, kill at a random moment, resume, until the run is over; how many kills met a living process."""
    context = multiprocessing.get_context("forkserver")
    # what a training imports late, torch._dynamo, is half of a child's time
    context.set_forkserver_preload(["convscope.training.command", "sklearn.metrics", "torch._dynamo"])
    dice, kills = random.Random(seed), 0
    while True:
        child = context.Process(target=_train_child, args=(runs, options))
        child.start()
        child.join(dice.uniform(0.1, 1.2) * (1 + kills / 10))  # a slow machine comes to an end too
        if child.exitcode is None:
            child.kill()
            kills += 1
        child.join()
        if child.exitcode == 0:
            return kills
        assert child.exitcode == -signal.SIGKILL


def _assert_killed_equals_undisturbed(tmp_path: Path, wanted_kills: int) -> None:
    expected = contents(finish(request(tmp_path / "whole", options=LONGER)))
    kills = chains = 0
    while kills < wanted_kills:
        chains += 1
        runs = tmp_path / f"chain{chains}"
        kills += _kill_chain(runs, LONGER, chains)
        assert contents(Run(runs / "r")) == expected
        assert not list((runs / "r").rglob("*.tmp-*"))


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_killed_at_random_moments_and_resumed_is_byte_identical(tmp_path: Path, one_thread: None) -> None:
    _assert_killed_equals_undisturbed(tmp_path, 3)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_fifty_kills(tmp_path: Path, one_thread: None) -> None:
    _assert_killed_equals_undisturbed(tmp_path, 50)


def test_a_second_run_in_the_same_folder_is_refused_while_the_first_lives(tmp_path: Path) -> None:
    first = prepare(request(tmp_path)).events()
    next(first)
    with pytest.raises(LockedError, match=f"process {os.getpid()}"):
        finish(request(tmp_path, resume=True))
    first.close()
    finish(request(tmp_path, resume=True))


def test_a_name_that_is_taken_is_refused(undisturbed: Run) -> None:
    with pytest.raises(LockedError, match="--resume"):
        prepare(request(undisturbed.folder.parent))


def test_a_damaged_checkpoint_is_passed_over_with_a_note(undisturbed: Run, tmp_path: Path) -> None:
    run = _half_done(tmp_path)
    newest = checkpoints(run)[-1]
    data = bytearray(newest.read_bytes())
    data[-100] ^= 1
    newest.write_bytes(data)
    prepared = prepare(request(tmp_path, resume=True))
    for _ in prepared.events():
        pass
    assert any("damaged" in note for note in prepared.notes)
    assert contents(run) == contents(undisturbed)


def test_with_every_checkpoint_damaged_nothing_is_deleted(tmp_path: Path) -> None:
    run = _half_done(tmp_path)
    for path in checkpoints(run):
        path.write_bytes(path.read_bytes()[:-10])
    before = checkpoints(run)
    with pytest.raises(DamagedFile, match="Nothing was deleted"):
        finish(request(tmp_path, resume=True))
    assert checkpoints(run) == before


def _half_done(runs: Path) -> Run:
    prepared = prepare(request(runs))
    rows = 0
    for event in prepared.events():
        rows += isinstance(event, dict)
        if rows == 2:
            break
    return prepared.run


@pytest.mark.parametrize(
    ("options", "named"), [({"lr": 0.5}, "`lr`"), ({"epochs": 9}, "`epochs`"), ({"augment": "none"}, "`augment`")]
)
def test_a_changed_recipe_is_refused_by_naming_it(undisturbed: Run, options: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        prepare(request(undisturbed.folder.parent, resume=True, options=options))


def test_the_same_options_beside_resume_are_accepted(undisturbed: Run) -> None:
    prepared = prepare(request(undisturbed.folder.parent, resume=True, options=SMALL))
    assert prepared.recipe == undisturbed.recipe()


def test_weights_to_start_from_are_read_once_and_needed_no_more_after_a_checkpoint(
    undisturbed: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "start.safetensors"
    weights.write_bytes((undisturbed.folder / "classifier.safetensors").read_bytes())
    reads = []
    real = request_module.load_weight_file
    monkeypatch.setattr(request_module, "load_weight_file", lambda *a: (reads.append(a), real(*a)))
    prepared = prepare(request(tmp_path, options=SMALL | {"weights": str(weights)}))
    assert len(reads) == 1
    for event in prepared.events():
        if isinstance(event, dict):
            break
    weights.unlink()
    finish(request(tmp_path, resume=True))
    assert len(reads) == 1


def test_changed_data_is_refused_by_naming_it(tmp_path: Path, shapes_folder: Path) -> None:
    wanted = {"data": str(shapes_folder), **SMALL, "epochs": 1, "name": "r", "runs": tmp_path}
    finish(wanted)
    next((shapes_folder / "ring").glob("*.png")).unlink()
    again = {"data": str(shapes_folder), "name": "r", "resume": True, "runs": tmp_path}
    with pytest.raises(DataError, match=r"class 'ring' has \d+ images"):
        prepare(again)


def test_a_difference_without_other_counts_is_still_one() -> None:
    before = {"fingerprint": "a", "counts": {"train": {"x": 1}}}
    assert "as many images" in (data_difference(before, {**before, "fingerprint": "b"}) or "")
    assert data_difference(before, before) is None


def test_patience_stops_early_and_resuming_a_finished_run_does_nothing(tmp_path: Path) -> None:
    run = finish(request(tmp_path, options=SMALL | {"epochs": 30, "patience": 1, "lr": 1e-6}))
    rows = run.log()
    assert len(rows) < 30
    best = max(rows, key=lambda row: (row["val_top1"], -row["epoch"]))["epoch"]
    assert rows[-1]["epoch"] == best + 1
    before = contents(run)
    finish(request(tmp_path, resume=True))
    assert contents(run) == before


def test_a_divergence_names_its_images_and_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match=r"`lr`.*shapes image") as caught:
        finish(request(tmp_path, options=SMALL | {"lr": 1e7, "warmup": 0.9, "epochs": 20}))
    assert caught.value.exit_code == 76
    details = storage.read_json(tmp_path / "r" / "diverged.json")
    assert len(details["images"]) > 20
    for path in checkpoints(Run(tmp_path / "r")):
        tensors, _ = tensor_files.read_tensors(path)
        assert all(torch.isfinite(t).all() for t in tensors.values() if t.is_floating_point())


def test_a_full_disk_stops_the_run_and_keeps_the_last_checkpoint(
    undisturbed: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = prepare(request(tmp_path))
    real = os.fsync

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StorageError, match="the disk is full"):
        for event in prepared.events():
            if isinstance(event, dict):
                monkeypatch.setattr(os, "fsync", full)
    monkeypatch.setattr(os, "fsync", real)
    assert not list(tmp_path.rglob("*.tmp-*"))
    assert contents(finish(request(tmp_path, resume=True))) == contents(undisturbed)


def test_too_little_room_is_told_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for free, what in ((1000, "a new run"), (2**21, "this run")):  # before there are files, and before it trains
        usage = type("usage", (), {"free": free})
        monkeypatch.setattr("shutil.disk_usage", lambda path, usage=usage: usage)
        with pytest.raises(StorageError, match=f"free; {what} needs"):
            finish(request(tmp_path))


def test_the_command_line_gives_130_and_the_resume_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], interruptible: None
) -> None:
    """The signal comes from a real timer once the first epoch is over, while the command runs as a user runs it."""

    def interrupt(number: int, frame: Any) -> None:
        begun = (tmp_path / "r" / "log.jsonl").exists()
        os.kill(os.getpid(), signal.SIGINT) if begun else signal.setitimer(signal.ITIMER_REAL, 0.1)

    signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    options = ["--width", "4", "--epochs", "500", "--limit", "200", "--runs", str(tmp_path), "--name", "r"]
    code = run_cli(["train", "shapes", *options])
    said = capsys.readouterr().err
    assert code == 130
    assert f"convscope train shapes --name r --resume --runs {tmp_path}" in said
    assert "Traceback" not in said


def test_what_an_earlier_convscope_wrote_is_refused_with_what_to_do(undisturbed: Run, tmp_path: Path) -> None:
    shutil.copytree(undisturbed.folder, tmp_path / "old")
    description = storage.read_json(tmp_path / "old" / "recipe.json")
    storage.commit_json(tmp_path / "old" / "recipe.json", description | {"format": 1})
    for path in [
        *(tmp_path / "old" / "checkpoints").glob("*.safetensors"),
        tmp_path / "old" / "classifier.safetensors",
    ]:
        tensors, meta = tensor_files.read_tensors(path)
        tensor_files.commit_tensors(path, tensors, meta | {"format": 1})
    words = (
        r"earlier convscope, in format 1, and this one reads format 3: make it again, or use the version that wrote it"
    )
    with pytest.raises(DamagedFile, match=words):
        Run(tmp_path / "old").description()
    with pytest.raises(DamagedFile, match=words):
        convscope.evaluate(str(tmp_path / "old"))
    with pytest.raises(DamagedFile, match=words):
        convscope.train("shapes", name="old", resume=True, runs=tmp_path)
    storage.commit_json(tmp_path / "old" / "recipe.json", description)  # the checkpoints alone are old
    with pytest.raises(DamagedFile, match=words):
        convscope.train("shapes", name="old", resume=True, runs=tmp_path)
