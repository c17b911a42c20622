"""Each attack of the table, a few attempts of it: `make torture` makes more."""

from __future__ import annotations

from pathlib import Path

import pytest

from torture.attacks import ATTACKS

FOLDER = Path(__file__).with_name("torture")


@pytest.mark.parametrize("name", ATTACKS)
def test_a_few_attempts_of_each_attack_hold(name: str, tmp_path: Path) -> None:
    attempts = list(ATTACKS[name].attempts(0, ATTACKS[name].quick, tmp_path))
    assert len(attempts) == ATTACKS[name].quick
    assert not [f"{a.what}: {a.flaw}" for a in attempts if a.flaw]


def test_the_table_of_attacks_is_that_of_the_log() -> None:
    import reliability

    page = reliability.PAGE.read_text(encoding="utf-8")
    assert page == reliability.filled(page), "run python docs/reliability.py"
    for row in reliability.records():
        assert row["tried"] == sum(row["groups"].values()) > 0
        assert row["held"] <= row["tried"]
        assert len(row["flaws"]) == min(20, row["tried"] - row["held"])


def test_each_module_of_attacks_is_in_the_table() -> None:
    own = {"__init__", "__main__", "attacks", "attempts"}
    attacks = {p.stem for p in FOLDER.glob("*.py") if "def attack(" in p.read_text(encoding="utf-8")}
    assert attacks <= {attack.module for attack in ATTACKS.values()}
    assert not attacks & own
