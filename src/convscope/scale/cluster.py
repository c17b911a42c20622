"""Workers on a cluster, by Ray Data: actors hold what a work begins with, and do its blocks.

Ray Data hands the blocks out and gives the results back in their order. Where a worker's process is lost, another one
begins and computes its blocks again. What the work raises is a result like any other, so that it is told as it would
be here; nothing is tried again but what was lost.
"""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from ..errors import ConvscopeError, DataError, MemoryExhausted, UnreachableError, UsageError, one_line
from ..progress import Progress
from ..workers import Work
from .nodes import check_nodes
from .starting import connected, library, silent

R = TypeVar("R")
LIVES = 3  # times that a worker begins anew, and that a block is computed again, before that is no accident
OWN_CODE = "_convscope_own_"  # modules of a user's own network: no worker can import them, so they are sent


@dataclass(frozen=True)
class Sent:
    """A result on its way: what the work returned or raised, and a file that the worker could not see."""

    number: int
    value: Any
    error: Exception | None
    unseen: str | None
    node: str


class Cluster:
    """`Workers` of a Ray that is connected; ``where`` is that in words."""

    def __init__(self, ray: Any, where: str, count: int) -> None:
        self.ray, self.where, self.count = ray, where, count

    def each(self, work: Work[R], blocks: Sequence[np.ndarray]) -> Iterator[R]:
        """The results of the blocks, in their order."""
        if not blocks:
            return
        self._check_accelerators(work)
        rows = [np.concatenate([[number], block]).astype(np.int64) for number, block in enumerate(blocks)]
        self._send_own_code()
        held = self.ray.put(work)  # alive here as long as a worker may begin anew
        with silent(), self._ordered(), self._told():
            data = self.ray.data.from_numpy([row[None] for row in rows])
            done = self._spread(data, min(self.count, len(rows)), held, work.on_accelerator)
            for row in done.iter_rows():
                yield self._received(row["sent"])

    def _spread(self, blocks: Any, count: int, held: Any, on_accelerator: bool) -> Any:
        """The blocks as Ray Data will do them: by ``count`` workers, each of which may be lost some times."""
        with (
            warnings.catch_warnings()
        ):  # Ray warns of its one way to bound that; it ends with 2.64, as pyproject.toml has
            warnings.simplefilter("ignore")
            return blocks.map_batches(
                _actor(),
                fn_constructor_kwargs={"held": [held]},
                batch_size=None,
                compute=self.ray.data.ActorPoolStrategy(size=count),
                num_cpus=1,
                num_gpus=1 if on_accelerator else 0,
                max_restarts=LIVES,
                max_task_retries=LIVES,
            )

    def _received(self, sent: Sent) -> Any:
        if sent.unseen is not None and os.path.exists(sent.unseen):
            raise DataError(
                f"{sent.unseen} is here, but not on the worker at {sent.node}: put the images where each machine of "
                "the cluster sees them under the same path."
            )
        if sent.error is not None:
            raise sent.error
        return sent.value

    def _check_accelerators(self, work: Work[Any]) -> None:
        there = int(self.ray.cluster_resources().get("GPU", 0))
        if work.on_accelerator and not there:
            raise UsageError(f"{self.where} has no GPU: --device cpu.")
        if work.on_accelerator and there < self.count:
            raise UsageError(f"{self.where} has {there} GPUs for {self.count} workers: --workers {there}.")

    def _send_own_code(self) -> None:
        for name, module in list(sys.modules.items()):
            if name.startswith(OWN_CODE):
                self.ray.cloudpickle.register_pickle_by_value(module)

    @contextmanager
    def _ordered(self) -> Iterator[None]:
        """A with-block in which Ray Data gives results in order, and shows nothing."""
        context = self.ray.data.DataContext.get_current()
        options = context.execution_options
        before = (options.preserve_order, context.enable_progress_bars)
        options.preserve_order, context.enable_progress_bars = True, False
        try:
            yield
        finally:
            options.preserve_order, context.enable_progress_bars = before

    @contextmanager
    def _told(self) -> Iterator[None]:
        """A with-block in which what Ray raises is told in a sentence."""
        try:
            yield
        except ConvscopeError:
            raise
        except Exception as error:
            raise self._sentence(error) from error

    def _sentence(self, error: Exception) -> Exception:
        words, exceptions = str(error), self.ray.exceptions
        if "OutOfMemory" in type(error).__name__ or "OutOfMemory" in words or "memory usage threshold" in words:
            return MemoryExhausted(
                f"workers on {self.where} ran out of memory {LIVES + 1} times: take fewer of them with --workers, or "
                "machines with more."
            )
        if isinstance(error, exceptions.RayError) or "ray" in type(error).__module__:
            return UnreachableError(f"the workers on {self.where} were lost {LIVES + 1} times over: {one_line(error)}.")
        return error


def _actor() -> type:
    """The class of workers. It is made here so that it is sent with its code, and imports nothing before it runs."""

    class Worker:
        def __init__(self, held: list[Any]) -> None:
            self.held, self.work, self.act = held[0], None, None

        def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
            import importlib

            import numpy
            import ray

            row = batch["data"][0]
            if self.work is None:
                self.work = ray.get(self.held)
            sent_by = importlib.import_module("convscope.scale.cluster").sent_by
            self.act, sent = sent_by(self.work, self.act, int(row[0]), row[1:])
            column = numpy.empty(1, object)
            column[0] = sent
            return {"sent": column}

    return Worker


def sent_by(
    work: Work[R], act: Callable[[np.ndarray], R] | None, number: int, block: np.ndarray
) -> tuple[Callable[[np.ndarray], R] | None, Sent]:
    """Do one block in a worker: what it does blocks by, made ready the first time, and the result."""
    node = importlib.import_module("ray").util.get_node_ip_address()
    unseen = next((path for path in work.files(block) if not os.path.exists(path)), None)
    try:
        act = act or work.begin()
        return act, Sent(number, act(block), None, unseen, node)
    except Exception as error:
        return act, Sent(number, None, _sendable(error), unseen, node)


def _sendable(error: Exception) -> Exception:
    """An error without what it came from; of a kind that cannot be sent, what it says."""
    error.__cause__ = error.__context__ = None
    try:
        cloudpickle = importlib.import_module("ray.cloudpickle")
        cloudpickle.loads(cloudpickle.dumps(error))
    except Exception:  # whatever the pickling of a foreign kind raises
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error.with_traceback(None)


@contextmanager
def hire(workers: int | None, address: str | None, progress: Progress | None) -> Iterator[Cluster]:
    """A with-block that has workers, here or on a cluster; whatever was started for it is gone afterwards."""
    ray = library()
    if progress:
        progress("starting workers", 0, 1)
    with silent(), connected(ray, address, workers or _processors()) as where:
        count = check_nodes(ray, where, workers)
        if progress:
            progress("the first results", 0, 1)
        yield Cluster(ray, where, count)


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
