"""Kills a command at a moment of its writing: each call that changes what lies on disk has a moment before and after.

``python tests/kill_points.py 12 -- train IMAGES --name x`` kills itself at the twelfth moment (0: at none) and tells
how many there were. ``Killer`` does that many times: a process that has imported everything and computed nothing makes
a child for each command, so that a kill costs what the command costs. ``remains`` is what is left to compare.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kill_moments import Moments, set_numbers

ROOT = Path(__file__).resolve().parents[1]
SECONDS = re.compile(r"seconds|_per_|^at$|percent_of_peak|gflop|^seal$")  # keys: what it cost, when it was, their seal
CALLS = {"made", "kept", "computed", "roofline"}  # keys: what this call did, and what it found done
# Numba's own; hashes of folders' paths; what commands at once have said.
NOT_COMPARED = re.compile(r"cache/(compiled|named)/|(out|err)-\d+\.txt$")
HOLDERS = {".lock", ".lock-holder", "said.txt"}


# ------------------------------------------------------------------------------------------------------ the child


def _command(last: int | str, arguments: list[str]) -> tuple[int, Moments]:
    """Run a command in this process; returns its exit code and the moments that there were."""
    from convscope.cli import run
    from kill_page import ON_THE_PAGE

    moments = Moments(last)
    moments.install()
    if arguments[0] in ON_THE_PAGE:
        return ON_THE_PAGE[arguments[0]](), moments
    return run(arguments), moments


COMMANDS = "training transfer_learning explanation studies exporting evaluation diagnosis feature_store inspection"
LATE = "explanation.image_command models.speednet models.resnet datasets.folder datasets.shapes"
LIBRARIES = "torch._dynamo sklearn.metrics timm torchvision scipy.stats onnx onnxscript onnxruntime"
OF_TRAINING = (
    "convscope.training.command convscope.training.cli convscope.models.alexnet convscope.datasets.folder "
    "convscope.cli.application convscope.convolution.winograd torch._dynamo jinja2 filelock"
)


def prepare(all_commands: bool) -> None:
    """Import what commands import late, and make short what decides nothing: peak, epochs, a claim that is a toy."""
    import importlib

    if not all_commands:
        for name in OF_TRAINING.split():
            importlib.import_module(name)
        from convscope import machine

        machine.PEAK_SIDE = 64
        return
    for name in [*(f"{room}.command" for room in COMMANDS.split()), *LATE.split()]:
        importlib.import_module(f"convscope.{name}")
    for name in LIBRARIES.split():
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    from convscope import machine
    from convscope.explanation import presets
    from convscope.studies.registry import CLAIMS
    from convscope.transfer_learning import fcnn, ladder_command
    from toyclaim import CLAIM

    machine.PEAK_SIDE = 64
    fcnn.MOST_EPOCHS = fcnn.LEAST_EPOCHS = 1
    for table in (presets.PRESETS, presets.WHOLE):
        table.update({side: replace(preset, steps=16) for side, preset in table.items()})
    ladder_command.EPOCHS.update({"last stage": 2, "full": 2, "scratch": 2})
    CLAIMS["toy"] = CLAIM


def _serve(all_commands: bool) -> None:
    """Answer each line of standard input, a command as JSON, by a line that says how its process ended."""
    prepare(all_commands)
    print("ready", flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        reading, writing = os.pipe()
        start = time.perf_counter()
        child = os.fork()
        if child == 0:
            _child(asked, writing)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            if asked["after"] is not None and not select.select([pipe], [], [], asked["after"])[0]:
                os.kill(child, signal.SIGKILL)
            told = json.loads(pipe.read() or "{}")
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(json.dumps({**told, "code": code, "seconds": time.perf_counter() - start}), flush=True)


def _child(asked: dict[str, Any], writing: int) -> None:
    """Run one command in a process of its own, in its folder, with its words in a file."""
    code = 1
    try:
        os.chdir(asked["folder"])
        said = os.open("said.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(said, 1)
        os.dup2(said, 2)
        sys.stdout.reconfigure(line_buffering=True)  # pyrefly: ignore[missing-attribute]
        set_numbers(asked["numbers"])
        code, moments = _command(asked["last"], asked["arguments"])
        sys.stdout.flush()
        sys.stderr.flush()
        told = {"moments": moments.count, "turns": moments.turns, "inside": moments.inside}
        os.write(writing, json.dumps(told).encode())
    finally:
        os._exit(code)


# ----------------------------------------------------------------------------------------------------- the parent


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code (-9 where it was killed), what it said and how long it took.

    Unless it was killed also how many ``moments`` it had, and which of them are ``turns`` and ``inside`` a save.
    """

    code: int
    said: str
    seconds: float
    moments: int = 0
    turns: list[int] = field(default_factory=list)
    inside: list[int] = field(default_factory=list)


