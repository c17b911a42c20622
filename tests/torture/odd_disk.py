"""A disk that is nearly full is found before the work, and folders without rights are told in a sentence."""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path

from torture.odd_ground import COMMANDS, Ground, sentence_wrong

BIG = "--model resnet20 --width 64 --image-size 32 --epochs 1 --batch-size 8"  # 17 MB of weights
# A line, and the folders that are small: what it writes is more than SMALLEST.
LINES = {
    "train": (f"train images --name new {BIG}", ("runs",)),
    "pack": ("train images --name new --width 4 --image-size 256 --epochs 1", ("cache",)),
    "features": ("features images --image-size 128 --engine torch", ("cache",)),
    "features twice": ("features images --image-size 128 --engine torch --augment 2", ("cache",)),
    "transfer": ("transfer images --name t --quick --image-size 128 --engine torch", ("cache",)),
    "similar": ("similar r images/test/checks/0.png images --engine torch", ("cache",)),
    "export": ("export r --format safetensors --output out", ("out",)),
    "export of lite0": ("export pretrained:lite0 --format safetensors --output out", ("out",)),
    "download": ("train cifar10 --name new --epochs 1", ("cache",)),
}
SIZES = {"4 KiB": 4096, "64 KiB": 65536, "200 KiB": 200 * 1024}
ALSO_FITS = {"export", "similar", "transfer"}  # small enough for some of the sizes
MOST_IMAGES = 2 * 24  # that may go through a network before it is refused: a learning rate's or an engine's trial


def full(ground: Ground, name: str, size: str, real: bool) -> str:
    """What is wrong after a command on a disk of a size; ``real``: one that is mounted, else one that says so."""
    line, places = LINES[name]
    folder = ground.copy(line)
    asked = {"folders": [str(folder / place) for place in places], "bytes": SIZES[size]}
    ended = ground.machine.one(folder, line.split(), **{"small_disk" if real else "told_disk": asked})
    shutil.rmtree(folder)
    if ended.code == 0 and name in ALSO_FITS:
        return ""
    wrong = sentence_wrong(ended, {74})
    if wrong:
        return wrong
    if not re.search(r"has \d+ MiB free; .* needs \d+ MiB|the disk is full", ended.err):
        return f"no sizes are told: {ended.err.strip()[-200:]}"
    told = ended.told["small disk" if real else "told disk"]
    if "the disk is full" in ended.err:
        return f"it is found while writing and not before: {ended.err.strip()[-200:]}"
    if told["images"] > MOST_IMAGES:
        return f"{told['images']} images went through a network before it was refused"
    return ""


# ------------------------------------------------------------------------------------------------------- no rights

DENIED = {
    "runs": ("runs",),
    "a run": ("runs/r",),
    "the cache": ("cache",),
    "the working folder": (".",),
    "everything": (".", "runs", "runs/r", "cache", "images"),
}
WORDS = {
    **{
        n: COMMANDS[n] for n in ("doctor", "train", "evaluate", "predict", "diagnose", "features", "transfer", "export")
    },
    **{n: COMMANDS[n] for n in ("similar", "report", "serve", "models", "study", "compare", "localize")},
    "go on": "train images --name half --resume",
}
STAYS = ("the disk is", "permission denied", "read-only", "cannot")


def denied(ground: Ground, name: str, what: str) -> str:
    """What is wrong after a command of a user without rights in folders: it works, or one sentence says why not."""
    with tempfile.TemporaryDirectory(prefix="odd-", dir="/tmp") as open_:
        Path(open_).chmod(0o755)
        folder = Path(open_) / "work"
        ground.prepare(WORDS[name])
        shutil.copytree(ground.before, folder)
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o777 if path.is_dir() else 0o666)
        for place in DENIED[what]:
            (folder / place).mkdir(exist_ok=True)
            (folder / place).chmod(0o555)
        before = _content(folder, DENIED[what])
        (folder / "out-0.txt").touch()
        ended = ground.machine.one(folder, WORDS[name].split(), as_nobody=None)
        after = _content(folder, DENIED[what])
        for path in (folder, *(p for p in folder.rglob("*") if p.is_dir())):
            path.chmod(0o777)
    if ended.code:
        wrong = sentence_wrong(ended, {73, 74})
        if not wrong and not any(word in ended.err for word in STAYS):
            wrong = f"it does not say what is wrong: {ended.err.strip()[-200:]}"
        return wrong
    return "a folder without rights was changed" if before != after else ""


def _content(folder: Path, places: tuple[str, ...]) -> list[str]:
    return sorted(p.name for place in places for p in (folder / place).iterdir() if not p.name.endswith(".txt"))
