"""Parts by content: copies stay together, nothing moves when images are added, and no class is forgotten unsaid."""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold

from convscope.datasets import splits
from convscope.datasets.dataset import PARTS
from convscope.datasets.splits import (
    Split,
    folded,
    limited,
    split,
    stratified,
    together,
    too_few,
    unit,
    with_validation,
)
from convscope.datasets.unsplit import Unsplit
from convscope.errors import UsageError
from convscope.randomness import mix


def key(u: float, number: int = 0) -> np.uint64:
    """A key whose ``unit`` is u."""
    return np.uint64(int(u * 2**53) << 11 | number)


def unsplit(labels: np.ndarray, given_parts: np.ndarray | None = None) -> Unsplit:
    names = tuple(f"c{i}" for i in range(labels.max() + 1))
    return Unsplit("made", names, labels, np.full(len(labels), "", "U5") if given_parts is None else given_parts, 32)


def cut(keys: np.ndarray, labels: np.ndarray, given_parts: np.ndarray | None = None) -> Split:
    return split(unsplit(labels, given_parts), keys)


def part_of(result: Split, count: int) -> np.ndarray:
    out = np.full(count, "", "U5")
    for part in PARTS:
        out[result.parts[part]] = part
    return out


def test_known_keys_go_where_their_u_says() -> None:
    u = [0.0, 0.1499, 0.1501, 0.2999, 0.3001, 0.9999] * 2
    keys = np.array([key(x, i) for i, x in enumerate(u)])
    assert np.allclose(unit(keys), u, atol=1e-12)
    assert unit(np.array([2**64 - 1], np.uint64))[0] < 1
    result = cut(keys, np.repeat([0, 1], 6))
    assert part_of(result, 12).tolist() == ["test", "test", "val", "val", "train", "train"] * 2
    assert result.notes == ()


def test_shares_are_about_right_and_follow_the_hash() -> None:
    keys = mix(1, np.arange(20_000))
    parts = part_of(cut(keys, np.arange(20_000) % 3), len(keys))
    u = unit(keys)
    assert set(parts[u < 0.15]) == {"test"}
    assert set(parts[(u >= 0.15) & (u < 0.3)]) == {"val"}
    assert set(parts[u >= 0.3]) == {"train"}
    assert abs((parts == "test").mean() - 0.15) < 0.01


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 60), st.integers(1, 60), st.integers(2, 5))
def test_adding_images_moves_none_but_in_classes_that_had_to_be_served(
    seed: int, few: int, more: int, classes: int
) -> None:
    dice = np.random.default_rng(seed)
    keys = mix(seed, dice.integers(0, 100, few + more))
    labels = np.concatenate([np.arange(classes), (keys % np.uint64(classes)).astype(np.int64)])
    keys = np.concatenate([mix(seed, 1000 + np.arange(classes)), keys])
    few += classes
    before, after = part_of(cut(keys[:few], labels[:few]), few), part_of(cut(keys, labels), few + more)[:few]
    by_u = np.select([unit(keys[:few]) < 0.15, unit(keys[:few]) < 0.3], ["test", "val"], "train")
    for label in range(classes):
        mine = labels[:few] == label
        served = not set(by_u[mine]) >= set(PARTS)
        assert served or np.array_equal(before[mine], by_u[mine])
        assert served or np.array_equal(after[mine], by_u[mine])


