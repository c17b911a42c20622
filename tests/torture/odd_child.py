"""A process that stands ready to run commands on an odd machine: each in a child of its own, several at once if asked.

``python tests/torture/odd_child.py`` answers a line of JSON, what to run, by a line of JSON, how it ended.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import pkgutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
NOT_ON_WINDOWS = "fcntl resource pwd grp termios tty pty syslog spwd crypt".split()
MOST_SECONDS = 100.0  # for one command


@dataclass(frozen=True)
class Asked:
    """A command to run in a folder: its words, variables for it, and the ways of odd_ways.WAYS, with what they take."""

    words: Sequence[str]
    odd: dict[str, Any] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Ended:
    """How a command ended: its code (-9 where it was killed for its time), what it printed, what the ways told."""

    code: int
    out: str
    err: str
    told: dict[str, Any]
    seconds: float


# ------------------------------------------------------------------------------------------------------ the process


def _serve(blocked: bool) -> None:
    if blocked:
        sys.modules.update(dict.fromkeys(NOT_ON_WINDOWS))  # an import of these fails
    import kill_points

    kill_points.prepare(all_commands=True)
    _import_all()
    _answer("ready")
    for line in sys.stdin:
        asked = json.loads(line)
        children = [_child(asked["folder"], i, one) for i, one in enumerate(asked["commands"])]
        _answer(json.dumps([_awaited(*child) for child in children]))


def _import_all() -> None:
    """Import what commands import late: a child may have no right to read Python's own files."""
    import convscope

    for found in pkgutil.walk_packages(convscope.__path__, "convscope."):
        if not found.name.endswith(("__main__", "_child")):
            with contextlib.suppress(ImportError):  # of an extra that is not installed
                importlib.import_module(found.name)


def _answer(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _child(folder: str, number: int, asked: dict[str, Any]) -> tuple[int, int, float]:
    reading, writing = os.pipe()
    start = time.monotonic()
    child = os.fork()
    if child:
        os.close(writing)
        return child, reading, start
    os.setpgid(0, 0)
    code = 1
    try:
        os.chdir(folder)
        for stream, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(f"{name}-{number}.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), stream)
        os.environ.update(asked["variables"])
        code = _told(asked, writing)
    finally:
        os._exit(code)


def _told(asked: dict[str, Any], writing: int) -> int:
    """Run a command the odd way, and write what the ways tell; returns its exit code."""
    from torture.odd_ways import WAYS

    tellers = {name: WAYS[name](given) for name, given in asked["odd"].items()}
    from convscope.cli import run

    code = run([os.fsdecode(bytes.fromhex(word)) for word in asked["words"]])
    sys.stdout.flush()
    sys.stderr.flush()
    os.write(writing, json.dumps({name: tell() for name, tell in tellers.items()}).encode())
    return code


def _awaited(child: int, reading: int, start: float) -> dict[str, Any]:
    """Wait for a child; one that takes too long is ended, with what it started."""
    code = None
    while code is None and time.monotonic() - start < MOST_SECONDS:
        done, status = os.waitpid(child, os.WNOHANG)
        code = os.waitstatus_to_exitcode(status) if done else None
        time.sleep(0.01)
    if code is None:
        with contextlib.suppress(OSError):
            os.killpg(child, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    seconds = time.monotonic() - start
    with os.fdopen(reading) as pipe:
        told = pipe.read()
    return {"code": code, "told": json.loads(told or "{}"), "seconds": seconds}


# ------------------------------------------------------------------------------------------------------- who asks


class OddMachine:
    """Runs commands on an odd machine. ``windows``: without the modules that Windows does not have.

    ``hub`` is the address where it thinks that the Hub is.
    """

    def __init__(self, windows: bool = False, hub: str = "http://127.0.0.1:9") -> None:
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        path = os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")])
        variables = os.environ | threads | {"PYTHONPATH": path, "CONVSCOPE_RUNS": "runs", "CONVSCOPE_CACHE": "cache"}
        variables |= {"HF_ENDPOINT": hub, "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
        self._process = subprocess.Popen(
            [sys.executable, __file__, *(["windows"] if windows else [])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if os.environ.get("ODD_LOUD") else subprocess.DEVNULL,
            text=True,
            env=variables,
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "ready\n":
            raise RuntimeError("the process that runs commands did not start")

    def run(self, folder: Path, *asked: Asked) -> list[Ended]:
        """Run commands in a folder, all at once."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        rows = [
            {"words": [os.fsencode(w).hex() for w in one.words], "odd": one.odd, "variables": one.variables}
            for one in asked
        ]
        print(json.dumps({"folder": str(folder), "commands": rows}), file=self._process.stdin, flush=True)
        ended = json.loads(self._process.stdout.readline())
        return [Ended(**one, out=_read(folder, "out", i), err=_read(folder, "err", i)) for i, one in enumerate(ended)]

    def one(self, folder: Path, words: Sequence[Any], **odd: Any) -> Ended:
        """Run one command; the ways are named with _ for blanks."""
        return self.run(folder, Asked([str(w) for w in words], {k.replace("_", " "): v for k, v in odd.items()}))[0]

    def close(self) -> None:
        """End the process that stands ready."""
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()
        self._process.wait(30)


def _read(folder: Path, name: str, number: int) -> str:
    path = folder / f"{name}-{number}.txt"
    return path.read_text(encoding="utf-8", errors="surrogateescape") if path.exists() else ""


@contextlib.contextmanager
def odd_machine(windows: bool = False, hub: str = "http://127.0.0.1:9") -> Iterator[OddMachine]:
    """A with-block with an OddMachine."""
    made = OddMachine(windows, hub)
    try:
        yield made
    finally:
        made.close()


if __name__ == "__main__":
    _serve("windows" in sys.argv[1:])
