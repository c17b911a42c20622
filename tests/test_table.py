"""CSV tables: names or numbers, parts, classes.txt, and the line of whatever does not fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convscope.datasets.registry import load_dataset
from convscope.datasets.table import load_table
from convscope.errors import DataError, UsageError
from convscope.visible import cell


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i in range(60):
        path = tmp_path / "data" / ("cat", "dog")[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (12, 12, 3), np.uint8)).save(path)
    return tmp_path / "data"


ROWS = [(f"{('cat', 'dog')[i % 2]}/{i}.png", i % 2) for i in range(60)]


def table(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "labels.csv"
    path.write_text(text, encoding=encoding, newline="")
    return path


def lines(header: str, rows: list[tuple[object, ...]], end: str = "\n") -> str:
    return header + end + "".join(",".join(map(str, row)) + end for row in rows)


@pytest.mark.parametrize(("encoding", "end"), [("utf-8", "\n"), ("utf-8-sig", "\r\n")])
def test_a_table_of_names(folder: Path, encoding: str, end: str) -> None:
    rows = [(path, ("cat", " a dog ")[label]) for path, label in ROWS]
    data = load_dataset(table(folder, lines("path,label", rows, end), encoding))
    assert data.name == "labels"
    assert data.class_names == ("a dog", "cat")
    assert [data.origins(i) for i in range(60)] == [path for path, _ in ROWS]
    assert data.labels.tolist() == [1 - label for _, label in ROWS]
    for i in (0, 59):
        assert np.array_equal(data.images[i], data.preprocess.fit_image(folder / data.origins(i)))
    assert data.notes == ()


def test_a_table_and_a_folder_of_the_same_are_the_same(folder: Path) -> None:
    by_table = load_dataset(table(folder, lines("label,path", [(("cat", "dog")[label], path) for path, label in ROWS])))
    assert by_table.fingerprint == load_dataset(folder).fingerprint


def test_numbers_and_given_parts(folder: Path) -> None:
    given = ("train", "Valid", " test ")
    rows = [(path, 2 * label, given[i // 2 % 3]) for i, (path, label) in enumerate(ROWS)]
    text = lines("path,class_index,split", rows)
    data = load_dataset(table(folder, text))
    assert data.class_names == ("0", "1", "2")
    for part in data.parts:
        assert data.counts()[part] == {"0": 10, "1": 0, "2": 10}
    assert data.notes == ("class '1': without any image.",)
    (folder / "classes.txt").write_text("\ufeffdog\r\nbird \nca\u2028t\nfish\n\n", encoding="utf-8", newline="")
    data = load_dataset(table(folder, text))
    assert data.class_names == ("dog", "bird", r"ca\u2028t", "fish")
    assert data.counts()["test"] == {"dog": 10, "bird": 0, r"ca\u2028t": 10, "fish": 0}
    assert data.notes == ("2 classes ('bird', 'fish'): without any image.",)


def test_an_empty_part_is_undecided(folder: Path) -> None:
    rows = [(path, label, "test" if i < 10 else "") for i, (path, label) in enumerate(ROWS)]
    data = load_dataset(table(folder, lines("path,class_index,split", rows)))
    assert data.parts["test"].tolist() == list(range(10))
    assert len(data.parts["val"])
    assert len(data.parts["val"]) + len(data.parts["train"]) == 50


def test_names_that_stand_twice_are_told_apart(folder: Path) -> None:
    """ImageNet has two classes named crane: the bird and the machine."""
    path = table(folder, lines("path,class_index", [(p, 2 * label) for p, label in ROWS]))
    (folder / "classes.txt").write_text("crane\nhen\ncrane\n")
    data = load_dataset(path)
    assert data.class_names == ("crane (0)", "hen", "crane (2)")
    assert any("told apart by their numbers: 'crane (0)', 'crane (2)'" in note for note in data.notes)
    (folder / "classes.txt").write_text("crane\ncrane (0)\ncrane\n")
    with pytest.raises(DataError, match="'crane' to several classes"):
        load_dataset(path)


def test_odd_paths(folder: Path, tmp_path: Path) -> None:
    names = ["with space.png", "émoji 🐈.png", "new\nline.png", "-dash.png", "com,ma.png", 'quo"te.png']
    for i, name in enumerate(names):
        (folder / "cat" / f"{2 * i}.png").rename(folder / name)
    (folder / "dog" / "1.png").rename(tmp_path / "outside.png")
    (folder / "dog" / "3.png").rename(tmp_path / "above.png")
    quoted = ['"' + name.replace('"', '""') + '"' for name in names]
    rows = [(name, "cat") for name in quoted] + [(tmp_path / "outside.png", "dog"), ("../above.png", "dog")]
    data = load_dataset(table(folder, lines("path,label", rows)))
    assert [data.origins(i) for i in range(6)] == [name.replace("\n", r"\n") for name in names]
    assert data.origins(6) == str(tmp_path / "outside.png")
    assert len(data) == 8


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty: its first line should name the columns"),
        ("\n\n", "is empty"),
        ("path,colour\na,b\n", "no label .say which with `label_column`.. It has: path, colour"),
        ("what,label\na,b\n", "no path .say which with `path_column`.. It has: what, label"),
        ("path,label,label\na,b,c\n", "two columns named 'label'"),
        ("path,label\n", "holds no image"),
        ("path,label\ncat/0.png,cat\ncat/2.png,cat\n", "one class, 'cat'"),
        ("path,class_index\ncat/0.png,5\ncat/2.png,5\n", "one class, '5'"),
        ("path,label\ncat/0.png,\n", "the column label is empty on every line"),
        ("path,label\ncat/0.png,cat\n\n\n ,dog\n", "line 5: path is empty"),
        ('path,label\n"new\nline.png",cat\n,dog\n', "line 4: path is empty"),
        ("path,label\ncat/0.png,cat\ndog/1,5.png,dog\n", "line 3: 3 cells under 2 columns"),
        ("path,label,split\ncat/0.png,cat,test\ndog/1.png,dog\n", "line 3: 2 cells under 3 columns"),
        ('path,label\ncat/0.png,cat\n"dog/1.png,dog\n', "line 3: unexpected end of data"),
        ("path,class_index\ncat/0.png,1\ndog/1.png,x\n", "line 3: class_index 'x'"),
        ("path,class_index\n\n\ncat/0.png,x\n", "line 4: class_index 'x'"),
        ("path,class_index\ncat/0.png,-1\n", "line 2: class_index '-1'"),
        ("path,class_index\ncat/0.png,1.0\n", "line 2: class_index '1.0'"),
        ("path,class_index\ncat/0.png,100000\n", "line 2: class_index '100000' is not a number from 0 to 99999"),
        ("path,class_index\ncat/0.png," + "9" * 5000 + "\n", "line 2: class_index '9{40}'"),
        ("path,label,split\ncat/0.png,cat,train\ndog/1.png,dog,later\n", "line 3: split 'later'"),
        ("path,label\ncat/0.png,cat\ndog/none.png,dog\n", "1 of 2 files is missing in .*: dog/none.png .line 3."),
        ("path,label\ncat/\0.png,cat\ndog/1.png,dog\n", "1 of 2 images cannot be read: cat/|it is no text"),
        ("path,label\ncat,cat\ndog/1.png,dog\n", "1 of 2 files is missing .*: cat .line 2."),
        ("path,label\ncat/0.png," + "x" * 200_000 + "\n", "line 2: field larger"),
    ],
)
def test_a_table_that_does_not_do_names_the_line(text: str, said: str, folder: Path) -> None:
    with pytest.raises(DataError, match=said) as caught:
        load_dataset(table(folder, text))
    assert caught.value.exit_code == 65
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ("dog\n", "gives 1 names, and labels.csv asks for class 1, from 0"),
        ("", "line 1: a class without a name"),
        ("dog\n\ncat\n", "line 2: a class without a name"),
    ],
)
def test_class_names_that_do_not_do(names: str, said: str, folder: Path) -> None:
    (folder / "classes.txt").write_text(names)
    with pytest.raises(DataError, match=rf"classes\.txt.*{said}"):
        load_dataset(table(folder, lines("path,class_index", ROWS)))


def test_other_encodings_are_told(folder: Path) -> None:
    (folder / "labels.csv").write_bytes(b"PK\0\0\1\2")
    with pytest.raises(DataError, match=r"labels\.csv cannot be read as a table: it is no text"):
        load_dataset(folder / "labels.csv")
    (folder / "classes.txt").write_text("café\ndog\n", encoding="latin-1")
    with pytest.raises(DataError, match=r"classes\.txt cannot be read"):
        load_dataset(table(folder, lines("path,class_index", ROWS)))


def test_the_real_one(shared_data: Path) -> None:
    data = load_dataset(shared_data / "imagenet_val650" / "labels.csv", image_size=32)
    assert len(data) == 650
    assert len(data.class_names) == len(set(data.class_names)) == 1000
    assert data.class_names[134] == "crane (134)"
    assert data.class_names[472] == "canoe"
    assert data.labels[0] == 472
    assert len(data.notes) < 10
    assert max(map(len, data.notes)) < 300


# -------------------------------------------------------------------------------------- tables as people write them

WRITTEN: dict[str, Callable[[list[tuple[str, str]]], bytes]] = {
    "semicolons": lambda rows: "\n".join(["path;label", *(f"{p};{c}" for p, c in rows)]).encode(),
    "tabs": lambda rows: "\n".join(["path\tlabel", *(f"{p}\t{c}" for p, c in rows)]).encode(),
    "blanks": lambda rows: "\n".join(["path label", *(f"{p}   {c}" for p, c in rows)]).encode(),
    "bars": lambda rows: "\n".join(["path|label", *(f"{p}|{c}" for p, c in rows)]).encode(),
    "no header": lambda rows: "\n".join(f"{p},{c}" for p, c in rows).encode(),
    "no header, label first": lambda rows: "\n".join(f"{c} {p}" for p, c in rows).encode(),
    "blanks around commas": lambda rows: "\n".join(["path , label", *(f" {p} , {c} " for p, c in rows)]).encode(),
    "mark and line ends of Windows": lambda rows: (
        "\ufeff" + "\r\n".join(["path,label", *(f"{p},{c}" for p, c in rows)])
    ).encode(),
    "UTF-16": lambda rows: "\n".join(["path,label", *(f"{p},{c}" for p, c in rows)]).encode("utf-16"),
    "slashes of Windows": lambda rows: "\n".join(
        f"{p},{c}".replace("/", "\\") for p, c in [("path", "label"), *rows]
    ).encode(),
    "another machine": lambda rows: "\n".join(
        ["path,label", *(f"C:\\Users\\me\\set\\{p},{c}" for p, c in rows)]
    ).encode(),
    "another machine's home": lambda rows: "\n".join(
        ["path,label", *(f"/home/me/set/{p},{c}" for p, c in rows)]
    ).encode(),
    "other names": lambda rows: "\n".join(["Species,File Name", *(f"{c},{p}" for p, c in rows)]).encode(),
    "a column more": lambda rows: "\n".join(
        ["n,path,label", *(f"{i},{p},{c}" for i, (p, c) in enumerate(rows))]
    ).encode(),
    "no ends": lambda rows: "\n".join(["id,class", *(f"{p[:-4]},{c}" for p, c in rows)]).encode(),
    "quotes": lambda rows: "\n".join(['"path","label"', *(f'"{p}","{c}"' for p, c in rows)]).encode(),
}


@pytest.mark.parametrize("way", WRITTEN)
def test_a_table_is_read_however_it_is_written(way: str, folder: Path) -> None:
    path = folder / "labels.csv"
    path.write_bytes(WRITTEN[way]([(p, ("cat", "dog")[label]) for p, label in ROWS]))
    data = load_dataset(path)
    assert data.class_names == ("cat", "dog")
    assert [data.class_names[label] for label in data.labels] == [("cat", "dog")[label] for _, label in ROWS]
    assert data.fingerprint == load_dataset(folder).fingerprint


def test_latin_1_is_read_and_said(folder: Path) -> None:
    path = folder / "labels.csv"
    rows = [f"{p},{('café', 'dog')[label]}" for p, label in ROWS]
    path.write_bytes("\n".join(["path,label", *rows]).encode("latin-1"))
    data = load_dataset(path)
    assert data.class_names == ("café", "dog")
    assert any("read as Latin-1" in note for note in data.notes)


def test_columns_and_places_may_be_named(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "elsewhere.tsv"
    path.write_text("\n".join(["a\tb\tc", *(f"{p[:-4]}\t{label}x\t{i}" for i, (p, label) in enumerate(ROWS))]))
    data = load_dataset(path, path_column="a", label_column="b", images=folder, suffix=".png")
    assert data.class_names == ("0x", "1x")
    with pytest.raises(DataError, match=r"no column 'bb' for the label. Did you mean 'b'"):
        load_dataset(path, path_column="a", label_column="bb", images=folder)
    with pytest.raises(DataError, match="the folder of images, does not exist"):
        load_dataset(path, path_column="a", label_column="b", images=tmp_path / "none")
    with pytest.raises(DataError, match="name their folder with `images`"):
        load_dataset(path, path_column="a", label_column="b")


def test_all_missing_files_are_told_at_once(folder: Path) -> None:
    rows = [f"{p},{label}" for p, label in ROWS] + [f"gone/{i}.png,1" for i in range(30)]
    path = table(folder, "\n".join(["path,label", *rows]))
    with pytest.raises(DataError, match=r"30 of 90 files are missing in .*: gone/0.png \(line 62\), .* and 10 more\."):
        load_dataset(path)
    assert len(load_dataset(path, bad_images="skip")) == 60


@pytest.mark.parametrize("blank", [" ", "\u2003", "\xa0"])
def test_blanks_at_the_ends_of_names_are_found(blank: str, tmp_path: Path) -> None:
    first, last = tmp_path / f"{blank}in" / "a.png", tmp_path / "out" / f"b.png{blank}"
    for number, path in enumerate((first, last)):
        path.parent.mkdir()
        Image.new("RGB", (4, 4), (number, 0, 0)).save(path, "PNG")
    rows = [f"{first.relative_to(tmp_path)},cat", f"{last.relative_to(tmp_path)},dog"]
    (tmp_path / "table.csv").write_text("\n".join(["path,label", *rows]), encoding="utf-8")
    assert load_table(tmp_path / "table.csv").files == (first, last)
    (tmp_path / f"{blank * 2}in").mkdir()  # which of the two is meant cannot be told
    with pytest.raises(DataError, match="1 of 2 files is missing"):
        load_table(tmp_path / "table.csv")


def test_what_a_table_of_ours_writes_with_an_apostrophe_is_read_without(folder: Path) -> None:
    """A label that a spreadsheet would compute; an apostrophe of its own it keeps."""
    names = ("-cat", "'dog")
    rows = [(path, cell(names[label])) for path, label in ROWS]
    assert rows[0][1] == "'-cat"
    assert load_dataset(table(folder, lines("path,label", rows))).class_names == ("'dog", "-cat")


def test_lines_without_a_label_are_left_out_and_counted(folder: Path) -> None:
    rows = [f"{p},{'' if i in (3, 4) else label}" for i, (p, label) in enumerate(ROWS)]
    data = load_dataset(table(folder, "\n".join(["path,label", *rows])))
    assert len(data) == 58
    assert "2 lines have no label and are left out (the first: line 5)." in data.notes


def test_classes_that_differ_in_case_are_asked_about_as_in_folders(folder: Path) -> None:
    rows = [f"{p},{('Ant', 'ant')[label]}" for p, label in ROWS]
    data = load_dataset(table(folder, "\n".join(["path,label", *rows])))
    assert data.class_names == ("Ant", "ant")
    assert any("differ in letter case alone: are they one?" in note for note in data.notes)


def test_groups_of_a_column_stay_on_one_side(folder: Path) -> None:
    rows = [f"{p},{label},patient{i // 6}" for i, (p, label) in enumerate(ROWS)]
    path = table(folder, "\n".join(["path,label,who", *rows]))
    data = load_dataset(path, group="who")
    side: dict[int, str] = {}
    for part, index in data.parts.items():
        assert all(side.setdefault(i // 6, part) == part for i in index.tolist())
    assert len(set(side.values())) > 1
    assert len(np.unique(data.together)) == 10
    with pytest.raises(DataError, match=r"no column 'whom' for the group. Did you mean 'who'"):
        load_dataset(path, group="whom")


def test_groups_by_a_pattern_and_by_a_column_in_another_case(folder: Path) -> None:
    rows = [f"{p},{label},patient{i // 6}".replace("/", "\\") for i, (p, label) in enumerate(ROWS)]
    path = table(folder, "\n".join(["path,label,Who", *rows]))
    assert len(np.unique(load_dataset(path, group="who").together)) == 10
    by_pattern = load_dataset(path, group=r"(\d)\d?\.png")
    assert len(np.unique(by_pattern.together)) == 10


def test_a_column_called_part_may_mean_something_else(folder: Path) -> None:
    rows = [f"{p},{label},{('elbow', 'hand')[i % 2]}" for i, (p, label) in enumerate(ROWS)]
    assert len(load_dataset(table(folder, "\n".join(["path,label,part", *rows])))) == 60


def test_labels_of_names_in_a_table(folder: Path) -> None:
    path = table(folder, "\n".join(["path", *(p for p, _ in ROWS)]))
    assert load_dataset(path, label_from="(cat|dog)/").class_names == ("cat", "dog")


@pytest.mark.parametrize("option", ["path_column", "label_column", "suffix"])
def test_what_is_for_tables_is_refused_of_folders_and_names(option: str, folder: Path) -> None:
    for data in (folder, "digits"):
        with pytest.raises(UsageError, match=f"`{option}`"):
            load_dataset(data, **{option: "x"})


@pytest.mark.parametrize(
    "text", ["sep=;\r\npath;label\r\n{a};ants\r\n{b};bees\r\n", "path,label,,\n{a},ants,,\n{b},bees,,\n"]
)
def test_what_spreadsheets_add_is_passed_over(text: str, tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    (tmp_path / "t.csv").write_text("\ufeff" + text.format(a="a.png", b="b.png"))
    assert load_dataset(tmp_path / "t.csv").class_names == ("ants", "bees")
