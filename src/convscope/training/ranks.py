"""The processes that train together: what they sum, tell one another, and what is said of one that is lost.

Each computes its share of every batch; then gradients, and a few numbers, are summed once an update, and all take the
same step. This is a plain sum after the backward pass and not torch's DistributedDataParallel: that weighs processes
and not images, so a batch whose shares differ by one, weights of classes or mixed labels would need a second exchange
before it; and it hooks into a network whose layers are replaced here by faster ones, recomputed ones and watched ones.
What it would gain, exchanging while the backward pass still runs, is told in docs/processes.md by measurement.

Nobody waits for ever: every exchange has a deadline. Nothing is pickled: numbers and JSON alone are exchanged.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ..errors import ConvscopeError, MemoryExhausted, UnreachableError, UsageError

DEADLINE = 300.0  # seconds that one process waits for another, in any exchange
VARIABLE = "CONVSCOPE_DEADLINE"  # in the environment: other seconds
ROLL_CALL = 3.0  # seconds in which those that are left say so
BUCKET = 1 << 23  # numbers that are summed in one go
LOOK = 0.05  # seconds between two looks at what the others have said
BACKENDS = {"cpu": "gloo", "cuda": "cpu:gloo,cuda:nccl"}

Fate = Callable[[int], str | None]  # how a process ended, in words; None while it runs, or where that is not known


class LostRank(UnreachableError):
    """A process of a training is gone, stopped, or was not heard of in time; ``exit_code`` is its own, if it told."""

    def __init__(self, message: str, exit_code: int | None = None, first: bool = False) -> None:
        super().__init__(message)
        self.first = first  # whether the process is lost that tells the user what happens
        self.exit_code = UnreachableError.exit_code if exit_code is None else exit_code


def deadline() -> float:
    """Seconds that one process waits for another; UsageError where the environment says what is no time."""
    said = os.environ.get(VARIABLE)
    try:
        seconds = DEADLINE if not said else float(said)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 86_400:
        raise UsageError(f"{VARIABLE}={said} is no number of seconds to wait for another process.")
    return seconds


@dataclass
class Board:
    """Where the processes of one training leave short notes for one another, before and beside their exchanges.

    ``store`` is torch's; whoever holds it is the first process, or torchrun. ``patience`` is the deadline in seconds.
    """

    store: Any
    rank: int
    size: int
    patience: float
    fate: Fate = lambda _: None

    def say(self, key: str, value: Any) -> None:
        """Leave a note: a JSON value."""
        with self._reaching():
            self.store.set(key, json.dumps(value))

    def said(self, key: str) -> Any:
        """The note of that name, or None where there is none yet."""
        with self._reaching():
            return json.loads(self.store.get(key)) if self.store.check([key]) else None

    def count(self, key: str) -> int:
        """How often this was asked of that name, this time among them."""
        with self._reaching():
            return self.store.add(key, 1)

    @contextlib.contextmanager
    def _reaching(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError:
            what = "the first process (rank 0), or torchrun, cannot be reached any more"
            raise LostRank(f"rank {self.rank} stopped: {what}.", first=True) from None

    def lost(self, place: str, reason: str) -> LostRank:
        """Say which process is gone, after an exchange failed at ``place``: who told why, or who answers no more."""
        told = self._told(place)
        if told is not None:
            return told
        self.say(f"{place}/left/{self.rank}", True)
        until = time.monotonic() + ROLL_CALL
        gone = [r for r in range(self.size) if r != self.rank]
        while gone and time.monotonic() < until:
            time.sleep(LOOK)
            told = self._told(place)
            if told is not None:
                return told
            gone = [r for r in gone if not self.said(f"{place}/left/{r}")]
        if not gone:
            return LostRank(f"the {self.size} processes of this training lost one another: {reason}.")
        fates = [f"rank {r} of {self.size} was lost: {self.fate(r) or 'it answers no more'}" for r in gone]
        return LostRank(f"{'; '.join(fates)}.", first=0 in gone)

    def _told(self, place: str) -> LostRank | None:
        """What some process said before it stopped."""
        for rank in range(self.size):
            told = None if rank == self.rank else self.said(f"{place}/stopped/{rank}")
            if told is not None:
                sentence = str(told["sentence"]).rstrip(".")
                return LostRank(f"rank {rank} of {self.size} stopped: {sentence}.", told["code"])
        return None

    def wait(self, keys: dict[int, str], place: str) -> dict[int, Any]:
        """The notes that the processes of ``keys`` leave there; LostRank for one that stopped, or is silent too long.

        A process that still works says so by counting at its "moves", and is waited for.
        """
        found: dict[int, Any] = {}
        heard = {rank: (-1, time.monotonic()) for rank in keys}
        while len(found) < len(keys):
            for rank, key in keys.items():
                note = None if rank in found else self.said(key)
                if note is not None:
                    found[rank] = note
            told = self._told(place)
            if told is not None:
                raise told
            for rank in keys.keys() - found.keys():
                heard[rank] = self._still_there(rank, heard[rank], place)
            time.sleep(LOOK)
        return found

    def _still_there(self, rank: int, heard: tuple[int, float], place: str) -> tuple[int, float]:
        """How often a process that is waited for has moved, and when it did last; LostRank where it ended."""
        fate = self.fate(rank)
        if fate is not None:
            raise self._told(place) or LostRank(f"rank {rank} of {self.size} was lost at its start: {fate}.")
        moves = self.store.add(f"{place}/moves/{rank}", 0)
        if moves != heard[0]:
            return moves, time.monotonic()
        if time.monotonic() - heard[1] > self.patience:
            raise LostRank(
                f"rank {rank} of {self.size} was not heard of for {self.patience:g} s: see whether it runs, or give it "
                f"longer by {VARIABLE}."
            )
        return heard


@dataclass
class Team:
    """The processes of one training while it runs: this one's ``rank``, and how many there are.

    ``place`` is where on the board their notes are. ``asked`` says that this one was asked to stop, and ``stops`` that
    some process was, before the last update: then all of them stop after it.
    """

    board: Board
    place: str
    device: torch.device
    asked: Callable[[], bool] = lambda: False
    stops: bool = False
    exchanged: int = field(default=0)  # bytes that this process has handed over to be summed
    seconds: float = field(default=0.0)  # that went into it

    @property
    def rank(self) -> int:
        """Which of the processes this is; the first one, 0, is the one that writes."""
        return self.board.rank

    @property
    def size(self) -> int:
        """How many there are."""
        return self.board.size

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over all processes: the same bits on each of them."""
        start = time.perf_counter()
        with self._exchanging():
            under_way = []
            for bucket in _buckets(tensors):
                flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
                self.exchanged += flat.numel() * flat.element_size()
                under_way.append((bucket, flat, dist.all_reduce(flat, async_op=True)))
            for bucket, flat, work in under_way:
                work.wait()
                pieces = flat.split([tensor.numel() for tensor in bucket])
                for tensor, piece in zip(bucket, pieces, strict=True):
                    tensor.copy_(piece.view(tensor.shape))
        self.seconds += time.perf_counter() - start

    def gathered(self, values: Tensor) -> Tensor:
        """What each process holds, (size, *shape of values), the same on each."""
        with self._exchanging():
            all_values = [torch.empty_like(values) for _ in range(self.size)]
            dist.all_gather(all_values, values.contiguous())
        return torch.stack(all_values)

    def share(self, tensors: Sequence[Tensor], source: int = 0) -> None:
        """Replace each tensor by that of the process ``source``."""
        with self._exchanging():
            for tensor in tensors:
                whole = tensor.contiguous()
                dist.broadcast(whole.reshape(-1).view(torch.uint8), source)  # bytes: any kind of number
                if whole is not tensor:
                    tensor.copy_(whole)

    def agree(self, value: bool = False) -> bool:
        """What the first process says."""
        flag = torch.tensor([float(value)], device=self.device)
        self.share([flag])
        return bool(flag.item())

    @contextlib.contextmanager
    def _exchanging(self) -> Iterator[None]:
        """A with-block in which the failure of an exchange becomes LostRank."""
        try:
            yield
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            words = " ".join(str(error).split())[:200]
            raise self.board.lost(self.place, words) from None


