"""Sums up what `mutmut run` left in mutants/: ``python tests/mutants.py`` prints each file's share and the survivors.

A mutant is a small change of the code; it is killed where a test turns red, or never ends. Exit code 1 below 90 %.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

WANTED = 0.9
LEFT = {0: "survived", 33: "no test runs it", 5: "no test runs it"}  # exit codes of pytest, as mutmut keeps them
UNKNOWN = (None, 2)  # not run, or broken off


def outcomes(folder: Path) -> Iterator[tuple[str, str, int | None]]:
    """(file, mutant, exit code of its tests) of each mutant."""
    for path in sorted(folder.rglob("*.meta")):
        for name, code in json.loads(path.read_text(encoding="utf-8"))["exit_code_by_key"].items():
            yield path.name.removesuffix(".meta"), name, code


def change(name: str) -> str:
    """What a mutant changes: the lines taken away and put in."""
    shown = subprocess.run(
        [sys.executable, "-m", "mutmut", "show", name], capture_output=True, text=True
    ).stdout.splitlines()
    return "  ".join(" ".join(line.split()) for line in shown if line[:1] in "+-" and line[:3] not in ("---", "+++"))


def main() -> int:
    tried: Counter[str] = Counter()
    killed: Counter[str] = Counter()
    left: list[tuple[str, str]] = []
    for file, name, code in outcomes(Path("mutants")):
        if code in UNKNOWN:
            continue
        tried[file] += 1
        killed[file] += code not in LEFT
        if code in LEFT:
            left.append((name, LEFT[code]))
    for name, why in left if "--left" in sys.argv else []:
        print(f"{name}: {why}: {change(name)}")
    for file, count in [*tried.items(), ("all", tried.total())]:
        held = killed.total() if file == "all" else killed[file]
        print(f"{file:16} {held:,} of {count:,} mutants killed, {100 * held / max(1, count):.1f} %")
    return 0 if killed.total() >= WANTED * tried.total() > 0 else 1


if __name__ == "__main__":
    sys.exit(main())
