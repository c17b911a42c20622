"""Gifts: files and folders as somebody might send them, each given to every reader of its kind, a sample to commands.

It holds that no code of theirs runs, nothing outside is opened or changed, little is spent, and one sentence is said.
"""

from __future__ import annotations

import hashlib
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from torture import gift_archives, gift_boxes, gift_pickles, gift_runs, gift_tensors, gift_texts
from torture.attempts import Attempt
from torture.gift import Generator, Gift, Yard
from torture.gift_reading import Outcome, Question, Reading
from torture.witness import Trap

MOST_SECONDS, MOST_MEGABYTES = 5.0, 512.0  # of computing, and beyond what a process with everything imported takes
WORK_MEGABYTES = 1536.0  # of a command that does its work on what it was given, and takes the time of that work
LONGEST = 2000  # characters of a sentence
COMMANDS_OF = 4  # of so many gifts of a kind one is given to a command
CODES = (0, 2, 65, 69, 71, 73, 74, 76)

RUNS, NEW = "runs", "new"  # a kind; the name of a run that a command is to make
BASE = "train digits --name base --model resnet20 --width 4 --image-size 16 --epochs 1 --flip none --limit 60"

KINDS: dict[str, Generator] = {
    "pickles": gift_pickles.pickled,
    "CIFAR batches": gift_pickles.cifar_folder,
    "zip files": gift_archives.zipped,
    "tar files": gift_archives.tarred,
    "safetensors headers": gift_tensors.tensor_header,
    "sealed classifiers": gift_tensors.sealed,
    "JSON": gift_texts.json_file,
    "curves": gift_texts.curve,
    "TensorBoard events": gift_texts.events,
    "tables": gift_texts.table,
    "Parquet": gift_texts.parquet,
    "corrections": gift_texts.corrections,
    "YAML": partial(gift_boxes.boxes, "YAML"),
    "VOC's XML": partial(gift_boxes.boxes, "VOC's XML"),
    "COCO's JSON": partial(gift_boxes.boxes, "COCO's JSON"),
    "YOLO's text": partial(gift_boxes.boxes, "YOLO's text"),
    "data folders": gift_boxes.data_folder,
    RUNS: gift_runs.run,
    "stores and packs": gift_runs.store,
    "studies": gift_runs.study,
    "exports": gift_runs.export,
}
TAKEN = "--width 4 --input-size 16 --mean 0.5 0.5 0.5 --std 0.2 0.2 0.2"
ADOPTED = f"adopt resnet20 {TAKEN} --classes names.txt --weights sound.safetensors --name base"
MORE = (
    "evaluate base", "explain base --seeds 0 --ablate 0 --layer conv1", "diagnose base",
    "explain base --image photo.png",
    "localize base photos",
)  # fmt: skip
WHOLE = 24  # attempts, up to which the run that is forged is an adopted one: training needs seconds
COMMANDS: tuple[tuple[str, ...], ...] = tuple(
    tuple(line.split())
    for line in (
        "doctor GIFT --no-labels", "train GIFT --model resnet20 --width 4 --image-size 16 --epochs 1 --name new",
        "train digits --corrections GIFT --model resnet20 --width 4 --image-size 16 --epochs 1 --limit 60 --name new",
        "train --resume --name GIFT digits", "evaluate GIFT", "evaluate base GIFT", "predict GIFT photo.png",
        "predict base GIFT --csv answers.csv", "explain GIFT --seeds 0 --ablate 0 --layer conv1",
        "explain base --image GIFT", "explain resnet20 digits --weights GIFT", "localize base GIFT",
        "localize GIFT photos",
        "diagnose GIFT", "diagnose base --losses GIFT", "features digits --weights GIFT --limit 40 --engine torch",
        "features GIFT --limit 40 --engine torch", "transfer GIFT --limit 20 --name new", "study GIFT", "compare GIFT",
        "similar GIFT photo.png --engine torch", "similar base GIFT --engine torch", "compare GIFT base",
        "compare base GIFT",
        f"adopt resnet20 {TAKEN} --classes names.txt --weights GIFT --name new",
        "report --site site GIFT",
        f"adopt resnet20 {TAKEN} --classes GIFT --weights sound.safetensors --name new", "report GIFT",
        "adopt resnet20 --width 4 --classes names.txt --preprocess GIFT --weights sound.safetensors --name new",
        "serve GIFT --get /", "serve GIFT --get /runs/gift", "export GIFT --format safetensors",
        "export GIFT --format onnx", "models GIFT",
        "doctor digits --corrections GIFT --no-labels", "doctor GIFT --no-labels --task detection",
    )
)  # fmt: skip


def attack(seed: int, count: int, folder: Path) -> Iterator[Attempt]:
    """So many gifts, their kinds in turn."""
    if not count:
        return
    folder = folder.resolve()
    home, foreign, elsewhere = (folder / name for name in ("home", "foreign", "elsewhere"))
    for place in (home / "tmp", foreign, elsewhere):
        place.mkdir(parents=True)
    yard = Yard(home, foreign, elsewhere)
    _furnish(yard)
    giving = _Giving(seed, count, yard, Reading(home), Trap(foreign))
    try:
        yield from map(giving.attempt, range(count))
    finally:
        giving.reading.close()
        giving.trap.close()


