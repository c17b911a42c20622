"""The clock set back or forward by years, before or amid a command: nothing but dates changes, and nothing is stale."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from kill_points import _timeless as without_times
from kill_points import remains
from torture.odd_ground import COMMANDS, TINY, Ground

YEAR = 365 * 24 * 3600
SHIFTS = {"10 years back": -10 * YEAR, "10 years on": 10 * YEAR, "an hour back": -3600, "to 1970": -56 * YEAR}
LINES = {
    **{n: COMMANDS[n] for n in ("train", "evaluate", "diagnose", "transfer", "features", "report", "export", "doctor")},
    "go on": "train images --name half --resume",
    "watch": f"train images --name w --watch {TINY}",
    "serve": "serve --get /runs/r.json",
    "serve all": "serve --get /",
    "study": "study toy --html",
    "explain": COMMANDS["explain"],
}
AFTER = (0, 1, 3, 6)  # renamings


def shifted(ground: Ground, name: str, shift: str, after: int) -> str:
    """What is wrong after a command whose clock was set at its start (0) or after so many of its files."""
    if name == "explain":
        ground.compile()
    true = ground.copy(LINES[name])
    first = ground.machine.one(true, LINES[name].split())
    once = ground.machine.one(true, "evaluate r --json".split())
    there = remains(true)
    shutil.rmtree(true)
    folder = ground.copy()
    ended = ground.machine.one(folder, LINES[name].split(), clock={"seconds": SHIFTS[shift], "after": after})
    again = ground.machine.one(folder, "evaluate r --json".split())  # and the clock is right again
    here = remains(folder)
    shutil.rmtree(folder)
    if (first.code, once.code) != (0, 0):
        return f"with the true clock: {first.err.strip()[-200:] or once.err.strip()[-200:]}"
    if ended.code or again.code:
        return f"exit codes {ended.code} and then {again.code}: {(ended if ended.code else again).err.strip()[-300:]}"
    others = [path for path in sorted(there.keys() | here.keys()) if there.get(path) != here.get(path)]
    return f"{len(others)} files are others: {', '.join(others[:3])}" if others else ""


# ------------------------------------------------------------------------------------- the same time, another content

STALE = {
    "train": f"train images --name NAME {TINY}",
    "doctor": "doctor images --json",
    "predict": "predict r images/train --json",
    "similar": "similar r images/train/checks/0.bmp images --engine torch --json",
    "transfer": COMMANDS["transfer"].replace("--name t", "--name NAME"),
    "diagnose": "diagnose r images --images 2 --json",
    "localize": "localize r images --json",
}
BACK = {"the same time": 0, "ten years before": -10 * YEAR, "ten years after": 10 * YEAR}


def stale(ground: Ground, name: str, back: str, seed: int) -> str:
    """What is wrong where images were replaced by others of the same number of bytes and time, caches being warm.

    The command must answer as in a folder whose caches are empty.
    """
    folder, line = ground.copy(), STALE[name]
    _as_bitmaps(folder / "images")
    first = ground.machine.one(folder, line.replace("NAME", "before").split())
    _replaced(folder / "images", BACK[back], seed)
    ended, found = [], []
    for _ in range(2):  # with caches of the images before, and then without any
        ended.append(ground.machine.one(folder, line.replace("NAME", "after").split()))
        found.append(remains(folder))
        for made in ("runs/after", "runs/r/similar", "runs/images", "cache"):
            shutil.rmtree(folder / made, ignore_errors=True)
    shutil.rmtree(folder)
    if first.code or any(one.code for one in ended):
        bad = next(one for one in (first, *ended) if one.code)
        return f"exit code {bad.code}: {bad.err.strip()[-300:]}"
    if _answers(ended[0].out) != _answers(ended[1].out):
        return "the answer is that of images that are gone"
    here, there = found
    others = [p for p in sorted(there) if p.startswith("runs/after/") and there.get(p) != here.get(p)]
    return f"{len(others)} files tell of images that are gone: {', '.join(others[:3])}" if others else ""


def _answers(text: str) -> object:
    """What was answered as JSON, without times and what this call did; words are not compared."""
    return [without_times(json.loads(line)) for line in text.splitlines() if line.startswith(("{", "["))]


def _as_bitmaps(root: Path) -> None:
    """Images whose files are all equally long, whatever is on them."""
    for path in sorted(root.rglob("*.png")):
        with Image.open(path) as image:
            image.save(path.with_suffix(".bmp"))
        path.unlink()
        os.utime(path.with_suffix(".bmp"), (1_700_000_000, 1_700_000_000))


def _replaced(root: Path, seconds: int, seed: int) -> None:
    """Turn some images upside down and darker, and give them a time of our own."""
    dice = np.random.default_rng([seed, 13])
    for path in sorted(root.rglob("*.bmp")):
        if dice.random() < 0.6:
            size = path.stat().st_size
            with Image.open(path) as image:
                pixels = np.asarray(image)[::-1] // 2
            Image.fromarray(pixels).save(path)
            if path.stat().st_size != size:
                raise RuntimeError(f"{path} has another length")
        at = 1_700_000_000 + seconds
        os.utime(path, (at, at))
