"""Every dataset that is listed, and what assembling one promises."""

from __future__ import annotations

import hashlib
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from convscope.datasets.cifar import FOLDER, TRAIN_FILES
from convscope.datasets.dataset import PARTS, assemble
from convscope.datasets.registry import DATASETS, load_dataset
from convscope.datasets.unsplit import Unsplit
from convscope.errors import DataError, UnknownName, UsageError
from two_kinds import write_photos


@pytest.fixture(autouse=True)
def _small_cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CIFAR-10's layout with few images, found through the environment."""
    (tmp_path / FOLDER).mkdir()
    for seed, name in enumerate((*TRAIN_FILES, "test_batch")):
        rows = np.random.default_rng(seed).integers(0, 256, (60, 3072), np.uint8)
        box = {b"data": rows, b"labels": [i % 10 for i in range(60)]}
        (tmp_path / FOLDER / name).write_bytes(pickle.dumps(box, protocol=2))
    monkeypatch.setenv("CONVSCOPE_DATA", str(tmp_path))


@pytest.mark.parametrize("name", DATASETS)
def test_every_dataset_keeps_the_contract(name: str) -> None:
    data = load_dataset(name)
    assert data.name == name
    assert data.images.dtype == np.uint8
    assert data.images.shape == (len(data), 32, 32, 3)
    assert len(set(data.class_names)) == len(data.class_names)
    assert set(np.unique(data.labels)) == set(range(len(data.class_names)))
    together = np.concatenate([data.parts[p] for p in PARTS])
    assert sorted(together) == list(range(len(data)))
    assert sum(sum(c.values()) for c in data.counts().values()) == len(data)
    train = data.images[data.parts["train"]] / 255
    assert np.allclose(train.mean((0, 1, 2)), data.preprocess.mean, atol=1e-9)
    assert np.allclose(train.std((0, 1, 2)), data.preprocess.std, atol=1e-9)
    for part in PARTS:
        assert set(np.unique(data.labels[data.parts[part]])) == set(range(len(data.class_names)))
        assert np.bincount(data.labels[data.parts[part]]).tolist() == list(data.counts()[part].values())
    copies = {k: {p for p in PARTS if k in data.keys[data.parts[p]]} for k in data.keys[:200]}
    assert {len(places) for places in copies.values()} == {1}
    assert load_dataset(name).fingerprint == data.fingerprint
    assert len({data.origins(i) for i in range(len(data))}) == len(data)
    assert data.notes == ()


@pytest.mark.parametrize("name", DATASETS)
def test_limit_and_size(name: str) -> None:
    data = load_dataset(name, limit=80, image_size=16)
    assert data.images.shape == (80, 16, 16, 3)
    assert max(np.bincount(data.labels)) - min(np.bincount(data.labels)) <= 4
    assert all(len(data.parts[part]) for part in PARTS)
    whole = load_dataset(name, image_size=16)
    assert data.fingerprint != whole.fingerprint
    where = {int(k): p for p in PARTS for k in whole.keys[whole.parts[p]]}
    strangers = sum(where[int(k)] != p for p in PARTS for k in data.keys[data.parts[p]])
    served = sum("would have missed" in note for note in data.notes)
    assert strangers == 0 or (
        served and not data.test_given
    )  # what a limited run trains on is no validation image of the whole


def made(count: int = 60) -> Unsplit:
    arrays = np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3), np.uint8)
    return Unsplit("made", ("a", "b"), np.arange(count) % 2, np.full(count, "", "U5"), 8, arrays=arrays)


def test_the_fingerprint_knows_content_and_not_listing_order() -> None:
    plain = made()
    fingerprint = assemble(plain).fingerprint
    assert assemble(plain.take(np.arange(60)[::-1])).fingerprint == fingerprint
    assert plain.arrays is not None
    touched = plain.arrays.copy()
    touched[7, 3, 3, 1] ^= 1
    others = [
        replace(plain, arrays=touched),
        replace(plain, labels=1 - plain.labels),
        replace(plain, class_names=("a", "c")),
        replace(plain, given=np.array(["train"] * 40 + ["test"] * 20)),
        plain.take(np.arange(59)),
    ]
    assert len({fingerprint, *(assemble(o).fingerprint for o in others)}) == 6


