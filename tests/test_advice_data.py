"""What is said of data that cannot be used, followed: the folder, table or image is then one that can."""

from __future__ import annotations

import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import convscope
from convscope.cli.commands import COMMANDS
from convscope.datasets.registry import DATASETS, load_dataset
from convscope.errors import DataError, StorageError, UnreachableError, UsageError
from convscope.images.preprocess import Preprocess
from following import TINY, option, options_of, photos, refused, works

# ---------------------------------------------------------------------------------------------------------- folders


def said(path: Path, **options: object) -> str:
    """What is said of data that are refused."""
    with pytest.raises(DataError) as caught:
        load_dataset(str(path), **options)  # type: ignore[arg-type]
    return str(caught.value)


def flat(root: Path) -> None:
    photos(root, "ant")
    for path in (root / "ant").iterdir():
        path.rename(root / path.name)
    (root / "ant").rmdir()


def into_classes(root: Path, sentence: str) -> None:
    """As its example stands there: FOLDER/cat/1.jpg."""
    (example,) = re.findall(r"FOLDER/(\w+)/1\.jpg", sentence)
    for name in (example, "other"):
        (root / name).mkdir()
    for i, path in enumerate(sorted(root.glob("*.png"))):
        path.rename(root / (example if i % 2 else "other") / path.name)


def into_parts(root: Path, sentence: str) -> None:
    for part in re.findall(r"train|val|test", sentence):
        photos(root / part, seed=len(part))
    for path in root.glob("*.png"):
        path.unlink()


def without_training(root: Path) -> None:
    photos(root / "val")
    photos(root / "test", seed=1)


def training_added(root: Path, sentence: str) -> None:
    (name,) = re.findall(r"no (\w+) folder", sentence)
    photos(root / name, seed=2)


def one_beside_parts(root: Path) -> None:
    photos(root / "train")
    photos(root / "val", seed=1)
    photos(root / "extra", seed=2)


def moved_away(root: Path, sentence: str) -> None:
    (name,) = re.findall(r"also '(\w+)'", sentence)
    (root / name).rename(root.parent / f"{root.name}-{name}")


def looks_like_parts(root: Path) -> None:
    for number, name in enumerate(("north", "south")):
        photos(root / name, seed=number)


def called_parts(root: Path, sentence: str) -> None:
    first, second = re.findall(r"^(\w+) and (\w+) in", sentence)[0]
    train, val = re.findall(r"call them (\w+), (\w+) and", sentence)[0]
    (root / first).rename(root / train)
    (root / second).rename(root / val)


def put_right_in(root: Path, sentence: str) -> None:
    for path in sorted(root.glob("*/*/*.png")):
        path.rename(path.parent.parent / f"{path.parent.name}-{path.name}")
    for inner in root.glob("*/*/"):
        inner.rmdir()


def empty_class(root: Path) -> None:
    photos(root)
    (root / "void").mkdir()


def add_some(root: Path, sentence: str) -> None:
    shutil.copytree(photos(root.parent / "more", "cat") / "cat", root / "void", dirs_exist_ok=True)


def remove_the_folder(root: Path, sentence: str) -> None:
    Path(re.findall(r"class folder (\S+) holds", sentence)[0]).rmdir()


def stranger(root: Path) -> None:
    photos(root / "train")
    photos(root / "val", seed=1)
    (root / "val" / "ant").rename(root / "val" / "ants")


def as_it_means(root: Path, sentence: str) -> None:
    there, meant = re.findall(r"class '(\w+)' .*Did you mean '(\w+)'\?", sentence)[0]
    (root / "val" / there).rename(root / "val" / meant)


def one_class(root: Path) -> None:
    photos(root, "ant")


def a_second_class(root: Path, sentence: str) -> None:
    photos(root, "bee")