@settings(deadline=None)
@given(st.integers(0, 10_000), st.permutations(range(40)))
def test_the_order_of_listing_changes_nothing(seed: int, order: list[int]) -> None:
    keys = mix(seed, np.random.default_rng(seed).integers(0, 20, 40))
    labels = (keys % np.uint64(6)).astype(np.int64)
    plain, shuffled = part_of(cut(keys, labels), 40), part_of(cut(keys[order], labels[order]), 40)
    assert np.array_equal(plain[order], shuffled)


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 60), st.integers(2, 4), st.integers(1, 30))
def test_copies_stay_together_and_every_class_is_served_where_it_can_be(
    seed: int, count: int, classes: int, different: int
) -> None:
    dice = np.random.default_rng(seed)
    keys = mix(seed, dice.integers(0, different, count))
    labels = (keys % np.uint64(classes)).astype(np.int64)  # an image has one class, however often it stands there
    labels = np.unique(labels, return_inverse=True)[1]
    result = cut(keys, labels)
    parts = part_of(result, count)
    assert (parts != "").all()
    for one in np.unique(keys):
        assert len(set(parts[keys == one])) == 1
    for label in np.unique(labels):
        has = set(parts[labels == label])
        kinds = len(np.unique(keys[labels == label]))
        assert "train" in has
        assert kinds < 3 or has == set(PARTS)
        if len(has) < 3:
            assert any(f"'c{label}'" in note and "too few" in note for note in result.notes)


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 80), st.lists(st.sampled_from(["", "train", "val", "test"]), min_size=1))
def test_no_content_is_ever_on_two_sides(seed: int, count: int, choices: list[str]) -> None:
    """Whatever was given, contradictory labels and copies across given parts included."""
    dice = np.random.default_rng(seed)
    keys, labels = mix(seed, dice.integers(0, 30, count)), dice.integers(0, 3, count)
    given_parts = np.array(choices)[dice.integers(0, len(choices), count)].astype("U5")
    result = cut(keys, labels, given_parts)
    parts = part_of(result, count)
    for one in np.unique(keys):
        assert len(set(parts[keys == one]) - {""}) == 1
    assert (parts[given_parts == "test"] == "test").all()
    assert set(parts[given_parts == "val"]) <= {"val", ""}
    assert set(parts[given_parts == "train"]) <= {"train", "val", ""}
    left_out = (parts == "").any()
    assert left_out == any("left out" in note for note in result.notes)


def test_a_class_that_is_served_takes_its_lowest_hash_and_is_named() -> None:
    many = np.array([key((i + 0.5) / 200, i) for i in range(200)])
    three = np.array([key(0.9), key(0.7), key(0.8)])
    result = cut(np.concatenate([many, three]), np.array([0] * 200 + [1] * 3))
    assert part_of(result, 203)[200:].tolist() == ["train", "val", "test"]
    assert result.notes == (
        "class 'c1' would have missed val: the image with the lowest hash was moved there.",
        "class 'c1' would have missed test: the image with the lowest hash was moved there.",
    )


@pytest.mark.parametrize("u", [0.01, 0.2, 0.9])
def test_a_class_with_one_image_is_in_train_only(u: float) -> None:
    many = np.array([key((i + 0.5) / 200, i) for i in range(200)])
    result = cut(np.append(many, [key(u, 999), key(u, 999)]), np.array([0] * 200 + [1] * 2))
    assert part_of(result, 202)[200:].tolist() == ["train"] * 2
    assert result.notes[-1] == "class 'c1': too few different images to stand in val and test."


def test_a_note_stays_readable_with_many_classes() -> None:
    labels = np.arange(3000) % 1500
    names = tuple(f"a class with a really long name, number {i}" for i in range(2000))
    result = split(replace(unsplit(labels), class_names=names), mix(1, np.arange(3000)))
    assert len(result.notes) < 10
    assert max(map(len, result.notes)) < 300
    assert any(note.startswith("500 classes (") and "without any image" in note for note in result.notes)


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["x" * 30], f"class '{'x' * 30}'"),
        (["x" * 31], f"class '{'x' * 27}...'"),
        (["a", "b", "c", "d"], "4 classes ('a', 'b', 'c', 'd')"),
        (["a", "b", "c", "d", "e"], "5 classes ('a', 'b', 'c', 'd', ...)"),
    ],
)
def test_a_note_names_the_first_classes(names: list[str], told: str) -> None:
    count = len(names)
    plain = replace(unsplit(np.arange(count)), class_names=tuple(names))
    assert (
        split(plain, mix(1, np.arange(count))).notes[-1]
        == f"{told}: too few different images to stand in val and test."
    )