def test_images_follow_their_labels_through_limits() -> None:
    unsplit = made()
    assert unsplit.arrays is not None
    data = assemble(unsplit, limit=20)
    for image, label in zip(data.images, data.labels, strict=True):
        (i,) = np.flatnonzero((unsplit.arrays == image).all((1, 2, 3)))
        assert unsplit.labels[i] == label


def test_subset_is_stratified_and_says_what_is_missing() -> None:
    data = assemble(made(400))
    chosen = data.subset("train", 10)
    assert np.bincount(data.labels[chosen]).tolist() == [5, 5]
    assert set(chosen) <= set(data.parts["train"])
    assert len(data.subset("all")) == 400
    with pytest.raises(UsageError, match="'tset'"):
        data.subset("tset")
    empty = replace(data, parts=data.parts | {"test": np.array([], int)})
    with pytest.raises(DataError, match="no test images"):
        empty.subset("test")


def test_keys_are_the_hash_of_the_content() -> None:
    data = assemble(made())
    assert len(np.unique(data.keys)) == 60
    digest = hashlib.sha256(data.images[3].tobytes()).digest()
    assert data.keys[3] == int.from_bytes(digest[:8], "little")
    doubled = made()
    assert doubled.arrays is not None
    doubled.arrays[1] = doubled.arrays[0]
    assert assemble(doubled).keys[0] == assemble(doubled).keys[1]


def test_the_statistics_are_those_of_the_training_images_alone() -> None:
    arrays = np.zeros((30, 8, 8, 3), np.uint8)
    arrays[:10] = np.arange(10)[:, None, None, None]  # different contents
    arrays[10:, 0, 0] = np.arange(20)[:, None]
    arrays[10:, 1:] = 255
    given = np.array(["train"] * 10 + ["val"] * 10 + ["test"] * 10)
    data = assemble(Unsplit("made", ("a", "b"), np.arange(30) % 2, given, 8, arrays=arrays))
    assert np.allclose(data.preprocess.mean, 4.5 / 255)
    assert np.allclose(data.preprocess.std, np.std(np.arange(10)) / 255)


def test_values_that_make_no_sense() -> None:
    for limit in (0, -3):
        with pytest.raises(UsageError, match=f"limit .* {limit}"):
            assemble(made(), limit=limit)
    with pytest.raises(UsageError, match="size"):
        assemble(made(), image_size=0)
    with pytest.raises(UnknownName, match="Did you mean 'skip'"):
        assemble(made(), bad_images="skpi")
    with pytest.raises(UnknownName, match="'squash'"):
        assemble(made(), fit="sqush")
    assert len(assemble(made(), limit=1)) == 1
    assert assemble(made(), limit=1000).fingerprint == assemble(made()).fingerprint


def test_a_folder_of_the_name_of_built_in_data_is_not_passed_over_in_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = load_dataset("digits", limit=50).notes
    write_photos(tmp_path / "digits", 10)
    (note,) = (note for note in load_dataset("digits", limit=50).notes if note not in before)
    assert note == "digits is the built-in data of that name, and not the folder digits that is here: that is ./digits."
    assert load_dataset("./digits").class_names == ("ant", "bee")


def test_names_that_do_not_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnknownName, match="'digits'"):
        load_dataset("digit")
    with pytest.raises(UnknownName, match="named ''"):
        load_dataset("")
    (tmp_path / "data.xlsx").touch()
    for name, said in (
        ("some/folder", "some/folder does not exist"),
        ("labels.csv", "labels.csv does not exist"),
        ("data.xlsx", "data.xlsx is a file; a dataset is"),
        ("~nobody-of-that-name/x", "does not exist"),
        ("x" * 5000, "cannot be opened: File name too long"),
        ("a\0b/", "does not exist"),
    ):
        with pytest.raises(DataError, match=said) as caught:
            load_dataset(name)
        assert len(str(caught.value)) < 400


def test_a_dataset_shows_itself_in_one_line() -> None:
    data = load_dataset("digits")
    count = len(data.parts["train"])
    assert repr(data).startswith(f"<Dataset 'digits': 1,797 images of 32 x 32 pixels ({count:,} train, ")
    assert repr(data).endswith("10 classes>")
