"""Stateless randomness: sane numbers that depend on where they are used and on nothing else."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from convscope.randomness import mix, order, seed_of, uniforms

KEYS = mix(7, np.arange(1000))


def test_uniforms_are_uniform() -> None:
    u = uniforms(0, 3, KEYS, 10)
    assert u.shape == (1000, 10)
    assert 0 <= u.min() < u.max() < 1
    counts = np.histogram(u, 20, (0, 1))[0]
    assert ((counts - 500) ** 2 / 500).sum() < 43.8  # chi-square, 19 degrees of freedom, p = 0.001
    assert abs(np.corrcoef(u.T) - np.eye(10)).max() < 0.12


@given(st.lists(st.integers(0, 999), min_size=1, max_size=20), st.integers(0, 5), st.integers(0, 5))
def test_a_row_does_not_depend_on_its_batch(picked: list[int], seed: int, epoch: int) -> None:
    whole = uniforms(seed, epoch, KEYS, 4)
    assert np.array_equal(uniforms(seed, epoch, KEYS[picked], 4), whole[picked])


def test_seed_epoch_and_key_all_matter() -> None:
    rows = [uniforms(s, e, KEYS[[k]], 2).tobytes() for s in range(4) for e in range(4) for k in range(4)]
    assert len(set(rows)) == 64


def test_more_slots_keep_the_first_ones() -> None:
    assert np.array_equal(uniforms(1, 1, KEYS, 12)[:, :10], uniforms(1, 1, KEYS, 10))


def test_order_is_a_permutation_of_keys_and_not_of_places() -> None:
    first = order(0, 0, KEYS)
    assert np.array_equal(np.sort(first), np.arange(1000))
    assert not np.array_equal(first, order(0, 1, KEYS))
    assert not np.array_equal(first, order(1, 0, KEYS))
    listed_otherwise = KEYS[::-1]
    assert np.array_equal(KEYS[first], listed_otherwise[order(0, 0, listed_otherwise)])


def test_places_of_arguments_matter_and_nothing_collides() -> None:
    assert mix(1, 2) != mix(2, 1)
    assert mix(0) != mix(0, 0)
    assert mix(-1) != mix(1)
    assert len(np.unique(mix(3, np.arange(1_000_000)))) == 1_000_000


def test_the_numbers_are_these_for_ever() -> None:
    """Old runs are resumed and repeated by them."""
    assert int(mix(1, 2, 3)) == GOLDEN_MIX
    assert seed_of(1, 2, 3) == GOLDEN_MIX >> 1
    assert order(5, 6, KEYS[:6]).tolist() == GOLDEN_ORDER


GOLDEN_MIX = 17824878756907967
GOLDEN_ORDER = [1, 3, 2, 0, 5, 4]
