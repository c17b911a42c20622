"""A training that is told what to do between two updates: to pause, to make one step, to let somebody look, to stop.

It iterates a session's events as every training does: pausing is not asking for the next one. So it ends with the same
bits, however often it was paused or looked into.
"""

from __future__ import annotations

import json
import math
import os
import queue
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor

from ..errors import ConvscopeError, UnknownName, UsageError
from .looking import MODES, Mode, Probes, choose_probes, layers_with_filters, look, weights_of
from .loop import Step
from .session import Session

COMMANDS = ("pause", "resume", "step", "look", "stop")
LONGEST = 4_096  # bytes of a command
TOLD_EVERY = 0.1  # seconds; what happened in between is told together
LOOK_EVERY = 1.0  # seconds, while it trains on
LOOKING_SHARE = 0.1  # of the time, at most, while it trains on
NOTICED = 0.1  # seconds after which a signal is noticed in a pause

Inbox = queue.SimpleQueue[bytes | None]  # lines; None: nobody will say anything any more
Tell = Callable[[dict[str, Any]], None]


def read_commands(descriptor: int, inbox: Inbox) -> None:
    """Put each line of a pipe in the inbox, and None at its end. Of a line that is too long only the beginning."""
    rest = b""
    while True:
        try:
            piece = os.read(descriptor, 65_536)  # and not from sys.stdin, whose lock a thread would hold at the end
        except OSError:
            piece = b""
        if not piece:
            inbox.put(None)
            return
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            inbox.put(line[: LONGEST + 1])
        rest = rest[: LONGEST + 1]


def parsed(line: bytes) -> dict[str, Any]:
    """A command as a dict with the key "command". UsageError for anything else."""
    if len(line) > LONGEST:
        raise UsageError(f"a command has at most {LONGEST:,} bytes.")
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        raise UsageError('a command is one line of JSON, such as {"command": "pause"}.') from None
    if not isinstance(said, dict) or not isinstance(said.get("command"), str):
        raise UsageError('a command is an object that names itself, such as {"command": "pause"}.')
    if said["command"] not in COMMANDS:
        raise UnknownName("command", said["command"][:80], COMMANDS)
    known = {"command", "layer", "mode"} if said["command"] == "look" else {"command"}
    for key in said.keys() - known:
        raise UsageError(f"{said['command']} takes no {key[:80]!r}.")
    return said


class Stepped:
    """A session under the commands of an inbox; ``tell`` is given what happens, as JSON values."""

    def __init__(self, session: Session, inbox: Inbox, tell: Tell, paused: bool = False) -> None:
        """With ``paused`` it stops after its first update: before that there is nothing to look at."""
        self.session, self.inbox, self.tell = session, inbox, tell
        self._to_go = 1.0 if paused else math.inf  # updates until it pauses
        self._new: list[tuple[int, float, float]] = []  # (update, loss, rate) that were not told yet
        self._told = self._looked = -math.inf
        self._rest = LOOK_EVERY  # seconds from one look to the next
        self._layer: str | None = None
        self._mode: Mode = "train"
        self._probes: Probes | None = None
        self._before: Tensor | None = None  # filters of the layer looked at, before the last update
        self._last: Step | None = None

    def events(self) -> Iterator[Step | dict[str, Any]]:
        """The session's events, each when the commands allow it; the one after "stop" raises InterruptedRun."""
        self.session.prompt = True
        events = self.session.events()
        while True:
            self._obey()
            if self._layer is not None:
                self._before = weights_of(self.session.state.network, self._layer).clone()
            event = next(events, None)
            if event is None:
                return
            if isinstance(event, Step):
                self._note(event)
                yield event
                if event.summary is None:
                    self._tell_more()
                    continue
                event = next(events)  # the end of an epoch belongs to its last update
            assert isinstance(event, dict)
            self._say()
            self.tell({"row": event})
            self._tell_more()
            yield event

    def _tell_more(self) -> None:
        """After an update: tell the state and look, if somebody looks; while it trains on, only so often."""
        if self._is_paused or time.monotonic() - self._told > TOLD_EVERY:
            self._say()
        if self._layer is not None and (self._is_paused or time.monotonic() - self._looked > self._rest):
            self._look()

    @property
    def _is_paused(self) -> bool:
        return self._to_go <= 0

    def _note(self, step: Step) -> None:
        first, self._last = self._last is None, step
        self._to_go -= 1
        self._new.append(((step.epoch - 1) * step.steps + step.step, step.loss, step.lr))
        if first:
            self.tell({"layers": layers_with_filters(self.session.state.network)})

    def _obey(self) -> None:
        """Do what was said; in a pause, wait until something is said that ends it, and tell the session how long."""
        start, paused = time.monotonic(), self._is_paused
        self._wait()
        if paused:
            self.session.paused_seconds += time.monotonic() - start

    def _wait(self) -> None:
        while not self.session.stopping:
            if not self._is_paused and self.inbox.empty():
                return
            try:
                line = self.inbox.get(timeout=NOTICED)
            except queue.Empty:
                continue
            try:
                self._take({"command": "stop"} if line is None else parsed(line))
            except ConvscopeError as error:
                self.tell({"refused": str(error)})

    def _take(self, said: dict[str, Any]) -> None:
        command = said["command"]
        if command == "look":
            self._choose(said.get("layer"), said.get("mode", self._mode))
            return
        if command == "stop":
            self.session.stopping.append(signal.SIGTERM)
        elif command == "step":
            self._to_go = 1 if self._to_go == math.inf else self._to_go + 1
        else:
            self._to_go = 0 if command == "pause" else math.inf
        self._say()
        if command == "pause" and self._layer is not None and self._last is not None:
            self._look()

    def _choose(self, layer: Any, mode: Any) -> None:
        """Look at a layer from now on, and now; at none for None."""
        if layer is None:
            self._layer = self._before = None
            return
        if mode not in MODES:
            raise UsageError(f"no mode named {str(mode)[:80]!r}: there are train and eval.")
        if self._last is None:
            raise UsageError("there is nothing to look at before the first update.")
        if not isinstance(layer, str):
            raise UsageError("a layer is named by a text.")
        weights_of(self.session.state.network, layer)
        if layer != self._layer:
            self._before = None
        self._layer, self._mode = layer, mode
        self._look()

    def _look(self) -> None:
        start = time.monotonic()
        if self._probes is None:
            self._probes = choose_probes(self.session.dataset, self.session.device)
            self.tell({"probes": self._probes.shown()})
        assert self._layer is not None
        assert self._last is not None
        seen = look(self.session.state.network, self._layer, self._probes, self._mode, self._before)
        self._looked = time.monotonic()
        seconds = self._looked - start
        self._rest = max(LOOK_EVERY, seconds / LOOKING_SHARE)
        where = {"epoch": self._last.epoch, "step": self._last.step}
        self.tell({"look": {**seen.shown(), **where, "seconds": seconds}})

    def _say(self) -> None:
        """Tell the state, and the updates since it was told last."""
        last = self._last
        told: dict[str, Any] = {"state": "paused" if self._is_paused else "training"}
        if last is not None:
            told |= {"epoch": last.epoch, "step": last.step, "steps": last.steps, "loss": last.loss, "lr": last.lr}
        self.tell({**told, "updates": self._new})
        self._new, self._told = [], time.monotonic()
