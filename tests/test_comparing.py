"""Comparisons: scipy's figures are the oracle, and trainings whose difference is known."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy import stats

import convscope
from convscope import cli
from convscope.classifying.intervals import Difference
from convscope.datasets.near_copies import looks, near_copies
from convscope.errors import DataError, UnknownName, UsageError
from convscope.evaluation.comparing import Group, compare_groups, grouped, recipe_difference
from convscope.evaluation.opening import Looks
from convscope.training.runs import Run, find_run

TINY: dict[str, Any] = {"model": "resnet20", "width": 4, "image_size": 16, "epochs": 1, "limit": 300}


def group(name: str, right: np.ndarray) -> Group:
    right = np.atleast_2d(right)
    return Group(name, tuple(f"{name}{i}" for i in range(len(right))), right)


def test_two_runs_are_compared_by_mcnemars_test():
    random = np.random.default_rng(0)
    a, b = random.random(400) < 0.8, random.random(400) < 0.7
    found = compare_groups(group("a", a), group("b", b))
    n = int((a ^ b).sum())
    likely = stats.binom.pmf(np.arange(n + 1), n, 0.5)
    assert found.p == pytest.approx(likely[likely <= likely[int((a & ~b).sum())] * (1 + 1e-9)].sum())
    assert found.difference == pytest.approx(a.mean() - b.mean())
    assert (found.method, found.n) == ("mcnemar", 400)


def shared_out(random: np.random.Generator, seeds: int, n: int) -> np.ndarray:
    """Bool (R, N): every image is right by just one run, so that a mean over runs is the same for each image."""
    owner = random.choice(seeds, n, p=random.dirichlet(np.full(seeds, 20)))
    return owner == np.arange(seeds)[:, None]


@pytest.mark.parametrize("seed", range(5))
def test_without_a_spread_between_images_seeds_are_compared_by_welchs_test(seed: int):
    random = np.random.default_rng(seed)
    a, b = shared_out(random, 3, 500), shared_out(random, 6, 500)
    found = compare_groups(group("a", a), group("b", b))
    wanted = stats.ttest_ind(a.mean(1), b.mean(1), equal_var=False)
    assert found.p == pytest.approx(wanted.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(wanted.confidence_interval()))
    alone, interval = group("a", a).accuracy(), stats.ttest_1samp(a.mean(1), 0).confidence_interval()
    assert (alone.low, alone.high) == pytest.approx((max(0, interval.low), interval.high))


@pytest.mark.parametrize("seed", range(5))
def test_without_a_spread_between_seeds_images_are_compared_by_students_test(seed: int):
    random = np.random.default_rng(seed)
    a, b = random.random(50) < 0.8, random.random(50) < 0.6
    found = compare_groups(group("a", np.tile(a, (4, 1))), group("b", np.tile(b, (3, 1))))
    wanted = stats.ttest_rel(a.astype(float), b.astype(float))
    assert (found.p, found.method) == (pytest.approx(wanted.pvalue), "t")
    assert (found.low, found.high) == pytest.approx(tuple(wanted.confidence_interval()))
    alone, interval = (
        group("a", np.tile(a, (4, 1))).accuracy(),
        stats.ttest_1samp(a.astype(float), 0).confidence_interval(),
    )
    assert (alone.low, alone.high) == pytest.approx((interval.low, min(1, interval.high)))


@pytest.mark.parametrize(("runs_a", "runs_b"), [(2, 2), (5, 3), (4, 1), (1, 6)])
def test_where_seeds_and_images_vary_t_is_that_of_a_sum_of_mean_squares(runs_a: int, runs_b: int):
    """Scipy's standard errors of either alone, squared and added, with Satterthwaite's degrees of freedom."""
    random = np.random.default_rng(runs_a)
    a, b = random.random((runs_a, 80)) < 0.7, random.random((runs_b, 80)) < 0.6
    means = [[sum(row.tolist()) / 80 for row in rows] for rows in (a, b)]
    spreads = [stats.tvar(own) if len(own) > 1 else None for own in means]
    known = [s for s in spreads if s is not None]
    terms = [(stats.sem(a.mean(0) - b.mean(0)) ** 2, 79)]
    for own, spread in zip(means, spreads, strict=True):
        freedom = max(len(own), 1 if spread is not None else max(runs_a, runs_b)) - 1
        terms.append(((np.mean(known) if spread is None else spread) / len(own), freedom))
    total = sum(v for v, _ in terms)
    freedom = total**2 / sum(v * v / f for v, f in terms)
    difference = np.mean(means[0]) - np.mean(means[1])
    found = compare_groups(group("a", a), group("b", b))
    assert found.difference == pytest.approx(difference)
    assert found.p == pytest.approx(2 * stats.t.cdf(-abs(difference) / total**0.5, freedom))
    assert (found.low, found.high) == pytest.approx(stats.t.interval(0.95, freedom, difference, total**0.5))


def test_a_few_images_prove_little_however_many_seeds_agree():
    right, wrong = group("a", np.ones((9, 1), bool)), group("b", np.zeros((9, 1), bool))
    found = compare_groups(right, wrong)
    assert (found.difference, found.low, found.high) == (1.0, -1.0, 1.0)
    assert found.p > 0.3
    right, wrong = group("a", np.ones((9, 4), bool)), group("b", np.zeros((9, 4), bool))
    found = compare_groups(right, wrong)
    assert (found.p, found.method) == (pytest.approx(2 / 2**4), "mcnemar")
    for one, value in ((right, 1.0), (wrong, 0.0)):
        accuracy = one.accuracy()
        assert (accuracy.value, accuracy.high - accuracy.low > 0.4) == (value, True)


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


def test_a_difference_is_told_in_points_of_a_hundred_with_both_ends():
    given = {"a": "one", "b": "two", "n": 1234, "method": "mcnemar"}
    said = Difference(**given, difference=0.2, low=-0.3, high=0.7, p=0.2).sentence()
    assert said == "one and two do not differ (p = 0.2, n = 1,234): +20.0 points [-30.0, +70.0]."
    said = Difference(**given, difference=0.4, low=0.3, high=0.5, p=1e-4).sentence()
    assert said == "one is better than two by 40.0 points [30.0, 50.0] (p under 0.001, n = 1,234)."
    said = Difference(**given, difference=-0.4, low=-0.6, high=-0.3, p=0.001).sentence()
    assert said == "two is better than one by 40.0 points [30.0, 60.0] (p = 0.001, n = 1,234)."


def test_runs_that_differ_in_their_seeds_belong_together():
    recipes = [{"lr": 1, "seed": 0}, {"lr": 2, "seed": 0}, {"lr": 1, "seed": 5}, None, None]
    assert grouped(list("abcde"), recipes) == [[0, 2], [1], [3], [4]]
    assert recipe_difference(recipes[0], recipes[1]) == {"lr": [1, 2]}
    assert recipe_difference(recipes[0], recipes[2]) == {}
    assert recipe_difference(recipes[0], None) is None


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


def test_a_row_is_the_mean_of_what_each_run_says_alone(home: Path):
    row = convscope.compare(["a", "c", "b"], runs=home).summary["runs"][0]
    alone = [convscope.evaluate(name, runs=home).summary for name in ("a", "b")]
    assert row["by_seed"] == [one["top1"] for one in alone]
    for figure in ("top1", "loss", "ece"):
        assert row[figure] == pytest.approx((alone[0][figure] + alone[1][figure]) / 2)
    runs = [Run(home / name) for name in ("a", "b")]
    classifier = runs[0].classifier()
    assert row["parameters"] == sum(map(torch.numel, classifier.network.parameters()))
    assert row["image_size"] == classifier.preprocess.size == 16
    seconds = [
        json.loads(line)["seconds"] for run in runs for line in (run.folder / "timing.jsonl").read_text().splitlines()
    ]
    assert row["training_seconds"] == pytest.approx(sum(seconds))


def test_each_look_at_the_test_images_is_counted(home: Path):
    before = convscope.compare(["b", "c"], runs=home).summary["runs"][0]["test_openings"]
    assert convscope.compare(["b", "c"], runs=home).summary["runs"][0]["test_openings"] == before + 1
    assert convscope.compare(["b", "c"], runs=home, part="val").summary["runs"][0]["test_openings"] == before + 1


def test_a_look_that_was_cut_short_is_the_same_look(home: Path, monkeypatch: pytest.MonkeyPatch):
    def looks() -> list[int]:
        return [len(Run(home / name).openings()) for name in ("b", "c")]

    def cut(*given: Any) -> None:
        raise KeyboardInterrupt

    asked, command = {"compared": ["c", "b"], "runs": home}, "convscope.evaluation.compare_command"
    convscope.compare(**asked)
    told = looks()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(f"{command}.commit_json", cut)  # as a kill before the answer is there
        convscope.compare(**asked)
    assert looks() == [n + 1 for n in told]
    convscope.compare(**asked)
    assert looks() == [n + 1 for n in told]  # the same look
    convscope.compare(**asked, part="val")
    convscope.compare(**asked)
    assert looks() == [n + 2 for n in told]


def test_looks_at_runs_of_one_name_in_different_folders_are_told_apart(home: Path, tmp_path: Path):
    for name in ("one", "two"):
        shutil.copytree(home / "b", tmp_path / name / "b", ignore=shutil.ignore_patterns("openings.jsonl"))
    runs = [Run(tmp_path / name / "b") for name in ("one", "two")]

    def compare(*compared: Run) -> list[int]:
        convscope.compare([*(str(run.folder) for run in compared), "c"], runs=home)
        return [len(run.openings()) for run in runs]

    assert compare(runs[0]) == [1, 0]
    assert compare(runs[0]) == [2, 0]
    assert compare(runs[1]) == [2, 1]  # it writes where the comparison of the other lies
    assert compare(runs[0]) == [3, 1]
    found = Looks(["b", "c"], home / "compare")
    found.log(runs[1], "test", 9)
    assert list(found.taken) == [Path(os.path.relpath(runs[1].folder, home / "compare")).as_posix()]
    moved = runs[0].folder.rename(tmp_path / "b")
    runs[0] = Run(moved)
    assert compare(runs[0])[0] == 4  # it was told of, where it lay then


def test_copies_that_a_run_has_seen_are_counted_and_left_out(home: Path):
    found = convscope.compare(["a", "c"], runs=home, part="train")
    assert found.summary["known_duplicates"] == found.summary["n"]
    assert found.summary["without_duplicates"] is None
    whole = convscope.compare(["a", "c"], runs=home, part="all")
    assert 0 < whole.summary["known_duplicates"] < whole.summary["n"]
    rest = whole.summary["without_duplicates"][0]
    assert rest["n"] == whole.summary["n"] - whole.summary["known_duplicates"]


def test_copies_that_a_run_has_seen_are_counted_alike_by_evaluate(home: Path, capsys: pytest.CaptureFixture[str]):
    """Of the own test images nearly equal ones in training; of data from elsewhere all that it has seen."""
    for name in ("whole", "other"):
        run = convscope.train("digits", name=name, runs=home, **{**TINY, "limit": 1797, "lr": 0.05}).run
    compared = convscope.compare(["whole", "other"], runs=home).summary["known_duplicates"]
    dataset = convscope.load_dataset("digits", image_size=16)
    test, others = (looks(np.asarray(dataset.images[dataset.parts[p]])) for p in ("test", "train"))
    others = np.concatenate([others, looks(np.asarray(dataset.images[dataset.parts["val"]]))])
    wanted = int((near_copies(test, others) >= 0).sum())
    assert convscope.evaluate(run).summary["known_duplicates"] == compared == wanted > 0
    assert convscope.evaluate(run, part="val").summary["known_duplicates"] is None
    cli.run(["evaluate", str(run.folder)])
    assert f"images, {wanted} of which copies, or nearly, were seen in training" in capsys.readouterr().out


def test_runs_on_different_data_are_not_compared(home: Path):
    with pytest.raises(DataError, match="a tells apart 0, 1, 2 and 7 more and shapes tells apart circle, cross, ring"):
        convscope.compare(["a", "shapes"], runs=home)
    held_out = {"data": "shapes", "part": "train", "limit": 20, "runs": home}
    with pytest.raises(DataError, match="a: the classifier does not know the class"):
        convscope.compare(["a", "shapes"], **held_out)
    convscope.train("digits", name="fewer", runs=home, **{**TINY, "limit": 120})
    with pytest.raises(DataError, match="a was trained on digits and fewer on digits, or on other parts of it: name"):
        convscope.compare(["a", "fewer"], runs=home)
    assert convscope.compare(["a", "c"], data="digits", part="val", runs=home).summary["n"] > 0
    with pytest.raises(UsageError, match="two runs or more"):
        convscope.compare(["a"], runs=home)


def test_of_a_network_from_elsewhere_no_recipe_is_told(home: Path, capsys: pytest.CaptureFixture[str]):
    weights = home.parent / "w.safetensors"
    held, _ = convscope.open_classifier("a", home)
    save_file({name: t.contiguous() for name, t in held.network.state_dict().items()}, weights)
    told: dict[str, Any] = {"classes": "digits", "input_size": 16, "mean": (0.5,) * 3, "std": (0.5,) * 3, "width": 4}
    for name in ("one", "two"):
        convscope.adopt("resnet20", weights=weights, name=name, runs=home, **told)
    where = ["--data", "digits", "--limit", "40", "--runs", str(home)]
    assert cli.run(["compare", "one", "two", *where]) == 0
    said = capsys.readouterr().out
    assert "two: its training and that of one are not compared: one was elsewhere, or is a transfer" in said
    assert cli.run(["compare", "a", "c", *where[2:]]) == 0
    assert "a and c were trained with: lr " in capsys.readouterr().out


def test_runs_of_a_name_with_seeds_are_offered_by_it(home: Path):
    with pytest.raises(UsageError, match=r"Did you mean 'x-seed-0' or 'x-seed-1'\?"):
        raise UnknownName("run", "x", ["a", "x-seed-0", "x-seed-1", "x-seed-2"])


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
    with pytest.raises(DataError, match="Name it with `data`"):
        convscope.compare(["s0", "s1"], runs=tmp_path / "runs")
    assert convscope.compare(["s0", "s1"], data=tmp_path / "data", runs=tmp_path / "runs").summary["n"] > 0


def test_a_run_that_is_compared_with_itself_is_told(home: Path):
    found = convscope.compare(["a", str(home / "a")], runs=home).summary
    assert found["notes"][0] == "run 'a' is named twice, and compared with itself."
    assert len({row["training_seconds"] for row in found["runs"]}) == 1
    other = convscope.compare(["a", "c"], runs=home).summary
    assert found["runs"][0]["training_seconds"] == other["runs"][0]["training_seconds"]


def test_runs_of_one_name_have_their_own_seconds(home: Path, tmp_path: Path):
    shutil.copytree(home / "c", tmp_path / "a")
    found = convscope.compare([str(home / "a"), str(tmp_path / "a")], runs=home).summary
    seconds = [sum(row["seconds"] for row in find_run(str(place / "a"), place).timing()) for place in (home, tmp_path)]
    assert [row["training_seconds"] for row in found["runs"]] == pytest.approx(seconds)
    assert [row["name"] for row in found["runs"]] == ["a (1)", "a (2)"]


def test_ways_to_compute_that_were_timed_are_no_other_recipe():
    one = {"lr": 0.1, "seed": 0, "tiles": (("conv2", 4, 4, 4),), "fused": ("norm1",)}
    other = {"lr": 0.1, "seed": 1, "tiles": (), "fused": ()}
    assert grouped(["a", "b"], [one, other]) == [[0, 1]]
    assert recipe_difference(one, other) == {}
