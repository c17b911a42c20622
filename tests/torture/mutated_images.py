"""Damaged images of every format, in every way that images are read: one verdict, the same pixels, and little cost.

An attempt is a small image of our own making, changed by one of the mutations. It holds where it is read everywhere,
with the same pixels, or refused everywhere with the same reason; within `SECONDS` of computing and `MEGABYTES`; and
without a warning, a line on standard error or the end of a process. ``CONVSCOPE_IMAGE_CORPUS`` names a folder of other
images to take in place of ours: each as it is first, and changed after that.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from page_client import HOST, request
from torture.attempts import Attempt
from torture.image_mutations import MUTATIONS, UNTOUCHED, Given
from torture.image_verdicts import Seen, flaw_of
from torture.image_ways import RUN
from torture.synthetic_images import KINDS, image, images, saved

BATCH = 100  # images a child
HANGS = 60.0  # seconds without an answer
LARGEST = 1 << 20  # bytes of a file of a corpus
CORPUS = "CONVSCOPE_IMAGE_CORPUS"
ENDINGS = tuple(ending for _, ending in KINDS.values())


@dataclass(frozen=True)
class Mutant:
    """A file that is tried: ``name`` within its folder, what it is counted with, and what was done to what.

    ``base`` is the file before, where nothing was done to it.
    """

    name: str
    group: str
    what: str
    content: bytes
    whole: bool


def attack(seed: int, count: int, folder: Path) -> Iterator[Attempt]:
    """See `torture.attempts`."""
    if not count:
        return
    _settle(folder)
    with Readers(folder) as readers:
        for start in range(0, count, BATCH):
            batch = [mutant(seed, i) for i in range(start, min(start + BATCH, count))]
            for one, seen in zip(batch, readers.read(batch), strict=True):
                flaw = flaw_of(seen, whole=one.whole)
                yield Attempt(one.what, one.group, flaw, seen.seconds, seen.megabytes)


def sources() -> dict[tuple[str, str], bytes]:
    """What is changed: our own images, or those of a corpus, by format and name."""
    place = os.environ.get(CORPUS)
    if not place:
        return images(*KINDS)
    root = Path(place)
    files = [path for path in sorted(root.rglob("*")) if path.is_file() and path.stat().st_size <= LARGEST]
    return {(_format(path), str(path.relative_to(root))): path.read_bytes() for path in files}


def _format(path: Path) -> str:
    found = {ending: kind for kind, (_, ending) in KINDS.items()} | {".jpeg": "JPEG", ".tiff": "TIFF", ".heif": "HEIC"}
    return found.get(path.suffix.lower(), "others")


def mutant(seed: int, i: int) -> Mutant:
    """Attempt ``i`` of a seed: every source has its turn, in an order of the seed's, before one has its second."""
    held = sources()
    random = np.random.default_rng([seed, i])
    keys = list(held)
    order = np.random.default_rng([seed, i // len(keys), 7]).permutation(len(keys))
    kind, name = keys[order[i % len(keys)]]
    other = held[keys[random.integers(len(keys))]]
    todo = list(MUTATIONS)[random.integers(len(MUTATIONS))]
    from_corpus = CORPUS in os.environ
    if from_corpus and i < len(keys):
        todo = UNTOUCHED
    content = MUTATIONS[todo](Given(held[kind, name], kind, other, random))
    ending = ENDINGS[random.integers(len(ENDINGS))] if todo == UNTOUCHED else _ending(kind)
    what = f"seed {seed}, attempt {i}: {kind} {name}, {todo}"
    return Mutant(f"{'ab'[i % 2]}/{i}{ending}", kind, what, content, todo == UNTOUCHED and not from_corpus)


def _ending(kind: str) -> str:
    return KINDS[kind][1] if kind in KINDS else ".png"


def _settle(folder: Path) -> None:
    """A run that answers about images, in ``folder``."""
    import convscope

    convscope.train("digits", runs=folder / "runs", name=RUN, width=4, epochs=1, limit=120)


class Readers:
    """Who reads images in each way: a process whose children do, and the page with a decoder of its own."""

    def __init__(self, folder: Path) -> None:
        from convscope.page.application import application
        from convscope.page.routes import Page
        from convscope.page.served import Served

        self.folder, self.batches = folder, 0
        self.page = Page(Served(folder / "runs"))
        self.application = application(self.page, [HOST])
        self.environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, sys.path)]),
            "CONVSCOPE_CACHE": str(folder / "cache"),
            "OMP_NUM_THREADS": "1",
        }
        self.process: subprocess.Popen[bytes] | None = None
        self._start()

    def __enter__(self) -> Readers:
        return self

    def __exit__(self, *_: object) -> None:
        self.page.close()
        self._end()

    def _start(self) -> None:
        command = [sys.executable, "-m", "torture.image_ways", str(self.folder / "runs")]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=self.environment, bufsize=0
        )
        self.left = b""
        self._line(HANGS)

    def _end(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            for stream in (self.process.stdin, self.process.stdout):
                if stream is not None:
                    stream.close()

    def _line(self, seconds: float) -> dict[str, Any]:
        """The next answer; TimeoutError or EOFError without one."""
        assert self.process is not None
        assert self.process.stdout is not None
        until = time.monotonic() + seconds
        while b"\n" not in self.left:
            if not select.select([self.process.stdout], [], [], max(0.0, until - time.monotonic()))[0]:
                raise TimeoutError
            piece = os.read(self.process.stdout.fileno(), 1 << 16)
            if not piece:
                raise EOFError
            self.left += piece
        line, _, self.left = self.left.partition(b"\n")
        return json.loads(line)

    def read(self, batch: list[Mutant]) -> list[Seen]:
        """What every way makes of each image, in order."""
        self.batches += 1
        place = self.folder / str(self.batches) / "images"
        for i, name in enumerate(("a/whole.png", "b/whole.png")):
            (place / name).parent.mkdir(parents=True)
            (place / name).write_bytes(saved(image(50 + i), "PNG"))
        for one in batch:
            (place / one.name).write_bytes(one.content)
        seen: dict[str, Seen] = {}
        while left := [one.name for one in batch if one.name not in seen]:
            seen |= self._read_some(place, left)
        for one in batch:
            seen[one.name].ways["the page"] = self._asked(one.content)
            (place / one.name).unlink(missing_ok=True)
        return [seen[one.name] for one in batch]

    def _read_some(self, place: Path, names: list[str]) -> dict[str, Seen]:
        """What a child makes of files, up to the one that ends it."""
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"folder": str(place), "names": names}).encode() + b"\n")
        seen: dict[str, Seen] = {}
        now, child, hangs, broke = names[0], 0, False, ""
        while True:
            try:
                line = self._line(HANGS)
            except TimeoutError:
                hangs = True
                os.kill(child, signal.SIGKILL)
                continue
            now, child = line.get("at", now), line.get("child", child)
            broke = line.get("broke", broke)
            if "name" in line:
                seen[now] = Seen(line["ways"], line["seconds"], line["megabytes"], line["noise"])
            elif "folder" in line:
                _put_together(seen, line)
            elif "ended" in line:
                break
        if line["ended"]:
            signalled = f"signal {line['ended'] & 127}" if line["ended"] & 127 else "an error"
            died = "it hangs" if hangs else f"the process ends with {signalled}{': ' + broke if broke else ''}"
            blamed = now or names[-1]
            seen[blamed] = Seen({}, died=died + ("" if now else ", once the folder is read as a whole"))
            (place / blamed).unlink()
        return seen

    def _asked(self, content: bytes) -> dict[str, Any]:
        """What the page answers to an image that is given to it."""
        headers = [("host", HOST), ("x-convscope-token", self.page.served.token)]
        answer = request(self.application, f"/runs/{RUN}/ask", "POST", headers, [content])
        if answer.status == 200:
            found = answer.json()
            return {"ok": {"pixels": found["pixels"], "top": [[r["label"], r["probability"]] for r in found["top"]]}}
        if answer.status == 422:
            return {"no": answer.json()["error"].removeprefix("the image: "), "passing": False}
        return {"broke": f"status {answer.status}: {answer.text[:200]}"}


def _put_together(seen: dict[str, Seen], line: dict[str, Any]) -> None:
    """What was found of the whole folder, put to each of its files."""
    for way, found in line["folder"].items():
        for name, one in seen.items():
            if name in found:
                one.ways[way] = found[name]
            elif way == "packing":
                one.ways[way] = {"no": None, "passing": False}
    if line["noise"]:
        last = list(seen)[-1]
        seen[last].noise = f"{seen[last].noise}; of the folder: {line['noise']}"
