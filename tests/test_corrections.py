"""Corrections: left out and relabelled by content, by every command, as a part of what the data are."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import convscope
from convscope import cli
from convscope.datasets.corrections import Correction, read_corrections, write_corrections
from convscope.datasets.registry import load_dataset
from convscope.errors import DataError, UnknownName, UsageError
from convscope.storage import file_hash
from planted_folders import clean

HASH = "ab" * 32


def corrections(root: Path, path: Path) -> Path:
    leave, relabel = root / "ants" / "ants000.png", root / "ants" / "ants001.png"
    rows = [
        Correction(file_hash(leave), "leave-out", "", "of a wasp, really", "ants/ants000.png"),
        Correction(file_hash(relabel), "relabel", "bees", 'says "bee"'),
    ]
    write_corrections(path, rows)
    assert read_corrections(path) == rows
    return path


def test_images_are_left_out_and_relabelled_by_content(tmp_path: Path) -> None:
    root = clean(tmp_path / "data")
    path = corrections(root, tmp_path / "c.csv")
    (root / "ants" / "ants001.png").rename(root / "ants" / "renamed.png")
    before, after = load_dataset(root), load_dataset(root, corrections=path)
    names = [after.origins(i) for i in range(len(after))]
    assert len(after) == len(before) - 1
    assert "ants/ants000.png" not in names
    assert after.class_names[after.labels[names.index("ants/renamed.png")]] == "bees"
    assert after.fingerprint != before.fingerprint
    assert "corrections: 1 left out, 1 relabelled" in after.notes[0]


def test_a_line_that_rots_is_refused_and_one_that_is_struck_out_is_told(tmp_path: Path) -> None:
    root = clean(tmp_path / "data")
    path = corrections(root, tmp_path / "c.csv")
    header, *lines = path.read_text().splitlines(keepends=True)
    path.write_text(header + lines[0] + lines[1].replace("bees", "wasps"))
    with pytest.raises(DataError, match=r"c\.csv, line 3, is not what was written: if you changed it, empty its cell"):
        read_corrections(path)
    path.write_text(header + lines[0] + lines[1].replace("bees", "wasps").rpartition(",")[0] + ",\n")
    assert read_corrections(path)[1].label == "wasps"
    path.write_text(header + lines[1])
    assert "0 left out, 1 relabelled; 1 line that was written is not" in load_dataset(root, corrections=path).notes[0]
    path.write_text(header)
    with pytest.raises(DataError, match="holds no line, and some were written"):
        read_corrections(path)
    write_corrections(path, [])
    assert read_corrections(path) == []
    path.write_text("hash,action,label\n")  # a person's own, or an earlier version's
    assert read_corrections(path) == []


def test_a_note_says_how_many_are_not_here(tmp_path: Path) -> None:
    root = clean(tmp_path / "data")
    write_corrections(tmp_path / "c.csv", [Correction(HASH, "leave-out")])
    data = load_dataset(root, corrections=tmp_path / "c.csv")
    assert "0 left out, 0 relabelled; 1 is of an image not here" in data.notes[0]
    assert data.fingerprint == load_dataset(root).fingerprint


@pytest.mark.parametrize("sign", ";\t")
def test_a_spreadsheet_may_have_saved_it(sign: str, tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_text(f"\ufeffHash{sign}Action{sign}Label\r\n{HASH.upper()}{sign}Relabel{sign} bees \r\n\r\n")
    assert read_corrections(path) == [Correction(HASH, "relabel", " bees ")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("path,label\na,b\n", "needs the columns hash, action and label, and has path, label"),
        ("hash,action\nzz,leave-out\n", "line 2: 'zz' is no SHA-256"),
        (f"hash,action\n{HASH},remove\n", "line 2: action 'remove' is neither leave-out nor relabel"),
        (f"hash,action,label\n{HASH},relabel,\n", "line 2: relabel needs a label"),
        (f"hash,action,label\n{HASH},relabel,a\n{HASH},leave-out,\n", "ask for two things of one image"),
    ],
)
def test_what_does_not_do_is_named(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=said):
        read_corrections(path)


def test_what_is_asked_of_the_data_is_checked(tmp_path: Path) -> None:
    root = clean(tmp_path / "data", each=3)
    path = tmp_path / "c.csv"
    with pytest.raises(DataError, match=r"c\.csv, the corrections, does not exist"):
        load_dataset(root, corrections=path)
    write_corrections(path, [Correction(file_hash(root / "ants" / "ants000.png"), "relabel", "bess")])
    with pytest.raises(UnknownName, match=r"Did you mean 'bees'"):
        load_dataset(root, corrections=path)
    write_corrections(path, [Correction(file_hash(p), "leave-out") for p in root.rglob("*.png")])
    with pytest.raises(DataError, match="leaves out every image"):
        load_dataset(root, corrections=path)


def test_a_run_remembers_them_and_a_stranger_s_run_does_not_open_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = clean(tmp_path / "data")
    path = corrections(root, tmp_path / "c.csv")
    runs = ["--runs", str(tmp_path / "runs")]
    words = ["--epochs", "1", "--model", "alexnet", "--width", "4", "--image-size", "16", "--name", "r"]
    assert cli.run(["train", str(root), *words, "--corrections", str(path), *runs, "--json"]) == 0
    fingerprint = json.loads((tmp_path / "runs" / "r" / "recipe.json").read_text())["data"]["fingerprint"]
    capsys.readouterr()
    assert cli.run(["evaluate", "r", *runs, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["fingerprint"] == fingerprint
    monkeypatch.setenv("CONVSCOPE_CACHE", str(tmp_path / "another machine"))
    assert cli.run(["evaluate", "r", *runs]) == 2
    told = capsys.readouterr().err
    assert f"{root} and {path} are named by r and by nobody on this machine" in told  # all at once
    assert "name them with DATA and --corrections" in told


CALLS: dict[str, Callable[[Path, Path], object]] = {
    "doctor": lambda root, c: convscope.doctor(root, corrections=c),
    "train": lambda root, c: convscope.train(root, corrections=c, runs=root.parent / "runs"),
    "features": lambda root, c: convscope.features(root, corrections=c),
    "transfer": lambda root, c: convscope.transfer(root, corrections=c, runs=root.parent / "runs"),
    "evaluate": lambda root, c: convscope.evaluate("pretrained:lite0", root, corrections=c, runs=root.parent / "runs"),
    "explain": lambda root, c: convscope.explain("alexnet", root, corrections=c, runs=root.parent / "runs"),
    "diagnose": lambda root, c: convscope.diagnose("alexnet", root, corrections=c, runs=root.parent / "runs"),
    "similar": lambda root, c: convscope.similar("pretrained:lite0", _any(root), root, corrections=c),
}


def _any(root: Path) -> Path:
    return next(root.rglob("*.png"))


@pytest.mark.parametrize("command", CALLS)
def test_every_command_takes_them(command: str, tmp_path: Path) -> None:
    root = clean(tmp_path / "data", each=4)
    with pytest.raises(DataError, match=r"none\.csv, the corrections, does not exist"):
        CALLS[command](root, tmp_path / "none.csv")


def test_a_class_that_is_emptied_is_gone_and_a_single_one_is_refused(tmp_path: Path) -> None:
    root = clean(tmp_path / "data", each=6)
    all_ants = [Correction(file_hash(p), "relabel", "bees") for p in (root / "ants").iterdir()]
    write_corrections(tmp_path / "c.csv", all_ants)
    data = load_dataset(root, corrections=tmp_path / "c.csv")
    assert data.class_names == ("bees", "wasps")
    assert np.bincount(data.labels).tolist() == [12, 6]
    assert any("no image of 'ants'" in note for note in data.notes)
    rest = [Correction(file_hash(p), "leave-out") for p in (root / "wasps").iterdir()]
    write_corrections(tmp_path / "c.csv", [*all_ants, *rest])
    with pytest.raises(DataError, match="leaves images of one class only, 'bees'"):
        load_dataset(root, corrections=tmp_path / "c.csv")


def test_a_run_goes_on_with_its_corrections_named_from_here_or_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = clean(tmp_path / "data", each=8)
    corrections(root, tmp_path / "c.csv")
    monkeypatch.chdir(tmp_path)
    words = ["train", "data", "--name", "r", "--runs", "runs", "--device", "cpu", "--json"]
    small = ["--epochs", "1", "--width", "8", "--image-size", "16", "--batch-size", "8", "--corrections", "c.csv"]
    assert cli.run([*words, *small]) == 0
    assert cli.run([*words, *small, "--resume"]) == 0
    (tmp_path / "c.csv").rename(tmp_path / "moved.csv")
    assert cli.run([*words, "--corrections", "moved.csv", "--resume"]) == 0
    write_corrections(tmp_path / "moved.csv", [])
    assert cli.run([*words, "--corrections", "moved.csv", "--resume"]) == 65


@pytest.mark.parametrize("end", ["\r", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_what_spreadsheets_do_to_a_file_is_borne(end: str, encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    rows = ["hash\taction\tlabel\t\t", f"{HASH}\trelabel\tbees \t\t", "\t\t\t\t", ""]
    path.write_bytes(end.join(rows).encode(encoding))
    assert read_corrections(path) == [Correction(HASH, "relabel", "bees ")]


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (f'{HASH},leave-out,"of a wasp\n{HASH[::-1]},leave-out,\n', "line 3: unexpected end of data"),
        (f"{HASH},relabel,bees,wasps\n", "line 2: 4 cells under 3 columns"),
        (f"{HASH},leave-out,\n\n{HASH},relabel,bees\n", "lines 2 and 4, ask for two things of one image"),
    ],
)
def test_a_line_that_does_not_fit_is_named(lines: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_text(f"hash,action,label\n{lines}")
    with pytest.raises(DataError, match=told):
        read_corrections(path)


@pytest.mark.parametrize("before", ["sep=;\r\n", "\n", "\r\n\r\n"])
def test_lines_before_the_header_and_western_letters_are_borne(before: str, tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_bytes(f"{before}hash;action;label\r\n{HASH};relabel;Café\r\n".encode("cp1252"))
    assert read_corrections(path) == [Correction(HASH, "relabel", "Café")]


def test_a_name_with_a_blank_is_another_class(tmp_path: Path) -> None:
    root = clean(tmp_path / "data", each=6, classes=("ants", "bees", "bees "))
    path = root / "ants" / "ants000.png"
    write_corrections(tmp_path / "c.csv", [Correction(file_hash(path), "relabel", "bees ")])
    data = load_dataset(root, corrections=tmp_path / "c.csv")
    names = [data.origins(i) for i in range(len(data))]
    assert data.class_names[data.labels[names.index("ants/ants000.png")]] == "bees "


def test_what_only_a_record_names_is_not_opened_and_what_the_user_names_is(tmp_path: Path) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("hash,action\npassword,x\n")
    for data in ("digits", "hf:somewhere/else"):
        with pytest.raises(UsageError, match=r"secret\.csv (is|are) named by .* not read unasked"):
            load_dataset(data, recorded_in="a stranger's run", corrections=secret)
    with pytest.raises(UsageError, match="hf:somewhere/else is named by"):
        load_dataset("hf:somewhere/else", recorded_in="a stranger's run")