def test_given_parts_are_kept_and_training_copies_of_the_test_are_dropped() -> None:
    keys = mix(3, np.arange(400))
    parts = np.array(["train"] * 300 + ["test"] * 100)
    keys[5] = keys[350]
    result = cut(keys, np.arange(400) % 2, parts)
    assert np.array_equal(result.parts["test"], np.arange(300, 400))
    assert 5 not in np.concatenate([result.parts["train"], result.parts["val"]])
    assert "1 training image (made image 5) is also in validation or test" in " ".join(result.notes)
    assert 20 < len(result.parts["val"]) < 90
    assert set(result.parts["train"]) | set(result.parts["val"]) | {5} == set(range(300))


def test_a_copy_of_a_test_image_is_not_cut_into_validation() -> None:
    keys = np.array([key((i + 0.5) / 100, i) for i in range(100)])
    keys[3] = keys[77] = key(0.01, 999)
    parts = np.array(["train"] * 50 + ["test"] * 50)
    result = cut(keys, np.arange(100) % 2, parts)
    assert 3 not in result.parts["val"]
    assert result.parts["val"].tolist() == [0, 1, 2, *range(4, 15)]


def test_given_validation_is_kept_but_for_copies_of_the_test() -> None:
    parts = np.array(["train"] * 20 + ["val"] * 10 + ["test"] * 10)
    keys, labels = mix(3, np.arange(40)), np.arange(40) % 2
    result = cut(keys, labels, parts)
    assert {p: len(i) for p, i in result.parts.items()} == {"train": 20, "val": 10, "test": 10}
    assert result.notes == ()
    keys[22] = keys[38]
    keys[7] = keys[25]
    result = cut(keys, labels, parts)
    assert {p: len(i) for p, i in result.parts.items()} == {"train": 19, "val": 9, "test": 10}
    assert result.notes == (
        "1 validation image (made image 22) is also in test, and left out of validation.",
        "1 training image (made image 7) is also in validation or test, and left out of training.",
    )
    grouped = replace(unsplit(labels, parts), groups=np.array([f"g{i % 35}" for i in range(40)]))
    assert splits.split(grouped, mix(3, np.arange(40))).notes == (
        "5 training images (the first: made image 0) are of groups that are also in validation or test, and left out "
        "of training.",
    )


def test_a_class_that_loses_all_its_training_images_is_named() -> None:
    parts = np.array(["train"] * 20 + ["test"] * 20)
    keys, labels = mix(3, np.arange(40)), np.arange(40) % 2
    keys[1:20:2] = keys[21:40:2]
    result = cut(keys, labels, parts)
    assert set(labels[result.parts["train"]]) == {0}
    assert any("'c1'" in note and "too few" in note and "train" in note for note in result.notes)


def test_parts_that_nobody_gave_are_named_once() -> None:
    labels, keys = np.arange(100) % 2, mix(3, np.arange(100))
    for parts, said in (
        (["train"] * 60 + ["val"] * 40, "no image is given as test, so there is no test part."),
        (["train"] * 100, "no image is given as test, so there is no test part."),
        (["test"] * 100, "no image is given as train or val, so there is no train and no val part."),
    ):
        assert cut(keys, labels, np.array(parts)).notes == (said,)
    few = np.array(["train"] * 60 + ["test"] * 40)
    few[(labels == 1) & (few == "test")] = "train"
    assert cut(keys, labels, few).notes == ("class 'c1': no image in test.",)
    both = np.array(["train"] * 60 + ["val"] * 20 + ["test"] * 20)
    both[labels == 1] = "train"
    more = replace(unsplit(labels, both), class_names=("c0", "c1", "c2", "c3"))
    assert splits.split(more, keys).notes == (
        "class 'c1': no image in val or test.",
        "2 classes ('c2', 'c3'): without any image.",
    )


def test_one_image_under_two_classes_is_named_and_stays_on_one_side() -> None:
    keys, labels = mix(5, np.arange(60)), np.arange(60) % 2
    keys[11] = keys[20]
    result = cut(keys, labels)
    assert "2 images (the first: made image 11) are under more than one class." in result.notes
    assert part_of(result, 60)[11] == part_of(result, 60)[20]


