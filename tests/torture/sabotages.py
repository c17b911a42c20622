"""Faults put into the code on purpose, one at a time, each with the tests that have to turn red.

A sabotage is a text of one file of src/convscope that is replaced by another. Its tests are run on a copy of the code:
a red one is what is wanted; green tests, or tests that cannot be run at all, are a flaw of the tests.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from torture.attempts import Attempt
from torture.planted_faults import SABOTAGES, Sabotage

ROOT = Path(__file__).resolve().parents[2]
LONGEST = 280  # seconds of the tests of one sabotage
STUCK = 150  # seconds after which a test that goes on says where it stands
RED, GREEN = 1, 0  # exit codes of pytest
BROKEN = re.compile(r"error(s)? during collection|ImportError while loading|SyntaxError")


@dataclass(frozen=True)
class Copy:
    """A copy of the code and its tests, in which one file at a time is changed."""

    folder: Path

    @classmethod
    def made(cls, folder: Path) -> Copy:
        """The copy in an empty folder; what tests read beside the code is linked."""
        for name in ("src", "tests"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("docs", "bench", "examples", "pyproject.toml", "README.md", "CONTRIBUTING.md", "Makefile"):
            (folder / name).symlink_to(ROOT / name)
        return cls(folder)

    def tested(self, sabotage: Sabotage) -> subprocess.CompletedProcess[str]:
        """Run the tests of a sabotage on the code with it, and put the code back."""
        path = self.folder / "src" / "convscope" / sabotage.file
        sound = path.read_text(encoding="utf-8")
        path.write_text(sabotaged(sound, sabotage), encoding="utf-8")
        try:
            return self.run(sabotage.tests)
        finally:
            path.write_text(sound, encoding="utf-8")

    def run(self, tests: str) -> subprocess.CompletedProcess[str]:
        """Run tests, named as for pytest, until the first red one."""
        words = [
            sys.executable,
            "-B",
            "-m",
            "pytest",
            "-x",
            "-q",
            "-n",
            "0",
            "-p",
            "no:cacheprovider",
            "-m",
            "not browser",
            "-o",
            f"faulthandler_timeout={STUCK}",
        ]
        names, _, wanted = tests.partition(" -k ")
        chosen = [*(f"tests/{name}" for name in names.split()), *(["-k", wanted] if wanted else [])]
        places = os.pathsep.join(str(self.folder / name) for name in ("src", "tests", "docs"))
        return subprocess.run(
            [*words, *chosen],
            cwd=self.folder,
            env=os.environ | {"PYTHONPATH": places, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=LONGEST,
        )


def sabotaged(text: str, sabotage: Sabotage) -> str:
    """The text with the fault in it; ValueError where the place of the fault is not there exactly once."""
    if text.count(sabotage.old) != 1:
        raise ValueError(f"{sabotage.file} holds {sabotage.old!r} {text.count(sabotage.old)} times and not once")
    return text.replace(sabotage.old, sabotage.new)


def flaw(ended: subprocess.CompletedProcess[str]) -> str:
    """What is wrong with tests that ended so on sabotaged code; empty where one of them was red."""
    if ended.returncode == GREEN:
        return "no test turned red"
    if ended.returncode != RED or BROKEN.search(ended.stdout + ended.stderr):
        return f"its tests could not be run: {(ended.stdout + ended.stderr).strip()[-300:]}"
    return ""


def attack(seed: int, count: int, folder: Path) -> Iterator[Attempt]:
    """Each sabotage once, in an order that the seed chooses; then again. A few are of those with one file of tests."""
    names = [name for name, one in SABOTAGES.items() if count >= len(SABOTAGES) or one.tests.count(".py") == 1]
    order = np.random.default_rng(seed).permutation(len(names))
    copy = Copy.made(folder)
    for i in range(count):
        name = names[order[i % len(names)]]
        sabotage = SABOTAGES[name]
        try:
            yield Attempt(name, sabotage.file.split("/")[0], flaw(copy.tested(sabotage)))
        except subprocess.TimeoutExpired as late:
            told = (late.stdout or b"") + (late.stderr or b"")
            flaw_of = f"its tests did not end in {LONGEST} s: {told.decode(errors='replace').strip()[-1500:]}"
            yield Attempt(name, sabotage.file.split("/")[0], flaw_of)
        except ValueError as error:
            yield Attempt(name, sabotage.file.split("/")[0], str(error)[:300])
