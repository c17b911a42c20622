"""Runs attacks and writes down how many attempts held: ``python -m torture [ATTACK ...] --seed S --times N``.

Each attack runs in a process of its own, two at a time. One line an attack is printed and, with ``--log FILE``,
appended to the log from which docs/reliability.md is made. Exit code 1 where anything did not hold.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from torture.attacks import ATTACKS

ROOT = Path(__file__).resolve().parents[2]
MOST_FLAWS = 20  # told in a record; all are counted


def processor() -> str:
    """The name of this machine's processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def version() -> str:
    """The commit that is attacked, with + where files differ from it."""
    asked = ["git", "describe", "--always", "--dirty=+", "--exclude=*"]
    done = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def record(name: str, seed: int, count: int) -> dict[str, Any]:
    """Make the attempts of one attack, and tell how many there were of each group and what did not hold."""
    start = time.perf_counter()
    groups: Counter[str] = Counter()
    flaws: list[str] = []
    seconds = megabytes = 0.0
    with tempfile.TemporaryDirectory(prefix="torture-") as folder:
        for attempt in ATTACKS[name].attempts(seed, count, Path(folder)):
            groups[attempt.group] += 1
            seconds, megabytes = max(seconds, attempt.seconds), max(megabytes, attempt.megabytes)
            if attempt.flaw:
                flaws.append(f"{attempt.what}: {attempt.flaw}"[:500])
    return {
        "attack": name,
        "seed": seed,
        "tried": groups.total(),
        "held": groups.total() - len(flaws),
        "groups": dict(sorted(groups.items())),
        "flaws": flaws[:MOST_FLAWS],
        "longest_seconds": round(seconds, 3),
        "largest_megabytes": round(megabytes, 1),
        "seconds": round(time.perf_counter() - start, 1),
        "version": version(),
        "processor": processor(),
        "at": datetime.date.today().isoformat(),
    }


def apart(name: str, seed: int, count: int) -> dict[str, Any]:
    """The record of an attack that was run in a process of its own; one that broke down says so as a flaw."""
    words = [sys.executable, "-m", "torture", "--one", name, "--seed", str(seed), "--count", str(count)]
    done = subprocess.run(words, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1])
    told = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
    return {"attack": name, "seed": seed, "tried": 0, "held": 0, "flaws": [f"the attack broke down: {told}"]}


def told(row: dict[str, Any]) -> str:
    """One line for a person."""
    line = f"{row['attack']:13} {row['held']:,} of {row['tried']:,} held"
    if "seconds" in row:
        line += f", {row['seconds']:,.0f} s; the longest {row['longest_seconds']} s, {row['largest_megabytes']} MB"
    return "\n".join([line, *(f"  {flaw}" for flaw in row["flaws"])])


def parsed(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="torture", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("attacks", nargs="*", metavar="ATTACK", help=f"of {', '.join(ATTACKS)}; all unless named")
    parser.add_argument("--seed", type=int, default=0, help="another seed makes other attempts")
    parser.add_argument("--times", type=float, default=1, help="how many times the sample of an hour on 2 cores")
    parser.add_argument("--log", type=Path, help="append the records to this file of JSON lines")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, default=0, help=argparse.SUPPRESS)
    asked = parser.parse_args(words)
    for name in asked.attacks:
        if name not in ATTACKS:
            parser.error(f"no attack named {name!r}; known: {', '.join(ATTACKS)}")
    return asked


def main(words: list[str] | None = None) -> int:
    asked = parsed(words)
    if asked.one:
        print(json.dumps(record(asked.one, asked.seed, asked.count)))
        return 0
    names = asked.attacks or list(ATTACKS)
    counts = {name: max(1, round(asked.times * ATTACKS[name].sample)) for name in names}
    held = True
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(apart, name, asked.seed, counts[name]) for name in names]
        for done in concurrent.futures.as_completed(waiting):
            row = done.result()
            held &= not row["flaws"]
            print(told(row), flush=True)
            if asked.log:
                with asked.log.open("a", encoding="utf-8") as log:
                    log.write(json.dumps(row) + "\n")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