@contextlib.contextmanager
def telling(board: Board, place: str) -> Iterator[None]:
    """A with-block; what ends it early is left on the board. That another one was lost is theirs to find out."""
    try:
        yield
    except LostRank:
        raise
    except (Exception, KeyboardInterrupt) as error:
        sentence, code = _said_of(error)
        with contextlib.suppress(Exception):
            board.say(f"{place}/stopped/{board.rank}", {"sentence": sentence, "code": code})
        raise


def _said_of(error: BaseException) -> tuple[str, int]:
    """A sentence about what ended a process, and its exit code."""
    if isinstance(error, ConvscopeError):
        return str(error), error.exit_code
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "not enough memory" in str(error):
        less = "take a smaller --batch-size, or --accumulate"
        return f"its work does not fit in memory: {less}", MemoryExhausted.exit_code
    words = (str(error).splitlines() or [""])[0][:200]
    return f"{type(error).__name__} {words}".strip(), 1


@contextlib.contextmanager
def joined(board: Board, place: str, device: torch.device, loopback: bool) -> Iterator[Team]:
    """A with-block in which the processes can exchange numbers. LostRank where they do not find one another."""
    if device.type not in BACKENDS:
        raise UsageError(f"processes cannot train together on {device.type}: --device cpu or cuda.")
    if dist.is_initialized():
        raise UsageError("this Python program has a process group of its own: end it before the training begins.")
    team, hook = Team(board, place, device), sys.excepthook  # which torch replaces
    if device.type == "cuda":  # else a lost process ends this one with a signal, and not with a sentence
        os.environ.setdefault("TORCH_NCCL_BLOCKING_WAIT", "1")
    try:
        with team._exchanging(), _interface("lo" if loopback and os.path.isdir("/sys/class/net/lo") else None):
            dist.init_process_group(
                BACKENDS[device.type],
                store=dist.PrefixStore(f"{place}/group", board.store),
                rank=board.rank,
                world_size=board.size,
                timeout=timedelta(seconds=board.patience),
            )
        yield team
    finally:
        sys.excepthook = hook
        if dist.is_initialized():
            with contextlib.suppress(Exception):  # of a group that has lost a process
                dist.destroy_process_group()


@contextlib.contextmanager
def _interface(name: str | None) -> Iterator[None]:
    """A with-block in which processes of one machine find one another on the loopback, unless the user has said how."""
    variable = "GLOO_SOCKET_IFNAME"
    if name is None or variable in os.environ:
        yield
        return
    os.environ[variable] = name
    try:
        yield
    finally:
        del os.environ[variable]


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """The tensors in order, as many together as are summed in one go."""
    bucket: list[Tensor] = []
    size = 0
    for tensor in tensors:
        if bucket and size + tensor.numel() > BUCKET:
            yield bucket
            bucket, size = [], 0
        bucket.append(tensor)
        size += tensor.numel()
    if bucket:
        yield bucket


def ended_by(code: int) -> str:
    """How a process ended, by its exit code, in words."""
    if code >= 0:
        return f"it ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = "unknown"
    memory = ", as the system does when memory runs out" if -code == getattr(signal, "SIGKILL", 9) else ""
    return f"it was ended by signal {-code} ({name}{memory})"