FOLDERS: dict[str, tuple[Callable[[Path], None], Callable[[Path, str], None]]] = {
    "no class folders: one a class": (flat, into_classes),
    "no class folders: parts": (flat, into_parts),
    "no training folder": (without_training, training_added),
    "a folder beside parts": (one_beside_parts, moved_away),
    "classes that look like parts: parts": (looks_like_parts, called_parts),
    "classes that look like parts: classes": (looks_like_parts, put_right_in),
    "an empty class: add": (empty_class, add_some),
    "an empty class: remove": (empty_class, remove_the_folder),
    "a class of val alone": (stranger, as_it_means),
    "one class": (one_class, a_second_class),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_a_folder_made_as_is_said_can_be_used(case: str, tmp_path: Path) -> None:
    spoil, mend = FOLDERS[case]
    root = tmp_path / "data"
    root.mkdir()
    spoil(root)
    mend(root, said(root))
    assert len(load_dataset(str(root)).class_names) >= 2


def test_or_each_images_class_is_named_in_a_table(tmp_path: Path) -> None:
    root = tmp_path / "data"
    looks_like_parts(root)
    assert "CSV table" in said(root)
    rows = [f"{p.relative_to(root)},{p.parent.parent.name}" for p in sorted(root.glob("*/*/*.png"))]
    (root / "t.csv").write_text("\n".join(["path,label", *rows]))
    assert load_dataset(str(root / "t.csv")).class_names == ("north", "south")


def test_a_folder_that_is_wrapped_once_more_is_the_one_that_was_meant(tmp_path: Path) -> None:
    photos(tmp_path / "data" / "wrapped")
    (meant,) = re.findall(r"Did you mean (\S+)\?$", said(tmp_path / "data"))
    assert load_dataset(meant).class_names == ("ant", "bee")


def test_images_of_kinds_that_are_not_read_are_read_once_they_are_saved_as_said(tmp_path: Path) -> None:
    root = photos(tmp_path / "data")
    for path in (root / "bee").iterdir():
        path.rename(path.with_suffix(".jxl"))
    photos(root, "bee", each=1, seed=1)
    (note,) = [n for n in load_dataset(str(root)).notes if "left out" in n and "save them" in n]
    (kind,) = re.findall(r"save them as JPEG or (\w+) first", note)
    for path in (root / "bee").glob("*.jxl"):
        with Image.open(path) as image:
            image.save(path.with_suffix(f".{kind.lower()}"))
        path.unlink()
    found = load_dataset(str(root))
    assert not [n for n in found.notes if "save them" in n]
    assert found.counts()["train"]["bee"] > 1


def test_classes_that_differ_in_a_control_character_are_told_apart_when_one_is_renamed(tmp_path: Path) -> None:
    root = photos(tmp_path / "data", "ant bee cat")
    (root / "ant").rename(root / "a\x01")
    (root / "bee").rename(root / "a\\x01")
    assert "rename one" in said(root)
    (root / "a\x01").rename(root / "b")
    assert len(load_dataset(str(root)).class_names) == 3


# ----------------------------------------------------------------------------------------------------------- tables

PATHS = [f"ant/0-{i}.png" for i in range(12)] + [f"bee/0-{i}.png" for i in range(12)]
BY_LABEL = [f"{path},{path[:3]}" for path in PATHS]
TABLES: dict[str, tuple[list[str], str, Callable[[str, str], str]]] = {
    "columns": (
        ["what,colour", *BY_LABEL],
        "needs the columns path and label",
        lambda text, s: text.replace("what,colour", ",".join(re.findall(r"columns (\w+) and (\w+)", s)[0])),
    ),
    "one class": (
        ["path,label", *BY_LABEL[:12]],
        "needs two or more",
        lambda text, s: "\n".join([text, *BY_LABEL[12:]]),
    ),
    "a comma": (
        ["path,label", *BY_LABEL, "a,b.png,ant"],
        "a comma within one needs quotes",
        lambda text, s: text.replace("a,b.png", '"a,b.png"'),
    ),
    "split": (
        ["path,label,split", *(f"{row},{'learn' if i % 3 else 'val'}" for i, row in enumerate(BY_LABEL))],
        "is none of train, val and test",
        lambda text, s: text.replace(re.findall(r"split '(\w+)'", s)[0], re.findall(r"none of (\w+),", s)[0]),
    ),
}


@pytest.mark.parametrize("case", TABLES)
def test_a_table_written_as_is_said_can_be_used(case: str, tmp_path: Path) -> None:
    rows, words, mend = TABLES[case]
    photos(tmp_path)
    shutil.copy(tmp_path / PATHS[0], tmp_path / "a,b.png")
    table = tmp_path / "t.csv"
    table.write_text("\n".join(rows))
    sentence = said(table)
    assert words in sentence
    table.write_text(mend("\n".join(rows), sentence))
    assert load_dataset(str(table)).class_names == ("ant", "bee")


def test_classes_of_one_name_are_told_apart_by_names_of_their_own(tmp_path: Path) -> None:
    photos(tmp_path)
    table, names = tmp_path / "t.csv", tmp_path / "classes.txt"
    table.write_text("\n".join(["path,class_index", *(f"{p},{2 * (p[0] == 'b')}" for p in PATHS)]))
    names.write_text("x\nx (0)\nx\n")
    assert "each needs its own" in said(table)
    names.write_text("x\ny\nz\n")
    assert load_dataset(str(table)).class_names == ("x", "y", "z")


# ----------------------------------------------------------------------------------------------------- single images


@pytest.fixture
def spoiled(tmp_path: Path) -> Path:
    """A folder of images of which one cannot be read."""
    root = photos(tmp_path / "data")
    (root / "ant" / "broken.png").write_bytes(b"no image")
    return root


@pytest.mark.parametrize("way", ["mend", "remove"])
def test_images_that_cannot_be_read_are_mended_or_removed(spoiled: Path, way: str) -> None:
    sentence = said(spoiled)
    assert "Mend or remove them" in sentence
    bad = spoiled / re.findall(r"read: (\S+):", sentence)[0]
    if way == "mend":
        shutil.copy(next((spoiled / "bee").iterdir()), bad)
    else:
        bad.unlink()
    assert len(load_dataset(str(spoiled))) == 24 + (way == "mend")


def leaving(sentence: str) -> tuple[list[str], list[str], int]:
    """The commands that leave images out, how, and how many images remain."""
    (text,) = re.findall(r"remove them; (.*) leave them out", sentence)
    commands = re.findall(r"\w+", text.replace("and", ""))
    return commands, option(sentence, "bad-images"), int(re.findall(r"leaves (\d+)\.", sentence)[0])


def test_or_left_out_by_the_commands_that_can(spoiled: Path) -> None:
    """Whatever command said it: that it can be left out in a training is no help to `evaluate --bad-images`."""
    works("train", photos(spoiled.parent / "sound", seed=5), *TINY, "--name", "r")
    sentence = refused("evaluate", "r", spoiled)
    commands, skip, left = leaving(sentence)
    assert sorted(commands) == sorted(name for name in COMMANDS if skip[0] in options_of(name))
    assert sentence == refused("train", spoiled, *TINY)
    works("train", spoiled, *TINY, *skip, "--name", "s")
    assert len(load_dataset(str(spoiled), bad_images=skip[1])) == left


def test_a_pointer_of_git_lfs_is_an_image_once_it_was_pulled(tmp_path: Path) -> None:
    root = photos(tmp_path / "data")
    place = root / "ant" / "0-0.png"
    image = place.read_bytes()
    place.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + f"\nsize {len(image)}\n")
    assert "git lfs pull" in said(root)
    place.write_bytes(image)  # what git lfs pull does
    assert len(load_dataset(str(root))) == 24


