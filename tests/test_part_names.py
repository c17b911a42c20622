"""Folders that are parts, told from folders that are classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convscope import cli
from convscope.datasets.part_names import likely_part, plain_part
from convscope.datasets.registry import list_images, load_dataset
from convscope.errors import DataError

PARTS = {
    "train": "train Train TRAINING training_set trainset TrainSet train-images Train_Data imgs_train 1_train",
    "val": "val Valid VALIDATION val_set dev DevSet dev-set validation_images development ValImages",
    "test": "test Testing TEST_SET testset Final_Test test-images holdout hold_out Hold-Out held_out eval Evaluation",
}
CLASSES = "cat test_tube train_station evaluator valley contest devil trainer best latest trainee valid_id testament"


@pytest.mark.parametrize(("part", "name"), [(part, name) for part, names in PARTS.items() for name in names.split()])
def test_names_of_parts(part: str, name: str) -> None:
    assert plain_part(name) == part


@pytest.mark.parametrize("name", CLASSES.split())
def test_names_of_classes(name: str) -> None:
    assert plain_part(name) is None


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("seg_train", "train"),
        ("asl_alphabet_test", "test"),
        ("GTSRB-Training", "train"),
        ("train_test", None),
        ("cat", None),
    ],
)
def test_a_word_among_others(name: str, part: str | None) -> None:
    assert likely_part(name) == part


def fill(folder: Path, count: int, seed: int) -> None:
    """Images of noise."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    for i in range(count):
        Image.fromarray(random.integers(0, 256, (16, 16, 3), np.uint8)).save(folder / f"{i}.png")


def archive(
    root: Path, parts: tuple[str, ...], classes: tuple[str, ...] = ("cats", "dogs"), wrap: bool = False
) -> Path:
    """A folder with parts, classes in them."""
    for p, part in enumerate(parts):
        for c, name in enumerate(classes):
            fill(root / part / part / name if wrap else root / part / name, 8, 100 * p + c)
    return root


PAIRS = [
    ("Training", "Testing"), ("training_set", "test_set"), ("seg_train", "seg_test"), ("train", "eval"),
    ("TRAIN", "Holdout"), ("Train", "Final_Test"), ("trainset", "testset"),
    ("asl_train", "asl_test"), ("GTSRB_Training", "GTSRB_Test"),
    ("train_images", "test_images"), ("images_train", "images_test"), ("TrainData", "TestData"),
    ("0_train", "1_test"),
    ("flowers-train", "flowers-test"), ("my training", "my testing"), ("Training Set", "Test Set"), ("trn", "tst"),
    ("train_split", "holdout_split"), ("TrainingImages", "TestingImages"), ("learning", "evaluation"),
]  # fmt: skip


@pytest.mark.parametrize("pair", PAIRS)
def test_parts_are_never_classes(tmp_path: Path, pair: tuple[str, str]) -> None:
    data = load_dataset(archive(tmp_path / "a", pair), image_size=16)
    assert data.class_names == ("cats", "dogs")
    assert len(data.parts["test"]) == 16
    assert data.test_given


def test_eval_is_validation_beside_a_test_part(tmp_path: Path) -> None:
    data = load_dataset(archive(tmp_path / "a", ("train", "eval", "test")), image_size=16)
    assert {part: len(index) for part, index in data.parts.items()} == {"train": 16, "val": 16, "test": 16}
    assert any("eval is val" in note for note in data.notes)


def test_a_part_that_is_wrapped_once_more(tmp_path: Path) -> None:
    data = load_dataset(archive(tmp_path / "a", ("seg_train", "seg_test"), wrap=True), image_size=16)
    assert data.class_names == ("cats", "dogs")
    assert len(data.parts["test"]) == 16


@pytest.mark.parametrize(
    "pair", [("A", "B"), ("fold1", "fold2"), ("before", "after"), ("2023", "2024"), ("x", "y", "z")]
)
def test_what_looks_like_parts_is_asked_about(tmp_path: Path, pair: tuple[str, ...]) -> None:
    with pytest.raises(DataError, match=r"both hold cats, dogs and no image of their own: are they parts\?"):
        load_dataset(archive(tmp_path / "a", pair))


def test_classes_with_folders_in_them_stay_classes(tmp_path: Path) -> None:
    """One folder each, other folders each, images of their own, or names of parts with images in them."""
    for n, layout in enumerate(
        (("cat/images", "dog/images"), ("cat/a", "cat/b", "dog/c"), ("cat", "cat/x", "cat/y", "dog", "dog/x", "dog/y"))
    ):
        for k, place in enumerate(layout):
            fill(tmp_path / str(n) / place, 6, 10 * n + k)
        assert load_dataset(tmp_path / str(n), image_size=16).class_names == ("cat", "dog")
    fill(tmp_path / "odd" / "test_tube", 8, 1)
    fill(tmp_path / "odd" / "train_station", 8, 2)
    assert load_dataset(tmp_path / "odd", image_size=16).class_names == ("test_tube", "train_station")


def test_where_nothing_is_trained_less_will_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["caf\u00e9", "na\u00efve", "zed"]
    for k, name in enumerate(names):
        fill(tmp_path / "base" / name, 8, k)
    tiny = "--model resnet20 --width 4 --image-size 16 --epochs 1 --flip none --augment none".split()
    assert cli.run(["train", str(tmp_path / "base"), *tiny, "--name", "r"]) == 0
    fill(tmp_path / "nfd" / "cafe\u0301", 3, 7)
    fill(tmp_path / "nfd" / "nai\u0308ve", 3, 8)
    fill(tmp_path / "one" / "zed", 3, 9)
    fill(tmp_path / "parts" / "test" / "zed", 3, 10)
    fill(tmp_path / "hole" / "zed", 3, 11)
    (tmp_path / "hole" / names[0]).mkdir()
    fill(tmp_path / "flat", 4, 12)
    (tmp_path / "one.csv").write_text("path,label\none/zed/0.png,zed\none/zed/1.png,zed\n")
    for data in ("nfd", "one", "parts", "hole", "one.csv"):
        for words in (["evaluate", "r"], ["explain", "r", "--layer", "conv1", "--seeds", "0", "--ablate", "0"]):
            words.insert(2, str(tmp_path / data))
            assert cli.run(words) == 0, (words, capsys.readouterr())
    query = str(tmp_path / "flat" / "0.png")
    assert cli.run(["similar", "r", query, str(tmp_path / "flat"), "--engine", "torch"]) == 0, capsys.readouterr()
    assert len(list_images(tmp_path / "flat", need="images")) == 4
    for data in ("one", "parts", "hole", "flat", "one.csv"):
        assert cli.run(["train", str(tmp_path / data), *tiny]) == 65, data
