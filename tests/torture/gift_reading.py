"""The process that stands ready to read gifts: it forks a child for each, measures it, and tells what it did.

``python -m torture.gift_reading`` answers each line of standard input by one of standard output, both of them JSON.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import resource
import signal
import subprocess
import sys
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
HANGS, SECONDS = 280, 60  # on the clock of a machine that may be busy, and of computing, after which a child is ended
ROOM = 3 << 30  # bytes of data a child may take, so that a reader without care does not take the machine with it
WARM = (
    "datasets.registry datasets.asked datasets.cifar evaluation.adopting models.pickled_weights diagnosis.curve_files"
)
WARM += " models.pickle_child classifying.classifier training.runs feature_store.store images.preprocess_files"


@dataclass(frozen=True)
class Question:
    """One attempt: the gift at ``path``, given to ``readers`` or, where there are ``words``, to a command.

    ``home`` is the folder to stand in, with runs and cache; ``foreign`` what must not be touched.
    """

    path: str
    home: str
    foreign: str
    readers: tuple[str, ...] = ()
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What came of it: a row a reader, or what a command said; what the audit saw; what it cost; how it ended.

    ``seconds`` are of computing, of the slowest reader; ``megabytes`` the peak beyond what it began with.
    """

    rows: list[dict[str, Any]]
    seen: list[str]
    seconds: float
    megabytes: float
    status: int


def _warm(words: tuple[str, ...], drawing: bool) -> None:
    """Import here, once, what a command imports late; twice is nothing."""
    for name in WARM.split():
        importlib.import_module(f"convscope.{name}")
    if not words and not drawing:
        return
    importlib.import_module("matplotlib.font_manager")  # which asks the system for fonts, once
    if not words:
        return
    rooms = {"train": "training", "adopt": "evaluation", "similar": "feature_store", "features": "feature_store"}
    rooms |= {"localize": "explanation", "doctor": "inspection", "diagnose": "diagnosis", "explain": "explanation"}
    rooms |= {"transfer": "transfer_learning", "export": "exporting", "study": "studies"}
    importlib.import_module("convscope.cli")
    importlib.import_module("convscope.evaluation.command")
    for name in ("command", "image_command", "drawing"):
        with contextlib.suppress(ImportError):
            importlib.import_module(f"convscope.{rooms.get(words[0], 'evaluation')}.{name}")


def _command(words: tuple[str, ...]) -> list[dict[str, Any]]:
    from convscope.cli import run

    said, told = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(told), contextlib.redirect_stderr(said):
        try:
            code = run(list(words))
        except BaseException as error:
            return [{"reader": " ".join(words), "kind": "raised", "said": repr(error)[:300], "code": -1}]
    return [
        {
            "reader": " ".join(words)[:200],
            "kind": "command",
            "said": said.getvalue()[-3000:],
            "code": code,
            "told": told.getvalue()[-3000:],
        }
    ]


def _child(asked: Question, writing: int) -> None:
    """Read one gift in this process, which ends with it."""
    from torture.gift_readers import fork_conversion, read_all
    from torture.witness import Audit

    signal.alarm(HANGS)
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    pages = int(Path("/proc/self/statm").read_text().split()[5])
    most = pages * resource.getpagesize() + ROOM
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    os.chdir(asked.home)
    audit = Audit((asked.home, str(Path(asked.path).parent)), (asked.foreign,))
    for stream in (0, 1, 2):
        os.dup2(os.open(os.devnull, os.O_RDWR), stream)
    if asked.readers:
        fork_conversion()
    base = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20
    audit.install()
    rows = _command(asked.words) if asked.words else read_all(Path(asked.path), asked.readers)
    audit.busy = True
    data = json.dumps({"rows": rows, "seen": audit.seen[:20], "base": base}).encode()
    while data:
        data = data[os.write(writing, data) :]


def _forked(asked: Question) -> Outcome:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reading)
            _child(asked, writing)
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        told = pipe.read()
    _, status, usage = os.wait4(pid, 0)
    found = json.loads(told or b'{"rows": [], "seen": [], "base": 0}')
    seconds = max((row.get("seconds", 0.0) for row in found["rows"]), default=0.0) or usage.ru_utime + usage.ru_stime
    return Outcome(
        found["rows"], found["seen"], round(seconds, 3), round(usage.ru_maxrss / 1024 - found["base"], 1), status
    )


def main() -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    warnings.simplefilter("ignore")
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        box = json.loads(line)
        asked = Question(**box | {key: tuple(box[key]) for key in ("readers", "words")})
        _warm(asked.words, bool({"site", "markup"} & set(asked.readers)))
        answers.write(json.dumps(asdict(_forked(asked))) + "\n")
        answers.flush()


class Reading:
    """The process that stands ready, as its user sees it."""

    def __init__(self, home: Path) -> None:
        places = {name: str(home / name.rpartition("_")[2].lower()) for name in ("CONVSCOPE_RUNS", "CONVSCOPE_CACHE")}
        path = os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")])
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        folder = {
            "TMPDIR": str(home / "tmp"),
            "MPLCONFIGDIR": str(home / "tmp"),
            "PYTHONPATH": path,
            "HF_HUB_OFFLINE": "1",
        }
        (home / "tmp").mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "torture.gift_reading"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=home,
            env=os.environ | places | threads | folder,
        )

    def ask(self, question: Question) -> Outcome:
        """Put one question; RuntimeError where the process has broken down."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(asdict(question)), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the process that reads gifts ended: {self._process.wait()}")
        return Outcome(**json.loads(line))

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(30)


if __name__ == "__main__":
    main()
