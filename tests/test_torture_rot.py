"""What tells whether rot was seen: it sees a reader that checks nothing, is silent, or breaks down."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from convscope.errors import DamagedFile
from convscope.storage import commit_json, read_json
from torture.rot import attempt, damage
from torture.rotting import Sound, Told, content, plainly

TIMES = 60
VALUES = {"lr": 0.125, "names": ["ant", "bee"], "seed": 1234567890}


def tried(folder: Path, read: Callable[[Path], Told], made_again: bool = False) -> tuple[set[str], set[str]]:
    """The flaws, and the groups of what held, of attempts at a sealed file that is read so."""
    path = folder / "a.json"
    commit_json(path, VALUES)
    before = path.read_bytes()
    sound = Sound("kind", path, lambda: read(path), made_again)
    found = [attempt(sound, np.random.default_rng([7, i])) for i in range(TIMES)]
    assert path.read_bytes() == before
    return {a.flaw for a in found if a.flaw}, {a.group for a in found if not a.flaw}


def unchecked(path: Path) -> Told:
    """What stands there, if it is JSON."""
    try:
        return {k: v for k, v in json.loads(path.read_bytes()).items() if k != "seal"}, ""
    except ValueError:
        raise DamagedFile(f"{path} cannot be read.") from None


def silent(path: Path) -> Told:
    try:
        return read_json(path), ""
    except DamagedFile:
        return {}, ""


def nameless(path: Path) -> Told:
    try:
        return read_json(path), ""
    except DamagedFile:
        raise DamagedFile("something is damaged.") from None


def told_and_used(path: Path) -> Told:
    try:
        return read_json(path), ""
    except DamagedFile as error:
        return {"lr": path.stat().st_size}, f"{error} It is used all the same."


def test_a_reader_that_compares_a_seal_holds(tmp_path: Path) -> None:
    assert tried(tmp_path, lambda path: (read_json(path), "")) == (set(), {"kind", "changes nothing"})


@pytest.mark.parametrize(
    ("read", "flaw"),
    [
        (unchecked, "another value is used, and nothing is said of it"),
        (silent, "it is as good as not there, and nothing is said of it"),
        (nameless, "it is refused without being named: something is damaged."),
        (told_and_used, "it is named, and another value is used all the same"),
    ],
)
def test_a_reader_that_does_not_is_seen(read: Callable[[Path], Told], flaw: str, tmp_path: Path) -> None:
    assert flaw in tried(tmp_path, read)[0]


def test_a_traceback_is_seen(tmp_path: Path) -> None:
    flaws, _ = tried(tmp_path, lambda path: (json.loads(path.read_bytes()), ""))
    assert any(flaw.startswith("a traceback: JSONDecodeError") for flaw in flaws)


def test_a_cache_that_is_made_again_holds_where_it_is_equal(tmp_path: Path) -> None:
    made = tried(tmp_path, lambda path: (_or(path, VALUES), ""), True)
    assert made == (set(), {"kind"})
    assert tried(tmp_path, lambda path: (_or(path, {"lr": 0.25}), ""), True)[0]


def _or(path: Path, made: dict) -> dict:
    try:
        return read_json(path)
    except DamagedFile:
        return made


@pytest.mark.parametrize("data", [b"", b"\0", b"a" * 9000, bytes(range(256)) * 40])
def test_damage_alters_something(data: bytes) -> None:
    for i in range(80):
        assert damage(data, np.random.default_rng(i))[0] != data


def test_equal_content_is_equal_and_other_content_is_not() -> None:
    values = [0, 0.0, [0], {"a": 0}, {"b": 0}, np.zeros(1), np.zeros(1, np.float32), np.ones(1), np.zeros((1, 1))]
    assert len({content(value) for value in values}) == len(values)
    assert content({"a": 1, "b": [np.arange(3)]}) == content({"b": [np.arange(3)], "a": 1})


def test_a_plain_reader_says_nothing() -> None:
    assert plainly(lambda: 7)() == (7, "")
