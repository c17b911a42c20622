"""The benches keep their schema; what they measure is measured by `make bench`, never here."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[1] / "bench"
FILES = sorted(p.name for p in BENCH.glob("*.py") if p.name != "paired.py")
KEYS = {"ratio", "low", "high", "ours", "peer", "unit", "better", "target"}


@pytest.mark.parametrize("name", FILES)
def test_every_bench_states_its_claim_and_prints_the_schema(name: str) -> None:
    tree = ast.parse((BENCH / name).read_text(encoding="utf-8"))
    assert "Claim:" in (ast.get_docstring(tree) or "")
    (result,) = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and node.targets[0].id == "result"
        and isinstance(node.value, ast.Dict)
    ]
    assert {k.value for k in result.keys if isinstance(k, ast.Constant)} >= KEYS


def test_a_bench_prints_one_object() -> None:
    command = [sys.executable, str(BENCH / "startup.py"), "--quick", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    answer = json.loads(done.stdout)
    assert set(answer) >= KEYS
    assert answer["better"] in ("higher", "lower")
    assert answer["low"] <= answer["ratio"] <= answer["high"]
