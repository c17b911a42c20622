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
import shutil
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
STARTS = 300.0  # seconds until all is loaded
LARGEST = 1 << 20  # bytes of a file of a corpus
CORPUS = "CONVSCOPE_IMAGE_CORPUS"
ENDINGS = tuple(ending for _, ending in KINDS.values())


@dataclass(frozen=True)
class Mutant:
    """A file that is tried: ``name`` within its folder, what it is counted with, and what was done to what.

    One that is ``whole`` has to be read.
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
    with Children(folder / "runs", folder) as children:
        _settle(folder / "runs")
        with Asked(folder / "runs") as page:
            for start in range(0, count, BATCH):
                batch = [mutant(seed, i) for i in range(start, min(start + BATCH, count))]
                seen = read(folder / str(start), batch, children, page)
                for one in batch:
                    found = seen[one.name]
                    flaw = flaw_of(found, whole=one.whole)
                    yield Attempt(one.what, one.group, flaw, found.seconds, found.megabytes)


def read(place: Path, batch: list[Mutant], children: Children, page: Asked) -> dict[str, Seen]:
    """What every way makes of each image of a batch, by name. They lie in ``place`` meanwhile."""
    for i, name in enumerate(("a/whole.png", "b/whole.png")):  # a folder without an image that can be read is refused
        (place / name).parent.mkdir(parents=True)
        (place / name).write_bytes(saved(image(50 + i), "PNG"))
    for one in batch:
        (place / one.name).write_bytes(one.content)
    seen = children.read(place, [one.name for one in batch])
    for one in batch:
        seen[one.name].ways["the page"] = page.answer(one.content)
    shutil.rmtree(place)
    return seen


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


def _settle(runs: Path) -> None:
    """A run that answers about images."""
    import convscope

    convscope.train("digits", runs=runs, name=RUN, width=4, epochs=1, limit=120)


class Children:
    """A process whose children read images, in every way but the page's; ``program`` is what Python is given."""

    def __init__(self, runs: Path, folder: Path, program: tuple[str, ...] = ("-m", "torture.image_ways")) -> None:
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, sys.path)]),
            "CONVSCOPE_CACHE": str(folder / "cache"),
            "OMP_NUM_THREADS": "1",
        }
        self.left, self.ready = b"", False
        self.process = subprocess.Popen(
            [sys.executable, *program, str(runs)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            bufsize=0,
        )

    def __enter__(self) -> Children:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()

    def _line(self, seconds: float) -> dict[str, Any]:
        """The next answer; TimeoutError or EOFError without one."""
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

    def read(self, place: Path, names: list[str]) -> dict[str, Seen]:
        """What every way but the page makes of each file of a folder; those that end a process are removed from it."""
        if not self.ready:
            self._line(STARTS)
            self.ready = True
        seen: dict[str, Seen] = {}
        while left := [name for name in names if name not in seen]:
            seen |= self._read_some(place, left)
        return seen

    def _read_some(self, place: Path, names: list[str]) -> dict[str, Seen]:
        """What a child makes of files, up to the one that ends it."""
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


class Asked:
    """A page that is asked about images, with a decoder of its own."""

    def __init__(self, runs: Path) -> None:
        from convscope.page.application import application
        from convscope.page.routes import Page
        from convscope.page.served import Served

        self.page = Page(Served(runs))
        self.application = application(self.page, [HOST])

    def __enter__(self) -> Asked:
        return self

    def __exit__(self, *_: object) -> None:
        self.page.close()

    def answer(self, content: bytes) -> dict[str, Any]:
        """What the page answers to an image that is given to it."""
        headers = [("host", HOST), ("x-convscope-token", self.page.served.token)]
        answer = request(self.application, f"/runs/{RUN}/ask", "POST", headers, [content])
        if answer.status == 200:
            found = answer.json()
            return {"ok": {"pixels": found["pixels"], "top": [[r["label"], r["probability"]] for r in found["top"]]}}
        if answer.status == 400 and not content:
            return {"no": "empty file", "passing": False}  # in its words: there is no image in this request
        if answer.status == 422:
            return {"no": answer.json()["error"].removeprefix("the image: "), "passing": False}
        return {"broke": f"status {answer.status}: {answer.text[:200]}"}
