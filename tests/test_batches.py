"""Batches: every image once an epoch, in a seeded order, and the same images whatever the batch size."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from convscope.datasets.dataset import assemble
from convscope.datasets.shapes import load_shapes
from convscope.images.augmentation import augment
from convscope.recipes import AUGMENTS
from convscope.training.batches import Batches

DATA = assemble(load_shapes(60))
INDEX = DATA.subset("train")
WHOLE = Batches(DATA, INDEX, 16, 0, AUGMENTS["strong"], torch.device("cpu"))


def test_every_image_is_seen_once_an_epoch_in_another_order() -> None:
    orders = [np.concatenate([b.index for b in WHOLE.epoch(epoch)]) for epoch in (0, 1)]
    for seen in orders:
        assert sorted(seen) == sorted(INDEX)
    assert not np.array_equal(*orders)


@pytest.mark.parametrize("size", [1, 7, 16, 33, 1000])
def test_batches_are_even_and_never_too_large(size: int) -> None:
    batches = replace(WHOLE, batch_size=size)
    sizes = [len(b.index) for b in batches.epoch(0)]
    assert len(sizes) == len(batches)
    assert max(sizes) <= size
    assert max(sizes) - min(sizes) <= 1


def test_an_epoch_can_start_anywhere() -> None:
    batches = list(WHOLE.epoch(2))
    for start in range(len(batches) + 1):
        rest = list(WHOLE.epoch(2, start))
        assert len(rest) == len(batches) - start
        for a, b in zip(rest, batches[start:], strict=True):
            assert torch.equal(a.images, b.images)
            assert np.array_equal(a.index, b.index)
            assert torch.equal(a.labels, b.labels)


def test_another_batch_size_sees_the_same_images() -> None:
    def by_index(size: int) -> dict[int, torch.Tensor]:
        batches = replace(WHOLE, batch_size=size).epoch(1)
        return {int(i): image for b in batches for i, image in zip(b.index, b.images, strict=True)}

    few, many = by_index(5), by_index(64)
    assert sorted(few) == sorted(many) == sorted(INDEX)
    assert all(torch.equal(few[i], many[i]) for i in few)


def test_an_image_is_varied_by_its_own_key_anew_each_epoch() -> None:
    """What a batch holds is the image varied all by itself; its place in the dataset has no say."""
    epochs = []
    for epoch in (0, 1):
        for batch in WHOLE.epoch(epoch):
            for i, image in zip(batch.index, batch.images, strict=True):
                alone = torch.from_numpy(DATA.images[i : i + 1].copy()).permute(0, 3, 1, 2)
                varied = augment(alone, WHOLE.recipe, WHOLE.seed, epoch, DATA.keys[i : i + 1])
                assert torch.equal(image, DATA.preprocess.normalise(varied)[0])
        epochs.append({int(i): image for b in WHOLE.epoch(epoch) for i, image in zip(b.index, b.images, strict=True)})
    assert not any(torch.equal(epochs[0][i], epochs[1][i]) for i in epochs[0])


def test_another_seed_is_another_order() -> None:
    orders = [np.concatenate([b.index for b in replace(WHOLE, seed=seed).epoch(0)]) for seed in (0, 1)]
    assert not np.array_equal(*orders)


def test_copies_of_an_image_are_not_side_by_side_and_differ() -> None:
    data = replace(DATA, keys=DATA.keys.copy(), images=np.array(DATA.images))
    copies = INDEX[:10]
    data.keys[copies] = data.keys[copies[0]]
    data.images[copies] = data.images[copies[0]]
    batches = replace(WHOLE, dataset=data)
    seen = np.concatenate([b.index for b in batches.epoch(0)])
    places = np.flatnonzero(np.isin(seen, copies))
    assert places.max() - places.min() > 15
    images = {int(i): image for b in batches.epoch(0) for i, image in zip(b.index, b.images, strict=True)}
    assert len({images[int(i)].numpy().tobytes() for i in copies}) == 10


def test_images_are_normalised_and_labels_match() -> None:
    plain = replace(WHOLE, recipe=AUGMENTS["none"])
    before = DATA.images.copy()
    mean, std = (np.array(v)[:, None, None] for v in (DATA.preprocess.mean, DATA.preprocess.std))
    for batch in plain.epoch(0):
        expected = (DATA.images[batch.index].transpose(0, 3, 1, 2) / 255 - mean) / std
        np.testing.assert_allclose(batch.images.numpy(), expected, atol=1e-5)
        assert batch.labels.dtype == torch.int64
        assert batch.labels.tolist() == DATA.labels[batch.index].tolist()
        assert batch.images.is_contiguous(memory_format=torch.channels_last)
        assert batch.images.dtype == torch.float32
    assert np.array_equal(DATA.images, before)


@pytest.mark.parametrize("level", AUGMENTS)
def test_images_are_floats_with_channels_last(level: str) -> None:
    for batch in replace(WHOLE, recipe=AUGMENTS[level]).epoch(0):
        assert batch.images.shape == (len(batch.index), 3, 32, 32)
        assert batch.images.dtype == torch.float32
        assert batch.images.is_contiguous(memory_format=torch.channels_last)
