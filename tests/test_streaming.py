"""Streaming: every image once an epoch whatever the batches, threads or stops, and the data set that is packed."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import convscope
from convscope.cache import cache_folder
from convscope.datasets import shard_files, streamed
from convscope.datasets.dataset import Dataset
from convscope.datasets.registry import load_dataset
from convscope.datasets.streamed import AHEAD, Streamed
from convscope.errors import DataError, ImageError, InterruptedRun, LockedError
from convscope.randomness import order, order_in_blocks
from convscope.recipes import AUGMENTS, Labels
from convscope.training.batches import Batches
from convscope.training.feeding import epoch_order, in_advance
from convscope.training.runs import Run, checkpoints
from written_shards import as_folder, samples, write_shards, write_tar

FEW = {"model": "alexnet", "width": 4, "epochs": 2, "batch_size": 8, "image_size": 16, "augment": "strong"}


def finish(data: str | Path, runs: Path, **options: Any) -> Run:
    prepared = convscope.prepare_training(str(data), runs=runs, device="cpu", **options)
    for _ in prepared.events():
        pass
    return prepared.run


def contents(run: Run) -> list[bytes]:
    files = [run.folder / "log.jsonl", run.folder / "classifier.safetensors", checkpoints(run)[-1]]
    return [path.read_bytes() for path in files]


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of few images, so that some twenty shards of a test have many."""
    monkeypatch.setattr(shard_files, "BLOCK_BYTES", 6000)
    monkeypatch.setattr("convscope.training.feeding.TOGETHER", 2)


# ---------------------------------------------------------------------------------------------------------- the order

KEYS = st.lists(st.integers(0, 2**64 - 1), min_size=0, max_size=80, unique=True)


