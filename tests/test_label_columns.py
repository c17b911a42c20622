"""Tables whose images have several labels, or a number: what a column asks is told from its cells, and read so."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from convscope.datasets.asked import find_asked
from convscope.datasets.label_columns import task_of_table
from convscope.datasets.options import DatasetOptions
from convscope.datasets.table import load_table
from convscope.datasets.table_reading import read_table
from convscope.datasets.targets import LabelSets, Numbers
from convscope.datasets.unsplit import Unsplit
from convscope.errors import DataError, UsageError
from convscope.recipes import Source


def table(folder: Path, columns: dict[str, list[str]], name: str = "t.csv") -> Path:
    """A table with a path to an image a line, and these columns."""
    count = len(next(iter(columns.values())))
    for i in range(count):
        Image.new("RGB", (4, 4), (i % 256, 0, 0)).save(folder / f"{i}.png")
    with open(folder / name, "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["path", *columns])
        rows.writerows(zip((f"{i}.png" for i in range(count)), *columns.values(), strict=True))
    return folder / name


def asked(path: Path, task: str | None = None, **options: Any) -> Unsplit | None:
    return find_asked(str(path), DatasetOptions(**options), task, None)


def labels(path: Path, task: str | None = None, **options: Any) -> list[set[str]]:
    """The labels of each image."""
    found = asked(path, task, **options)
    assert found is not None
    assert isinstance(found.targets, LabelSets)
    return [{n for n, v in zip(found.targets.names, row, strict=True) if v} for row in found.targets.values]


def numbers(path: Path, task: str | None = None, **options: Any) -> list[float]:
    """The number of each image."""
    found = asked(path, task, **options)
    assert found is not None
    assert isinstance(found.targets, Numbers)
    return found.targets.values.tolist()


def told(path: Path, **source: str) -> str:
    return task_of_table(read_table(path), Source(**source))


WANTED = [{"cat", "dog"}, {"dog"}, {"cat"}, set(), {"cat", "bird"}, {"cat", "dog"}]


# ------------------------------------------------------------------------------------------------------ several labels


@pytest.mark.parametrize("sign", ["|", ";", ",", " | ", ", "])
def test_a_column_of_lists(sign: str, tmp_path: Path):
    path = table(tmp_path, {"labels": [sign.join(sorted(one)) for one in WANTED]})
    assert labels(path) == WANTED
    found = asked(path)
    assert found is not None
    assert found.targets.names == ("bird", "cat", "dog")
    assert found.notes[0] == "task: multi_label, several labels, or none; --task says otherwise."
    assert "1 image has none of the labels." in found.notes
    assert found.targets.counts(np.arange(6)) == {"bird": 1, "cat": 4, "dog": 3}
    digests = found.targets.digests()
    assert np.array_equal(digests[0], digests[5])
    assert len({one.tobytes() for one in digests}) == 5


@pytest.mark.parametrize("write", [json.dumps, repr])
def test_a_column_of_lists_as_json_or_python_writes_them(write, tmp_path: Path):
    names = {"cat": "cat, black", "dog": "dog's", "bird": 'bird "x"'}
    path = table(tmp_path, {"labels": [write([names[one] for one in sorted(each)]) for each in WANTED]})
    assert labels(path) == [{names[one] for one in each} for each in WANTED]


def test_what_only_looks_like_a_list_is_a_name(tmp_path: Path):
    path = table(tmp_path, {"label": ["[sic", "[a] b", "[sic", "[a] b"]})
    assert told(path) == "classification"
    assert told(table(tmp_path, {"label": ["[" * 60_000 + "]" * 60_000, "a"]})) == "classification"


def test_columns_of_0_and_1(tmp_path: Path):
    columns = {name: [str(int(name in one)) for one in WANTED] for name in ("cat", "dog", "bird")}
    columns["dog"] = ["1.0" if cell == "1" else "" for cell in columns["dog"]]
    path = table(tmp_path, {**columns, "split": ["train"] * 4 + ["test"] * 2})
    assert labels(path) == WANTED
    found = asked(path)
    assert found is not None
    assert found.given.tolist() == ["train"] * 4 + ["test"] * 2
    assert found.targets.names == ("cat", "dog", "bird")


def test_columns_of_0_and_1_beside_others(tmp_path: Path):
    columns = {name: [str(int(name in one)) for one in WANTED] for name in ("cat", "dog")}
    path = table(tmp_path, {**columns, "width": ["5", "1", "7", "1", "0", "3"], "empty": [""] * 6})
    found = asked(path)
    assert found is not None
    assert found.targets.names == ("cat", "dog")


def test_one_column_of_0_and_1_is_a_number_or_a_class(tmp_path: Path):
    path = table(tmp_path, {"label": ["0", "1", "0", "1"]})
    assert told(path) == "classification"
    assert numbers(path, "regression") == [0, 1, 0, 1]


def test_names_with_a_comma_are_no_lists(tmp_path: Path):
    names = ["fox, red", "fox, grey", "hare, brown", "fox, red", "hare, brown"]
    path = table(tmp_path, {"label": names})
    assert told(path) == "classification"
    assert asked(path) is None
    assert labels(path, "multi_label") == [{name} for name in names], "a comma alone says nothing"
    (note,) = (note for note in load_table(path).notes if "comma" in note)
    assert note.startswith("3 classes have a comma in their names ('fox, grey'): if these are several labels")
    assert told(table(tmp_path, {"label": ["a, 1", "b, 2", "c, 1", "d, 3"]})) == "classification"
    listed = [name.replace(", ", "|") for name in names]
    assert labels(table(tmp_path, {"label": listed}), "multi_label") == [set(cell.split("|")) for cell in listed]


@pytest.mark.parametrize(
    "cells", [["cat, dog", "dog, indoors", "cat, indoors"], ["cat, dog", "dog, indoors", "cat", ""], ["a,b", "a", "b"]]
)
def test_lists_with_commas_whose_labels_come_again(cells: list[str], tmp_path: Path):
    path = table(tmp_path, {"label": cells})
    found = asked(path)
    assert found is not None
    assert f"{cells[0]!r} is taken for 2 labels, between commas." in found.notes
    assert labels(path) == [{part.strip() for part in cell.split(",")} - {""} for cell in cells]


def test_lists_that_never_repeat_are_lists_where_the_task_says_so(tmp_path: Path):
    path = table(tmp_path, {"label": ["a|b", "c|d", "e"]})
    assert labels(path, "multi_label") == [{"a", "b"}, {"c", "d"}, {"e"}]


def test_each_image_with_one_label_is_told(tmp_path: Path):
    path = table(tmp_path, {"label": ["a", "b", "a", "c"]})
    assert asked(path) is None
    found = asked(path, "multi_label")
    assert found is not None
    assert found.notes[0] == "task: multi_label, several labels, or none."
    assert "every image has exactly one label: with --task classification it is one class of several." in found.notes
    flags = {name: [str(int(name == one)) for one in "abac"] for name in "abc"}
    found = asked(table(tmp_path, flags))
    assert found is not None
    (note,) = (note for note in found.notes if "exactly one label" in note)
    assert "--task classification" not in note, "columns of 0 and 1 are not read as classes"


def test_the_same_label_on_every_image_is_read(tmp_path: Path):
    path = table(tmp_path, {"label": ["a|b", "a", "a|b", "a"]})
    assert labels(path) == [{"a", "b"}, {"a"}, {"a", "b"}, {"a"}]
    assert labels(table(tmp_path, {"label": ["a"] * 4}), "multi_label") == [{"a"}] * 4


def test_a_label_that_stands_twice_in_a_cell_counts_once(tmp_path: Path):
    assert labels(table(tmp_path, {"label": ["a|a|", "|b", "a|b", " "]})) == [{"a"}, {"b"}, {"a", "b"}, set()]


def test_a_column_without_any_label_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match="the column label is empty on every line"):
        asked(table(tmp_path, {"label": ["", ""]}), "multi_label")
    with pytest.raises(DataError, match="no column of labels, and no columns of 0 and 1"):
        asked(table(tmp_path, {"height": ["2", "5"], "width": ["2", "5"]}), "multi_label")


# ---------------------------------------------------------------------------------------------------------- numbers


def test_a_column_of_numbers(tmp_path: Path):
    path = table(tmp_path, {"label": ["1.5", "-2", "3e2", "0.25"]})
    assert numbers(path) == [1.5, -2, 300, 0.25]
    found = asked(path)
    assert found is not None
    assert found.notes[0] == "task: regression, a number; --task says otherwise."
    assert found.targets.names == ("label",)
    assert asked(path, "classification") is None


def test_the_only_other_column_may_be_called_anything(tmp_path: Path):
    path = table(tmp_path, {"age": ["31", "4", "77", "31"], "split": ["train", "train", "val", "test"]})
    assert numbers(path) == [31, 4, 77, 31]
    assert told(table(tmp_path, {"age": ["31", "4"], "height": ["170", "98"]})) == "classification"
    with pytest.raises(DataError, match="several columns: say which holds the number with --label-column"):
        asked(table(tmp_path, {"age": ["31", "4"], "height": ["170", "98"]}), "regression")
    path = table(tmp_path, {"age": ["31.5", "4"], "height": ["170", "98"]})
    assert numbers(path, label_column="age") == [31.5, 4]


def test_a_decimal_comma(tmp_path: Path):
    assert numbers(table(tmp_path, {"label": ["1,5", "-2,25", "3"]})) == [1.5, -2.25, 3]
    (tmp_path / "t.csv").write_text("path;label\n0.png;1,5\n1.png;2,25\n2.png;7\n")
    assert numbers(tmp_path / "t.csv") == [1.5, 2.25, 7]


@pytest.mark.parametrize(
    ("cells", "task"),
    [
        (["0", "1", "2", "1", "0"], "classification"),
        ([str(i % 20) for i in range(60)], "classification"),
        ([str(i) for i in range(60)], "regression"),
        ([str(i % 30) for i in range(60)], "regression"),
        ([str(i % 30) for i in range(150)], "classification"),
        (["1.0", "2.0", "3.0"], "classification"),
        (["1", "2", "2.5"], "regression"),
        (["", "1.5", ""], "regression"),
        (["", ""], "classification"),
        (["1.5", "many"], "classification"),
        (["1.5", "2.5", "3", "4", "NA"], "regression"),
        ([*"0123456789", "other"], "classification"),
    ],
)
def test_whole_numbers_name_or_count(cells: list[str], task: str, tmp_path: Path):
    assert told(table(tmp_path, {"label": cells})) == task


def test_lines_without_a_number_are_left_out_and_counted(tmp_path: Path):
    path = table(tmp_path, {"label": ["1.5", "", "2.5", " "], "split": ["train", "val", "test", "val"]})
    found = asked(path)
    assert found is not None
    assert found.targets.values.tolist() == [1.5, 2.5]
    assert [file.name for file in found.files] == ["0.png", "2.png"]
    assert found.given.tolist() == ["train", "test"]
    assert "2 lines have no number and are left out." in found.notes
    with pytest.raises(DataError, match="the column label is empty on every line"):
        asked(table(tmp_path, {"label": ["", ""]}), "regression")


@pytest.mark.parametrize("cell", ["inf", "-inf", "nan", "1e999", "many", "1,2,3", "1.2.3"])
def test_what_is_no_finite_number_is_named_with_its_line(cell: str, tmp_path: Path):
    path = table(tmp_path, {"label": ["1.5", "2.5", cell]})
    with pytest.raises(DataError, match=rf"line 4: label '{cell}' is no finite number"):
        asked(path, "regression")


def test_the_task_that_is_said_wins(tmp_path: Path):
    path = table(tmp_path, {"label": [str(i % 3) for i in range(9)]})
    assert asked(path) is None
    assert numbers(path, "regression") == [i % 3 for i in range(9)]
    assert labels(path, "multi_label") == [{str(i % 3)} for i in range(9)]
    with pytest.raises(DataError, match="is a table; the task segmentation takes a folder"):
        asked(path, "segmentation")


# ---------------------------------------------------------------------------------------------- paths, parts, groups


def test_columns_are_named_as_for_classes(tmp_path: Path):
    path = table(tmp_path, {"what": ["a|b", "a", "b"], "who": ["x", "y", "x"]})
    assert labels(path, label_column="what") == [{"a", "b"}, {"a"}, {"b"}]
    found = asked(path, label_column="what", group="who")
    assert found is not None
    assert found.groups is not None
    assert found.groups.tolist() == ["x", "y", "x"]


def test_a_file_that_is_not_there_is_named_with_its_line(tmp_path: Path):
    path = table(tmp_path, {"label": ["1.5", "", "3.5"]})
    (tmp_path / "2.png").unlink()
    with pytest.raises(DataError, match=r"2\.png \(line 4\)"):
        asked(path)


@pytest.mark.parametrize("task", ["multi_label", "regression"])
def test_a_table_without_paths_or_lines_is_refused(task: str, tmp_path: Path):
    (tmp_path / "t.csv").write_text("where,label\n0.png,1.5\n")
    with pytest.raises(DataError, match="--path-column"):
        asked(tmp_path / "t.csv", task)
    (tmp_path / "t.csv").write_text("path,label\n")
    with pytest.raises(DataError, match="holds no image"):
        asked(tmp_path / "t.csv", task)


@pytest.mark.parametrize("task", ["multi_label", "regression"])
@pytest.mark.parametrize("option", [{"merge": ("a,b=c",)}, {"rename": ("a=b",)}, {"label_from": r"(\w)"}])
def test_options_that_say_classes_are_refused(task: str, option: dict[str, Any], tmp_path: Path):
    path = table(tmp_path, {"label": ["1.5", "2", "3"]})
    with pytest.raises(UsageError, match=f"--{next(iter(option)).replace('_', '-')} is for the task classification"):
        asked(path, task, **option)


@pytest.mark.parametrize(
    ("cells", "task"),
    [
        ([*map(str, range(100, 130)), "100|107", "106|112"] * 2, "multi_label"),
        ([*map(str, range(1000, 1030)), "guest1"] * 3, "classification"),
        (["1.0", "1.1", "2.0", "2.1", "2.2", "beta"], "classification"),
        (["Smith, John", "Smith, Anna", "Jones, John", "Jones, Anna"], "classification"),
        (["cat, dog", "dog, indoors", "cat, indoors"], "multi_label"),
    ],
)
def test_what_only_looks_like_numbers_or_lists(cells: list[str], task: str, tmp_path: Path):
    assert told(table(tmp_path, {"label": cells})) == task


@pytest.mark.parametrize("odd", ["NA", "inf", "3.0 cm", "1,007.5"])
@pytest.mark.parametrize("column", ["height", "label"])
def test_a_number_that_is_none_is_named_with_its_line(odd: str, column: str, tmp_path: Path):
    path = table(tmp_path, {column: ["1.5", "2.5", odd, "7", "9.25", "3"]})
    with pytest.raises(
        DataError, match=rf"t\.csv, line 4: {column} '{re.escape(odd)}' is no finite number: mend it, or"
    ):
        asked(path)
    assert numbers(table(tmp_path, {column: ["1.5", "2.5", "", "7", "9.25", "3"]})) == [1.5, 2.5, 7, 9.25, 3]
    assert numbers(table(tmp_path, {column: ["1.5", "2.5", "4", "7", "9.25", "3"]})) == [1.5, 2.5, 4, 7, 9.25, 3]


def test_one_image_with_two_numbers_is_told(tmp_path: Path):
    table(tmp_path, {"label": ["1.5", "2.5", "3.5"]})
    lines = "path,label\n0.png,1.5\n1.png,2.5\n0.png,9\n2.png,3.5\n2.png,3.5\n"
    (tmp_path / "t.csv").write_text(lines, encoding="utf-8")
    found = asked(tmp_path / "t.csv")
    assert found is not None
    assert "1 image stands on several lines with other numbers each (the first: 0.png)." in found.notes
    (tmp_path / "t.csv").write_text("path,label\n0.png,a|b\n1.png,b\n0.png,a\n1.png,b\n", encoding="utf-8")
    found = asked(tmp_path / "t.csv")
    assert found is not None
    assert "1 image stands on several lines with other labels each (the first: 0.png)." in found.notes
