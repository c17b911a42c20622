"""Writes once, in a process of its own that strace follows: a parent with everything imported makes a child a request.

strace is attached when the child is about to write, so that the N-th call of a kind is the N-th of this writing, and
it follows no more than that. ``Writer`` asks the parent; ``python -m torture.crash_child`` is the parent.
"""

from __future__ import annotations

import functools
import json
import os
import select
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SAID = "saved"  # what is written to standard output once the call has returned
SECONDS = 20.0  # that attaching may take


@dataclass(frozen=True)
class Ended:
    """How a writing ended: the exit code (below 0: the signal), what was said, the error's kind and sentence.

    ``file``: what an error that is none of ours names, of which the command line makes a sentence of its own.
    """

    code: int
    said: str
    kind: str = ""
    sentence: str = ""
    ours: bool = True
    file: str = ""

    @property
    def announced(self) -> bool:
        return self.said.startswith(SAID)


# ------------------------------------------------------------------------------------------------ the parent's side


def _serve() -> None:
    from torture.faulty_commits import WAYS

    _answer("ready")
    for line in sys.stdin:
        asked = json.loads(line)
        path, folder = WAYS[asked["path"]], Path(asked["folder"])
        if asked["editions"]:  # in this process: what is imported late is there from now on
            for edition in asked["editions"]:
                path.write(folder, edition)
            _answer("{}")
        else:
            _answer(json.dumps(_watched(path.write, folder, asked["strace"])))


def _answer(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _watched(write: Any, folder: Path, strace: list[str]) -> dict[str, Any]:
    """Write edition 1 in a child, with strace attached where it has arguments."""
    gate, output = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(output[1], 1)
        os.closerange(output[0], output[1] + 1)
        _child(write, folder, gate[0])
    os.close(output[1])
    watching = _attach(strace, child) if strace else None
    os.write(gate[1], b"g")
    with os.fdopen(output[0], "rb") as pipe:
        said = pipe.read().decode(errors="replace")
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if watching is not None:
        watching.communicate(timeout=SECONDS)
    os.close(gate[0])
    os.close(gate[1])
    return {"code": code, "said": said}


def _attach(strace: list[str], child: int) -> subprocess.Popen[str]:
    watching = subprocess.Popen(["strace", *strace, "-p", str(child)], stderr=subprocess.PIPE, text=True)
    assert watching.stderr is not None
    line = watching.stderr.readline()
    if "attached" not in line:
        os.kill(child, 9)
        watching.wait(SECONDS)
    return watching


def _child(write: Any, folder: Path, gate: int) -> None:
    """Write edition 1 when the gate opens, and say so; an error is said as JSON, with its exit code."""
    from convscope.errors import ConvscopeError

    code = 1
    try:
        select.select([gate], [], [])  # none of the calls that are counted
        write(folder, 1)
        os.write(1, f"{SAID}\n".encode())
        code = 0
    except Exception as error:
        code = error.exit_code if isinstance(error, ConvscopeError) else 1
        told = {"kind": type(error).__name__, "sentence": str(error), "ours": isinstance(error, ConvscopeError)}
        told["file"] = str(getattr(error, "filename", None) or "")
        os.writev(1, [json.dumps(told).encode()])  # write itself may be failing
    finally:
        os._exit(code)


# ------------------------------------------------------------------------------------------------- the other side


class Writer:
    """A process that stands ready to write, in children of its own."""

    def __init__(self) -> None:
        path = os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "torture.crash_child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path},
        )
        self._answer()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the process that writes has ended")
        return line

    def _ask(self, **asked: Any) -> str:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{json.dumps(asked)}\n")
        self._process.stdin.flush()
        return self._answer()

    def prepare(self, path: str, folder: Path, editions: Sequence[int]) -> None:
        """Write editions of a content one after the other, disturbed by nothing."""
        self._ask(path=path, folder=str(folder), editions=list(editions), strace=[])

    def write(self, path: str, folder: Path, strace: Sequence[str] = ()) -> Ended:
        """Write edition 1 in a process of its own, under strace where that is given arguments."""
        told = json.loads(self._ask(path=path, folder=str(folder), editions=[], strace=list(strace)))
        code, said = told["code"], told["said"]
        if said.startswith("{"):
            error = json.loads(said)
            return Ended(code, "", **error)
        return Ended(code, said)

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(30)


@contextmanager
def writing() -> Iterator[Writer]:
    """A with-block with a Writer."""
    writer = Writer()
    try:
        yield writer
    finally:
        writer.close()


@functools.cache
def strace_refused() -> str:
    """Why strace cannot follow a process here; empty where it can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    asleep = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        words = ["strace", "-e", "trace=none", "-p", str(asleep.pid)]
        with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as tried:
            assert tried.stderr is not None
            line = tried.stderr.readline().strip()
            tried.terminate()
    finally:
        asleep.kill()
        asleep.wait()
    return "" if "attached" in line else f"strace may not follow a process here ({line})"


if __name__ == "__main__":
    _serve()
