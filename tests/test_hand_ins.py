"""Many people's outcomes side by side: what agrees, what is odd, and what was edited."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import convscope
import toyclaim
from convscope import cli
from convscope.errors import DamagedFile, UsageError
from convscope.storage import commit_json, read_json
from convscope.studies.judging import VERDICTS
from convscope.studies.registry import CLAIMS


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """An outcome as a study wrote it."""
    runs = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(CLAIMS, "toy", toyclaim.CLAIM)
        convscope.study(["toy"], runs=runs)
    (path,) = (runs / "study").glob("*.json")
    return read_json(path)


@pytest.fixture
def students(tmp_path: Path, outcome: dict[str, Any]) -> Path:
    """Four people: two alike, one with other images and a verdict of another kind, one who copied the first."""
    other = {
        **outcome,
        "verdict": VERDICTS[outcome["verdict"] == VERDICTS[0]],
        "data": {**outcome["data"], "fingerprint": "f" * 64},
    }
    for name, box in (
        ("anna", outcome),
        ("ben", {**outcome, "training_seconds": outcome["training_seconds"] + 1}),
        ("cleo", {**other, "training_seconds": outcome["training_seconds"] + 2}),
        ("dan", outcome),
    ):
        (tmp_path / name / "study").mkdir(parents=True)
        commit_json(tmp_path / name / "study" / "toy-small.json", box)
    return tmp_path


def test_verdicts_stand_side_by_side_and_what_is_odd_is_told(students: Path) -> None:
    found = convscope.compare_hand_ins(students).summary
    (claim,) = found["claims"]
    assert [row["who"] for row in claim["rows"]] == ["anna", "ben", "cleo", "dan"]
    assert not claim["agree"]
    assert not found["refused"]
    assert any("cleo used other images than most" in note for note in found["notes"])
    assert any("anna, dan took the same time" in note and "one training" in note for note in found["notes"])
    assert not any("ben" in note for note in found["notes"])


def test_what_was_edited_is_told_by_its_seal_and_the_others_go_on(
    students: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = students / "ben" / "study" / "toy-small.json"
    text = path.read_text()
    path.write_text(text.replace('"verdict": "', '"verdict": "surely ', 1))
    box = json.loads((students / "dan" / "study" / "toy-small.json").read_text())
    box.pop("seal")
    (students / "dan" / "study" / "toy-small.json").write_text(json.dumps(box))
    (students / "eve").mkdir()
    commit_json(students / "eve" / "notes.json", {"claim": 3})
    (students / "eve" / "broken.json").write_text("{")
    assert cli.run(["compare", str(students), "--json"]) == DamagedFile.exit_code
    found = json.loads(capsys.readouterr().out)
    assert found["hand_ins"] == 2
    assert len(found["refused"]) == 4
    assert sum("is not what was written" in row["error"] for row in found["refused"]) == 2
    assert cli.run(["compare", str(students)]) == DamagedFile.exit_code
    shown = capsys.readouterr().out
    assert "anna" in shown
    assert "refused" in shown


def test_of_two_none_is_most(tmp_path: Path, outcome: dict[str, Any]) -> None:
    """Neither is accused, in whatever order they are read."""
    commit_json(tmp_path / "anna.json", {**outcome, "versions": {**outcome["versions"], "torch": "2.0.0"}})
    commit_json(tmp_path / "ben.json", {**outcome, "training_seconds": 1.0})
    (note,) = convscope.compare_hand_ins(tmp_path).summary["notes"]
    assert note == f"toy: these used different versions (torch {outcome['versions']['torch']}, not 2.0.0): anna; ben."
    commit_json(tmp_path / "cem.json", {**outcome, "training_seconds": 2.0})
    (note,) = convscope.compare_hand_ins(tmp_path).summary["notes"]
    assert note == f"toy: anna used other versions (torch 2.0.0, not {outcome['versions']['torch']}) than most."


def test_folders_and_files_side_by_side_are_people(tmp_path: Path, outcome: dict[str, Any]) -> None:
    (tmp_path / "ben" / "study").mkdir(parents=True)
    (tmp_path / "kurs" / "study-b").mkdir(parents=True)
    other = {**outcome, "data": {**outcome["data"], "fingerprint": "f" * 64}, "training_seconds": 3.0}
    places = ("anna.json", "cem.json", "ben/study/toy-small.json", "kurs/study-b/toy-small.json")
    for seconds, name in enumerate(places, 10):
        commit_json(tmp_path / name, {**(other if "ben" in name else outcome), "training_seconds": float(seconds)})
    found = convscope.compare_hand_ins(tmp_path).summary
    assert [row["who"] for row in found["claims"][0]["rows"]] == ["anna", "ben", "cem", "kurs/study-b"]
    assert found["notes"] == ["toy: ben used other images than most."]


def test_two_of_one_person_are_told_apart(tmp_path: Path, outcome: dict[str, Any]) -> None:
    (tmp_path / "anna").mkdir()
    for seconds, name in enumerate(("toy-small.json", "toy-small (1).json"), 1):
        commit_json(tmp_path / "anna" / name, {**outcome, "training_seconds": float(seconds)})
    rows = convscope.compare_hand_ins(tmp_path).summary["claims"][0]["rows"]
    assert [row["who"] for row in rows] == ["anna/toy-small (1).json", "anna/toy-small.json"]
    (tmp_path / "anna" / "study").mkdir()
    (tmp_path / "anna" / "toy-small (1).json").rename(tmp_path / "anna" / "study" / "toy-small.json")
    rows = convscope.compare_hand_ins(tmp_path).summary["claims"][0]["rows"]
    assert len({row["who"] for row in rows}) == 2


def test_what_lies_in_runs_and_other_json_is_passed_over(students: Path) -> None:
    run = students / "anna" / "runs" / "digits"
    run.mkdir(parents=True)
    for name in ("recipe.json", "summary.json"):
        commit_json(run / name, {"claim": "none"})
    (students / "ben" / "package.json").write_text('{"name": "x"}')
    found = convscope.compare_hand_ins(students).summary
    assert (found["hand_ins"], found["refused"]) == (4, [])


def test_options_of_runs_are_none_of_hand_ins(students: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--limit", "5"], ["--data", "digits"], ["--part", "val"], ["--label-from", "folders"]):
        assert cli.run(["compare", str(students), *words]) == UsageError.exit_code
        assert f"{words[0]} is for runs, and these are hand-ins." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "sentence"), [("empty", "there is no JSON file"), ("page.html", "compare the JSON files of a study")]
)
def test_what_holds_no_hand_in_is_told_so(
    name: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "page.html").write_text("<p>")
    assert cli.run(["compare", str(tmp_path / name)]) == UsageError.exit_code
    assert sentence in capsys.readouterr().err
    with pytest.raises(UsageError, match="there is no file or folder"):
        convscope.compare_hand_ins(tmp_path / "nope")


def test_files_of_one_folder_go_by_their_names(tmp_path: Path, outcome: dict[str, Any]) -> None:
    for name in ("anna", "ben"):
        commit_json(tmp_path / f"{name}.json", outcome)
    found = convscope.compare_hand_ins([tmp_path / "anna.json", tmp_path / "ben.json"]).summary
    assert [row["who"] for row in found["claims"][0]["rows"]] == ["anna", "ben"]


def test_runs_and_hand_ins_are_not_compared_with_each_other(students: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["compare", str(students), "last"]) == UsageError.exit_code
    assert "last is no JSON file of a study" in capsys.readouterr().err
    (students / "nobody").mkdir()
    with pytest.raises(UsageError, match="name those that"):
        convscope.compare_hand_ins(students / "nobody")
    convscope.compare_hand_ins([students / "anna", students / "ben"])


def test_too_many_files_are_not_read(students: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convscope.studies.hand_ins.MOST", 2)
    with pytest.raises(UsageError, match="name a folder with 2 at most"):
        convscope.compare_hand_ins(students)
    assert convscope.compare_hand_ins([students / "anna", students / "ben"]).summary["hand_ins"] == 2


def test_a_run_comes_before_a_folder_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("photos", "b"):
        convscope.train("digits", name=name, runs=tmp_path / "runs", width=4, epochs=1, limit=100)
    (tmp_path / "photos").mkdir()
    assert cli.run(["compare", "photos", "b", "--runs", "runs"]) == 0
    assert "photos" in capsys.readouterr().out