def test_an_image_of_two_classes_is_not_what_serves_a_part() -> None:
    """It would take the other class's image along; a class that has nothing else still has something to train on."""
    many = np.array([key((i + 0.5) / 200, i) for i in range(200)])
    keys = np.concatenate([many, [key(0.7), key(0.7), key(0.8), key(0.85), key(0.9), key(0.1, 7), key(0.1, 7)]])
    labels = np.array([0] * 200 + [0, 1, 1, 1, 1, 0, 2])
    parts = part_of(cut(keys, labels), 207)
    assert parts[200:205].tolist() == ["train", "train", "val", "test", "train"]
    assert parts[205:].tolist() == ["train", "train"]


def test_a_fixed_validation_takes_the_lowest_hashes_with_their_copies() -> None:
    keys = mix(2, np.arange(200))
    given_parts = np.array(["train"] * 180 + ["test"] * 20)
    plain = unsplit(np.arange(200) % 2, given_parts)
    lowest = np.argsort(keys[:180])
    assert set(np.flatnonzero(with_validation(plain, keys, 10) == "val")) == set(lowest[:10])
    assert (with_validation(plain, keys, 5000) == "val").sum() == 20  # a ninth
    assert (with_validation(plain, keys, 5000) == "test").sum() == 20
    assert np.array_equal(plain.given, given_parts)
    keys[lowest[10]] = keys[lowest[9]]
    assert set(np.flatnonzero(with_validation(plain, keys, 10) == "val")) == set(lowest[:11])
    many = mix(5, np.arange(9_000))  # so many that half a sort is not by chance a whole one
    for count in (1, 2, 300, 999, 1_000):
        found = with_validation(unsplit(np.arange(9_000) % 2, np.full(9_000, "train")), many, count)
        assert set(np.flatnonzero(found == "val")) == set(np.argsort(many)[:count])


@given(st.integers(0, 1000), st.integers(1, 100))
def test_stratified_quotas_are_exact(seed: int, limit: int) -> None:
    labels = np.random.default_rng(seed).integers(0, 4, 100)
    keys = mix(seed, np.arange(100))
    chosen = stratified(labels, keys, limit)
    assert len(chosen) == len(set(chosen)) == limit
    assert chosen.tolist() == sorted(chosen)
    for label in np.unique(labels):
        exact = (labels == label).sum() * limit / 100
        assert abs((labels[chosen] == label).sum() - exact) < 1


@given(st.integers(0, 1000), st.integers(1, 200))
def test_a_limit_keeps_given_parts_and_classes_in_proportion(seed: int, limit: int) -> None:
    dice = np.random.default_rng(seed)
    labels, given_parts = dice.integers(0, 4, 200), np.array(["train", "train", "test"])[dice.integers(0, 3, 200)]
    chosen = limited(given_parts, labels, mix(seed, np.arange(200)), limit)
    assert len(set(chosen)) == limit
    for part in ("train", "test"):
        mine = given_parts == part
        taken = (given_parts[chosen] == part).sum()
        assert abs(taken - mine.sum() * limit / 200) < 1
        for label in range(4):
            exact = (labels[mine] == label).sum() * taken / mine.sum()
            assert abs(((labels == label) & mine)[chosen].sum() - exact) < 1


def test_a_limit_does_not_prefer_a_part() -> None:
    keys = mix(9, np.arange(10_000))
    chosen = stratified(np.zeros(10_000, int), keys, 1000)
    assert abs((unit(keys[chosen]) < 0.15).mean() - 0.15) < 0.04


def test_ten_thousand_classes_of_two_images_are_split_at_once() -> None:
    result = cut(mix(1, np.arange(20_000)), np.arange(20_000) % 10_000)
    assert sum(map(len, result.parts.values())) == 20_000
    assert len(np.unique(result.parts["train"] % 10_000)) == 10_000


def test_a_class_is_not_emptied_by_the_second_of_its_images_that_another_class_takes_along() -> None:
    """Two groups of both classes: class a takes the one for validation, and the other is b's last to train on."""
    labels = np.array([0, 1, 0, 1] + [0] * 7)
    sides, part = np.array([1, 1, 2, 2, *range(3, 10)], np.uint64), np.full(11, "train", "U5")
    splits._serve_missed(part, unsplit(labels), sides, dict.fromkeys(PARTS, np.ones(11, bool)))
    assert "train" in part[labels == 1]
    assert set(part[labels == 0]) == set(PARTS)