class Killer:
    """A process that stands ready, with everything imported, or all for training, to run commands that are killed."""

    def __init__(self, all_commands: bool = True) -> None:
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        places = {"CONVSCOPE_RUNS": "runs", "CONVSCOPE_CACHE": "cache"}  # each in the folder of its command
        path = os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")])
        self._process = subprocess.Popen(
            [sys.executable, __file__, "serve" if all_commands else "train"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | threads | places | {"PYTHONPATH": path},
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def run(
        self,
        folder: Path,
        arguments: list[str],
        last: int | str = 0,
        after: float | None = None,
        numbers: dict[str, Any] | None = None,
    ) -> Ended:
        """Run a command in a folder, and kill it at its ``last`` moment (0: never), as ``Moments`` says.

        Or kill it ``after`` so many seconds. ``numbers`` are constants of modules that are others in its process.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        asked = {"folder": str(folder), "arguments": [str(a) for a in arguments], "last": last}
        asked |= {"after": after, "numbers": numbers or {}}
        print(json.dumps(asked), file=self._process.stdin, flush=True)
        ended = json.loads(self._process.stdout.readline())
        return Ended(**ended, said=(folder / "said.txt").read_text(encoding="utf-8", errors="replace"))

    def close(self) -> None:
        """End the process that stands ready."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(30)


@contextlib.contextmanager
def killing(all_commands: bool = True) -> Iterator[Killer]:
    """A with-block with a Killer."""
    killer = Killer(all_commands)
    try:
        yield killer
    finally:
        killer.close()


# ---------------------------------------------------------------------------------------------------- what is left


def remains(folder: Path) -> dict[str, str]:
    """What is to be compared of each file below the folder of a command, by its path: all but times and what it cost.

    Temporary files count: a command that goes on clears away what a kill left. What Numba keeps of compiled functions
    is its own, and what commands say beside each other holds times. Where the folder lies is not compared either.
    """
    paths = sorted(p for p in folder.rglob("*") if p.is_file() and p.name not in HOLDERS)
    found = {path.relative_to(folder).as_posix(): path for path in paths}
    return {name: _told(path, str(folder.resolve())) for name, path in found.items() if not NOT_COMPARED.match(name)}


def _told(path: Path, here: str) -> str:
    if path.suffix in (".json", ".jsonl"):
        rows = [json.loads(line) for line in _documents(path)]
        return json.dumps([_timeless(row) for row in rows]).replace(here, ".")
    if path.suffix == ".html":  # numbers stand in its sentences, and among them seconds; images in it are files too
        text = path.read_text().replace(here, ".")
        return re.sub(r"base64,[\w+/=]+|\d[\d.,e+-]*|all recorded before.*|features: .*", "", text)
    if path.suffix == ".safetensors":
        from convscope.tensor_files import read_tensors, tensor_hash

        tensors, meta = read_tensors(path)
        hashes = {n: tensor_hash(n, t) for n, t in tensors.items()}
        return json.dumps([hashes, _timeless(meta)], sort_keys=True).replace(here, ".")
    if path.name == "ladder.png":  # seconds stand on it
        return "an image"
    return hashlib.sha256(path.read_bytes().replace(here.encode(), b".")).hexdigest()


def _documents(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8")
    return text.splitlines() if path.suffix == ".jsonl" else [text]


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {k: v for k, v in value.items() if not SECONDS.search(k) and k not in CALLS}
        return {k: _timeless(v) for k, v in kept.items()}
    if isinstance(value, str):
        return re.sub(r"\d[\d.]*(?= s\b)", "", value)
    return [_timeless(v) for v in value] if isinstance(value, list) else value


def main(words: list[str]) -> None:
    if words in (["serve"], ["train"]):
        _serve(words == ["serve"])
        return
    start = time.perf_counter()
    code, moments = _command(int(words[0]), words[2:])
    print(f"{moments.count} moments, exit code {code}, {time.perf_counter() - start:.1f} s", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main(sys.argv[1:])
