"""The commands that are killed, what has to be there before each, and whether one that was killed is gone on with.

A command is run undisturbed once; each kill begins with a copy of the folder before it, types the command again, and
compares what remains. A training is gone on with as its refusal says.
"""

from __future__ import annotations

import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from kill_points import Ended, Killer, remains
from small_targets import discs

KILLED, TAKEN = -9, 73
TRAIN = "--width 4 --image-size 16 --epochs 2"
TRANSFER = "transfer IMAGES --image-size 64 --engine torch"
A_RUN = f"train IMAGES --name r {TRAIN}"
ANOTHER = f"train IMAGES --name s --seed 1 {TRAIN}"
OF_DIGITS = "train digits --limit 400 --width 4 --epochs 1 --name r"
EXAMINED = "doctor IMAGES"
SHORTER = 0.6  # of the time until a kill that came after the end
TRIES = 12


@dataclass(frozen=True)
class Command:
    """What is typed, and before it ``first``, line by line; the slow test kills at one turn of so many, ``every``."""

    typed: str
    first: tuple[str, ...] = ()
    every: int = 1


COMMANDS: dict[str, Command] = {
    "study": Command("study toy --html"),
    "features": Command("features IMAGES --image-size 64 --engine torch"),
    "doctor": Command(EXAMINED),
    "train": Command(f"train IMAGES --name r --watch --keep-epochs 1 --lr auto {TRAIN}"),
    "train by a stream": Command(f"train IMAGES --name r --stream {TRAIN}", every=3),
    "evaluate": Command("evaluate r", (A_RUN,)),
    "diagnose": Command("diagnose r --images 2", (A_RUN,)),
    "export": Command("export r --format safetensors", (A_RUN,)),
    "export onnx": Command("export r", (A_RUN,)),
    "explain": Command("explain r --seeds 1 --ablate 4 --count 2", (A_RUN,)),
    "explain an image": Command("explain r --image IMAGES/test/checks/0.png", (A_RUN,)),
    "transfer": Command(f"{TRANSFER} --name t"),
    "transfer without a name": Command(TRANSFER, every=2),
    "transfer with cards": Command(f"{TRANSFER} --name t --cards", every=2),
    "transfer with a budget": Command(f"{TRANSFER} --name t --budget 5", every=5),
    "transfer to masks": Command("transfer MASKED --image-size 64 --engine torch --name t --budget 5", every=5),
    "doctor again": Command(EXAMINED, (EXAMINED,)),
    "page marks": Command("page-marks", (EXAMINED,)),
    "page evaluates": Command("page-evaluates", (A_RUN,)),
    "compare": Command("compare r s", (A_RUN, ANOTHER)),
    "localize": Command("localize r IMAGES", (A_RUN,)),
    "report": Command("report r", (A_RUN, "evaluate r")),
    "report as a site": Command("report r --site site", (A_RUN,)),
    "report as a site again": Command("report r --site site", (A_RUN, "report r --site site")),
    "predict": Command("predict r IMAGES/test --csv answers.csv --copy-to sorted", (A_RUN,)),
    "predict what is familiar": Command("predict r IMAGES/test/checks/0.png --coverage 0.9", (OF_DIGITS,)),
    "train with more images": Command(f"train MORE --continue-from r --name c {TRAIN[-10:]}", (A_RUN,)),
}


def make_images(root: Path) -> Path:
    """24 small images of two classes, with an own test folder; beside them as many with masks, and twice as many."""
    discs(root.parent / "masked", 24)
    _make(root, (8, 4))
    _make(root.parent / "more", (16, 4))
    return root


