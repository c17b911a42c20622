"""Two processes in one folder: one waits or is refused in a sentence, and what they leave is what each leaves alone."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

from kill_points import remains
from torture.odd_child import Asked
from torture.odd_ground import COMMANDS, SMALL, TINY, Ground, sentence_wrong

LINES = {
    **{name: COMMANDS[name] for name in ("train", "evaluate", "diagnose", "transfer", "features", "doctor", "export")},
    "explain": COMMANDS["explain"],
    "report": "report r",
    "predict": COMMANDS["predict"],
    "similar": "similar r images/test/checks/0.png --engine torch",
    "localize": "localize r images",
    "train another": f"train images --name another --seed 1 {TINY}",
    "transfer another": f"transfer images --name t2 --quick --seed 1 {SMALL}",
    "go on": "train images --name half --resume",
    "evaluate by a table": "evaluate r table.csv",
    "study": "study toy --html",
    "compare": "compare r other",
}
# Those that come together: the same twice, and what reads beside what writes.
PAIRS = (
    *((name, name) for name in LINES),
    ("train", "train another"),
    ("transfer", "transfer another"),
    ("transfer", "features"),
    ("doctor", "transfer"),
    ("doctor", "train"),
    ("evaluate", "diagnose"),
    ("evaluate", "explain"),
    ("go on", "evaluate"),
    ("go on", "export"),
    ("go on", "explain"),
    ("go on", "predict"),
    ("export", "report"),
    ("similar", "features"),
    ("study", "train"),
    ("evaluate", "evaluate by a table"),
    ("predict", "evaluate"),
    ("report", "evaluate"),
    ("compare", "evaluate"),
    ("localize", "explain"),
)
BUSY = {0, 73}
# What a second evaluation adds: a look is counted, and the page and the openings tell of it.
ORDERED = {*(("go on", other) for other in ("evaluate", "export", "explain", "predict")), ("compare", "evaluate")}


def together(ground: Ground, pair: tuple[str, str]) -> str:
    """What is wrong after two commands at once, with each refused one typed again as it says."""
    if "explain" in pair:
        ground.compile()
    folder = ground.copy(*map(LINES.__getitem__, pair))
    words = [LINES[name].split() for name in pair]
    ended = ground.machine.run(folder, *map(Asked, words))
    wrong = [f"{name}: {told}" for name, one in zip(pair, ended, strict=True) if (told := _wrong(one))]
    if not wrong and all(one.code for one in ended):
        wrong = ["both are refused"]
    if not wrong:
        wrong = [
            told for line, one in zip(words, ended, strict=True) if one.code and (told := _again(ground, folder, line))
        ]
    here = remains(folder)
    shutil.rmtree(folder)
    if not wrong and pair not in ORDERED:
        wrong = _differences(ground, pair, here)
    return "; ".join(wrong)


def _wrong(ended) -> str:
    return sentence_wrong(ended, BUSY) if ended.code else ""


def _again(ground: Ground, folder: Path, words: list[str]) -> str:
    """Type a refused command again; a training whose name is taken is gone on with as it says."""
    ended = ground.machine.one(folder, words)
    told = re.search(r"go on with it by (convscope .*), or choose", ended.err)
    if ended.code == 73 and told:
        ended = ground.machine.one(folder, shlex.split(told[1])[1:])
    if ended.code == 73 and "exists already" in ended.err:
        return ""
    return f"typed again it ends with {ended.code}: {ended.err.strip()[-200:]}" if ended.code else ""


def _differences(ground: Ground, pair: tuple[str, str], here: dict[str, str]) -> list[str]:
    """What differs from the same commands one after the other, in either order."""
    least: list[str] = []
    for order in (pair, pair[::-1]) if pair[0] != pair[1] else (pair,):
        alone = ground.copy()
        for name in order:
            ended = ground.machine.one(alone, LINES[name].split())
            if ended.code not in BUSY:
                return [f"alone {name} ends with {ended.code}: {ended.err.strip()[-200:]}"]
        there = remains(alone)
        shutil.rmtree(alone)
        once = ground.copy()  # the second of two equal commands may have been refused
        ground.machine.one(once, LINES[order[0]].split())
        others = [path for path in sorted(there.keys() | here.keys()) if there.get(path) != here.get(path)]
        first = remains(once)
        shutil.rmtree(once)
        if not others or first == here:
            return []
        least = [f"{len(others)} files differ from those of one after the other: {', '.join(others[:3])}"]
    return least
