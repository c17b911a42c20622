"""What the surprises are tried on: small images, a run that was trained on them, and each command there is."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from torture.odd_child import Ended, OddMachine

TINY = "--width 4 --image-size 16 --epochs 2"
SMALL = "--image-size 64 --engine torch"
# By the word that is typed; NAME is a run that is there, PLAIN one that is not. A command may have several lines.
COMMANDS: dict[str, str] = {
    "doctor": "doctor images",
    "train": f"train images --name new {TINY}",
    "evaluate": "evaluate r",
    "predict": "predict r images/test --csv answers.csv",
    "explain": "explain r --seeds 0 --ablate 0 --count 2 --layer conv1 --filter 0",
    "localize": "localize r images",
    "diagnose": "diagnose r --images 2",
    "features": f"features images {SMALL}",
    "transfer": f"transfer images --name t --quick {SMALL}",
    "study": "study toy --html",
    "similar": "similar r images/test/checks/0.png --engine torch",
    "compare": "compare r other",
    "adopt": "adopt alexnet --width 4 --weights weights.safetensors --classes classes.txt --name a "
    "--input-size 16 --mean .5 .5 .5 --std .2 .2 .2 --fit squash",
    "report": "report r",
    "serve": "serve --get /runs/r",
    "export": "export r --format safetensors",
    "models": "models resnet20",
}


def draw(root: Path, names: tuple[str, ...] = ("checks", "stripes"), each: int = 8, tests: int = 4) -> Path:
    """Small images of a few classes that a network can tell apart, with an own folder of tests."""
    rng = np.random.default_rng(0)
    for part, count in (("train", each), ("test", tests)):
        for k, name in enumerate(names):
            (root / part / name).mkdir(parents=True)
            for i in range(count):
                y, x = np.mgrid[:24, :24] + int(rng.integers(0, 40))
                width = int(rng.integers(3, 6))
                lit = (x // width + (y // width) * (k % 2)) % 2 if k < 2 else y // (2 * width) % 2
                image = (200 * lit[..., None] * rng.uniform(0.3, 1, 3)).astype(np.uint8)
                Image.fromarray(image).save(root / part / name / f"{i}.png")
    return root


def images(folder: Path) -> list[Path]:
    """The images of a folder for one attempt."""
    return sorted((folder / "images").rglob("*.png"))


class Ground:
    """A folder with images, two runs and warm caches, of which each attempt gets a copy."""

    def __init__(self, machine: OddMachine, folder: Path) -> None:
        self.machine, self.folder = machine, folder
        self.before, self._compiled = folder / "before", folder / "compiled"
        self.before.mkdir(parents=True)
        draw(self.before / "images")
        self.must(self.before, f"train images --name r {TINY}".split())
        shutil.copy(self.before / "runs" / "r" / "classifier.safetensors", self.before / "weights.safetensors")
        (self.before / "classes.txt").write_text("checks\nstripes\n", encoding="utf-8")
        rows = [f"{path.relative_to(self.before).as_posix()},{path.parent.name}" for path in images(self.before)]
        (self.before / "table.csv").write_text("\n".join(["path,label", *rows, ""]), encoding="utf-8")

    def prepare(self, line: str) -> None:
        """Make the runs that a line needs beside r: another one, and one that was stopped."""
        words, runs = line.split(), self.before / "runs"
        if "other" in words and not (runs / "other").exists():
            self.must(self.before, f"train images --name other --seed 1 {TINY}".split())
        if "half" in words and not (runs / "half").exists():
            line = f"train images --name half {TINY}".replace("epochs 2", "epochs 4")
            stopped = self.machine.one(self.before, line.split(), stopped=12)
            if stopped.code != 143:
                raise RuntimeError(f"a training was not stopped: {stopped.code}, {stopped.err.strip()}")

    def must(self, folder: Path, words: list[Any], **odd: Any) -> Ended:
        """Run a command that has to work."""
        ended = self.machine.one(folder, words, **odd)
        if ended.code:
            raise RuntimeError(f"{' '.join(map(str, words))}: {ended.err.strip()}")
        return ended

    def copy(self, *lines: str) -> Path:
        """A copy for one attempt of commands."""
        for line in lines:
            self.prepare(line)
        folder = self.empty()
        shutil.copytree(self.before, folder, dirs_exist_ok=True)
        return folder

    def empty(self) -> Path:
        """A folder for one attempt with nothing in it but the loops that were compiled already.

        A run says where its images lie, so attempts that are compared lie one after the other in the same folder.
        """
        number = next(n for n in range(1, 100) if not (self.folder / f"attempt-{n}").exists())
        folder = self.folder / f"attempt-{number}"
        folder.mkdir()
        if self._compiled.exists():
            shutil.copytree(self._compiled, folder / "cache" / "compiled")
        return folder

    def compile(self) -> None:
        """Compile the loops that an explanation needs, once for all attempts: it takes longer than the rest of them."""
        if not self._compiled.exists():
            folder = self.copy()
            self.must(folder, COMMANDS["explain"].split())
            shutil.copytree(folder / "cache" / "compiled", self._compiled)
            shutil.rmtree(folder)


def sentence_wrong(ended: Ended, codes: set[int]) -> str:
    """What is wrong about a refusal: another exit code, a traceback, more or less than one sentence; "" if nothing."""
    told = [line for line in ended.err.strip().splitlines() if line.startswith("convscope: ")]
    if ended.code not in codes:
        last = ended.err.strip().splitlines()[-1:] or ["nothing was said"]
        return f"exit code {ended.code} and not {sorted(codes)}: {last[0][:300]}"
    if "Traceback" in ended.err + ended.out or "this is a bug" in ended.err:
        return f"a bug was met: {ended.err.strip()[-300:]}"
    if len(told) != 1 or len(told[0]) > 900:
        return f"it is told in {len(told)} sentences, of {max(map(len, told), default=0)} letters"
    return ""