@pytest.mark.parametrize("seed", range(60))
def test_no_group_takes_the_last_training_images_of_a_class_along(seed: int) -> None:
    """One class stands in one group, the other in all."""
    random = np.random.default_rng(seed)
    groups = np.array([f"p{random.integers(1 << 30)}" for _ in range(6)])[np.repeat(np.arange(6), 8)]
    labels = np.array([int(i >= 5) for i in range(48)])
    keys = random.integers(1, 1 << 62, 48).astype(np.uint64)
    unsplit = Unsplit(
        "x", ("a", "b"), labels, np.full(48, "", "U5"), 8, np.zeros((48, 8, 8, 3), np.uint8), groups=groups
    )
    parts = split(unsplit, keys).parts
    assert set(labels[parts["train"]]) == {0, 1}
    for group in np.unique(groups):
        assert sum(np.isin(np.flatnonzero(groups == group), index).any() for index in parts.values()) == 1


def test_a_group_has_the_same_side_for_ever_and_images_without_one_their_own() -> None:
    groups, keys = np.array(["a", "", "a", "b\udce9", ""]), mix(3, np.arange(5))
    labels, given_parts = np.zeros(5, int), np.full(5, "", "U5")
    grouped = Unsplit("x", ("c",), labels, given_parts, 8, np.zeros((5, 8, 8, 3), np.uint8), groups=groups)
    own = [int.from_bytes(hashlib.sha256(b"group " + name).digest()[:8], "little") for name in (b"a", b"b\xe9")]
    assert together(grouped, keys).tolist() == [own[0], int(keys[1]), own[0], own[1], int(keys[4])]
    keys[3] = keys[4] = keys[0]  # a copy in another group, and one in none
    lowest = min(*own, int(keys[0]))
    assert together(grouped, keys).tolist() == [lowest, int(keys[1]), lowest, lowest, lowest]
    assert together(replace(grouped, groups=None), keys) is keys


def some_split(count: int, test: int = 0) -> Split:
    return Split(
        {"train": np.arange(count)[::2], "val": np.arange(count)[1::2], "test": np.arange(count, count + test)},
        ("said before",),
    )


@pytest.mark.parametrize("count", [2, 3, 5])
def test_each_image_validates_in_one_fold(count: int) -> None:
    labels, sides = np.arange(66) % 3, mix(9, np.arange(66))
    validated = []
    for one in range(1, count + 1):
        found = folded(some_split(60, 6), labels, sides, f"{one}/{count}")
        assert sorted([*found.parts["train"], *found.parts["val"]]) == list(range(60))
        assert all((np.diff(found.parts[part]) > 0).all() for part in PARTS)
        assert found.parts["test"].tolist() == list(range(60, 66))
        assert abs(len(found.parts["val"]) - 60 / count) <= 3
        assert found.notes == ("said before",)
        validated += found.parts["val"].tolist()
    assert sorted(validated) == list(range(60))


def test_folds_are_counted_as_sklearn_counts_them() -> None:
    labels, sides = np.arange(60) % 3, mix(9, np.arange(60))
    order = np.argsort(sides)
    cuts = list(StratifiedGroupKFold(3).split(order, labels[order], sides[order]))
    for one in (1, 2, 3):
        assert folded(some_split(60), labels, sides, f"{one}/3").parts["val"].tolist() == sorted(
            order[cuts[one - 1][1]]
        )


@pytest.mark.parametrize("fold", ["0/3", "4/3", "1/1", "1", "1/", "/3", "a/3", "1/b", "1/3/5", "-1/3", ""])
def test_what_is_no_fold_is_refused(fold: str) -> None:
    with pytest.raises(UsageError, match=r"is no fold: it is one of so many, 2 or more, such as 2/5\.$"):
        folded(some_split(60), np.arange(60) % 3, mix(9, np.arange(60)), fold)


