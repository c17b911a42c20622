"""Parts by content: copies stay together, nothing moves when pictures are added, and no class is forgotten unsaid."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from convscope.datasets import PARTS, Unsplit
from convscope.datasets.splits import Split, split, stratified, unit
from convscope.randomness import mix


def cut(keys: np.ndarray, labels: np.ndarray, given_parts: np.ndarray | None = None) -> Split:
    names = tuple(f"c{i}" for i in range(labels.max() + 1))
    parts = np.full(len(keys), "", "U5") if given_parts is None else given_parts
    return split(Unsplit("made", names, labels, parts, 32), keys)


def part_of(result: Split, count: int) -> np.ndarray:
    out = np.full(count, "", "U5")
    for part in PARTS:
        out[result.parts[part]] = part
    return out


def test_shares_are_about_right_and_follow_the_hash() -> None:
    keys = mix(1, np.arange(20_000))
    parts = part_of(cut(keys, np.arange(20_000) % 3), len(keys))
    u = unit(keys)
    assert set(parts[u < 0.15]) == {"test"}
    assert set(parts[(u >= 0.15) & (u < 0.3)]) == {"val"}
    assert set(parts[u >= 0.3]) == {"train"}
    assert abs((parts == "test").mean() - 0.15) < 0.01


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(300, 600), st.integers(1, 300))
def test_adding_pictures_moves_no_other(seed: int, few: int, more: int) -> None:
    keys = mix(seed, np.arange(few + more))
    labels = np.arange(few + more) % 2
    before, after = part_of(cut(keys[:few], labels[:few]), few), part_of(cut(keys, labels), few + more)
    assert np.array_equal(before, after[:few])


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 60), st.integers(2, 4), st.integers(1, 30))
def test_copies_stay_together_and_every_class_is_served_where_it_can_be(
    seed: int, count: int, classes: int, different: int
) -> None:
    dice = np.random.default_rng(seed)
    keys = mix(seed, dice.integers(0, different, count))
    labels = (keys % np.uint64(classes)).astype(np.int64)  # a picture has one class, however often it stands there
    labels = np.unique(labels, return_inverse=True)[1]
    result = cut(keys, labels)
    parts = part_of(result, count)
    assert (parts != "").all()
    for key in np.unique(keys):
        assert len(set(parts[keys == key])) == 1
    for label in np.unique(labels):
        has = set(parts[labels == label])
        kinds = len(np.unique(keys[labels == label]))
        assert "train" in has
        assert kinds < 3 or has == set(PARTS)
        if len(has) < 3:
            assert any(f"'c{label}'" in note and "too few" in note for note in result.notes)


def test_a_class_that_is_served_is_named() -> None:
    keys = np.concatenate([mix(1, np.arange(200)), np.array([2**63, 2**63 + 2**40, 2**63 + 2**41], np.uint64)])
    labels = np.array([0] * 200 + [1] * 3)
    notes = " ".join(cut(keys, labels).notes)
    assert "'c1'" in notes
    assert "'c0'" not in notes


def test_given_parts_are_kept_and_training_copies_of_the_test_are_dropped() -> None:
    keys = mix(3, np.arange(400))
    parts = np.array(["train"] * 300 + ["test"] * 100)
    keys[5] = keys[350]
    result = cut(keys, np.arange(400) % 2, parts)
    assert np.array_equal(result.parts["test"], np.arange(300, 400))
    assert 5 not in np.concatenate([result.parts["train"], result.parts["val"]])
    assert any("1 training picture is also in" in note for note in result.notes)
    assert 20 < len(result.parts["val"]) < 90
    assert set(result.parts["train"]) | set(result.parts["val"]) | {5} == set(range(300))


def test_given_validation_is_kept_too() -> None:
    parts = np.array(["train"] * 20 + ["val"] * 10 + ["test"] * 10)
    result = cut(mix(3, np.arange(40)), np.arange(40) % 2, parts)
    assert {p: len(i) for p, i in result.parts.items()} == {"train": 20, "val": 10, "test": 10}
    assert result.notes == ()


@given(st.integers(0, 1000), st.integers(1, 100))
def test_stratified_quotas_are_exact(seed: int, limit: int) -> None:
    labels = np.random.default_rng(seed).integers(0, 4, 100)
    keys = mix(seed, np.arange(100))
    chosen = stratified(labels, keys, limit)
    assert len(chosen) == len(set(chosen)) == limit
    for label in np.unique(labels):
        exact = (labels == label).sum() * limit / 100
        assert abs((labels[chosen] == label).sum() - exact) < 1


def test_a_limit_does_not_prefer_a_part() -> None:
    keys = mix(9, np.arange(10_000))
    chosen = stratified(np.zeros(10_000, int), keys, 1000)
    assert abs((unit(keys[chosen]) < 0.15).mean() - 0.15) < 0.04
