"""Comparisons: statsmodels' and scipy's figures are the oracle, and trainings whose difference is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

import convscope
from convscope.errors import DataError, UsageError
from convscope.evaluation.comparing import Group, compare_groups, grouped, recipe_difference

TINY: dict[str, Any] = {"model": "resnet20", "width": 4, "image_size": 16, "epochs": 1, "limit": 300}


def group(name: str, right: np.ndarray) -> Group:
    right = np.atleast_2d(right)
    return Group(name, tuple(f"{name}{i}" for i in range(len(right))), right)


def test_two_runs_are_compared_by_mcnemars_test():
    random = np.random.default_rng(0)
    a, b = random.random(400) < 0.8, random.random(400) < 0.7
    found = compare_groups(group("a", a), group("b", b))
    wanted = stats.binomtest(int((a & ~b).sum()), int((a ^ b).sum())).pvalue
    assert found.p == pytest.approx(wanted)
    assert found.difference == pytest.approx(a.mean() - b.mean())


def test_without_a_spread_between_images_seeds_are_compared_by_welchs_test():
    """Two recipes on images that every run of a seed has all right or all wrong alike: only seeds vary."""
    random = np.random.default_rng(1)
    share = [0.80, 0.82, 0.84, 0.79, 0.83], [0.70, 0.75, 0.73, 0.71, 0.72, 0.74]
    n = 100_000
    # Each run is right on images of its own choice, so that a mean over runs varies little from image to image.
    groups = [np.stack([random.permutation(n) < s * n for s in shares]) for shares in share]
    found = compare_groups(group("a", groups[0]), group("b", groups[1]))
    wanted = stats.ttest_ind(groups[0].mean(1), groups[1].mean(1), equal_var=False)
    interval = wanted.confidence_interval()
    assert found.difference == pytest.approx(0.816 - 0.725)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), abs=1e-3)
    assert found.p == pytest.approx(wanted.pvalue, rel=0.2)


def simulated(random: np.random.Generator, gain: float) -> list[Group]:
    """Two recipes of five seeds on 300 images, each with a difficulty; ``gain`` is what the second has more."""
    hard = random.random(300)
    skills = random.normal(0.7, 0.01, (2, 5)) + np.array([[0.0], [gain]])
    return [group(n, random.random((5, 300)) < 2 * s[:, None] * (1 - hard)) for n, s in zip("ab", skills, strict=True)]


def test_equals_are_seldom_told_apart_and_others_are():
    random = np.random.default_rng(2)
    equal = [compare_groups(*simulated(random, 0.0)) for _ in range(200)]
    assert np.mean([d.p < 0.05 for d in equal]) <= 0.08
    assert np.mean([d.low <= 0 <= d.high for d in equal]) >= 0.92
    assert np.mean([compare_groups(*simulated(random, 0.15)).p < 0.05 for _ in range(50)]) > 0.9


def test_the_same_answers_do_not_differ():
    right = np.random.default_rng(3).random((5, 50)) < 0.5
    for rows in (right[:1], right):
        found = compare_groups(group("a", rows), group("b", rows))
        assert found.p == 1.0
        assert "do not differ (p = 1, n = 50)" in found.sentence()
    whole = np.ones((3, 20), bool)
    assert compare_groups(group("a", whole), group("b", whole)).p == 1.0


def test_the_better_one_is_named_first_with_a_positive_difference():
    a, b = np.arange(100) < 50, np.arange(100) < 80
    assert compare_groups(group("a", a), group("b", b)).sentence().startswith("b is better than a by 30.0 points [")
    assert compare_groups(group("b", b), group("a", a)).sentence().startswith("b is better than a by 30.0 points [")


def test_runs_that_differ_in_their_seeds_belong_together():
    recipes = [{"lr": 1, "seed": 0}, {"lr": 2, "seed": 0}, {"lr": 1, "seed": 5}, None, None]
    assert grouped(list("abcde"), recipes) == [[0, 2], [1], [3], [4]]
    assert recipe_difference(recipes[0], recipes[1]) == {"lr": [1, 2]}
    assert recipe_difference(recipes[0], recipes[2]) == {}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("runs")
    for name, more in {"a": {}, "b": {"seed": 1}, "c": {"lr": 0.2}, "shapes": {}}.items():
        convscope.train("shapes" if name == "shapes" else "digits", name=name, runs=runs, **{**TINY, **more})
    return runs


def test_runs_are_compared_on_their_own_test_images(home: Path):
    found = convscope.compare(["a", "c"], runs=home)
    single = convscope.evaluate("a", runs=home)
    assert found.summary["runs"][0]["top1"] == single.summary["top1"]
    assert found.summary["part"] == "test"
    assert found.summary["recipes"]["c"]["lr"][1] == 0.2
    assert len(found.summary["sentences"]) == 1
    assert (found.folder / "comparison.json").exists()


def test_seeds_of_one_recipe_are_one_row(home: Path):
    found = convscope.compare(["a", "c", "b"], runs=home)
    assert [row["name"] for row in found.summary["runs"]] == ["a (2 seeds)", "c"]
    assert len(found.summary["runs"][0]["by_seed"]) == 2
    alone = convscope.compare(["a", "b"], runs=home)
    assert [row["name"] for row in alone.summary["runs"]] == ["a", "b"]


def test_each_look_at_the_test_images_is_counted(home: Path):
    before = convscope.compare(["b", "c"], runs=home).summary["runs"][0]["test_openings"]
    assert convscope.compare(["b", "c"], runs=home).summary["runs"][0]["test_openings"] == before + 1
    assert convscope.compare(["b", "c"], runs=home, part="val").summary["runs"][0]["test_openings"] == before + 1


def test_copies_that_a_run_has_seen_are_counted_and_left_out(home: Path):
    found = convscope.compare(["a", "c"], runs=home, part="train")
    assert found.summary["known_duplicates"] == found.summary["n"]
    assert found.summary["without_duplicates"] is None
    whole = convscope.compare(["a", "c"], runs=home, part="all")
    assert 0 < whole.summary["known_duplicates"] < whole.summary["n"]
    rest = whole.summary["without_duplicates"][0]
    assert rest["n"] == whole.summary["n"] - whole.summary["known_duplicates"]


def test_runs_on_different_data_are_not_compared(home: Path):
    with pytest.raises(DataError, match="name images that neither has seen, with --data"):
        convscope.compare(["a", "shapes"], runs=home)
    held_out = {"data": "shapes", "part": "train", "limit": 20, "runs": home}
    with pytest.raises(DataError, match="does not know the class"):  # and so the data have to be of its classes
        convscope.compare(["a", "shapes"], **held_out)
    assert convscope.compare(["a", "c"], data="digits", part="val", runs=home).summary["n"] > 0
    with pytest.raises(UsageError, match="two runs or more"):
        convscope.compare(["a"], runs=home)


def test_a_classifier_in_memory_is_compared_too(home: Path):
    held, _ = convscope.open_classifier("c", home)
    found = convscope.compare(["a", held], data="digits", part="test", limit=20, runs=home)
    assert found.summary["n"] == 20


def test_data_that_changed_are_named_to_compare_on_them(tmp_path: Path):
    from PIL import Image

    for name, colour in {"a": 40, "b": 200}.items():
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(20):
            Image.new("RGB", (16, 16), (colour, 2 * i, 5 * i)).save(tmp_path / "data" / name / f"{i}.png")
    for seed in (0, 1):
        convscope.train(tmp_path / "data", name=f"s{seed}", runs=tmp_path / "runs", **{**TINY, "seed": seed})
    (tmp_path / "data" / "a" / "0.png").unlink()
    with pytest.raises(DataError, match="Name it with --data"):
        convscope.compare(["s0", "s1"], runs=tmp_path / "runs")
    assert convscope.compare(["s0", "s1"], data=tmp_path / "data", runs=tmp_path / "runs").summary["n"] > 0