@given(KEYS, st.integers(1, 9), st.integers(1, 5), st.integers(0, 2**62), st.integers(0, 9))
def test_blocks_are_shuffled_and_every_image_comes_once(
    keys: list[int], a_block: int, together: int, seed: int, epoch: int
) -> None:
    """No more than so many blocks are open, one group of them after the other."""
    blocks = np.arange(len(keys)) // a_block + 100
    found = order_in_blocks(seed, epoch, np.array(keys, np.uint64), blocks, together)
    assert sorted(found.tolist()) == list(range(len(keys)))
    opened = blocks[found].tolist()
    groups: list[set[int]] = []
    for block in opened:
        if not groups or block not in groups[-1]:
            if not groups or len(groups[-1]) == together:
                groups.append(set())
            groups[-1].add(block)
    assert len(groups) == -(-len(set(opened)) // together)
    assert sum(map(len, groups)) == len(set(opened))


@given(KEYS, st.integers(0, 2**62), st.integers(0, 9))
def test_what_lies_in_few_blocks_is_shuffled_freely(keys: list[int], seed: int, epoch: int) -> None:
    blocks = np.arange(len(keys)) // 10
    free = order(seed, epoch, np.array(keys, np.uint64))
    assert np.array_equal(order_in_blocks(seed, epoch, np.array(keys, np.uint64), blocks, 8), free)


def test_epochs_and_seeds_are_other_orders() -> None:
    keys, blocks = np.arange(1000, dtype=np.uint64), np.arange(1000) // 10
    orders = [order_in_blocks(seed, epoch, keys, blocks, 4) for seed in (0, 1) for epoch in (0, 1)]
    assert len({tuple(one.tolist()) for one in orders}) == 4
    first = [set((one[:40] // 10).tolist()) for one in orders]
    assert len(set(map(frozenset, first))) == 4  # other blocks stand together, too


# ---------------------------------------------------------------------------------------------------------- the images


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shards(tmp_path_factory.mktemp("shards"), shards=5, each=16)


@pytest.fixture(scope="module")
def streaming(shards: Path) -> Dataset:
    return load_dataset(shards, image_size=16, stream=True)


@pytest.fixture(scope="module")
def packed(shards: Path) -> Dataset:
    return load_dataset(shards, image_size=16)


def test_what_streams_is_the_packed_data_set(streaming: Dataset, packed: Dataset) -> None:
    assert isinstance(streaming.images, Streamed)
    assert streaming.preprocess == packed.preprocess
    assert streaming.fingerprint == packed.fingerprint
    assert streaming.notes == packed.notes
    assert all(np.array_equal(streaming.parts[part], packed.parts[part]) for part in packed.parts)
    for index in (3, slice(5, 50, 2), np.array([70, 1, 1]), np.zeros(0, int), np.arange(len(packed)) % 3 == 0):
        assert np.array_equal(streaming.images[index], packed.images[index])


def test_nothing_is_packed(shards: Path) -> None:
    load_dataset(shards, image_size=16, stream=True)
    kept = [path.suffix for path in (cache_folder() / "images").iterdir()]
    assert kept == [".sums"]


def test_images_are_looked_over_once(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load_dataset(shards, image_size=16, stream=True)
    monkeypatch.setattr(streamed, "decode_in_order", None)
    assert load_dataset(shards, image_size=16, stream=True).preprocess == first.preprocess


@pytest.mark.parametrize(
    "damage",
    [lambda data: data[:-9], lambda data: data[:900] + b"xxx" + data[903:]],
    ids=["cut", "flipped"],
)
def test_sums_that_rot_are_taken_again(shards: Path, damage: Any) -> None:
    first = load_dataset(shards, image_size=16, stream=True)
    (held,) = (cache_folder() / "images").iterdir()
    held.write_bytes(damage(held.read_bytes()))
    assert load_dataset(shards, image_size=16, stream=True).preprocess == first.preprocess


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_no_number_of_threads_changes_what_comes(streaming: Dataset, packed: Dataset, threads: int) -> None:
    assert isinstance(streaming.images, Streamed)
    batches = np.array_split(np.random.default_rng(0).permutation(80), 9)
    for batch, found in zip(batches, streaming.images.in_advance(batches, threads), strict=True):
        assert np.array_equal(found, packed.images[batch])


def test_threads_end_when_the_epoch_is_left(streaming: Dataset) -> None:
    import threading

    before = threading.active_count()
    images = in_advance(streaming.images, np.array_split(np.arange(80), 10))
    next(images)
    images.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_no_more_than_a_few_batches_are_ever_held(streaming: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """So memory does not grow with the data: beside the batch that is used, those that are decoded ahead."""
    asked: list[int] = []
    decoded = Streamed._some

    def some(self: Streamed, index: np.ndarray) -> np.ndarray:
        asked.append(len(index))
        return decoded(self, index)

    monkeypatch.setattr(Streamed, "_some", some)
    images = in_advance(streaming.images, np.array_split(np.arange(80), 20))
    for number, _ in enumerate(images, 1):
        assert sum(asked) <= 4 * (number + AHEAD)
    assert sum(asked) == 80


# --------------------------------------------------------------------------------------------------------- the batches


def batches_of(data: Dataset, size: int) -> Batches:
    return Batches(data, data.subset("train"), size, 3, AUGMENTS["strong"], torch.device("cpu"))


@given(st.integers(1, 90), st.integers(0, 3), st.data())
def test_each_image_comes_once_at_any_batch_size_and_after_any_stop(
    streaming: Dataset, size: int, epoch: int, data: st.DataObject
) -> None:
    batches = batches_of(streaming, size)
    chosen = np.array_split(
        epoch_order(streaming.images, batches.index, batches._keys, batches.seed, epoch), len(batches)
    )
    stop = data.draw(st.integers(0, len(batches)))
    seen = [index for index, _ in in_advance(streaming.images, chosen[:stop])]
    seen += [batch.index for batch in batches.epoch(epoch, stop)]
    assert sorted(np.concatenate(seen)) == sorted(batches.index)


def test_a_batch_of_a_stream_is_that_of_the_packed_images(streaming: Dataset, packed: Dataset) -> None:
    for data in (streaming, packed):  # all in one group of blocks: the same order
        assert len(batches_of(data, 9)) == len(batches_of(packed, 9))
    mixed = Labels(mixup=0.4)
    for one, other in zip(
        Batches(streaming, streaming.subset("train"), 9, 3, AUGMENTS["strong"], torch.device("cpu"), mixed).epoch(1),
        Batches(packed, packed.subset("train"), 9, 3, AUGMENTS["strong"], torch.device("cpu"), mixed).epoch(1),
        strict=True,
    ):
        assert np.array_equal(one.index, other.index)
        assert torch.equal(one.images, other.images)


@pytest.mark.usefixtures("small_blocks")
def test_shares_of_processes_are_the_whole_batch(shards: Path) -> None:
    data = load_dataset(shards, image_size=16, stream=True)
    batches = batches_of(data, 16)
    whole = [batch.index for batch in batches.epoch(0)]
    chosen = np.array_split(epoch_order(data.images, batches.index, batches._keys, 3, 0), len(batches))
    shares = [[index for index, _ in in_advance(data.images, [c[rank::2] for c in chosen])] for rank in range(2)]
    for one, first, second in zip(whole, *shares, strict=True):
        assert sorted(one) == sorted([*first, *second])


# ---------------------------------------------------------------------------------------------------------- a training


def test_a_packed_training_on_shards_is_that_on_a_folder(tmp_path: Path) -> None:
    shards, folder = write_shards(tmp_path / "same", shards=3, each=20), as_folder(tmp_path / "folder", 60)
    logs = [
        (finish(data, tmp_path / f"runs{i}", **FEW).folder / "log.jsonl").read_bytes()
        for i, data in enumerate((shards, folder))
    ]
    assert logs[0] == logs[1]


def test_a_streamed_training_is_the_packed_one_where_the_order_is(shards: Path, tmp_path: Path) -> None:
    packed = finish(shards, tmp_path / "a", **FEW)
    streamed = finish(shards, tmp_path / "b", stream=True, **FEW)
    assert streamed.recipe().reading.stream
    assert (packed.folder / "log.jsonl").read_bytes() == (streamed.folder / "log.jsonl").read_bytes()


@pytest.mark.usefixtures("small_blocks")
def test_a_stream_that_is_stopped_amid_an_epoch_goes_on_as_if_undisturbed(shards: Path, tmp_path: Path) -> None:
    whole = finish(shards, tmp_path / "a", name="r", stream=True, **FEW)
    session = convscope.prepare_training(str(shards), runs=tmp_path / "b", name="r", stream=True, device="cpu", **FEW)
    with pytest.raises(InterruptedRun):
        for number, _ in enumerate(session.events()):
            if number == 2:
                os.kill(os.getpid(), signal.SIGTERM)
    again = finish(shards, tmp_path / "b", name="r", resume=True)
    assert contents(again) == contents(whole)


def test_a_pattern_means_the_same_from_another_folder(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shards)
    run = finish("train-*.tar", tmp_path / "runs", name="r", **FEW)
    monkeypatch.chdir(tmp_path)
    assert run.recipe().data.name == str(shards / "train-*.tar")
    with pytest.raises(LockedError, match=r"exists already"):
        finish(shards, tmp_path / "runs", name="r", **FEW)
    assert convscope.evaluate(run.folder, runs=tmp_path / "runs", part="val").summary["n"] > 0


def test_an_image_that_is_gone_in_the_middle_is_named(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "t.tar", samples(0, 60))
    data = load_dataset(path, image_size=16, stream=True)
    path.write_bytes(path.read_bytes()[:4096])
    with pytest.raises(ImageError, match=r"t.tar/0000\d\d.png: cannot be read: its shard was changed"):
        list(batches_of(data, 8).epoch(0))
    with pytest.raises(DataError, match=r"cut off"):
        load_dataset(path, image_size=16, stream=True)


def test_a_folder_streams_too_and_is_shuffled_freely(tmp_path: Path) -> None:
    folder = as_folder(tmp_path, 30)
    data, packed = load_dataset(folder, image_size=16, stream=True), load_dataset(folder, image_size=16)
    assert isinstance(data.images, Streamed)
    assert data.images.blocks is None
    for one, other in zip(batches_of(data, 8).epoch(0), batches_of(packed, 8).epoch(0), strict=True):
        assert torch.equal(one.images, other.images)
