"""Trainings that the page starts, pauses, steps and looks into: each a process of its own, spoken to in lines.

What a browser names is looked for among what is there: data, networks, and the trainings of this start of the page.
"""

from __future__ import annotations

import bisect
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..datasets.named_before import check_named
from ..datasets.registry import DATASETS
from ..errors import ConvscopeError, UnknownName, UsageError
from ..models.registry import MODELS
from ..recipes import Source
from ..training.kept_epochs import kept_epochs
from ..training.request import PLACES
from ..training.runs import free_name
from ..training.stepped import COMMANDS
from .served import Served

WORKER = [sys.executable, "-m", "convscope.training.stepped_command"]
FIRST, USUAL = "digits", "speednet"
MOST_EPOCHS = 1_000
MOST_KEPT = 20  # epochs of a training, to be looked at again
MOST_POINTS = 20_000  # of the loss curve; of more every second is dropped
SEEN = 10.0  # seconds after which nobody looks any more who did not ask
PATIENCE = 30.0  # seconds in which a training saves and ends
OVER = ("finished", "stopped", "failed")


@dataclass
class Training:
    """A training and what it told: ``state`` is preparing, training, paused, finished, stopped or failed."""

    name: str
    data: str
    model: str
    epochs: int
    process: subprocess.Popen[bytes] = field(repr=False)
    told: dict[str, Any] = field(default_factory=lambda: {"state": "preparing", "said": "it begins"})
    points: list[list[float]] = field(default_factory=list)  # (update, loss, rate)
    rows: list[dict[str, Any]] = field(default_factory=list)  # one an epoch
    looks: int = 0
    refusals: int = 0
    asked_at: float = 0.0
    looking: bool = False
    lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    def say(self, command: str, **more: str | None) -> None:
        """Tell it a command. UnknownName for none, UsageError where it is over."""
        if command not in COMMANDS:
            raise UnknownName("command", command, COMMANDS)
        given = {key: value for key, value in more.items() if value is not None}
        with self.lock:
            if self.told["state"] in OVER:
                raise UsageError(f"the training {self.name} is over.")
            if command == "look":
                self.looking, self.asked_at = "layer" in given, time.monotonic()
            self._write({"command": command, **given})

    def shown(self, after: str = "0", look: str = "0") -> dict[str, Any]:
        """What the page shows: the curve behind the update ``after``, and the last look if ``look`` is an older one."""
        with self.lock:
            self.asked_at = time.monotonic()
            place = bisect.bisect_right(self.points, _whole(after), key=lambda point: point[0])
            kept = {"look"} if self.looks <= _whole(look) else set()
            kept |= {"probes"} if _whole(look) else set()  # they stay the same
            told = {key: value for key, value in self.told.items() if key not in kept}
            about = {key: getattr(self, key) for key in ("name", "data", "model", "epochs", "rows", "looks")}
            return {**about, "look": None, "layers": [], **told, "points": self.points[place:]}

    def hear(self) -> None:
        """Take what it tells until it ends."""
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                with suppress(ValueError), self.lock:
                    self._take(json.loads(line))
        code = self.process.wait()
        self.close()
        with self.lock:
            if self.told["state"] not in OVER:
                self.told |= {"state": "failed", "said": f"its process ended unasked, with code {code}."}

    def _take(self, told: dict[str, Any]) -> None:
        self.points += told.pop("updates", [])
        if len(self.points) > MOST_POINTS:
            del self.points[1:-1:2]
        if "row" in told:
            self.rows.append(told.pop("row"))
        if "look" in told:
            self.looks += 1
            told["look"]["number"] = self.looks
        if "refused" in told:
            self.refusals += 1
            told["refusals"] = self.refusals
        self.told |= told
        if self.looking and time.monotonic() - self.asked_at > SEEN:  # the page was closed
            self.looking = False
            self._write({"command": "look", "layer": None})

    def _write(self, said: Mapping[str, Any]) -> None:
        assert self.process.stdin is not None
        with suppress(OSError, ValueError):  # it has just ended
            self.process.stdin.write(json.dumps(said).encode() + b"\n")
            self.process.stdin.flush()

    def close(self) -> None:
        """Close the pipe: it saves and ends, as after a signal."""
        assert self.process.stdin is not None
        with suppress(OSError, ValueError):
            self.process.stdin.close()