def _furnish(yard: Yard) -> None:
    """The files that payloads point at, and those that commands are given beside a gift."""
    rng = np.random.default_rng(0)
    (yard.foreign / "secret.bin").write_bytes(rng.bytes(4096))
    (yard.foreign / "evil.py").write_text(f"open({yard.canary!r}, 'w')\n")
    (yard.home / "names.txt").write_text("cat\ndog\n")
    (yard.home / "photos").mkdir()
    gift_tensors.honest(yard.home)
    for path in (yard.elsewhere / "a.png", yard.home / "photo.png", yard.home / "photos" / "a.png"):
        gift_texts.image(path, rng)


def fingerprint(place: Path) -> bytes:
    """A hash of what a gift consists of."""
    digest = hashlib.sha256()
    for path in sorted(place.rglob("*")):
        digest.update(path.relative_to(place).as_posix().encode("utf-8", "surrogateescape"))
        if path.is_symlink():
            digest.update(str(path.readlink()).encode())
        elif path.is_file() and path.stat().st_size < 2**26:
            digest.update(path.read_bytes())
    return digest.digest()


@dataclass
class _Giving:
    """One attack: its gifts are made in ``yard``, given to ``reading``, and watched by ``trap``."""

    seed: int
    count: int
    yard: Yard
    reading: Reading
    trap: Trap
    seen: set[bytes] = field(default_factory=set)

    def attempt(self, i: int) -> Attempt:
        """The gift of that number, given to its readers or to a command."""
        kinds = list(KINDS)
        kind = kinds[(i + self.seed) % len(kinds)]
        turn, number = divmod(i, len(kinds))
        asked: tuple[str, ...] = ()
        if turn % COMMANDS_OF == COMMANDS_OF - 1:
            asked = COMMANDS[(turn // COMMANDS_OF * 5 + number * 7 + self.seed) % len(COMMANDS)]
        if "base" in asked or kind == RUNS:
            self.train()
        gift = self.made(kind, i)
        place = {"GIFT": str(gift.path), NEW: f"{NEW}-{i}"}
        words = tuple(place.get(word, word) for word in asked)
        self.trap.sprung()  # making it may have touched what it points at
        outcome = self.ask(str(gift.path), () if words else gift.readers, words)
        flaw = judged(outcome, self.trap.sprung(), Path(self.yard.canary))
        what = f"{kind} {self.seed}/{i}, {gift.what}" + (f", to {words[0]}" if words else "")
        return Attempt(what[:300], kind, flaw, outcome.seconds, max(0.0, outcome.megabytes))

    def made(self, kind: str, i: int) -> Gift:
        """A gift of a kind; drawn again where one like it was made before."""
        rng = np.random.default_rng([self.seed, i])
        while True:
            place = self.yard.home.parent / "gifts"
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
            gift = KINDS[kind](rng, place, self.yard)
            known = len(self.seen)
            self.seen.add(fingerprint(place))
            if len(self.seen) > known:
                return gift

    def train(self) -> None:
        """A sound run, once, which forged ones are copies of; in a long attack with all that commands write into it."""
        if (self.yard.home / "runs" / "base").is_dir():
            return
        for line in (BASE, *MORE) if self.count > WHOLE else (ADOPTED,):
            outcome = self.ask(str(self.yard.home / "x"), (), tuple(line.split()))
            assert [row["code"] for row in outcome.rows] == [0], outcome

    def ask(self, path: str, readers: tuple[str, ...], words: tuple[str, ...]) -> Outcome:
        """What came of a gift."""
        return self.reading.ask(Question(path, str(self.yard.home), str(self.yard.foreign), readers, words))


def judged(outcome: Outcome, touched: list[str], canary: Path) -> str:
    """What is wrong, in a sentence; empty where all held."""
    if canary.exists():
        canary.unlink() if not canary.is_dir() else canary.rmdir()
        return "its code ran"
    if touched or outcome.seen:
        return "; ".join([*touched, *outcome.seen])[:300]
    if outcome.status:
        ended = signal.Signals(outcome.status & 127).name if outcome.status & 127 else str(outcome.status >> 8)
        return f"the process ended by {ended}" + (", which hangs" if ended == "SIGALRM" else "")
    said = next(filter(None, map(wrong, outcome.rows)), "")
    if said:
        return said
    done = [(row["kind"], row["code"]) for row in outcome.rows] == [("command", 0)]
    if outcome.megabytes > (WORK_MEGABYTES if done else MOST_MEGABYTES):
        return f"took {outcome.megabytes:.0f} MB"
    return f"took {outcome.seconds:.1f} s of computing" if outcome.seconds > MOST_SECONDS and not done else ""


def wrong(row: dict) -> str:
    """What is wrong with one answer: it must be a sound reading or one sentence with its exit code."""
    said, code, reader = str(row["said"]), int(row["code"]), row["reader"]
    if row["kind"] == "raised" or code not in CODES:
        return f"{reader}: {said[-250:] or f'exit code {code}'}"
    if row["kind"] == "command":
        if "Traceback" in said or "a bug of convscope" in said:
            return f"{reader}: {said[-250:]}"
        sentences = [line for line in said.splitlines() if line.startswith("convscope: ")]
        listed = code == 65 and not sentences and row["told"]  # predict and compare tell of each file in their answer
        return (
            f"{reader}: {len(sentences)} sentences: {said[-200:]}"
            if code and len(sentences) != 1 and not listed
            else ""
        )
    if row["kind"] and ("\n" in said or not said or len(said) > LONGEST):
        return f"{reader}: no one sentence: {said[:200]!r}"
    return ""