@pytest.mark.parametrize("way", ["add some", "another part"])
def test_a_part_without_images_is_filled_or_another_is_chosen(tmp_path: Path, way: str) -> None:
    root = photos(tmp_path / "data" / "train").parent
    photos(root / "val", seed=1)
    works("train", root, *TINY, "--name", "r")
    sentence = refused("evaluate", "r")
    assert "choose another part" in sentence
    if way == "add some":
        works("evaluate", "r", photos(root / "test", seed=2).parent, "--part", "test")
    else:
        works("evaluate", "r", "--part", "val")


def test_a_cache_without_room_is_put_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = photos(tmp_path / "data")
    (tmp_path / "full").write_text("")  # a file: nothing can be put into it
    monkeypatch.setenv("CONVSCOPE_CACHE", str(tmp_path / "full"))
    with pytest.raises(StorageError) as caught:
        load_dataset(str(root))
    (variable,) = re.findall(r"Set (\w+) to a folder", str(caught.value))
    monkeypatch.setenv(variable, str(tmp_path / "roomy"))
    assert len(load_dataset(str(root))) == 24


# ------------------------------------------------------------------------------------------------- empty images


def narrow(root: Path, each: int = 40) -> Path:
    """Stripes, upright or level, in 16 of the 65,536 values that their files can hold."""
    random = np.random.default_rng(0)
    for name in ("level", "upright"):
        (root / name).mkdir(parents=True)
        for i in range(each):
            stripes = np.repeat((np.arange(16) + random.integers(8)) // 2 % 2, 16).reshape(16, 16)
            pixels = 30_000 + 16 * (stripes if name == "level" else stripes.T) + random.integers(0, 4, (16, 16))
            Image.fromarray(pixels.astype(np.uint16)).save(root / name / f"{i}.png")
    return root


@pytest.mark.filterwarnings("ignore:.*mode.*:DeprecationWarning")
def test_images_of_a_narrow_range_are_learned_with_stretch(tmp_path: Path) -> None:
    root = narrow(tmp_path / "data")
    words = ["train", root, *TINY, "--lr", "0.05", "--batch-size", "8"]
    plain = works(*words, "--name", "plain")
    (note,) = [line for line in plain.err.splitlines() if "--stretch" in line]
    works(*words, *option(note, "stretch")[:1], "--name", "wide")
    loss = {name: convscope.evaluate(name, part="val").summary["loss"] for name in ("plain", "wide")}
    assert loss["wide"] < 0.7 * loss["plain"]


def test_the_hint_names_a_command_that_takes_the_option(tmp_path: Path) -> None:
    """It is shown by commands that do not: `diagnose MODEL DATA` measures the images too."""
    root = narrow(tmp_path / "data", each=8)
    said = works("diagnose", "plain20", root, "--images", "1").err
    (note,) = [line for line in said.splitlines() if "--stretch" in line]
    assert re.findall(r"(\w+) with --stretch", note) == ["train"]


# -------------------------------------------------------------------------------------------------------- cifar10


def write_cifar(folder: Path) -> None:
    """The archive's folder, with four images of each class a file."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for name in (*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"):
        box = {b"data": random.integers(0, 256, (40, 3072), np.uint8), b"labels": [i % 10 for i in range(40)]}
        (folder / name).write_bytes(pickle.dumps(box))


@pytest.mark.parametrize("way", ["--data-root", "CONVSCOPE_DATA", "cache"])
def test_cifar10_is_found_where_it_is_said_to_be_put(way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(*args: object, **kwargs: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr("urllib.request.urlopen", closed)
    with pytest.raises(UnreachableError) as caught:
        DATASETS["cifar10"](None, None)
    sentence = str(caught.value)
    (folder,) = re.findall(r"put (\S+)/ or", sentence)
    (cache,) = re.findall(r"put it into (.*)\.$", sentence)
    place = Path(cache) if way == "cache" else tmp_path / "data"
    write_cifar(place / folder)
    if way == "CONVSCOPE_DATA":
        monkeypatch.setenv(re.findall(r"set (\w+) to it", sentence)[0], str(place))
    root = place if way == option(sentence, "data-root")[0] else None
    assert len(load_dataset("cifar10", data_root=root, limit=20)) == 20


# ------------------------------------------------------------------------------------------------ what a run names


def test_data_that_only_a_runs_record_names_are_read_once_they_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    works("train", photos(tmp_path / "data"), *TINY, "--name", "r")
    monkeypatch.setenv("CONVSCOPE_CACHE", str(tmp_path / "another machine's"))
    sentence = refused("evaluate", "r")
    assert "name it with DATA" in sentence
    works("evaluate", "r", re.findall(r"^(.*?) is named by", sentence)[0])
    works("evaluate", "r")


# ------------------------------------------------------------------------------------------------------- preprocess


@pytest.mark.parametrize("field", ["mean", "std"])
@pytest.mark.parametrize("wrong", [(np.nan,) * 3, (0.5,), (1e9,) * 3, (-1e9,) * 3])
def test_numbers_of_a_preprocess_within_what_is_said_are_taken(field: str, wrong: tuple[float, ...]) -> None:
    with pytest.raises(UsageError, match=r"must|finite") as caught:
        Preprocess(**{"size": 8, field: wrong})  # type: ignore[arg-type]
    words = re.sub(r"(, not|not) .*", "", str(caught.value))
    within = [float(n) for n in re.findall(r"(?<![\w.])-?\d[\d.e+-]*\d|\b\d\b", words)]
    value = within[-1] if within else 0.5
    Preprocess(**{"size": 8, field: (value,) * 3})  # type: ignore[arg-type]


def test_a_table_of_names_is_written_as_its_example(tmp_path: Path) -> None:
    for name, synset in zip(("ant", "bee"), ("n01440764", "n01443537"), strict=True):
        photos(tmp_path, name)
        (tmp_path / name).rename(tmp_path / synset)
    table = tmp_path / "synset_words.txt"
    table.write_text("tench\n")
    (example,) = re.findall(r"its lines should be as (.+)\.$", said(tmp_path))
    table.write_text(f"{example}\n")
    assert example.removeprefix("n01440764 ") in load_dataset(tmp_path).class_names
