"""The page as a process of its own, as a user starts it: its address and token, and what it takes of the machine."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

START_SECONDS = 120.0  # on a busy machine
END_SECONDS = 40.0


@dataclass(frozen=True)
class Reply:
    """What came back on a connection: all bytes, and whether the other side ended it."""

    data: bytes
    ended: bool

    @property
    def statuses(self) -> list[int]:
        """The status of each answer, but for 100, which announces one."""
        return [int(found) for found in re.findall(rb"HTTP/1\.1 (\d{3}) ", self.data) if found != b"100"]

    @property
    def body(self) -> bytes:
        """That of the first answer, without what differs from one to the next: the nonce of its scripts."""
        return re.sub(rb'nonce="[^"]*"', b"", self.data.partition(b"\r\n\r\n")[2])


@dataclass(frozen=True)
class Taken:
    """What a process holds: bytes of its own and its children's memory, threads, open files, children, files left."""

    memory: int
    threads: int
    descriptors: int
    children: int
    files: tuple[str, ...]


class PageServer:
    """`convscope serve` for a folder of runs, on a free port of 127.0.0.1; a ``with`` block that ends it."""

    def __init__(self, folder: Path) -> None:
        self.runs, self.log, self.temporary = folder / "runs", folder / "said.txt", folder / "temporary"
        for place in (self.runs, self.temporary):
            place.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "convscope", "serve", "--runs", str(self.runs), "--port", "0", "--no-browser"]
        around = {"TMPDIR": str(self.temporary), "CONVSCOPE_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
        with self.log.open("wb") as said:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=os.environ | around
            )
        self.port, self.token = 0, ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def wait(self) -> None:
        """Until it answers; its port and its token are known then."""
        until = time.monotonic() + START_SECONDS
        while (found := re.search(r"http://127\.0\.0\.1:(\d+)/", self.said())) is None:
            if time.monotonic() > until or not self.lives():
                raise RuntimeError(f"the page did not start: {self.said()[-300:]}")
            time.sleep(0.02)
        self.port = int(found[1])
        page = self.exchange(self.head("GET", "/"), until - time.monotonic()).data.decode("utf-8", "replace")
        self.token = re.findall(r'name="convscope-token" content="([^"]+)"', page)[0]

    def head(self, method: str, address: str, *more: str, length: int | None = None) -> bytes:
        """An honest request without its body, on a connection of its own; with the token where it brings a body."""
        lines = [f"{method} {address} HTTP/1.1", f"Host: 127.0.0.1:{self.port}", "Connection: close", *more]
        if length is not None:
            lines += [f"Content-Length: {length}", f"X-Convscope-Token: {self.token}"]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def connect(self, seconds: float = 30.0) -> socket.socket:
        """A connection on which nothing takes longer than ``seconds``."""
        return socket.create_connection(("127.0.0.1", self.port), seconds)

    def exchange(self, data: bytes, seconds: float = 30.0) -> Reply:
        """Send a request whole, and read until the other side ends."""
        with self.connect(seconds) as talk:
            talk.sendall(data)
            return received(talk, seconds)

    def lives(self) -> bool:
        return self.process.poll() is None

    def said(self) -> str:
        """All that it printed."""
        return self.log.read_text("utf-8", "replace")

    def taken(self) -> Taken:
        """What it holds now."""
        place = Path(f"/proc/{self.process.pid}")
        threads = list((place / "task").iterdir())
        children = [pid for thread in threads for pid in (thread / "children").read_text().split()]
        memory = [Path(f"/proc/{pid}/status").read_text() for pid in (str(self.process.pid), *children)]
        return Taken(
            sum(int(text.partition("RssAnon:")[2].split()[0]) << 10 for text in memory if "RssAnon:" in text),
            len(threads),
            len(list((place / "fd").iterdir())),
            len(children),
            tuple(sorted(path.name for path in self.temporary.iterdir())),
        )

    def stop(self) -> str:
        """End it as Ctrl-C does. What is wrong with how it ended, in a sentence; empty where nothing is."""
        self.process.send_signal(signal.SIGINT)
        try:
            code = self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(END_SECONDS)
            return f"the server did not end within {END_SECONDS:.0f} s of Ctrl-C"
        return "" if code in (0, 130) else f"the server ended with code {code}"


def received(talk: socket.socket, seconds: float, most: int | None = None, quiet: float = 0.2) -> Reply:
    """What comes until the other side ends, ``most`` bytes are there, or nothing comes: ``quiet`` s after an answer."""
    data, until = bytearray(), time.monotonic() + seconds
    try:
        while most is None or len(data) < most:
            talk.settimeout(max(0.01, min(until - time.monotonic(), quiet if b"HTTP/1.1 " in data else seconds)))
            piece = talk.recv(65_536)
            if not piece:
                return Reply(bytes(data), True)
            data += piece
    except TimeoutError:
        return Reply(bytes(data), False)
    except OSError:
        return Reply(bytes(data), True)
    return Reply(bytes(data), False)
