"""Claims as experiments: every claim's plan runs and is fair, results are kept and found again, and trouble is said."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from convscope import storage
from convscope.errors import StorageError, UnknownName
from convscope.storage import read_json
from convscope.studies import running as running_module
from convscope.studies.arms import Setting, Stretch, Training, chosen, trials
from convscope.studies.claim import SIZES
from convscope.studies.claims import overfitting
from convscope.studies.judging import FAILS, HOLDS, OPEN
from convscope.studies.plan import Arm, Plan, StudyData
from convscope.studies.registry import CLAIMS
from convscope.studies.results import Results, Trained, running
from convscope.studies.running import Done, Outcome, run_claim
from convscope.studies.study_data import load_study_data, only_classes, shuffled, some_a_class
from toyclaim import ARMS, CLAIM, PLAN, TASK, narrow

CPU = torch.device("cpu")


def run(plan: Plan, folder: Path, **options: float) -> tuple[list[Done], Outcome]:
    *events, outcome = run_claim(CLAIM, "small", folder, plan=plan, **options)
    assert isinstance(outcome, Outcome)
    return [e for e in events if isinstance(e, Done)], outcome


# ------------------------------------------------------------------------------------------------- the table


@pytest.mark.parametrize("name", CLAIMS)
def test_every_claim_runs_and_says_what_it_found(name: str, tmp_path: Path) -> None:
    claim = CLAIMS[name]
    assert claim.name == name
    plan = claim.plan("small") or replace(claim.plan("medium"), data=StudyData("digits", 16))
    *events, outcome = run_claim(claim, "small", tmp_path, plan=plan.tiny())
    assert len(events) == len(plan.arms)
    assert outcome.verdict in (HOLDS, FAILS, OPEN)
    said = read_json(tmp_path / f"{name}-small.json")
    assert said == json.loads(json.dumps(outcome.to_json(), allow_nan=False))
    assert {"claim", "sentence", "verdict", "words", "quantities", "arms", "seeds", "data", "versions"} <= said.keys()
    assert all(q["quantity"] in said["words"] for q in said["quantities"])
    assert said["quantities"]
    assert said["arms"][0]["trainings"][0]["diverged"] is None


@pytest.mark.parametrize("name", CLAIMS)
def test_an_arm_that_is_lost_decides_nothing(name: str, tmp_path: Path) -> None:
    """Not even what is exact, a number of weights say, where nothing of the arm was measured."""
    claim = CLAIMS[name]
    plan = claim.plan("small") or replace(claim.plan("medium"), data=StudyData("digits", 16))
    *_, outcome = run_claim(claim, "small", tmp_path, plan=plan.tiny())
    assert isinstance(outcome, Outcome)
    assert outcome.results is not None
    for arm, trained in outcome.results.trained.items():
        lost = tuple(
            Trained(arm, t.seed, t.rate, t.steps, 0.0, t.losses, t.parameters, diverged="ran") for t in trained
        )
        judgement = claim.judge(replace(outcome.results, trained={**outcome.results.trained, arm: lost}))
        assert judgement.verdict == OPEN
        known = ("parameters saved",)  # a network has as many parameters as it has
        assert {p.verdict for p in judgement.parts if p.quantity not in known and p.estimate.seeds == 0} <= {OPEN}


@pytest.mark.parametrize("name", CLAIMS)
def test_arms_differ_from_one_another_in_one_thing(name: str) -> None:
    """Each arm can be reached from the first by steps that change one of: network, recipe, images, rates."""
    for size in SIZES:
        plan = CLAIMS[name].plan(size)
        arms = list(plan.arms) if plan else []
        assert len({arm.name for arm in arms}) == len(arms)
        reached = arms[:1]
        for _ in arms:
            reached += [a for a in arms if a not in reached and any(_differences(a, b) == 1 for b in reached)]
        assert len(reached) == len(arms)


def _differences(one: Arm, other: Arm) -> int:
    def how(arm: Arm) -> tuple[object, ...]:
        return arm.model, dict(arm.options), arm.fit

    rest = ("recipe", "change", "rates")
    return (how(one) != how(other)) + sum(getattr(one, field) != getattr(other, field) for field in rest)


@pytest.mark.parametrize("name", CLAIMS)
def test_what_a_claim_says_of_itself(name: str) -> None:
    claim = CLAIMS[name]
    assert set(claim.to_json()) == {"name", "sentence", "size_minutes", "needs"}
    assert set(claim.minutes) == set(SIZES)
    for size in SIZES:
        plan = claim.plan(size)
        assert plan is None or plan.data.data in (claim.needs if size == "small" else ("cifar10",))
        assert plan is None or len({len(a.rates or plan.rates) for a in plan.arms} - {1}) <= 1
    with pytest.raises(UnknownName):
        claim.plan("huge")


def test_all_claims_at_size_small_stay_within_their_budget() -> None:
    assert sum(claim.minutes["small"] for claim in CLAIMS.values()) <= 40


# ------------------------------------------------------------------------------------------------- running


def test_every_arm_sees_the_same_images_in_the_same_order(tmp_path: Path) -> None:
    place = Setting(PLAN, load_study_data(TASK), tmp_path, CPU)
    one, other = (Training(place, arm, 1, 0.01, 6) for arm in ARMS)
    assert one.recipe == other.recipe
    assert one.data is other.data
    assert one.key != other.key
    assert one.key == Training(place, replace(ARMS[0], name="another name"), 1, 0.01, 6).key
    assert one.key != Training(place, ARMS[0], 1, 0.02, 6).key
    assert one.key != Training(place, ARMS[0], 2, 0.01, 6).key
    assert one.key != Training(place, ARMS[0], 1, 0.01, 7).key
    assert one.key != Training(place, replace(ARMS[0], change=shuffled), 1, 0.01, 6).key
    assert one.key != Training(place, replace(ARMS[0], recipe={"augment": "light"}), 1, 0.01, 6).key


def test_the_rate_is_chosen_with_a_seed_that_is_not_judged(tmp_path: Path) -> None:
    events, outcome = run(PLAN, tmp_path)
    tried = [e for e in events if e.trial]
    assert [(e.trained.arm, e.trained.seed, e.trained.rate, e.trained.steps) for e in tried] == [
        (arm, 0, rate, 3) for arm in ("narrow", "wide") for rate in (0.01, 0.1)
    ]
    assert [e.trained.seed for e in events if not e.trial] == [1, 1, 2, 2, 3, 3]
    assert [e.done for e in events] == list(range(1, 11))
    assert {e.total for e in events} == {10}
    assert outcome.results is not None
    for name, several in outcome.results.trained.items():
        assert {t.rate for t in several} == {chosen(outcome.results.trials[name])}
        assert all(len(t.losses) == 6 and len(t.test) == 48 for t in several)


def test_the_best_validated_rate_is_chosen() -> None:
    def tried(rate: float, right: int, loss: float, diverged: str | None = None, seed: int = 0) -> Trained:
        val = torch.arange(4) < right
        return Trained("a", seed, rate, 1, 0.0, torch.zeros(1), val_loss=loss, val=val, diverged=diverged)

    assert chosen((tried(0.1, 3, 1.0), tried(0.2, 4, 2.0), tried(0.3, 4, 1.0))) == 0.3
    assert chosen((tried(0.1, 1, 1.0), tried(0.2, 4, 0.0, "ran away"))) == 0.1
    assert chosen((tried(0.2, 0, 0.0, "ran away"), tried(0.1, 0, 0.0, "ran away"))) == 0.1
    lucky, steady = (tried(0.1, 4, 0.5), tried(0.1, 1, 0.5, seed=7)), (tried(0.2, 3, 1.0), tried(0.2, 3, 1.0, seed=7))
    assert chosen((*lucky, *steady)) == 0.2
    assert chosen((*lucky, tried(0.2, 4, 0.0), tried(0.2, 4, 0.0, "ran away", 7))) == 0.1


@pytest.mark.parametrize("name", sorted(CLAIMS))
def test_no_seed_that_chooses_a_rate_is_judged(name: str) -> None:
    for size in SIZES:
        plan = CLAIMS[name].plan(size)
        if plan is not None:
            assert len(plan.trial_seeds) == 3
            assert not set(plan.trial_seeds) & set(plan.seeds)


def test_each_rate_is_tried_with_each_seed_that_chooses(tmp_path: Path) -> None:
    events, outcome = run(replace(PLAN, trial_seeds=(0, 101)), tmp_path)
    tried = [(e.trained.seed, e.trained.rate) for e in events if e.trial and e.trained.arm == "wide"]
    assert tried == [(0, 0.01), (0, 0.1), (101, 0.01), (101, 0.1)]
    assert outcome.to_json()["plan"]["trial_seeds"] == [0, 101]


def test_a_result_is_found_again_to_the_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, first = run(PLAN, tmp_path)
    monkeypatch.setattr(Training, "_train", lambda self: pytest.fail("trained again"))
    _, second = run(PLAN, tmp_path)
    one, other = first.to_json(), second.to_json()
    assert one.pop("seconds") != other.pop("seconds")
    assert one == other


def test_a_study_without_the_folder_gives_the_same_figures(tmp_path: Path) -> None:
    (_, one), (_, other) = run(PLAN, tmp_path / "a"), run(PLAN, tmp_path / "b")
    assert one.to_json()["words"] == other.to_json()["words"]
    assert one.results is not None
    assert other.results is not None
    for name in ("narrow", "wide"):
        for a, b in zip(one.results.trained[name], other.results.trained[name], strict=True):
            assert torch.equal(a.losses, b.losses)


def test_stopping_loses_nothing_that_was_done(tmp_path: Path) -> None:
    events = run_claim(CLAIM, "small", tmp_path, plan=PLAN)
    for _ in range(6):
        next(events)
    events.close()
    kept = sorted((tmp_path / "trainings").iterdir())
    assert len(kept) == 6
    before = [path.stat().st_mtime_ns for path in kept]
    run(PLAN, tmp_path)
    assert [path.stat().st_mtime_ns for path in kept] == before
    assert len(list((tmp_path / "trainings").iterdir())) == 10


def test_a_run_that_is_cut_short_leaves_a_whole_outcome_alone(tmp_path: Path) -> None:
    run(PLAN, tmp_path)
    path = tmp_path / f"{CLAIM.name}-small.json"
    before = path.read_bytes()
    for kept in (tmp_path / "trainings").iterdir():
        kept.unlink()
    _, cut = run(PLAN, tmp_path, minutes=0.0)
    assert cut.interrupted
    assert path.read_bytes() == before
    path.write_text("{")
    run(PLAN, tmp_path, minutes=0.0)
    assert json.loads(path.read_text())["interrupted"]


def test_images_that_a_mirror_changes_are_never_mirrored(tmp_path: Path) -> None:
    plan = replace(PLAN, recipe={**PLAN.recipe, "augment": "standard"})
    for name, flip in (("shapes", "alternating"), ("digits", "none")):
        task = StudyData(name, 16, train=60, val=20, test=40)
        place = Setting(replace(plan, data=task), load_study_data(task), tmp_path, CPU)
        assert Training(place, plan.arms[0], 1, 0.1, 2).recipe.augment.flip == flip


def test_a_trial_is_not_measured_and_shared_by_claims_that_measure_otherwise(tmp_path: Path) -> None:
    one, other = (replace(PLAN, measure=m) for m in (None, overfitting.measure))
    places = [Setting(p, load_study_data(p.data), tmp_path, CPU) for p in (one, other)]
    keys = [[t.key for t in trials(place, PLAN.arms[0])] for place in places]
    assert keys[0] == keys[1]
    assert len({Training(place, PLAN.arms[0], 1, 0.1, 2).key for place in places}) == 2
    assert not trials(places[0], PLAN.arms[0])[0].result().measured


def test_a_damaged_result_is_made_again(tmp_path: Path) -> None:
    _, first = run(PLAN, tmp_path)
    for path in (tmp_path / "trainings").iterdir():
        path.write_bytes(path.read_bytes()[:-7])
    _, second = run(PLAN, tmp_path)
    assert first.judgement == second.judgement


def test_a_budget_that_is_used_up_is_said(tmp_path: Path) -> None:
    events, outcome = run(PLAN, tmp_path, minutes=0.0)
    assert (events, outcome.verdict, outcome.interrupted) == ([], OPEN, True)
    assert "3 of 3 trainings were not made: interrupted." in outcome.judgement.sentence()


def test_what_an_interruption_leaves_is_paired_and_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count()
    monkeypatch.setattr(running_module, "time", SimpleNamespace(perf_counter=lambda: float(next(clock))))
    events, outcome = run(PLAN, tmp_path, minutes=8.5 / 60)  # the clock is read before each training
    assert [e.trained.seed for e in events] == [0, 0, 0, 0, 1, 1, 2, 2]
    assert outcome.interrupted
    assert outcome.judgement.parts[0].estimate.seeds == 2
    assert "wide: 1 of 3 trainings were not made: interrupted." in outcome.judgement.notes


def test_a_full_disk_passes_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, _data: bytes) -> None:
        raise StorageError(f"cannot write {path}: the disk is full.")

    monkeypatch.setattr(storage, "commit_bytes", full)
    with pytest.raises(StorageError, match="full"):
        list(run_claim(CLAIM, "small", tmp_path, plan=PLAN))


def test_an_arm_that_diverges_is_a_result(tmp_path: Path) -> None:
    wild = Arm("wide", narrow, {"width": 4}, rates=(1e6,))
    plan = replace(PLAN, arms=(ARMS[0], wild), steps=40)
    _, outcome = run(plan, tmp_path)
    assert outcome.verdict == OPEN
    assert "wide: 3 of 3 trainings diverged; no mean holds a figure of theirs." in outcome.judgement.sentence()
    _, again = run(plan, tmp_path)  # read this time
    assert again.to_json()["words"] == outcome.to_json()["words"]
    assert all("loss became" in t["diverged"] for t in again.to_json()["arms"][1]["trainings"])


def test_a_size_without_data_leaves_the_claim_open(tmp_path: Path) -> None:
    (outcome,) = run_claim(CLAIMS["alexnet-75"], "small", tmp_path)
    assert isinstance(outcome, Outcome)
    assert outcome.verdict == OPEN
    assert "cifar10" in outcome.judgement.sentence()
    json.dumps(outcome.to_json(), allow_nan=False)


def test_a_rate_at_the_edge_is_said(tmp_path: Path) -> None:
    _, outcome = run(PLAN, tmp_path)  # of two rates either is at the edge
    assert outcome.judgement.notes[-1].startswith("At the edge of the rates to choose from: narrow (")
    assert run(replace(PLAN, rates=(0.01,)), tmp_path)[1].judgement.notes == ()


def test_one_rate_needs_no_trial(tmp_path: Path) -> None:
    plan = replace(PLAN, rates=(0.01,))
    assert trials(Setting(plan, load_study_data(TASK), tmp_path, CPU), ARMS[0]) == []


# ---------------------------------------------------------------------------------------- images and figures


def test_the_parts_of_a_task_are_disjoint_and_as_large_as_asked() -> None:
    data = load_study_data(TASK)
    assert [len(data.parts[p]) for p in ("train", "val", "test")] == [48, 24, 48]
    assert len(np.unique(data.keys)) == len(np.unique(np.concatenate(list(data.parts.values())))) == 120
    digits = load_study_data(StudyData("digits", 16, train=100, val=50))
    keys = {part: set(digits.keys[index].tolist()) for part, index in digits.parts.items()}
    assert not keys["train"] & keys["test"]
    assert not keys["val"] & keys["test"]
    assert len(digits.parts["test"]) > 1_600


def test_changes_are_what_they_say_and_change_the_fingerprint() -> None:
    data = load_study_data(TASK)
    mixed = shuffled(data, 1)
    sides = (data.images[3].reshape(-1, 3), mixed.images[3].reshape(-1, 3))
    assert not np.array_equal(*sides)
    assert np.array_equal(*(np.sort(s.view("u1,u1,u1").reshape(-1)) for s in map(np.ascontiguousarray, sides)))
    few = some_a_class(data, 1, 2)
    assert np.bincount(data.labels[few.parts["train"]]).tolist() == [2] * 6
    two = only_classes(data, (4, 1))
    index = two.parts["test"]
    assert set(data.labels[index].tolist()) == {1, 4}
    assert ((two.labels[index] == 0) == (data.labels[index] == 4)).all()
    assert len({d.fingerprint for d in (data, mixed, few, two, some_a_class(data, 2, 2))}) == 5


def test_a_stretch_is_the_epochs_one_after_the_other(tmp_path: Path) -> None:
    from convscope.training.batches import Batches

    data = load_study_data(TASK)
    training = Training(Setting(PLAN, data, tmp_path, CPU), ARMS[0], 1, 0.01, 6)
    batches = Batches(data, data.subset("train"), 16, 1, training.recipe.augment, CPU)
    wanted = [b.index.tolist() for e in range(3) for b in batches.epoch(e)][:7]
    assert [b.index.tolist() for b in Stretch(batches, 7).epoch(0)] == wanted
    assert [b.index.tolist() for b in Stretch(batches, 7).epoch(0, 4)] == wanted[4:]


def test_what_was_measured_is_told_by_arm() -> None:
    def trained(seed: int) -> Trained:
        measured = {
            "right": torch.tensor([True, False, True, True]),
            "scalar": torch.tensor(float(seed)),
            "by layer": torch.tensor([1.0, seed]),
            "long": torch.full((500,), float(seed)),
        }
        return Trained("a", seed, 0.1, 1, 0.0, torch.zeros(1), measured=measured)

    results = Results(replace(PLAN, arms=(Arm("a"),), seeds=(1, 3)), {"a": (trained(1), trained(3))}, {}, 2)
    assert results.measured("a") == {"right": 0.75, "scalar": 2.0, "by layer": [1.0, 2.0], "long": 2.0}
    assert results.measured("b") == {}
    assert results.scalar("a", "scalar") == {1: 1.0, 3: 3.0}


def test_running_and_sooner_on_paper() -> None:
    assert running(torch.tensor([4.0, 2.0, 0.0])).tolist() == [4.0, 3.0, 2.0]
    fast = torch.cat([torch.ones(40), torch.zeros(160)])
    slow = torch.cat([torch.ones(80), torch.zeros(120)])
    plan = replace(PLAN, arms=(Arm("fast"), Arm("slow")), seeds=(1, 2))
    trained = {
        name: tuple(Trained(name, s, 0.1, 200, 0.0, losses) for s in (1, 2))
        for name, losses in (("fast", fast), ("slow", slow))
    }
    results = Results(plan, trained, {}, 2)
    assert results.sooner("fast", "slow").value == pytest.approx(np.log2(100 / 60), abs=0.05)
    assert results.sooner("slow", "fast").value == -results.sooner("fast", "slow").value
    curve = results.curve("fast")
    assert (curve[0]["loss"], curve[-1]["loss"], curve[-1]["step"]) == (1.0, 0.0, 200)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
