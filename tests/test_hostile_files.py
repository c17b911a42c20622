"""Files that ask for too much: each is refused in one line, within 512 MB, and long before it would hang."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from hostile_cifar import ARCHIVES, PICKLES
from hostile_images import ASKING, FINE
from hostile_run import SECONDS

pytest.importorskip("resource")
RUN = Path(__file__).with_name("hostile_run.py")
MOST = 512  # MB, of the process that reads, its imports among them


def read_apart(kind: str, folder: Path) -> dict[str, dict]:
    """What came of each file of a corpus, read in processes of their own."""
    ran = subprocess.run([sys.executable, str(RUN), kind, str(folder)], capture_output=True, text=True, check=True)
    assert not ran.stderr
    return {line["name"]: line for line in map(json.loads, ran.stdout.splitlines())}


@pytest.mark.parametrize(("kind", "names"), [("pickles", PICKLES), ("archives", ARCHIVES)])
def test_pickles_and_archives_that_ask_for_too_much(kind: str, names: dict, tmp_path: Path, record_property) -> None:
    found = read_apart(kind, tmp_path)
    assert list(found) == list(names)
    record_property(f"{kind}: the longest, s", max(line["seconds"] for line in found.values()))
    record_property(f"{kind}: the largest, MB", max(line["mb"] for line in found.values()))
    for line in found.values():
        assert line["outcome"] == "DataError", line
        assert line["said"].isprintable(), line
        assert line["said"].endswith("."), line
        assert len(line["said"]) < 300, line
        assert line["mb"] <= MOST, line
        assert line["seconds"] < SECONDS, line


def test_images_that_ask_for_too_much_and_large_ones_that_do_not(tmp_path: Path, record_property) -> None:
    found = read_apart("images", tmp_path)
    assert list(found) == [*ASKING, *FINE]
    record_property("images: the longest, s", max(line["seconds"] for line in found.values()))
    record_property("images: the largest, MB", max(line["mb"] for line in found.values()))
    for name, line in found.items():
        assert line["outcome"] in (("read",) if name in FINE else ("ImageError", "read")), line
        assert line["said"].isprintable(), line
        assert len(line["said"]) < 300, line
        assert line["mb"] <= MOST, line
        assert line["seconds"] < SECONDS, line
    refused = [name for name in ASKING if found[name]["outcome"] == "ImageError"]
    assert len(refused) > 35, sorted(set(ASKING) - set(refused))
