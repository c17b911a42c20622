"""A stepped training as a process: commands on standard input, what happens on standard output, in lines of JSON.

``python -m convscope.training.stepped_command '{"data": "digits", "options": {"epochs": 1}, "paused": true}'``
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import time
from typing import Any

from ..errors import ConvscopeError, InterruptedRun
from ..spoken import typed
from ..storage import to_json
from .command import finish_training, prepare_training
from .stepped import Inbox, Stepped, read_commands


class Telling:
    """Lines of JSON to a pipe. When nobody reads them any more, the inbox says so, and the training stops."""

    def __init__(self, descriptor: int, inbox: Inbox) -> None:
        self.descriptor, self.inbox, self.closed = descriptor, inbox, False
        self._at = 0.0

    def __call__(self, told: dict[str, Any]) -> None:
        """Tell one thing."""
        rest = memoryview(to_json(told).encode() + b"\n")
        while rest and not self.closed:
            try:
                rest = rest[os.write(self.descriptor, rest) :]
            except OSError:
                self.closed = True
                self.inbox.put(None)

    def progress(self, what: str, done: int, total: int) -> None:
        """Tell how far the preparation is, ten times a second at most."""
        if time.monotonic() - self._at > 0.1:
            self._at = time.monotonic()
            self({"state": "preparing", "said": f"{what}, {done:,} of {total:,}"})


def main(asked: str) -> int:
    """Prepare the training that is asked for, train it under commands, and tell how it ended; returns an exit code."""
    inbox: Inbox = queue.SimpleQueue()
    tell = Telling(os.dup(1), inbox)
    os.dup2(2, 1)  # what a network prints is not taken for an answer
    threading.Thread(target=read_commands, args=(0, inbox), name="commands", daemon=True).start()
    wanted = json.loads(asked)
    try:
        options: dict[str, Any] = {**wanted["options"], "progress": tell.progress}
        session = prepare_training(wanted["data"], **options)
        tell({"run": session.run.name, "epochs": session.recipe.loop.epochs, "notes": session.notes})
        for _ in Stepped(session, inbox, tell, wanted.get("paused", False)).events():
            pass
        finish_training(session)
        tell({"state": "finished", "said": f"everything is in {session.run.folder}."})
    except InterruptedRun as stopped:
        tell({"state": "stopped", "said": str(stopped)})
        return stopped.exit_code
    except ConvscopeError as error:
        tell({"state": "failed", "said": str(error)})
        return error.exit_code
    return 0


if __name__ == "__main__":
    with typed():  # at a page, whose fields are the command's options
        sys.exit(main(sys.argv[1]))