def _make(root: Path, counts: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    for part, count in zip(("train", "test"), counts, strict=True):
        for name in ("checks", "stripes"):
            (root / part / name).mkdir(parents=True)
            for i in range(count):
                y, x = np.mgrid[:24, :24] + int(rng.integers(0, 40))
                width = int(rng.integers(3, 6))
                lit = (x // width + y // width) % 2 if name == "checks" else x // width % 2
                image = (200 * lit[..., None] * rng.uniform(0.3, 1, 3)).astype(np.uint8)
                Image.fromarray(image).save(root / part / name / f"{i}.png")


@dataclass(frozen=True)
class Undisturbed:
    """A command that nothing disturbed: its words, the folder before it, what remained, and how it ended.

    It ran in ``place``, where those that are killed run too: places stand in records.
    """

    words: list[str]
    before: Path
    place: Path
    remained: dict[str, str]
    ended: Ended


class Undisturbeds:
    """The commands of the table over ``images``, each run when it is asked for; what they need before is made once."""

    def __init__(self, killer: Killer, images: Path, folder: Path) -> None:
        self.killer, self.images, self.folder = killer, images, folder
        self._made: dict[str, Undisturbed] = {}
        self._before: dict[tuple[str, ...], Path] = {}

    def of(self, name: str) -> Undisturbed:
        """The command of that name in the table."""
        if name not in self._made:
            before, words = self.before(COMMANDS[name].first), self.words(COMMANDS[name].typed)
            place = self.folder / "here"
            shutil.rmtree(place, ignore_errors=True)
            shutil.copytree(before, place)
            ended = self.killer.run(place, words)
            assert ended.code == 0, ended.said
            self._made[name] = Undisturbed(words, before, place, remains(place), ended)
        return self._made[name]

    def before(self, lines: tuple[str, ...]) -> Path:
        """A folder in which these lines were typed."""
        if lines not in self._before:
            folder = self.folder / f"before-{len(self._before)}"
            folder.mkdir(parents=True)
            for line in lines:
                ended = self.killer.run(folder, self.words(line))
                assert ended.code == 0, ended.said
            self._before[lines] = folder
        return self._before[lines]

    def words(self, line: str) -> list[str]:
        """The words of a line, with the places of the images in them."""
        places = {"IMAGES": self.images, "MASKED": self.images.parent / "masked", "MORE": self.images.parent / "more"}
        return [next((w.replace(k, str(p)) for k, p in places.items() if k in w), w) for w in line.split()]


def flaw_of(killer: Killer, whole: Undisturbed, last: int | str = 0, after: float | None = None) -> tuple[Ended, str]:
    """Kill a command, type it again, and compare: how it ended then, and what is wrong, in words.

    ``after`` is a time in seconds; where the command was over by then, it is killed sooner.
    """
    killed, folder = _killed(killer, whole, last, after), whole.place
    if killed.code != KILLED:
        return killed, f"it was not killed: exit code {killed.code}: {killed.said}"
    lost = unkept(folder, killed.said)
    if not lost and remains(folder) == whole.remained:  # it had nothing left to do but to say so
        return killed, ""
    ended = killer.run(folder, whole.words)
    if whole.words[0] == "train" and ended.code == TAKEN:
        told = re.search(r"go on with it by (convscope .*), or choose", ended.said)
        if told is None:
            return ended, f"how to go on is not told: {ended.said}"
        ended = killer.run(folder, shlex.split(told[1])[1:])
    if ended.code != 0:
        return ended, f"typed again it ends with exit code {ended.code}: {ended.said}"
    found = remains(folder)
    paths = sorted(found.keys() | whole.remained.keys())
    others = [path for path in paths if found.get(path) != whole.remained.get(path)]
    if lost or others:
        told = f"announced but not there: {', '.join(lost)}; " if lost else ""
        return ended, told + (f"other than undisturbed: {', '.join(others)}" if others else "")
    return ended, ""


def _killed(killer: Killer, whole: Undisturbed, last: int | str, after: float | None) -> Ended:
    for _ in range(TRIES):
        shutil.rmtree(whole.place)
        shutil.copytree(whole.before, whole.place)
        killed = killer.run(whole.place, whole.words, last, after)
        if killed.code == KILLED or after is None:
            break
        after *= SHORTER
    return killed


def unkept(folder: Path, said: str) -> list[str]:
    """What a command in a folder announced as saved that is not there: files, epochs, marks."""
    files: list[str] = []
    for place, names in re.findall(r"^(?:written|run): (\S+)(?: \((.*?)\))?", said, re.MULTILINE):
        names = [name for name in names.split(", ") if re.fullmatch(r"[\w-]+\.\w+", name)]
        files += [f"{place}/{name}" for name in names] or [place.rstrip(",")]
    lost = [file for file in files if not (folder / file).exists()]
    epochs = re.findall(r"^epoch +(\d+)/", said, re.MULTILINE)
    logged = sum(log.read_text(encoding="utf-8").count("\n") for log in folder.glob("runs/*/log.jsonl"))
    if epochs and (logged < int(epochs[-1]) or not any(folder.glob("runs/*/checkpoints/step-*"))):
        lost.append(f"epoch {epochs[-1]}")
    return lost + _unmarked(folder, said)


def _unmarked(folder: Path, said: str) -> list[str]:
    marks = dict(re.findall(r"^marked (\w+) ([\w-]+)", said, re.MULTILINE))
    for digest, action in re.findall(r"^marking (\w+) ([\w-]+)\n?\Z", said, re.MULTILINE):
        marks.pop(digest, action)  # it was at work on this one
    there = "".join(path.read_text(encoding="utf-8") for path in folder.glob("runs/*/doctor/corrections*.csv"))
    rows = dict(re.findall(r"^(\w{64}),([\w-]+)", there, re.MULTILINE))
    return [f"{digest[:8]} {action}" for digest, action in marks.items() if rows.get(digest, "keep") != action]
