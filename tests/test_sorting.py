"""Daily use of answers: a least probability, a table, and images sorted by copies or links."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import convscope
from convscope.classifying.prediction import Prediction, Unreadable
from convscope.errors import DataError, UsageError
from convscope.evaluation.sorting import sort_into
from written_shards import as_folder, encoded, write_shards, write_tar

TINY: dict[str, Any] = {"model": "resnet20", "width": 4, "image_size": 16, "epochs": 1, "limit": 200}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("runs")
    convscope.train("digits", name="r", runs=runs, **TINY)
    return runs


def drawn(folder: Path, count: int = 5) -> Path:
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for i in range(count):
        Image.fromarray(random.integers(0, 256, (16, 16, 3), np.uint8)).save(folder / f"{i}.png")
    return folder


def answer(path: Path, label: str, **more: Any) -> Prediction:
    return Prediction(str(path), label, 0.9, ((label, 0.9),), **more)


def test_below_the_least_probability_nothing_is_claimed(runs: Path, tmp_path: Path):
    folder = drawn(tmp_path / "photos")
    plain = convscope.predict("r", folder, runs=runs)
    middle = sorted(a.probability for a in plain)[2]
    asked = convscope.predict("r", folder, runs=runs, min_probability=middle, unknown="other")
    for before, after in zip(plain, asked, strict=True):
        assert after.refused == (before.probability < middle)
        assert after.label == ("other" if after.refused else before.label)
        assert (after.probability, after.top) == (before.probability, before.top)
    assert sum(a.refused for a in asked) == 2


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"min_probability": 80}, "no probability"),
        ({"min_probability": 0.5, "unknown": "3"}, "call the `unknown` something else"),
        ({"links": True}, "name its folder"),
    ],
)
def test_what_cannot_be_meant_is_told(runs: Path, tmp_path: Path, options: dict[str, Any], match: str):
    with pytest.raises(UsageError, match=match):
        convscope.predict("r", drawn(tmp_path / "photos"), runs=runs, **options)


def test_answers_are_written_as_a_table(runs: Path, tmp_path: Path):
    folder = drawn(tmp_path / 'pho,"tos')
    (folder / "bad.png").write_bytes(b"no image")
    found = convscope.predict("r", folder, runs=runs, csv=tmp_path / "out.csv")
    with open(tmp_path / "out.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == [a.path for a in found]
    assert [row["label"] for row in rows] == [getattr(a, "label", "") for a in found]
    assert [bool(row["error"]) for row in rows] == [isinstance(a, Unreadable) for a in found]
    convscope.predict("r", folder, runs=runs, csv=tmp_path / "out.csv")  # answers are replaced by others
    answers = tmp_path / "out.csv"
    answers.write_text("\ufeff" + answers.read_text(encoding="utf-8"), encoding="utf-8")  # as a spreadsheet saves them
    convscope.predict("r", folder, runs=runs, csv=answers)
    labels = tmp_path / "labels.csv"
    for others in ("path,label\na.png,a\n", "path,mine,error\na.png,a,\n"):
        labels.write_text(others, encoding="utf-8")
        with pytest.raises(UsageError, match=r"labels\.csv is there and holds no answers, and is not replaced"):
            convscope.predict("r", folder, runs=runs, csv=labels)
        assert labels.read_text(encoding="utf-8") == others
    with pytest.raises(UsageError, match="or several of these, not an object of type BytesIO"):
        convscope.predict("r", io.BytesIO(b"x"), runs=runs)  # pyrefly: ignore - as people do


def test_images_are_copied_by_their_answers_and_stay(runs: Path, tmp_path: Path):
    folder = drawn(tmp_path / "photos")
    (folder / "bad.png").write_bytes(b"no image")
    for _ in range(2):  # again changes nothing
        found = convscope.predict("r", folder, runs=runs, copy_to=tmp_path / "sorted")
        copies = sorted(p.relative_to(tmp_path / "sorted") for p in (tmp_path / "sorted").rglob("*.png"))
        assert copies == sorted(Path(a.label, Path(a.path).name) for a in found if isinstance(a, Prediction))
    assert len(list(folder.iterdir())) == 6
    for copy in copies:
        assert (tmp_path / "sorted" / copy).read_bytes() == (folder / copy.name).read_bytes()
    assert any("1 that cannot be read" in note for note in found.notes)


def test_copies_beside_their_images_are_not_asked_about_again(runs: Path, tmp_path: Path):
    folder = drawn(tmp_path / "photos")
    target = folder / "sorted"
    first = convscope.predict("r", folder, runs=runs, copy_to=target)
    again = convscope.predict("r", folder, runs=runs, copy_to=target)
    assert [a.path for a in again] == [a.path for a in first]
    assert any(f"{len(first)} images in {target}, where images are copied to, are left out" in n for n in again.notes)
    with pytest.raises(UsageError, match="name another folder with `copy_to`"):
        convscope.predict("r", target, runs=runs, copy_to=folder)
    assert convscope.predict("r", target, runs=runs, copy_to=tmp_path / "other")
    assert len(convscope.predict("r", folder, runs=runs, copy_to=folder)) == len(first)  # sorted where they lie
    one = next(target.rglob("*.png"))
    assert len(convscope.predict("r", [one], runs=runs, copy_to=target)) == 1  # named, and no copy that is found


def test_images_of_one_name_are_kept_apart_and_none_is_written_over(tmp_path: Path):
    one, two = drawn(tmp_path / "a", 1) / "0.png", tmp_path / "b" / "0.png"
    two.parent.mkdir()
    Image.new("RGB", (4, 4)).save(two)
    target = tmp_path / "sorted"
    (target / "cat").mkdir(parents=True)
    (target / "cat" / "0.png").write_bytes(b"of somebody else")
    sort_into(target, [("", one), ("", two)], [answer(one, "cat"), answer(two, "cat")], links=False)
    assert (target / "cat" / "0.png").read_bytes() == b"of somebody else"
    assert (target / "cat" / "0-2.png").read_bytes() == one.read_bytes()
    assert (target / "cat" / "0-3.png").read_bytes() == two.read_bytes()


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_links_lead_to_the_images(tmp_path: Path):
    image = drawn(tmp_path / "a", 1) / "0.png"
    for _ in range(2):
        sort_into(tmp_path / "sorted", [("", image)], [answer(image, "cat")], links=True)
    assert [p.name for p in (tmp_path / "sorted" / "cat").iterdir()] == ["0.png"]
    assert (tmp_path / "sorted" / "cat" / "0.png").resolve() == image.resolve()


def test_answers_that_are_no_folder_names_stay_inside_and_apart(tmp_path: Path):
    image = drawn(tmp_path / "a", 1) / "0.png"
    labels = ["../up", "a/b", "a:b", "..", "Cat", "cat", "x" * 300, "/etc"]
    sort_into(tmp_path / "sorted", [("", image)] * 8, [answer(image, label) for label in labels], links=False)
    copies = list((tmp_path / "sorted").rglob("*.png"))
    assert len(copies) == 8
    assert {p.parent.parent for p in copies} == {tmp_path / "sorted"}


def test_a_file_is_no_place_to_sort_into(tmp_path: Path):
    image = drawn(tmp_path / "a", 1) / "0.png"
    with pytest.raises(UsageError, match="name a folder with --copy-to"):
        sort_into(image, [("", image)], [answer(image, "cat")], links=False)


def test_an_image_that_is_gone_is_no_fault_of_the_folder_it_was_to_be_copied_to(tmp_path: Path):
    path = drawn(tmp_path / "photos", 1) / "0.png"
    path.unlink()
    with pytest.raises(DataError, match=r"0\.png cannot be read any more: No such file or directory\."):
        sort_into(tmp_path / "sorted", [("0.png", path)], [answer(path, "cat")], links=False)


def test_images_of_shards_are_answered_as_files_are(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_shards(tmp_path / "shards", shards=2, each=4)
    files = sorted(as_folder(tmp_path / "photos", 8).rglob("*.png"), key=lambda path: path.name)
    wanted = [(a.label, a.top) for a in convscope.predict("r", files, runs=runs)]
    monkeypatch.chdir(tmp_path)
    for named in ("shards", "shards/train-{0000..0001}.tar", "shards/*.tar"):
        found = convscope.predict("r", named, runs=runs, csv=tmp_path / "answers.csv")
        assert [(a.label, a.top) for a in found] == wanted
        assert found[0].path.endswith("shards/train-0000.tar/000000.png")
    with open(tmp_path / "answers.csv", encoding="utf-8", newline="") as file:
        assert [row["label"] for row in csv.DictReader(file)] == [label for label, _ in wanted]
    bare = [("a.png", encoded(3)), ("b.png", b"\x89PNG no image"), ("c.png", encoded(3)), ("c.cls", b"-1")]
    said = convscope.predict("r", write_tar(tmp_path / "bare.tar", bare), runs=runs)
    assert [type(one) for one in said] == [Prediction, Unreadable, Prediction]
    with pytest.raises(UsageError, match="`copy_to` takes images that are files: unpack the shard first"):
        convscope.predict("r", "shards", runs=runs, copy_to=tmp_path / "sorted")
    with pytest.raises(DataError, match=r"bare\.tar\.gz is compressed"):
        convscope.predict("r", (tmp_path / "bare.tar").rename(tmp_path / "bare.tar.gz"), runs=runs)