class Trainings:
    """The trainings of this start of the page; one at a time, for two would only share the processors."""

    def __init__(self, served: Served, data_root: Path | None = None) -> None:
        self.served, self.data_root = served, data_root
        self._all: dict[str, Training] = {}
        self._hearing: list[threading.Thread] = []
        self._lock = threading.Lock()

    def start(self, data: str, model: str = USUAL, epochs: str = "5", paused: bool = True) -> Training:
        """Start one. UnknownName for data or a network that is not offered, UsageError while another is going on."""
        known = offered(self.served)
        if data not in known:
            raise UnknownName("data", data, known)
        if model not in MODELS:
            raise UnknownName("network", model, MODELS)
        return self._begin(f"{data}-{model}", data, model, _epochs(epochs), {"data": known[data], "paused": paused})

    def go_on(self, run: str, epoch: str = "", epochs: str = "5", paused: bool = True) -> Training:
        """Start a new run with the weights that a run had after an epoch that it keeps; that run is not changed.

        UnknownName where there is no such run or epoch, UsageError as ``start``, and where the run's data were never
        named on this machine.
        """
        found = self.served.run(run)
        recipe, kept = found.recipe(), {str(number): number for number in kept_epochs(found)}
        if epoch not in kept:
            raise UnknownName("kept epoch", epoch, kept)
        places = {"DATA": None if recipe.data.name in DATASETS else recipe.data.name}
        places |= {f"--{name}": getattr(recipe.source, name) for name in PLACES}
        check_named(places, run)
        asked = {"continue_from": str(found.folder.resolve()), "from_epoch": kept[epoch]}
        told, name = {"data": recipe.data.name, "paused": paused}, f"{run}-from-{epoch}"
        return self._begin(name, Path(recipe.data.name).name, recipe.model.name, _epochs(epochs), told, asked)

    def _begin(  # noqa: PLR0913 - what is shown of it, and what its process is told
        self, stem: str, data: str, model: str, epochs: int, told: dict[str, Any], more: dict[str, Any] | None = None
    ) -> Training:
        """Start a training whose name begins with the stem; ``more`` are options instead of the network's name."""
        with self._lock:
            going = next((name for name, t in self._all.items() if t.told["state"] not in OVER), None)
            if going is not None:
                raise UsageError(f"the training {going} is going on: stop it first, or let it end.")
            name = free_name(self.served.folder, stem)
            options = {"name": name, "runs": str(self.served.folder.resolve()), "epochs": epochs}
            options |= {"keep_epochs": -(-epochs // MOST_KEPT), **({"model": model} if more is None else more)}
            options |= {} if self.data_root is None else {"data_root": str(self.data_root.resolve())}
            process = _begun({**told, "options": options})
            self._all[name] = made = Training(name, data, model, epochs, process)
            self._hearing.append(threading.Thread(target=made.hear, name=f"training {name}", daemon=True))
            self._hearing[-1].start()
        return made

    def find(self, name: str) -> Training:
        """The training of that name. UnknownName where this start of the page has begun none so named."""
        if name not in self._all:
            raise UnknownName("training", name, self._all)
        return self._all[name]

    def listed(self) -> list[dict[str, Any]]:
        """The trainings of this start, the newest first."""
        keys = ("name", "data", "model", "epochs")
        every = reversed(list(self._all.values()))
        return [{**{key: getattr(t, key) for key in keys}, "state": t.told["state"]} for t in every]

    def close(self) -> None:
        """Let all save and end."""
        for training in self._all.values():
            training.close()
        until = time.monotonic() + PATIENCE
        for thread in self._hearing:
            thread.join(max(0.0, until - time.monotonic()))


def offered(served: Served) -> dict[str, str]:
    """The data that can be trained on by the name that is shown: built in, or of the runs and named here before."""
    found = {name: name for name in DATASETS}
    for run in served.runs().values():
        with suppress(ConvscopeError, OSError):
            recipe = run.recipe()
            name, path = recipe.data.name, Path(recipe.data.name)
            if name not in DATASETS and recipe.source == Source() and path.exists():
                check_named({"DATA": path}, run.name)
                found.setdefault(path.name, name)
    return found


def train_page(served: Served, trainings: Trainings) -> dict[str, Any]:
    """What can be trained, and what was started."""
    return {
        "data": list(offered(served)),
        "models": list(MODELS),
        "first": FIRST,
        "usual": USUAL,
        "most": MOST_EPOCHS,
        "trainings": trainings.listed(),
        "folder": str(served.folder),
    }


def _begun(asked: Mapping[str, Any]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*WORKER, json.dumps(asked)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "NO_COLOR": "1"},
        start_new_session=True,  # Ctrl-C is for the page, which then lets it save
    )


def _epochs(text: str) -> int:
    count = _whole(text)
    if not 0 < count <= MOST_EPOCHS:
        raise UsageError(f"{text!r} is no number of epochs: from 1 to {MOST_EPOCHS:,}.")
    return count


def _whole(text: str) -> int:
    """A number that a browser sent; 0 for anything else."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 12 else 0
