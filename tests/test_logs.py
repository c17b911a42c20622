"""The evidence under docs/logs: light, and there wherever a page points to it."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LOGS = ROOT / "docs" / "logs"


def test_logs_are_few_lines_and_a_tenth_of_what_is_tracked() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("only a checkout knows what is tracked")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    tracked = [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]
    logs = [path for path in tracked if LOGS in path.parents]
    assert logs
    assert sum(path.read_bytes().count(b"\n") for path in logs) <= 8000
    assert sum(path.stat().st_size for path in logs) <= 0.1 * sum(path.stat().st_size for path in tracked)


def test_each_log_that_a_page_links_is_there() -> None:
    pages = [*(ROOT / "docs").glob("*.md"), ROOT / "README.md"]
    links = {link for page in pages for link in re.findall(r"\]\((?:docs/)?logs/([^)#]+)\)", page.read_text("utf-8"))}
    assert len(links) > 50
    assert not [link for link in links if not (LOGS / link).exists()]


def test_each_log_is_a_record_a_line() -> None:
    for path in [*LOGS.rglob("*.json"), *LOGS.rglob("*.jsonl")]:
        for line in path.read_text("utf-8").splitlines():
            json.loads(line)


def test_the_table_of_claims_says_what_its_logs_say() -> None:
    rows = re.findall(
        r"^\| \[`[\w-]+`\]\(logs/(study-[^)]+)\) \| ([^|]+) \| (.+?) \| [^|]+ \| ([\d,]+) \|$",
        (ROOT / "docs" / "results.md").read_text("utf-8"),
        re.M,
    )
    assert len(rows) == 43
    for name, verdict, measured, seconds in rows:
        claim = json.loads((LOGS / name).read_text("utf-8").splitlines()[0])
        assert claim["verdict"] == verdict, name
        assert "; ".join(f"{q['quantity']}: {q['told']}" for q in claim["quantities"]) == measured, name
        assert claim["training_seconds"] == pytest.approx(float(seconds.replace(",", "")), abs=1), name
