"""Commands that the page's buttons run, one after another: in processes of their own, with progress and a way out."""

from __future__ import annotations

import inspect
import io
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from ..errors import UnknownName, UsageError
from ..evaluation.refusing import COVERAGE
from ..heartbeat import BEAT
from ..studies.registry import CLAIMS
from .served import Served
from .stepping import offered

COMMAND = [sys.executable, "-m", "convscope"]
KEPT = 50  # jobs that are over
PATIENCE = 10.0  # seconds after which a job that was cancelled is ended
_AT = re.compile(r"([\d,]+) of ([\d,]+)")


def _of_run(command: str, *more: str) -> Callable[..., list[str]]:
    return lambda served, run: [command, str(served.run(run).folder), "--runs", str(served.folder), *more]


def _doctor(served: Served, data: str) -> list[str]:
    known = offered(served)
    if data not in known:
        raise UnknownName("data", data, known)
    return ["doctor", known[data], "--runs", str(served.folder)]


def _study(served: Served, claim: str) -> list[str]:
    if claim not in CLAIMS:
        raise UnknownName("claim", claim, CLAIMS)
    return ["study", claim, "--size", "small", "--runs", str(served.folder)]


def _compare(served: Served, *runs: str) -> list[str]:
    if len(runs) < 2:
        raise UsageError("a comparison needs two runs or more.")
    return ["compare", *(str(served.run(run).folder) for run in runs), "--runs", str(served.folder)]


# What a button may run: the command's arguments, made of names that were looked up and of nothing else.
JOBS: dict[str, Callable[..., list[str]]] = {
    "evaluate": _of_run("evaluate"),
    "explain": _of_run("explain"),
    "diagnose": _of_run("diagnose"),
    "report": _of_run("report"),
    "know": _of_run("predict", "--coverage", str(COVERAGE)),
    "doctor": _doctor,
    "study": _study,
    "compare": _compare,
}


ASKS_AGAIN = ("know",)  # after which a page need not be loaded anew, and would lose the image it was given


def _blank() -> bytes:
    box = io.BytesIO()
    Image.new("RGB", (32, 32), "grey").save(box, "PNG")
    return box.getvalue()


# What a job is given on its standard input: what is familiar is found with the first image that is asked about.
GIVEN: dict[str, Callable[[], bytes]] = {"know": _blank}


@dataclass
class Job:
    """A command that was asked for: waiting, running, done, failed or cancelled; ``said`` is its last line."""

    number: int
    name: str
    subject: tuple[str, ...]
    arguments: list[str]
    state: str = "waiting"
    said: str = ""
    began: float = 0.0
    seconds: float = 0.0
    process: subprocess.Popen[str] | None = field(default=None, repr=False)
    cancelled: bool = False

    def shown(self) -> dict[str, Any]:
        """What the page shows of it; ``done`` and ``total`` where its last line says how far it is."""
        found = _AT.search(self.said)
        done, total = (int(n.replace(",", "")) for n in found.groups()) if found else (None, None)
        keys = ("number", "name", "state", "said")
        seconds = time.monotonic() - self.began if self.state == "running" else self.seconds
        told = {key: getattr(self, key) for key in keys}
        return {**told, "subject": list(self.subject), "done": done, "total": total, "seconds": seconds}


class Jobs:
    """The queue: one job runs at a time, for two would only share the processors."""

    def __init__(self, served: Served, data_root: Path | None = None) -> None:
        """Commands look for cifar10 in ``data_root``, if that is given."""
        self.served = served
        self._around = {} if data_root is None else {"CONVSCOPE_DATA": str(data_root.resolve())}
        self._jobs: dict[int, Job] = {}
        self._queue: deque[Job] = deque()
        self._lock = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False

    def start(self, name: str, *subject: str) -> Job:
        """Put a job in the queue; one that waits or runs already is returned.

        UnknownName for what is no job, UsageError for one about more or fewer things than it takes.
        """
        if name not in JOBS:
            raise UnknownName("job", name, JOBS)
        try:
            inspect.signature(JOBS[name]).bind(self.served, *subject)
        except TypeError:
            raise UsageError(f"{name} is about one thing, and {len(subject)} are named.") from None
        arguments = JOBS[name](self.served, *subject)
        with self._lock:
            for job in self._jobs.values():
                if job.arguments == arguments and job.state in ("waiting", "running"):
                    return job
            job = Job(max(self._jobs, default=0) + 1, name, subject, arguments)
            self._jobs[job.number] = job
            for old in [n for n, j in self._jobs.items() if j.state not in ("waiting", "running")][:-KEPT]:
                del self._jobs[old]
            self._queue.append(job)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="jobs", daemon=True)
                self._thread.start()
            self._lock.notify()
        return job

    def find(self, number: str) -> Job:
        """The job of that number. UnknownName where there is none."""
        job = self._jobs.get(int(number)) if number.isdecimal() and len(number) < 10 else None
        if job is None:
            raise UnknownName("job", number, map(str, self._jobs))
        return job

    def cancel(self, number: str) -> Job:
        """Stop a job by SIGTERM, as Ctrl-C would, so that what it has done is kept."""
        job = self.find(number)
        with self._lock:
            job.cancelled = True
            if job.state == "waiting":
                job.state = "cancelled"
        _interrupt(job)
        return job

    def close(self) -> None:
        """Stop all jobs and wait for the one that runs."""
        with self._lock:
            self._closed = True
            self._queue.clear()
            self._lock.notify()
        for job in list(self._jobs.values()):
            _interrupt(job)
        if self._thread is not None:
            self._thread.join(PATIENCE + 2)

    def _work(self) -> None:
        while True:
            with self._lock:
                while not self._queue and not self._closed:
                    self._lock.wait()
                if self._closed:
                    return
                job = self._queue.popleft()
                if job.cancelled:
                    continue
                job.state, job.began = "running", time.monotonic()
            code = _run(job, self._around)
            job.seconds = time.monotonic() - job.began
            job.state = "cancelled" if job.cancelled else "failed" if code else "done"


def _run(job: Job, around: Mapping[str, str]) -> int:
    """Run a job's command, and note the last line that it says; returns its exit code."""
    environment = {**os.environ, **around, BEAT: "1", "NO_COLOR": "1", "COLUMNS": "200"}
    with tempfile.TemporaryFile() as answers, tempfile.TemporaryFile() as given:
        given.write(GIVEN.get(job.name, bytes)())
        given.seek(0)
        job.process = subprocess.Popen(
            [*COMMAND, *job.arguments],
            stdin=given,
            stdout=answers,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=environment,
            cwd=Path.cwd(),
            start_new_session=True,
        )
        with job.process:
            if job.cancelled:
                _interrupt(job)
            assert job.process.stderr is not None
            for line in job.process.stderr:
                if line.strip():
                    job.said = line.strip().removeprefix("convscope: ")
        return job.process.returncode


def _interrupt(job: Job) -> None:
    process = job.process
    if process is None or process.poll() is not None:
        return
    process.send_signal(signal.SIGTERM)  # SIGINT is ignored by what a server in the background starts
    timer = threading.Timer(PATIENCE, lambda: process.kill() if process.poll() is None else None)
    timer.daemon = True
    timer.start()
