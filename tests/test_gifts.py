"""What somebody sends: runs and files that name code, paths outside or absurd sizes, tried with every command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from convscope.cli import COMMANDS

HERE = Path(__file__).parent
NO_RUN = {"demo", "models", "study", "features"}  # these take no run


def told(script: str, folder: Path) -> list[dict[str, Any]]:
    """The rows that a script of this folder prints."""
    here = {"PYTHONPATH": os.pathsep.join([str(HERE.parent / "src"), str(HERE)]), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-W", "ignore", str(HERE / script), str(folder)]
    done = subprocess.run(words, env=os.environ | here, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.slow
def test_a_received_run_runs_nothing_and_reads_nothing_outside(tmp_path: Path) -> None:
    """16 gifts and 4 with links, every command that takes a run on each: about 200."""
    rows = told("gifts.py", tmp_path)
    assert len(rows) > 190
    tried = {row["command"].split()[0] for row in rows}
    assert set(COMMANDS) - NO_RUN - tried == {"train"}  # which is tried as "resume"
    for row in rows:
        place = f"{row['command']} of a run with {row['gift']}: {row['said']}"
        assert not row["ran"], place
        assert not row["outside"], f"{place} {row['outside']}"
        assert "a bug of convscope" not in row["said"], place
        assert "Traceback" not in row["said"], place
        assert row["megabytes"] - row["base"] < 512, place
        if row["code"]:
            refusals = [line for line in row["said"].splitlines() if line.startswith("convscope: ")]
            assert len(refusals) == 1, place


@pytest.mark.slow
def test_a_file_that_asks_for_too_much_is_refused_in_a_sentence(tmp_path: Path) -> None:
    rows = told("load_bombs.py", tmp_path)
    assert len(rows) > 60
    for row in rows:
        kind, _, sentence = row["said"].partition(": ")
        assert kind in ("DamagedFile", "ForeignFile", "UsageError", "UnknownName"), row
        assert "\n" not in sentence, row
        assert len(sentence) < 1500, row
        assert row["megabytes"] - row["base"] < 512, row
