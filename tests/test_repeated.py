"""The same training with other seeds or on other folds, and what several say together."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

import convscope
from convscope import cli
from convscope.classifying.intervals import over_seeds, wilson
from convscope.datasets.registry import load_dataset
from convscope.errors import DataError, LockedError, UsageError
from convscope.training import cli as training_cli
from convscope.training.runs import find_run

TINY: dict[str, Any] = {"model": "resnet20", "width": 4, "image_size": 16, "epochs": 1, "limit": 200}


def test_seeds_give_the_mean_and_the_spread(tmp_path: Path) -> None:
    made = convscope.train_repeatedly("digits", name="d", runs=tmp_path, seeds=3, seed=5, **TINY)
    assert [one.run.name for one in made.reports] == ["d-seed-5", "d-seed-6", "d-seed-7"]
    assert [one.run.recipe().loop.seed for one in made.reports] == [5, 6, 7]
    values = [one.summary["val_top1"] for one in made.reports]
    assert made.summary["val_top1"] == pytest.approx(np.mean(values))
    assert made.summary["spread"] == pytest.approx(np.std(values, ddof=1))
    assert made.summary["val_n"] == made.reports[0].summary["val_n"]
    written = json.loads((tmp_path / "d-seeds.json").read_text())
    assert written["values"] == values
    assert (
        convscope.train("digits", name="single", runs=tmp_path, seed=6, **TINY).run.log() == made.reports[1].run.log()
    )


def test_folds_ask_every_image_once(tmp_path: Path) -> None:
    made = convscope.train_repeatedly("digits", name="d", runs=tmp_path, folds=3, **TINY)
    plain = load_dataset("digits", image_size=16, limit=200)
    pool = np.union1d(plain.parts["train"], plain.parts["val"])
    asked = []
    for number, one in enumerate(made.reports, 1):
        assert one.run.recipe().data.fold == f"{number}/3"
        data = load_dataset("digits", image_size=16, limit=200, fold=f"{number}/3")
        assert not np.intersect1d(data.parts["train"], data.parts["val"]).size
        assert np.array_equal(np.union1d(data.parts["train"], data.parts["val"]), pool)
        assert np.array_equal(data.parts["test"], plain.parts["test"])
        mean = data.images[data.parts["train"]].mean((0, 1, 2)) / 255
        assert data.preprocess.mean == pytest.approx(mean.tolist(), abs=1e-6)
        asked += data.parts["val"].tolist()
    assert sorted(asked) == pool.tolist()
    right = sum(round(one.summary["val_top1"] * one.summary["val_n"]) for one in made.reports)
    whole = wilson(right, len(pool))
    assert (made.summary["val_top1"], made.summary["val_low"]) == (whole.value, whole.low)
    convscope.evaluate(made.reports[1].run)  # its own data are found with its own fold
    assert convscope.evaluate(made.reports[1].run, part="val").summary["top1"] == made.reports[1].summary["val_top1"]


def test_groups_and_copies_are_in_one_fold() -> None:
    labels = np.repeat([0, 1], 60)
    sides = np.arange(120, dtype=np.uint64) // np.uint64(4)
    from convscope.datasets.splits import Split, folded

    nothing = np.zeros(0, np.int64)
    split = Split({"train": np.arange(100), "val": np.arange(100, 120), "test": nothing}, ())
    for number in range(1, 6):
        parts = folded(split, labels, sides, f"{number}/5").parts
        assert not np.intersect1d(sides[parts["train"]], sides[parts["val"]]).size
        assert 16 <= len(parts["val"]) <= 32
        assert abs(labels[parts["val"]].mean() - 0.5) < 0.2


def test_what_was_stopped_goes_on_by_the_common_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = "--model resnet20 --width 4 --image-size 16 --epochs 1 --limit 200".split()
    command = ["train", "digits", *options, "--name", "d", "--seeds", "3", "--runs", str(tmp_path), "--json"]
    convscope.train("digits", name="d-seed-0", runs=tmp_path, seed=0, **TINY)
    before = (tmp_path / "d-seed-0" / "log.jsonl").read_bytes()
    assert cli.run(command) == LockedError.exit_code  # the first is there already
    capsys.readouterr()
    assert cli.run([*command, "--resume"]) == 0
    *_, last = map(json.loads, capsys.readouterr().out.splitlines())
    assert [Path(run).name for run in last["runs"]] == ["d-seed-0", "d-seed-1", "d-seed-2"]
    assert (tmp_path / "d-seed-0" / "log.jsonl").read_bytes() == before
    assert find_run("d-seed-2", tmp_path).recipe().loop.seed == 2


def test_the_bar_tells_how_far_all_of_them_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, int, int]] = []
    monkeypatch.setattr(training_cli, "progress_bar", lambda json: nullcontext(lambda *at: told.append(at)))
    options = "--model resnet20 --width 4 --image-size 16 --epochs 2 --limit 200 --batch-size 32".split()
    assert cli.run(["train", "digits", *options, "--seeds", "2", "--runs", str(tmp_path)]) == 0
    steps = [(done, total) for what, done, total in told if what.startswith("2 trainings of 2 epochs, number ")]
    assert [done for done, _ in steps] == list(range(1, len(steps) + 1))
    assert {total for _, total in steps} == {len(steps)}
    told.clear()
    assert cli.run(["train", "digits", *options, "--patience", "9", "--runs", str(tmp_path)]) == 0
    assert told[-1] == (told[-1][0], len(steps) // 2, len(steps) // 2)
    assert told[-1][0].startswith("training up to 2 epochs, epoch 2, loss ")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"seeds": 1}, "no number of trainings"),
        ({"folds": 100}, "no number of trainings"),
        ({"seeds": 2, "folds": 2}, "choose one"),
        ({"folds": 2, "fold": "1/3"}, "leave out `fold`"),
        ({"seeds": 2, "resume": True}, "`name` NAME `seeds` 2"),
        ({"fold": "3/2"}, "no fold"),
        ({"fold": "1/1"}, "no fold"),
        ({"fold": "two"}, "fold"),
        ({"folds": 99, "limit": 30}, "need as many different images"),
    ],
)
def test_what_cannot_be_repeated_is_told(tmp_path: Path, options: dict[str, Any], match: str) -> None:
    train = convscope.train_repeatedly if "seeds" in options or "folds" in options else convscope.train
    with pytest.raises(UsageError, match=match):
        train("digits", runs=tmp_path, **{**TINY, **options})


def test_how_many_trainings_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="how many trainings, and of what: `seeds` or `folds` says it"):
        convscope.train_repeatedly("digits", runs=tmp_path, **TINY)
    assert len(convscope.train_repeatedly("digits", runs=tmp_path, seeds=2, **TINY).summary["runs"]) == 2


def test_one_training_takes_no_seeds(tmp_path: Path) -> None:
    for train in (convscope.prepare_training, convscope.train):
        with pytest.raises(UsageError, match="train_repeatedly takes seeds and folds"):
            train("digits", runs=tmp_path, seeds=2, **TINY)


def test_the_interval_over_seeds_is_welchs_with_the_images() -> None:
    values, n = [0.81, 0.84, 0.86, 0.83], 500
    found = over_seeds(values, n)
    mean, seeds = np.mean(values), np.var(values, ddof=1) / 4
    images = mean * (1 - mean) / n
    freedom = (seeds + images) ** 2 / (seeds**2 / 3 + images**2 / (n - 1))
    low, high = stats.t.interval(0.95, freedom, mean, np.sqrt(seeds + images))
    assert (found.low, found.high) == pytest.approx((low, high))
    assert (found.value, found.n, found.method, found.confidence) == (mean, 500, "t", 0.95)
    for values, n in (([0.5], 10), ([0.5, 0.6], 0)):
        with pytest.raises(DataError, match=r"^a spread between seeds needs two trainings or more, on images\.$"):
            over_seeds(values, n)
    for value in (0.0, 1.0):  # that all are right is no certainty
        assert over_seeds([value, value], 10) == wilson(round(10 * value), 10)


@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_the_interval_over_seeds_of_a_few_images_stays_between_none_and_all(n: int) -> None:
    for values in ([0.0, 1.0], [0.02, 0.04], [0.96, 0.98]):
        mean, seeds = np.mean(values), np.var(values, ddof=1) / 2
        images = mean * (1 - mean) / n
        freedom = (seeds + images) ** 2 / (seeds**2 + images**2 / max(1, n - 1))
        low, high = stats.t.interval(0.95, freedom, mean, np.sqrt(seeds + images))
        found = over_seeds(values, n)
        assert (found.low, found.high) == pytest.approx((max(0.0, low), min(1.0, high)))


def test_the_interval_over_seeds_holds_the_truth() -> None:
    """Of networks that miss some images all, and others each by itself, in at least 93 of 100 tries."""
    random = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        hard = random.random(300) < 0.2
        runs = [random.random(300) < np.where(hard, 0.3, 0.95) + random.normal(0, 0.01) for _ in range(5)]
        found = over_seeds([float(right.mean()) for right in runs], 300)
        held += found.low <= 0.2 * 0.3 + 0.8 * 0.95 <= found.high
    assert held >= 372
