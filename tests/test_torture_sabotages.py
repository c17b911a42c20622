"""The sabotages fit today's code, and tests that see nothing, or cannot be run, are told."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path

import pytest

from torture import sabotages
from torture.planted_faults import SABOTAGES, Sabotage

SOURCE = Path(__file__).resolve().parents[1] / "src" / "convscope"


@pytest.mark.parametrize("name", SABOTAGES)
def test_a_sabotage_fits_the_code_and_changes_what_it_does(name: str) -> None:
    sabotage = SABOTAGES[name]
    sound = (SOURCE / sabotage.file).read_text(encoding="utf-8")
    changed = sabotages.sabotaged(sound, sabotage)
    assert ast.dump(ast.parse(changed)) != ast.dump(ast.parse(sound))
    files = sabotage.tests.partition(" -k ")[0].split()
    assert all(Path(__file__).with_name(file).is_file() for file in files)


def test_tests_that_stay_green_or_cannot_be_run_are_told() -> None:
    def ended(code: int, said: str = "") -> str:
        return sabotages.flaw(subprocess.CompletedProcess([], code, said, ""))

    assert ended(1, "1 failed") == ""
    assert ended(0, "3 passed") == "no test turned red"
    assert "could not be run" in ended(4, "file or directory not found")
    assert "could not be run" in ended(1, "1 error during collection")
    with pytest.raises(ValueError, match="2 times and not once"):
        sabotages.sabotaged("a a", Sabotage("x.py", "a", "b", "test_x.py"))
