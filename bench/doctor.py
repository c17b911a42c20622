"""The doctor beside cleanvision 0.3 (Apache-2.0) on the same folders: what each finds, and in how many seconds.

Planted faults are those of tests/planted_folders.py, in folders of 75 small images; seconds are those of whole passes
over one folder of real or drawn images (``--data``), by turns in one process. Labels are judged by neither.

Claim: convscope finds at least as many planted faults as cleanvision, in at most half its time.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TQDM_DISABLE", "1")
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from paired import abba, median_ratio, tell, this_machine

import planted_folders
from convscope.inspection.command import doctor

TARGET = 2.0
# What cleanvision calls each kind of fault that it has a word for.
THEIRS = {
    "copies": ("exact_duplicates",),
    "exact-copies-across-parts": ("exact_duplicates",),
    "exact-copies-across-labels": ("exact_duplicates",),
    "near-copies": ("near_duplicates", "exact_duplicates"),
    "near-copies-across-parts": ("near_duplicates", "exact_duplicates"),
    "near-copies-across-labels": ("near_duplicates", "exact_duplicates"),
    "frames-of-video": ("near_duplicates",),
    "blank": ("low_information",),
    "modes": ("grayscale",),
    "masks": ("grayscale",),
    "shortcut": ("odd_size",),
}


def theirs(root: Path) -> dict[str, int]:
    """How many images cleanvision flags for each of its issues."""
    from cleanvision import Imagelab

    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        lab = Imagelab(data_path=str(root))
        lab.find_issues(n_jobs=2)
    return dict(zip(lab.issue_summary["issue_type"], lab.issue_summary["num_images"], strict=True))


def ours(root: Path, runs: Path) -> set[str]:
    """What the doctor calls what it finds."""
    return {finding.kind for finding in doctor(root, labels=False, runs=runs).findings}


def planted(place: Path) -> dict[str, dict[str, bool]]:
    """Which planted faults each finds."""
    found: dict[str, dict[str, bool]] = {}
    for name, (plant, kind, parts) in planted_folders.FAULTS.items():
        root = place / name / "data"
        (planted_folders.in_parts if parts else planted_folders.clean)(root)
        plant(root)
        row: dict[str, Any] = {"convscope": kind in ours(root, place / "runs")}
        (root / "ants" / "pipe.png").unlink(missing_ok=True)  # cleanvision would wait for ever
        try:
            flagged = theirs(root)
        except Exception as error:  # whatever a folder makes it raise, it has no answer then
            flagged, row["error"] = {}, type(error).__name__
        row["cleanvision"] = any(flagged.get(issue, 0) > 0 for issue in THEIRS.get(kind, ()))
        found[name] = row
    return found


def seconds(root: Path, place: Path, rounds: int) -> tuple[Any, Any]:
    """Seconds of whole passes over ``root``, by turns."""

    def timed(work: Any) -> float:
        began = time.perf_counter()
        work()
        return time.perf_counter() - began

    return abba(lambda: timed(lambda: ours(root, place / "runs")), lambda: timed(lambda: theirs(root)), rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="a folder of images (default: 600 drawn ones of 224 pixels)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        found = planted(place)
        root = options.data or planted_folders.clean(place / "drawn", each=60 if options.quick else 200, end="jpg")
        ours(root, place / "runs"), theirs(root)  # imports
        mine, peer = seconds(root, place, 1 if options.quick else options.rounds)
    counts = {who: sum(row[who] for row in found.values()) for who in ("convscope", "cleanvision")}
    assert counts["convscope"] >= counts["cleanvision"], counts
    ratio, low, high = median_ratio(peer, mine)
    result = {
        "ratio": ratio,
        "low": low,
        "high": high,
        "ours": float(mine.mean()),
        "peer": float(peer.mean()),
        "unit": "seconds for a pass over one folder; ratio is cleanvision's over ours",
        "better": "higher",
        "target": TARGET,
        "planted": len(found),
        "found": counts,
        "missed": {who: [n for n, row in found.items() if not row[who]] for who in counts},
        **this_machine(),
    }
    tell(result, options.json)


if __name__ == "__main__":
    main()
