"""Several processes that train together: as one does, written once, and ended in a sentence when one is lost."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

import convscope
from convscope.classifying import metrics
from convscope.classifying.prediction import logits
from convscope.datasets.registry import load_dataset
from convscope.errors import ConvscopeError, DataError, DivergedError, InterruptedRun, UsageError
from convscope.images.mixing import is_on
from convscope.models.synced_norms import synced
from convscope.models.taps import computing_by
from convscope.processes import LAUNCHED
from convscope.recipes import AUGMENTS, Augment, Labels, Recipe
from convscope.training import launching
from convscope.training.batches import Batch, Batches
from convscope.training.launching import find_launch
from convscope.training.loop import Step, loss_of, weight_of
from convscope.training.ranks import Board, LostRank, deadline, telling
from convscope.training.resuming import in_processes
from convscope.training.runs import Run, checkpoints
from convscope.training.session import Session
from convscope.training.sharing import backward_by_parts, check_shares, settle

SMALL = {"limit": 200, "width": 4, "epochs": 2, "batch_size": 17, "device": "cpu", "convolution": "direct"}
TOGETHER = SMALL | {"sync_batch_norm": True, "dropout": 0.0, "augment": "strong"}
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--monitor-interval", "0.1"]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """In every process: two numbers of threads round otherwise, by more than two numbers of processes do."""
    before = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        torch.set_num_threads(1)
        yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVSCOPE_DEADLINE", "60")
    for name in LAUNCHED:
        monkeypatch.delenv(name, raising=False)


def trained(name: str, options: dict[str, Any]) -> tuple[Session, list[Step], list[dict[str, Any]]]:
    session = convscope.prepare_training("shapes", name=name, **options)
    events = list(session.events())
    return session, [e for e in events if isinstance(e, Step)], [e for e in events if isinstance(e, dict)]


def apart(ours: list[float], theirs: list[float]) -> float:
    """The largest relative difference."""
    return max(abs(a - b) / abs(b) for a, b in zip(ours, theirs, strict=True))


def children() -> set[int]:
    path = Path(f"/proc/self/task/{threading.get_native_id()}/children")
    return set(map(int, path.read_text().split())) if path.exists() else set()


# ----------------------------------------------------------------------------------------------- a batch in parts


def test_shares_of_a_batch_are_the_batch_bit_for_bit() -> None:
    dataset = load_dataset("shapes", limit=150)
    whole = Batches(
        dataset, dataset.subset("train"), 20, 3, AUGMENTS["strong"], torch.device("cpu"), Labels(mixup=0.4, cutmix=0.4)
    )
    assert is_on(whole.mixed)
    for count in (2, 3):
        shares = [list(replace(whole, share=(rank, count)).epoch(1)) for rank in range(count)]
        for batch, *parts in zip(whole.epoch(1), *shares, strict=True):
            assert all((part.whole_index == batch.index).all() for part in parts)
            assert (np.concatenate([part.index for part in parts]) == batch.index).all()
            for name in ("images", "labels", "others", "share"):
                assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(batch, name))


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("weighed", [False, True])
def test_parts_have_the_loss_and_gradient_of_the_whole_batch(count: int, mixed: bool, weighed: bool) -> None:
    """In float64, so that no rounding hides a wrong weight: shares differ in size and in their classes."""
    network = nn.Linear(6, 4).double()
    images, labels = torch.randn(17, 6, dtype=torch.float64), torch.randint(4, (17,)).sort().values
    pair = (torch.randint(4, (17,)), torch.rand(17, dtype=torch.float64)) if mixed else (None, None)
    batch = Batch(images, labels, np.arange(17), *pair)
    weights_K = torch.tensor([0.1, 1.0, 2.0, 9.0], dtype=torch.float64) if weighed else None

    def loss(outputs: Tensor, part: Batch) -> Tensor:
        return loss_of(outputs.double(), part, 0.1, weights_K)

    def forward(x: Tensor) -> Tensor:  # the loop turns outputs into float32, which would round here
        return _Double(network(x))

    expected = loss(network(images), batch)
    gradient = torch.autograd.grad(expected, list(network.parameters()))
    tally = backward_by_parts(batch, count, forward, loss, lambda part: weight_of(part, weights_K))
    tally = settle(network, tally, None)
    assert (tally.loss / tally.weight).item() == pytest.approx(expected.item(), rel=1e-6)
    assert (tally.images.item(), tally.correct.item()) == (
        17,
        (network(images).argmax(1) == batch.main_labels).sum().item(),
    )
    for parameter, wanted in zip(network.parameters(), gradient, strict=True):
        torch.testing.assert_close(parameter.grad, wanted, rtol=1e-6, atol=1e-7)


class _Double(torch.Tensor):
    """A tensor that stays in float64."""

    @staticmethod
    def __new__(cls, data: Tensor) -> _Double:
        return data.as_subclass(cls)

    def float(self, *_: Any, **__: Any) -> Tensor:
        return self.as_subclass(torch.Tensor)


def test_a_batch_that_is_too_small_for_its_parts_is_refused() -> None:
    check_shares(100, 10, 5, 2)
    with pytest.raises(
        UsageError, match="of 9 images the smallest, which cannot be shared by 5 processes and --accumulate 2"
    ):
        check_shares(99, 10, 5, 2)
    with pytest.raises(
        UsageError, match=r"of 1 images the smallest, which cannot be shared by 2 processes: take a larger"
    ):
        convscope.prepare_training("shapes", limit=60, batch_size=1, processes=2, device="cpu")


def test_accumulated_parts_train_as_the_whole_batch_does() -> None:
    plain = SMALL | {"batch_norm": False, "dropout": 0.0, "epochs": 1}
    _, whole, _ = trained("whole", plain)
    _, parts, _ = trained("parts", plain | {"accumulate": 3, "save_memory": True})
    assert apart([s.loss for s in parts], [s.loss for s in whole]) < 1e-5
    assert whole[-1].summary is not None
    assert parts[-1].summary is not None
    assert parts[-1].summary.top1 == whole[-1].summary.top1


# ------------------------------------------------------------------------------------------- batch norm over shares


def in_threads(work: list[Callable[[Callable[[Tensor], Tensor]], None]]) -> None:
    """Let each piece of work gather with the others, as processes do."""
    barrier, held = threading.Barrier(len(work), timeout=20), [torch.empty(0)] * len(work)

    def run(rank: int) -> None:
        def gather(values: Tensor) -> Tensor:
            held[rank] = values
            barrier.wait()
            found = torch.stack(held)
            barrier.wait()
            return found

        work[rank](gather)

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(len(work))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("dims", [2, 4])
def test_a_norm_over_uneven_shares_is_that_of_the_whole_batch(dims: int, affine: bool) -> None:
    shape = (11, 5, 4, 3)[:dims]
    x, weight = 100 + 3 * torch.randn(*shape), torch.randn(*shape)  # far from zero: no digit to lose
    kind = nn.BatchNorm2d if dims == 4 else nn.BatchNorm1d
    whole = kind(5, affine=affine)
    norms = [kind(5, affine=affine) for _ in range(3)]
    x.requires_grad_(True)
    whole_out = whole(x)
    (whole_out * weight).sum().backward()
    shares = [part.detach().requires_grad_(True) for part in torch.tensor_split(x, 3)]
    outs: list[Tensor] = [torch.empty(0)] * 3

    def work(rank: int, gather: Callable[[Tensor], Tensor]) -> None:
        with computing_by(synced(norms[rank], gather)):
            outs[rank] = norms[rank](shares[rank])
        (outs[rank] * torch.tensor_split(weight, 3)[rank]).sum().backward()

    in_threads([lambda gather, rank=rank: work(rank, gather) for rank in range(3)])
    torch.testing.assert_close(torch.cat(outs), whole_out, rtol=1e-5, atol=2e-5)
    assert x.grad is not None
    gradients = [share.grad for share in shares if share.grad is not None]
    torch.testing.assert_close(torch.cat(gradients), x.grad, rtol=1e-4, atol=2e-5)
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        for norm in norms:
            torch.testing.assert_close(norm.get_buffer(name), whole.get_buffer(name), rtol=1e-5, atol=1e-5)
    for name, parameter in whole.named_parameters():
        assert parameter.grad is not None
        summed = sum((norm.get_parameter(name).grad for norm in norms), torch.zeros(5))
        torch.testing.assert_close(summed, parameter.grad, rtol=1e-4, atol=1e-4)
    x = torch.randn(*shape)
    with computing_by(synced(norms[0], lambda _: pytest.fail("in evaluation nothing is exchanged"))):
        assert torch.equal(norms[0].eval()(x), type(norms[0]).forward(norms[0], x))


# ---------------------------------------------------------------------------------------------------- two processes


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Session, list[Step], list[dict[str, Any]]]:
    return trained("alone", TOGETHER | {"runs": tmp_path_factory.mktemp("alone")})


def test_two_processes_train_as_one_does(alone: tuple[Session, list[Step], list[dict[str, Any]]]) -> None:
    """Batches of 17 in shares of 9 and 8, three parts each: losses, accuracies, rates, and what is written."""
    before, hook = children(), sys.excepthook
    session, steps, rows = trained("together", TOGETHER | {"accumulate": 1, "processes": 2})
    assert (children(), sys.excepthook, dist.is_initialized()) == (before, hook, False)
    _, expected, expected_rows = alone
    assert [(s.epoch, s.step, s.images, s.lr) for s in steps] == [(s.epoch, s.step, s.images, s.lr) for s in expected]
    assert apart([s.loss for s in steps], [s.loss for s in expected]) < 1e-5
    for row, wanted in zip(rows, expected_rows, strict=True):
        assert row["train_top1"] == wanted["train_top1"]
        assert row["val_n"] == wanted["val_n"]
        assert row["val_loss"] == pytest.approx(wanted["val_loss"], rel=1e-4)
    scores = logits(session.state.network, session.dataset.images, session.dataset.preprocess, session.validation)
    labels = torch.from_numpy(session.dataset.labels[session.validation])
    assert metrics.cross_entropy(scores, labels) == rows[-1]["val_loss"], "a share of the validation has other bits"
    written = {path.relative_to(session.run.folder).as_posix() for path in session.run.folder.rglob("*")}
    assert written == {path.relative_to(alone[0].run.folder).as_posix() for path in alone[0].run.folder.rglob("*")}


def test_a_killed_process_is_named_and_the_run_goes_on_with_another_number_of_them(
    alone: tuple[Session, list[Step], list[dict[str, Any]]],
) -> None:
    session = convscope.prepare_training("shapes", name="cut", processes=2, **TOGETHER)
    before = children()
    with pytest.raises(LostRank, match=r"rank 1 of 2 was lost: .*SIGKILL.*; go on with: .*--resume") as caught:
        for event in session.events():
            if isinstance(event, Step) and event.epoch == 2 and event.step == 3:
                (follower,) = children() - before
                os.kill(follower, signal.SIGKILL)
    assert caught.value.exit_code == 69
    assert "--processes 2" in str(caught.value)
    assert (children(), dist.is_initialized()) == (before, False)
    resumed = convscope.train("shapes", name="cut", resume=True, device="cpu")
    assert any("begun by 2 processes and resumed by 1" in note for note in resumed.notes)
    for row, wanted in zip(resumed.run.log(), alone[0].run.log(), strict=True):
        assert row["train_loss"] == pytest.approx(wanted["train_loss"], rel=1e-5)


def test_data_that_differ_between_processes_are_told_with_the_rank(shapes_folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    subprocess.run(["cp", "-r", str(shapes_folder), str(other)], check=True)
    next(path for path in sorted(other.rglob("*.png"))).unlink()
    session = convscope.prepare_training(shapes_folder, name="r", processes=2, width=4, epochs=1, device="cpu")
    session.asked = {**session.asked, "data": str(other)}
    with pytest.raises(LostRank, match=r"rank 1 of 2 stopped: the data of rank 1 are not those of rank 0: class") as it:
        list(session.events())
    assert it.value.exit_code == DataError.exit_code
    assert not checkpoints(session.run)


def test_a_process_that_dies_at_its_start_is_told_with_its_last_words() -> None:
    session = convscope.prepare_training("shapes", name="r", processes=2, **SMALL)
    session.asked = {"nobody knows this": 1}
    began = time.monotonic()
    with pytest.raises(LostRank, match=r"rank 1 of 2 was lost at its start: it ended with exit code 1, .*unexpected"):
        list(session.events())
    assert time.monotonic() - began < 50, "the deadline is no way to find out"


# --------------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("environment", "options", "said"),
    [
        ({}, {"processes": 0}, "`processes` 0 is no number of processes"),
        ({}, {"processes": 99999}, "from 1 to 1,024"),
        ({}, {"processes": 2, "memory": 1.0}, "`memory` is settled for one process"),
        ({}, {"processes": 2, "sync_batch_norm": True, "compile": True}, "`compile` or `sync_batch_norm`"),
        ({"CONVSCOPE_DEADLINE": "soon"}, {"processes": 2}, "CONVSCOPE_DEADLINE=soon is no number of seconds"),
        ({"RANK": "0", "WORLD_SIZE": "2"}, {"processes": 2}, "2 processes were started already"),
        ({"RANK": "7", "WORLD_SIZE": "2"}, {}, "RANK=7 and WORLD_SIZE=2 name no process"),
        ({"RANK": "x", "WORLD_SIZE": "2"}, {}, "RANK=x is no number"),
        ({"RANK": "0", "WORLD_SIZE": "2"}, {"seeds": 2}, "torchrun's processes train once"),
        ({"RANK": "1", "WORLD_SIZE": "2", "MASTER_PORT": "1"}, {}, "rank 1 of 2 does not reach 127.0.0.1:1"),
    ],
)
def test_what_cannot_be_is_told_in_a_sentence(
    environment: dict[str, str], options: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "9"} if "RANK" in environment else {}
    for name, value in (place | {"CONVSCOPE_DEADLINE": "1"} | environment).items():
        monkeypatch.setenv(name, value)
    train = convscope.train_repeatedly if "seeds" in options else convscope.train
    with pytest.raises(ConvscopeError) as caught:
        if "CONVSCOPE_DEADLINE" in environment:
            deadline()
        train("shapes", limit=60, width=4, epochs=1, device="cpu", **options)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("rank", "answer", "said"),
    [
        ("0", None, "another program has that port"),
        ("1", b"HTTP/1.1 400\r\n", "what answers there is no process of this"),
    ],
)
def test_where_another_program_answers_they_do_not_meet(
    rank: str, answer: bytes | None, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        words = {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "RANK": rank,
            "WORLD_SIZE": "2",
            "LOCAL_RANK": rank,
        }
        for name, value in (words | {"CONVSCOPE_DEADLINE": "5"}).items():
            monkeypatch.setenv(name, value)

        def speak() -> None:
            with contextlib.suppress(OSError):
                while True:
                    talk, _ = other.accept()
                    talk.recv(100)
                    talk.sendall(answer or b"")
                    talk.close()

        threading.Thread(target=speak, daemon=True).start()
        with pytest.raises(LostRank, match=f"^rank {rank} of 2 does not reach 127.0.0.1:{port}.*: {said}") as caught:
            find_launch(None)
    assert "\n" not in str(caught.value)


def test_a_deadline_that_is_none_is_refused_before_there_is_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONVSCOPE_DEADLINE", "soon")
    with pytest.raises(UsageError, match="CONVSCOPE_DEADLINE=soon"):
        convscope.train("shapes", limit=60, width=4, epochs=1, device="cpu", runs=tmp_path / "runs", processes=2)
    assert not (tmp_path / "runs").exists()


def test_what_goes_on_is_told_with_as_many_processes() -> None:
    command = "convscope train x --name r --resume"
    assert in_processes(command, 1) == in_processes(command, 1, by_torchrun=True) == command
    assert in_processes(command, 3) == f"{command} --processes 3"
    assert in_processes(command, 3, by_torchrun=True) == f"torchrun --nproc-per-node 3 -m {command}"


def test_one_process_is_none_of_many(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_launch(None) is None
    assert find_launch(1) is None
    for name, value in zip(LAUNCHED, ("0", "1", "127.0.0.1", "9"), strict=True):
        monkeypatch.setenv(name, value)
    assert find_launch(None) is None


def test_whoever_is_silent_for_too_long_is_named() -> None:
    store = dist.HashStore()
    board = Board(store, 0, 3, patience=0.3)
    board.say("p/here/1", "nonce")
    with pytest.raises(LostRank, match=r"rank 2 of 3 was not heard of for 0.3 s: .* CONVSCOPE_DEADLINE"):
        board.wait({1: "p/here/1", 2: "p/here/2"}, "p")
    board.say("p/stopped/1", {"sentence": "the disk is full.", "code": 74})
    with pytest.raises(LostRank, match=r"rank 1 of 3 stopped: the disk is full\.$") as caught:
        board.wait({2: "p/here/2"}, "p")
    assert caught.value.exit_code == 74


@pytest.mark.parametrize(
    ("error", "sentence", "code"),
    [
        (DataError("no labels for 3 keys."), "no labels for 3 keys.", 65),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore"), "does not fit in memory", 71),
        (
            RuntimeError("CUDA error: device lost\nCUDA kernel errors might be"),
            "RuntimeError CUDA error: device lost",
            1,
        ),
        (KeyboardInterrupt(), "KeyboardInterrupt", 1),
    ],
)
def test_what_ends_a_process_is_left_for_the_others_in_one_line(error: BaseException, sentence: str, code: int) -> None:
    board = Board(dist.HashStore(), 1, 2, patience=1.0)
    with pytest.raises(type(error)), telling(board, "p"):
        raise error
    left = board.said("p/stopped/1")
    assert sentence in left["sentence"]
    assert "\n" not in left["sentence"]
    assert left["code"] == code


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="only Linux tells what listens")
def test_processes_of_this_machine_meet_where_no_other_machine_comes() -> None:
    store = launching._own_store(20.0)
    rows = [line.split() for path in ("tcp", "tcp6") for line in Path("/proc/net", path).read_text().splitlines()]
    listening = [row[1] for row in rows if row[3] == "0A" and row[1].endswith(f":{store.port:04X}")]
    assert listening == [f"0100007F:{store.port:04X}"]  # 127.0.0.1, its bytes turned round
    store.set("here", "yes")
    assert store.get("here") == b"yes"


def test_the_recipe_says_how_batches_are_computed() -> None:
    recipe = Recipe().with_options({"accumulate": 4, "sync_batch_norm": True})
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    older = {name: fields for name, fields in recipe.to_dict().items() if name != "parts"}
    assert Recipe.from_dict(older).parts == Recipe().parts
    assert recipe.augment != Augment()


# ------------------------------------------------------------------------------------------------------------- slow


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"batch_norm": False},
        {"sync_batch_norm": True, "ema": 0.9},
        {"batch_norm": False, "accumulate": 3, "save_memory": True, "balance": True},
    ],
    ids=["without norms", "synchronised norms", "parts"],
)
def test_fifty_steps_of_two_processes_are_those_of_one(options: dict[str, Any]) -> None:
    same = SMALL | {"limit": 400, "epochs": 3, "dropout": 0.0, "augment": "strong"} | options
    _, one, _ = trained("one", {**same, "accumulate": None})
    _, two, _ = trained("two", {**same, "processes": 2})
    assert len(one) >= 50
    assert apart([s.loss for s in two][:50], [s.loss for s in one][:50]) < 1e-5


@pytest.mark.slow
def test_a_process_that_hangs_is_named_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVSCOPE_DEADLINE", "8")
    session = convscope.prepare_training("shapes", name="r", processes=2, **(SMALL | {"epochs": 50}))
    before = children()
    with pytest.raises(LostRank, match="rank 1 of 2 was lost: it answers no more"):
        for event in session.events():
            if isinstance(event, Step) and event.step == 2:
                (follower,) = children() - before
                os.kill(follower, signal.SIGSTOP)
    assert children() == before


@pytest.mark.slow
@pytest.mark.parametrize("whom", ["first", "other"])
def test_a_signal_to_any_process_stops_all_with_everything_saved(whom: str) -> None:
    same = SMALL | {"epochs": 3}
    _, _, expected = trained("calm", {**same, "processes": 2})
    session = convscope.prepare_training("shapes", name="r", processes=2, **same)
    before = children()
    with pytest.raises(InterruptedRun, match=r"everything saved; go on with: .* --processes 2") as caught:
        for event in session.events():
            if isinstance(event, Step) and event.epoch == 2 and event.step == 2:
                (follower,) = children() - before
                os.kill(os.getpid() if whom == "first" else follower, signal.SIGTERM)
                time.sleep(0.5)
    assert caught.value.exit_code == 143
    assert children() == before
    resumed = convscope.train("shapes", name="r", resume=True, processes=2, device="cpu")
    assert resumed.run.log() == Run(session.run.folder.parent / "calm").log()
    assert len(expected) == 3


@pytest.mark.slow
def test_two_processes_diverge_in_one_sentence() -> None:
    session = convscope.prepare_training("shapes", name="r", processes=2, **(SMALL | {"lr": 1e9, "clip": 0.0}))
    with pytest.raises(DivergedError, match=r"all 1\d images are in") as caught:
        list(session.events())
    assert caught.value.exit_code == 76


def run_of(arguments: list[str], folder: Path, **options: Any) -> subprocess.Popen[str]:
    environment = {**os.environ, "CONVSCOPE_RUNS": str(folder), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


@pytest.mark.slow
def test_a_worker_of_torchruns_that_is_killed_is_restarted_and_the_run_ends_as_if_undisturbed(tmp_path: Path) -> None:
    train = "-m convscope train shapes --limit 300 --epochs 5 --width 4 --dropout 0.2 --device cpu --json".split()
    calm = run_of([*TORCHRUN, *train], tmp_path / "calm")
    lines, words = calm.communicate(timeout=240)
    assert calm.returncode == 0, words
    assert len(lines.splitlines()) == 6, "each line is written once"
    cut = run_of([*TORCHRUN, "--max-restarts", "2", *train], tmp_path / "cut")
    assert cut.stdout is not None
    assert [cut.stdout.readline() for _ in range(2)]
    workers = Path(f"/proc/{cut.pid}/task/{cut.pid}/children").read_text().split()
    os.kill(int(workers[-1]), signal.SIGKILL)
    _, words = cut.communicate(timeout=240)
    assert cut.returncode == 0, words
    (one,), (other,) = (list((tmp_path / name).glob("*/log.jsonl")) for name in ("calm", "cut"))
    assert one.read_bytes() == other.read_bytes()


@pytest.mark.slow
def test_a_script_without_a_guard_trains_once(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import convscope\nprint('begun', flush=True)\n"
        "report = convscope.train('shapes', limit=100, width=4, epochs=1, processes=2, device='cpu')\n"
        "print(report.summary['epochs'])\n"
    )
    lines, words = run_of([sys.executable, str(script)], tmp_path / "runs").communicate(timeout=200)
    assert lines.split() == ["begun", "1"], words


@pytest.mark.slow
def test_torchruns_processes_of_a_script_have_the_same_report(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import convscope\n"
        "for epochs in (1, 2):\n"
        "    report = convscope.train('shapes', limit=100, width=4, epochs=epochs, device='cpu')\n"
        "    print(report.run.name, report.summary['epochs'], flush=True)\n"
    )
    lines, words = run_of([*TORCHRUN, str(script)], tmp_path / "runs").communicate(timeout=240)
    assert sorted(lines.split("\n")) == sorted(["", *2 * ["shapes-alexnet-1 1", "shapes-alexnet-2 2"]]), words


@pytest.mark.slow
def test_when_the_first_process_is_killed_the_others_end(tmp_path: Path) -> None:
    typed = "-m convscope train shapes --limit 300 --epochs 200 --width 4 --processes 2 --device cpu --json".split()
    first = run_of([sys.executable, *typed], tmp_path)
    assert first.stdout is not None
    assert first.stdout.readline()
    others = [int(p) for p in _every_child(first.pid)]
    assert others
    first.kill()
    first.communicate(timeout=30)
    until = time.monotonic() + 60
    while any(_runs(pid) for pid in others):
        assert time.monotonic() < until, "a process is left that trains for nobody"
        time.sleep(0.2)


def _every_child(pid: int) -> Iterator[str]:
    for task in Path(f"/proc/{pid}/task").iterdir():
        yield from (task / "children").read_text().split()


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