def test_as_many_folds_as_different_images_are_the_most() -> None:
    labels, sides = np.array([0, 1, 0, 1, 0, 1]), np.array([1, 2, 3, 3, 2, 1], np.uint64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(folded(some_split(6), labels, sides, "1/3").parts["val"]) == 2
    with pytest.raises(UsageError, match=r"^4 folds need as many different images, and there are 3\.$"):
        folded(some_split(6), labels, sides, "1/4")


def test_classes_that_a_fold_cuts_apart_are_counted() -> None:
    """Three images of the one class in one group, one of the other alone: neither can be on both sides."""
    labels, sides = np.array([0, 0, 0, 1, 2, 2, 2, 2, 2, 2]), np.array([1, 1, 1, 2, 3, 4, 5, 6, 7, 8], np.uint64)
    for one in (1, 2):
        found = folded(some_split(10), labels, sides, f"{one}/2")
        told = f"fold {one}/2: 2 of the classes have images only to train on, or only to validate on."
        assert found.notes == ("said before", told)


@pytest.mark.parametrize(("train", "val", "test"), [(2, 0, 9), (1, 1, 0), (0, 5, 2)])
def test_too_few_images_are_counted_in_a_sentence(train: int, val: int, test: int) -> None:
    parts = {"train": np.arange(train), "val": np.arange(val), "test": np.arange(test)}
    assert too_few("it", parts) == (
        f"it has {train + val + test} images: {train} to train on, {val} to validate with; a class needs at least two "
        "different images, better fifty."
    )


def test_two_images_to_train_on_and_one_to_validate_with_are_enough() -> None:
    assert too_few("it", {"train": np.arange(2), "val": np.arange(1), "test": np.arange(0)}) == ""


def test_a_record_puts_images_where_they_were_and_brings_none_back() -> None:
    keys = mix(3, np.arange(60))
    keys[0] = keys[59]
    given_parts = np.array(["", *["train"] * 29, *[""] * 29, "test"])  # the first is a copy of a test image
    plain = unsplit(np.arange(60) % 2, given_parts)
    before = part_of(split(plain, keys), 60)
    assert before[0] == ""
    moved = {1: "val", 2: "train", 40: "test", 41: "val", 0: "test"}
    named = splits.hexadecimal(keys)
    kept = replace(plain, sides={named[i]: part for i, part in moved.items()} | {"0" * 16: "val"})
    after = part_of(split(kept, keys), 60)
    wanted = before.copy()
    for i in (1, 2, 40, 41):
        wanted[i] = moved[i]
    assert after.tolist() == wanted.tolist()


def test_where_a_test_part_was_given_the_lowest_hashes_validate() -> None:
    u = [0.0, 0.1, 0.1499, 0.1501, 0.9, 0.95]
    keys = np.array([key(x, i) for i, x in enumerate(u * 2)] + [key(0.5, 99), key(0.6, 98)])
    given_parts = np.array([""] * 12 + ["test"] * 2)
    result = cut(keys, np.array([0] * 6 + [1] * 6 + [0, 1]), given_parts)
    assert unit(keys)[0] == 0.0
    assert part_of(result, 14).tolist() == ["val"] * 3 + ["train"] * 3 + ["val"] * 3 + ["train"] * 3 + ["test"] * 2


def test_a_limit_chooses_by_a_hash_of_its_own_and_among_copies_the_first() -> None:
    keys, labels = mix(7, np.arange(400)), np.arange(400) % 4
    rank = mix(keys, 0x6C696D6974)
    wanted = sorted(i for k in range(4) for i in sorted(np.flatnonzero(labels == k), key=lambda i: rank[i])[:10])
    assert stratified(labels, keys, 40).tolist() == wanted
    assert stratified(np.zeros(300, int), np.full(300, 5, np.uint64), 7).tolist() == list(range(7))
    shares = stratified(
        np.arange(300) // 3, mix(8, np.arange(300)), 130
    )  # a third of each class, and 30 classes one more
    assert np.bincount(shares // 3, minlength=100).tolist() == [2] * 30 + [1] * 70
