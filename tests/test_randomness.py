"""Stateless randomness: sane numbers that depend on where they are used and on nothing else."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from convscope.randomness import distinct, mix, order, order_in_blocks, seed_of, uniforms

KEYS = mix(7, np.arange(1000))


def test_uniforms_are_uniform() -> None:
    u = uniforms(0, 3, KEYS, 10)
    assert u.shape == (1000, 10)
    assert 0 <= u.min() < u.max() < 1
    counts = np.histogram(u, 20, (0, 1))[0]
    assert ((counts - 500) ** 2 / 500).sum() < 43.8  # chi-square, 19 degrees of freedom, p = 0.001
    assert abs(np.corrcoef(u.T) - np.eye(10)).max() < 0.12
    assert abs(u.mean() - 1 / 2) < 4 * (1 / 12 / u.size) ** 0.5
    assert abs(u.var() - 1 / 12) < 4 * (1 / 180 / u.size) ** 0.5
    low_bits = (u * 2.0**53).astype(np.int64) & 1
    assert abs(low_bits.mean() - 0.5) < 4 * 0.5 / u.size**0.5
    assert uniforms(0, 3, KEYS[:0], 10).shape == (0, 10)


def reference(*words: int) -> int:
    """The finaliser of SplitMix64 in plain integers."""
    golden, most = 0x9E3779B97F4A7C15, 2**64 - 1

    def finalise(x: int) -> int:
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & most
        x = (x ^ (x >> 27)) * 0x94D049BB133111EB & most
        return x ^ (x >> 31)

    state = 0
    for word in words:
        state = finalise((state + golden & most) ^ finalise(word + golden & most))
    return state


@given(st.lists(st.integers(-(2**63), 2**64 - 1), max_size=4))
def test_the_hash_is_the_published_one_on_any_integers(words: list[int]) -> None:
    assert int(mix(*words)) == reference(*words)
    assert 0 <= seed_of(*words) < 2**63


def test_words_broadcast() -> None:
    table = mix(np.arange(3)[:, None], 5, np.arange(4)[None, :])
    assert table.dtype == np.uint64
    assert table.tolist() == [[reference(i, 5, j) for j in range(4)] for i in range(3)]
    assert mix(np.arange(3, dtype=np.int32)).tolist() == mix(np.arange(3, dtype=np.uint8)).tolist()


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
    assert first.dtype == np.int64
    assert order(0, 0, KEYS[:0]).tolist() == []


@given(st.permutations(range(12)), st.integers(0, 2**63 - 1), st.integers(0, 1000))
def test_order_does_not_depend_on_the_listing(listing: list[int], seed: int, epoch: int) -> None:
    keys = KEYS[:12]
    assert np.array_equal(keys[order(seed, epoch, keys)], keys[listing][order(seed, epoch, keys[listing])])


def test_every_image_comes_first_about_as_often() -> None:
    first = np.bincount([order(0, e, KEYS[:10])[0] for e in range(2000)], minlength=10)
    assert ((first - 200) ** 2 / 200).sum() < 27.9  # chi-square, 9 degrees of freedom, p = 0.001


def test_the_order_is_not_the_augmentation() -> None:
    """An image early in the epoch must not be one with a small first uniform."""
    place = np.argsort(order(0, 0, KEYS))
    assert abs(np.corrcoef(place, uniforms(0, 0, KEYS, 1)[:, 0])[0, 1]) < 0.12


def test_places_of_arguments_matter_and_nothing_collides() -> None:
    assert mix(1, 2) != mix(2, 1)
    assert mix(0) != mix(0, 0)
    assert mix(-1) != mix(1)
    assert len(np.unique(mix(3, np.arange(1_000_000)))) == 1_000_000
    assert len(np.unique(mix(np.arange(1000)[:, None], np.arange(1000)[None, :]))) == 1_000_000
    assert uniforms(1, 2, KEYS[:1], 1) != uniforms(2, 1, KEYS[:1], 1)
    assert order(1, 2, KEYS).tolist() != order(2, 1, KEYS).tolist()


@given(st.lists(st.integers(0, 4), max_size=30))
def test_second_and_later_copies_get_keys_of_their_own(which: list[int]) -> None:
    keys = KEYS[which]
    found = distinct(keys)
    before = [which[:i].count(k) for i, k in enumerate(which)]
    wanted = [reference(k, n) if n else k for k, n in zip(keys.tolist(), before, strict=True)]
    assert found.tolist() == wanted
    assert found.dtype == np.uint64
    assert len(set(which)) < len(which) or found is keys


def test_the_numbers_are_these_for_ever() -> None:
    """Old runs are resumed and repeated by them."""
    assert int(mix(1, 2, 3)) == GOLDEN_MIX
    assert seed_of(1, 2, 3) == GOLDEN_MIX >> 1
    assert order(5, 6, KEYS[:6]).tolist() == GOLDEN_ORDER
    assert uniforms(5, 6, KEYS[:2], 2).tolist() == GOLDEN_UNIFORMS


GOLDEN_MIX = 17824878756907967
GOLDEN_ORDER = [1, 3, 2, 0, 5, 4]
GOLDEN_UNIFORMS = [[0.6095547689933855, 0.7708111056054622], [0.518981544156865, 0.7481870088301992]]


@given(st.lists(st.integers(0, 9), max_size=30), st.integers(1, 4), st.integers(0, 5), st.integers(0, 5))
def test_an_order_in_blocks_is_the_obvious_one(blocks: list[int], together: int, seed: int, epoch: int) -> None:
    keys = mix(5, np.arange(len(blocks)))
    drawn = sorted(set(blocks), key=lambda block: reference(seed, epoch, 0x626C6F636B, block))
    mixed = [reference(seed, epoch, 0x6F72646572, key) for key in keys.tolist()]
    wanted = sorted(range(len(blocks)), key=lambda i: (drawn.index(blocks[i]) // together, mixed[i]))
    found = order_in_blocks(seed, epoch, keys, np.array(blocks, np.int64), together)
    assert found.dtype == np.int64
    assert found.tolist() == wanted


def test_images_of_one_key_keep_their_order() -> None:
    """So many that a sort that is not stable mixes them."""
    keys = np.repeat(mix(5, np.arange(3)), 200)
    found = order(0, 0, keys)
    assert all((np.diff(found[keys[found] == key]) > 0).all() for key in np.unique(keys))
    assert distinct(keys).dtype == np.uint64
