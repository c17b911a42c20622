"""Batches: every picture once an epoch, in a seeded order, and the same pictures whatever the batch size."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from convscope.batches import Batches
from convscope.datasets import assemble
from convscope.datasets.shapes import load_shapes
from convscope.recipes import AUGMENTS

DATA = assemble(load_shapes(90))
INDEX = DATA.subset("train")
WHOLE = Batches(DATA, INDEX, 16, 0, AUGMENTS["strong"], torch.device("cpu"))


def test_every_picture_is_seen_once_an_epoch_in_another_order() -> None:
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


def test_another_batch_size_sees_the_same_pictures() -> None:
    def by_index(size: int) -> dict[int, torch.Tensor]:
        batches = replace(WHOLE, batch_size=size).epoch(1)
        return {int(i): image for b in batches for i, image in zip(b.index, b.images, strict=True)}

    few, many = by_index(5), by_index(64)
    assert all(torch.equal(few[i], many[i]) for i in few)


def test_images_are_normalised_and_labels_match() -> None:
    plain = replace(WHOLE, recipe=AUGMENTS["none"])
    mean, std = (np.array(v)[:, None, None] for v in (DATA.preprocess.mean, DATA.preprocess.std))
    for batch in plain.epoch(0):
        expected = (DATA.pictures[batch.index].transpose(0, 3, 1, 2) / 255 - mean) / std
        np.testing.assert_allclose(batch.images.numpy(), expected, atol=1e-5)
        assert batch.labels.tolist() == DATA.labels[batch.index].tolist()
        assert batch.images.is_contiguous(memory_format=torch.channels_last)
        assert batch.images.dtype == torch.float32
