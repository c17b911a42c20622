"""Classes merged and renamed: one table, wherever data is read, and a part of what the data are."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import convscope
from convscope import cli
from convscope.datasets.corrections import Correction, write_corrections
from convscope.datasets.registry import load_dataset
from convscope.errors import DataError, UnknownName, UsageError
from convscope.renaming import spelled, table_of
from convscope.storage import file_hash
from convscope.training.runs import runs_folder
from convscope.transfer_learning.begun import command_of
from convscope.transfer_learning.options import TransferOptions
from planted_folders import clean

FOUR = ("glass", "jar", "paper", "plastic")
QUICK = {"epochs": 1, "batch_size": 16, "image_size": 16, "augment": "none", "model": "resnet20", "width": 4}


@pytest.fixture
def four(tmp_path: Path) -> Path:
    return clean(tmp_path / "data", classes=FOUR, each=8)


# ------------------------------------------------------------------------------------------------- what is written


def test_the_table_says_it_all() -> None:
    table = table_of([" glass , plastic = container", "bees=wasps"], ["glas=ice", r"a\,b\\=c\=d"])
    assert table == {
        **{"glass": "container", "plastic": "container", "bees": "wasps", "wasps": "wasps"},
        **{"glas": "ice", "a,b\\": "c=d"},
    }
    said = spelled(table)
    assert said == r"--merge glass,plastic=container --merge bees,wasps=wasps --rename glas=ice --rename a\,b\\=c\=d"
    assert spelled(None) == "all classes as they are"


@pytest.mark.parametrize(
    ("merge", "rename", "said"),
    [
        (["a,b"], [], r"--merge 'a,b' is not of the form A,B=C.* written with a \\ before it"),
        (["a,b=c=d"], [], "not of the form"),
        (["a=b,c"], [], "not of the form"),
        (["a,=c"], [], "not of the form"),
        ([], ["a"], "--rename 'a' is not of the form A=B"),
        ([], ["a="], "not of the form"),
        ([], ["a,b=c"], "--rename a,b=c names 2 classes: --merge a,b=c makes one"),
        (["a=a"], [], "changes nothing"),
        ([], ["a=a"], "changes nothing"),
        (["a,a=c"], [], "'a' is named twice"),
        (["a,b=c", "a,d=e"], [], "'a' is named twice"),
        (["a,b=c"], ["b=d"], "'b' is named twice"),
        (["a,b=c", "d,e=c"], [], "'c' is made twice; name all its classes in one --merge"),
        (["a,b=c"], ["d=c"], "'c' is made twice"),
    ],
)
def test_what_does_not_do_is_told(merge: list[str], rename: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        table_of(merge, rename)


@pytest.mark.parametrize(
    ("asked", "error", "said"),
    [
        ({"rename": "glas=ice"}, UnknownName, r"no class named 'glas'\. Did you mean 'glass'"),
        ({"merge": "glass,plastik=c"}, UnknownName, "Did you mean 'plastic'"),
        ({"rename": "glass=plastic"}, UsageError, "a class 'plastic' already: `merge` glass=plastic makes one"),
        ({"merge": "glass=c"}, UsageError, "merges one class alone.*no class 'c': `rename` glass=c gives it"),
        ({"merge": "glass,jar,paper,plastic=all"}, DataError, "one class, 'all'; a classifier needs two"),
    ],
)
@pytest.mark.parametrize("kind", ["folder", "table", "index"])
def test_what_the_classes_do_not_allow_is_told(
    asked: dict[str, str], error: type[Exception], said: str, kind: str, four: Path
) -> None:
    with pytest.raises(error, match=said):
        load_dataset(as_kind(four, kind), **asked)


def as_kind(root: Path, kind: str) -> Path:
    """The same images as a folder, as a table, or as a table of numbers."""
    files = sorted(root.rglob("*.png"))
    index = kind == "index"
    lines = [f"{p.relative_to(root)},{FOUR.index(p.parent.name) if index else p.parent.name}" for p in files]
    path = root / "list.csv"
    if kind != "folder":
        path.write_text("\n".join([f"path,{'class_index' if index else 'label'}", *lines]))
        (root / "classes.txt").write_text("\n".join(FOUR))
    return root if kind == "folder" else path


def test_the_advice_is_taken(four: Path) -> None:
    written = ("glass=plastic", "glass,jar=c", "glass,jar,paper=c")  # one name, several, all in one
    for asked in (*({"merge": text} for text in written), {"rename": "glass=c"}):
        assert "glass" not in load_dataset(four, **asked).class_names


# ---------------------------------------------------------------------------------------------- what comes of it


@pytest.mark.parametrize("kind", ["folder", "table", "index"])
def test_merged_classes_are_what_one_folder_would_be(kind: str, four: Path, tmp_path: Path) -> None:
    data = load_dataset(as_kind(four, kind), merge=["glass,plastic=container", "paper=jar"], rename=[])
    assert data.class_names == ("container", "jar")
    assert np.bincount(data.labels).tolist() == [16, 16]
    assert "classes: 'glass', 'plastic' are 'container' now; 'jar', 'paper' are 'jar' now." in data.notes
    assert data.fingerprint != load_dataset(four).fingerprint
    for place, names in (("container", ("glass", "plastic")), ("jar", ("jar", "paper"))):
        for name in names:
            shutil.copytree(four / name, tmp_path / "moved" / place, dirs_exist_ok=True)
    assert load_dataset(tmp_path / "moved").fingerprint == data.fingerprint


def test_two_classes_may_change_their_names(four: Path) -> None:
    before, after = load_dataset(four), load_dataset(four, rename=["glass=plastic", "plastic=glass"])
    assert after.class_names == before.class_names
    swapped = {"glass": "plastic", "plastic": "glass"}
    was = [before.class_names[label] for label in before.labels]
    assert [after.class_names[label] for label in after.labels] == [swapped.get(name, name) for name in was]


def test_a_named_dataset_is_merged_too() -> None:
    data = load_dataset("digits", merge="0,6,8,9=round", rename=["1=one"])
    assert data.class_names == ("2", "3", "4", "5", "7", "one", "round")
    with pytest.raises(DataError, match="one class now, 'any'"):
        load_dataset("digits", merge="0,1,2,3,4,5,6,7,8,9=any")


def test_a_class_that_only_the_test_part_has_may_be_merged_into_one_that_is_trained(tmp_path: Path) -> None:
    root = tmp_path / "data"
    clean(root / "train", classes=("glass", "paper"), each=6)
    clean(root / "test", seed=1, classes=("bottle", "paper"), each=3)
    with pytest.raises(DataError, match=r"'bottle' of .* stands in val or test and not in train"):
        load_dataset(root)
    assert load_dataset(root, merge="bottle=glass").counts()["test"] == {"glass": 3, "paper": 3}


def test_names_that_look_the_same_are_found_and_no_longer_asked_about(tmp_path: Path) -> None:
    root = clean(tmp_path / "data", classes=("Cat", "cat", "caf\u0065\u0301"), each=4)
    assert any("are they one?" in note for note in load_dataset(root).notes)
    data = load_dataset(root, merge="Cat=cat", rename="caf\u00e9=bar")
    assert data.class_names == ("bar", "cat")
    assert not any("are they one?" in note for note in data.notes)


def test_corrections_may_name_classes_as_they_were_or_are(four: Path, tmp_path: Path) -> None:
    first, second = sorted((four / "paper").iterdir())[:2]
    rows = [Correction(file_hash(first), "relabel", "glass"), Correction(file_hash(second), "relabel", "container")]
    write_corrections(tmp_path / "c.csv", rows)
    data = load_dataset(four, merge="glass,plastic=container", corrections=tmp_path / "c.csv")
    assert np.bincount(data.labels)[data.class_names.index("container")] == 18


# --------------------------------------------------------------------------------------------------- every command


def test_a_run_remembers_and_what_differs_is_told(four: Path, capsys: pytest.CaptureFixture) -> None:
    convscope.train(four, name="run", merge="glass,plastic=container", **QUICK)
    recipe = json.loads((runs_folder() / "run" / "recipe.json").read_text())
    assert recipe["recipe"]["source"]["renamed"] == {"glass": "container", "plastic": "container"}
    found = convscope.evaluate("run", part="all")
    assert found.summary["n"] == 32
    assert found.evaluated.scores.classes == ("container", "jar", "paper")
    convscope.train(four, name="run", resume=True)
    convscope.train(four, name="run", resume=True, merge="plastic,glass=container")
    with pytest.raises(UsageError, match="started with `merge` glass,plastic=container and not `rename` jar=box"):
        convscope.train(four, name="run", resume=True, rename="jar=box")
    capsys.readouterr()
    assert cli.run(["evaluate", "run", str(four), "--part", "all", "--rename", "paper=pulp"]) == 65
    assert "does not know the class 'glass'" in capsys.readouterr().err


def test_a_stopped_run_sees_that_the_classes_are_others(four: Path) -> None:
    convscope.train(four, name="run", rename="jar=box", **QUICK)
    (four / "jar").rename(four / "crate")
    with pytest.raises(UnknownName, match="named 'jar'"):
        convscope.train(four, name="run", resume=True)


def test_the_command_line_takes_several_and_the_doctor_too(four: Path, capsys: pytest.CaptureFixture) -> None:
    words = ["--merge", "glass,plastic=container", "--merge", "jar=paper", "--json"]
    assert cli.run(["doctor", str(four), "--no-labels", *words]) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert said["notes"][0] == "classes: 'glass', 'plastic' are 'container' now; 'jar', 'paper' are 'paper' now."
    options = TransferOptions(merge=["a,b=c", "d,e=f"], cards=True)
    assert command_of("data", options, "x").endswith("--merge a,b=c --merge d,e=f --cards")
