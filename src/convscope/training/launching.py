"""How the processes of a training begin: started here (``--processes``), or each by torchrun on its own.

The first one, rank 0, plans and writes as a training of one process does. The others are told by it what is trained;
those that are started here are ``python -m convscope.training.following``, which runs nothing of the user's program, so
that a script needs no guard.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import IO, Any

import torch
import torch.distributed as dist

from ..errors import UsageError, one_line
from ..machine import pick_device
from ..processes import is_launched
from .ranks import Board, LostRank, Team, deadline, ended_by, joined, telling

MOST = 1024  # processes
LEAVING = 30.0  # seconds that the others have to end, when the training is over


@dataclass
class Launch:
    """The processes that a training has, before it begins: ``size`` of them, of which this is ``rank``.

    ``local`` is this one's number on its machine. Without a ``board`` the others are still to be started here.
    """

    size: int
    rank: int = 0
    local: int = 0
    board: Board | None = None
    call: int = field(default=1, repr=False)  # which of the trainings of this program it is

    @property
    def follows(self) -> bool:
        """Whether another process plans and writes."""
        return self.rank > 0

    def begun_before(self) -> Path | None:
        """The run that this very training began before torchrun started its processes again; None where it did not."""
        begun = None if self.board is None else self.board.said(f"runs/{self.call}")
        return None if begun is None else Path(begun)

    def note_run(self, folder: Path) -> None:
        """Note the run, for processes that are started again."""
        if self.board is not None:
            self.board.say(f"runs/{self.call}", str(folder.resolve()))

    def end(self) -> Any:
        """What came of the training, once the first process has written it."""
        assert self.board is not None
        return self.board.wait({0: f"over/{self.call}"}, f"over/{self.call}/told")[0]

    def note_end(self, summary: Mapping[str, Any]) -> None:
        """Tell the others that all is written, and what came of it."""
        if self.board is not None:
            self.board.say(f"over/{self.call}", dict(summary))


def find_launch(processes: int | None) -> Launch | None:
    """The processes that were asked for, or that torchrun started; None for one. UsageError for what cannot be."""
    if processes is not None and not 1 <= processes <= MOST:
        raise UsageError(f"--processes {processes} is no number of processes: from 1 to {MOST:,}.")
    if not is_launched():
        if processes in (None, 1):
            return None
        deadline()  # refused now, and not once there is a run
        return Launch(processes or 1)
    if processes is not None:
        count = os.environ["WORLD_SIZE"]
        raise UsageError(f"{count} processes were started already, by torchrun: leave out --processes.")
    numbers = {name: _number(name) for name in ("RANK", "WORLD_SIZE", "MASTER_PORT", "LOCAL_RANK")}
    rank, size, local = numbers["RANK"], numbers["WORLD_SIZE"], numbers["LOCAL_RANK"]
    if not rank < size <= MOST:
        raise UsageError(f"RANK={rank} and WORLD_SIZE={size} name no process: ranks are 0 to WORLD_SIZE - 1.")
    host, port, patience = os.environ["MASTER_ADDR"], numbers["MASTER_PORT"], deadline()
    own = rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    try:
        store = dist.TCPStore(
            host, port, is_master=own, wait_for_workers=False, timeout=timedelta(seconds=patience)
        )  # fmt: skip
    except (RuntimeError, ValueError) as error:
        raise LostRank(
            f"rank {rank} of {size} does not reach {host}:{port}, where they are to meet: {_why(error)}."
        ) from None
    board = Board(dist.PrefixStore("convscope", store), rank, size, patience)
    return Launch(size, rank, local, board, board.count(f"calls/{socket.gethostname()}-{os.getpid()}"))


def _why(error: Exception) -> str:
    """Why there is no meeting place, in words."""
    said = one_line(str(error).partition("\n")[0])
    if "EADDRINUSE" in said:
        return "another program has that port"
    return "what answers there is no process of this training" if "Ping failed" in said else said


def _number(name: str) -> int:
    text = os.environ.get(name, "0")
    if not text.isascii() or not text.isdecimal() or len(text) > 9:
        raise UsageError(f"{name}={text} is no number: torchrun sets it; take it out of the environment otherwise.")
    return int(text)


def local_device(name: str, launch: Launch | None) -> torch.device:
    """The device that a process of a launch computes on: on machines with GPUs each process has one of its own."""
    device = pick_device(name)
    if launch is None or launch.size == 1 or device.type == "cpu":
        return device
    if device.type != "cuda":
        raise UsageError(f"processes cannot train together on {device.type}: --device cpu or cuda.")
    here = launch.size if launch.board is None else _number("LOCAL_WORLD_SIZE") or 1
    if here > torch.cuda.device_count():
        raise UsageError(f"{here} processes want a GPU each, and this machine has {torch.cuda.device_count()}.")
    torch.cuda.set_device(launch.local)
    return torch.device("cuda", launch.local)


# --------------------------------------------------------------------------------------------------------- the others


class Followers:
    """The processes that were started here, and how they ended."""

    def __init__(self, size: int, port: int, asked: Mapping[str, Any]) -> None:
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._words: dict[int, IO[bytes]] = {}
        try:
            for rank in range(1, size):
                self._words[rank] = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
                self._processes[rank] = subprocess.Popen(
                    [sys.executable, "-m", "convscope.training.following", json.dumps(dict(asked))],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=self._words[rank],
                    env=_environment(rank, size, port),
                    start_new_session=True,  # Ctrl-C is for the first process, which tells the others
                )
        except OSError:
            self.end(0.0)
            raise

    def fate(self, rank: int) -> str | None:
        """How a process ended, and its last words; None while it runs."""
        process = self._processes.get(rank)
        code = None if process is None else process.poll()
        if code is None:
            return None
        words = self._words[rank]
        words.seek(0)
        lines = words.read().decode("utf-8", "backslashreplace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return ended_by(code) + (f", with the words: {last[:300]}" if last and code > 0 else "")

    def end(self, patience: float) -> None:
        """Wait so many seconds for the processes, and end those that are left."""
        for process in self._processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(patience)
        for process in self._processes.values():
            if process.poll() is None:
                process.kill()
                process.wait()
        for words in self._words.values():
            words.close()


def _environment(rank: int, size: int, port: int) -> dict[str, str]:
    """What a process started here finds: its place among the others, its threads, and this same package."""
    source = str(Path(__file__).resolve().parents[2])
    paths = [source, *filter(None, [os.environ.get("PYTHONPATH")])]
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size, "MASTER_PORT": port}
    return {
        **os.environ,
        **{name: str(value) for name, value in place.items()},
        "MASTER_ADDR": "127.0.0.1",
        "TORCHELASTIC_USE_AGENT_STORE": "True",  # the first process has the store, as an agent would
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(_threads(size))),
        "PYTHONPATH": os.pathsep.join(paths),
    }


def _threads(size: int) -> int:
    return max(1, torch.get_num_threads() // size)


@contextlib.contextmanager
def _fewer_threads(size: int) -> Iterator[None]:
    """A with-block in which this process leaves the others their part of the processors."""
    before = torch.get_num_threads()
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(_threads(size))
    try:
        yield
    finally:
        torch.set_num_threads(before)


# ---------------------------------------------------------------------------------------------------------- the first


@contextlib.contextmanager
def leading(launch: Launch, asked: Mapping[str, Any], told: Mapping[str, Any], device: torch.device) -> Iterator[Team]:
    """A with-block of the first process in which all train together.

    ``asked`` is what those are given that are started here, ``told`` what all are told once they are there. LostRank
    where one stops, or does not come.
    """
    with contextlib.ExitStack() as stack:
        board, place = launch.board, secrets.token_hex(8)
        if board is None:
            patience = deadline()
            store = _own_store(patience)
            followers = Followers(launch.size, store.port, asked)
            ended = stack.enter_context(_ending(followers))
            board = Board(dist.PrefixStore("convscope", store), 0, launch.size, patience, followers.fate)
            stack.enter_context(_fewer_threads(launch.size))
        else:
            ended = []
        stack.enter_context(telling(board, place))
        board.say("place", place)
        others = range(1, launch.size)
        nonces = board.wait({rank: f"{place}/here/{rank}" for rank in others}, place)
        board.say(f"{place}/told", {**told, "loopback": launch.board is None})
        for nonce in nonces.values():
            board.say(f"{place}/welcome/{nonce}", True)
        board.wait({rank: f"{place}/ready/{rank}" for rank in others}, place)
        board.say(f"{place}/begin", True)
        yield stack.enter_context(joined(board, place, device, loopback=launch.board is None))
        ended.append(True)


def _own_store(patience: float) -> dist.TCPStore:
    """Where processes of this machine meet. Torch alone would listen to the whole network."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(MOST)
        port, waiting = listening.getsockname()[1], timedelta(seconds=patience)
        return dist.TCPStore(
            "127.0.0.1", port, is_master=True, wait_for_workers=False, timeout=waiting,
            master_listen_fd=listening.detach(),
        )  # fmt: skip


@contextlib.contextmanager
def _ending(followers: Followers) -> Iterator[list[bool]]:
    """A with-block that ends the processes: with patience where its list says that the training came to its end."""
    ended: list[bool] = []
    try:
        yield ended
    finally:
        followers.end(LEAVING if ended else 1.0)
