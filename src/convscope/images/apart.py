"""Decoding in a process of its own, for images that come from a browser: what goes wrong there harms nothing here."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import Any

import numpy as np

from ..errors import ImageError
from .preprocess import Preprocess

SECONDS = 10.0  # for one image
START_SECONDS = 60.0  # for the first one, with the start of the process
PIECE = 1 << 16  # bytes written or read at once
PIECES = 16  # that are read before they are wanted
LONGEST_LINE = 10_000  # bytes of an answer's first line


class ApartDecoder:
    """A process that decodes; started when it is first needed, and again after an image that ended it."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._answers: _Answers | None = None
        self._lock = threading.Lock()

    def fit(self, data: bytes, preprocess: Preprocess, name: str) -> np.ndarray:
        """The fitted pixels uint8 (S, S, 3), as ``Preprocess.fit_image`` has them. ImageError as of ``fit_sized``."""
        return self.fit_sized(data, preprocess, name)[0]

    def fit_sized(self, data: bytes, preprocess: Preprocess, name: str) -> tuple[np.ndarray, tuple[int, int]]:
        """The pixels and the upright image's size of ``Preprocess.fit_sized``. ImageError where that has one.

        And where decoding takes over 10 seconds, or ends the process.
        """
        with self._lock:
            until = time.monotonic() + (START_SECONDS if self._started() else SECONDS)
            asked = {"bytes": len(data), "preprocess": preprocess.to_dict(), "name": name}
            try:
                said, pixels = self._ask(json.dumps(asked).encode() + b"\n" + data, 3 * preprocess.size**2, until)
            except TimeoutError:
                self._end()
                raise ImageError(name, f"takes over {SECONDS:.0f} seconds to decode") from None
            except (OSError, EOFError, ValueError):
                self._end()
                raise ImageError(name, "cannot be read: the decoder came to its end") from None
        if "reason" in said:
            raise ImageError(name, said["reason"])
        fitted = np.frombuffer(pixels, np.uint8).reshape(preprocess.size, preprocess.size, 3)
        return fitted, (said["width"], said["height"])

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._end()

    def _started(self) -> bool:
        """Start the process where there is none; returns whether that was needed."""
        if self._process is not None and self._process.poll() is None:
            return False
        self._end()
        command = [sys.executable, "-m", "convscope.images.decoding_child"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
        )
        self._answers = _Answers(self._process.stdout)
        return True

    def _ask(self, message: bytes, size: int, until: float) -> tuple[dict[str, Any], bytes]:
        """The answer to a message, with pixels of ``size`` bytes; TimeoutError, EOFError, OSError or ValueError."""
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert self._answers is not None
        writer = threading.Thread(target=_written, args=(process.stdin, message), daemon=True)
        writer.start()
        said = _understood(self._answers.line(until), size)
        body = bytearray()
        while len(body) < said.get("bytes", 0):
            body += self._answers.read(min(PIECE, said["bytes"] - len(body)), until)
        writer.join(1.0)
        return said, bytes(body)

    def _end(self) -> None:
        process, self._process = self._process, None
        answers, self._answers = self._answers, None
        if process is not None:
            process.kill()
            if answers is not None:
                answers.stop()
            with suppress(OSError):
                process.wait(5)
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    stream.close()


class _Answers:
    """What a process writes, read by a thread of its own: on Windows a pipe cannot be waited for with a limit.

    The thread is a few pieces ahead at most: a process that writes without end has to wait.
    """

    def __init__(self, source: Any) -> None:
        self._pieces: queue.Queue[bytes] = queue.Queue(PIECES)
        self._held = b""
        self._stopped = threading.Event()
        self.taking = threading.Thread(target=self._take, args=(source,), daemon=True)
        self.taking.start()

    def _take(self, source: Any) -> None:
        with suppress(OSError, ValueError):  # closed
            while not self._stopped.is_set() and (piece := source.read(PIECE)):
                self._pieces.put(piece)
        self._pieces.put(b"")

    def stop(self) -> None:
        """Let the thread come to its end, though it may wait for room: it puts two pieces more at most."""
        self._stopped.set()
        with suppress(queue.Empty):
            while True:
                self._pieces.get_nowait()

    def read(self, count: int, until: float) -> bytes:
        """At most ``count`` bytes. TimeoutError once it is too late, EOFError where there will be none."""
        self._hold(until)
        found, self._held = self._held[:count], self._held[count:]
        return found

    def line(self, until: float) -> bytes:
        """All up to the end of a line, raising as ``read`` does; ValueError where it is too long."""
        found = b""
        while not found.endswith(b"\n"):
            self._hold(until)
            found += self.read(self._held.find(b"\n", 0, LONGEST_LINE) + 1 or LONGEST_LINE, until)
            if len(found) > LONGEST_LINE:
                raise ValueError("the line is too long")
        return found

    def _hold(self, until: float) -> None:
        """Have at least a byte."""
        left = until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        if not self._held:
            try:
                self._held = self._pieces.get(timeout=left)
            except queue.Empty:
                raise TimeoutError from None
        if not self._held:
            raise EOFError


def _understood(line: bytes, size: int) -> dict[str, Any]:
    """What the first line of an answer says: a reason, or a width, a height and ``size`` bytes. ValueError else."""
    try:
        said = json.loads(line)
    except RecursionError:
        raise ValueError("the answer is nested too deeply") from None
    if isinstance(said, dict):
        if isinstance(said.get("reason"), str):
            return {"reason": said["reason"]}
        if said.get("bytes") == size and all(type(said.get(side)) is int for side in ("width", "height")):
            return said
    raise ValueError("the answer is neither a reason nor an image")


def _written(target, message: bytes) -> None:
    """Write a message; where nobody reads it any more, whoever waits for the answer is told."""
    view = memoryview(message)
    with suppress(OSError, ValueError):
        while len(view):
            view = view[target.write(view[:PIECE]) :]
