"""A curve alone: what happened at which step, from lists, CSV, JSON lines and events, with gaps and told twice."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import convscope
from convscope.diagnosis.curve_files import read_curve
from convscope.diagnosis.curves import Curve, from_losses, levels, read_course
from convscope.diagnosis.evidence import collect_curve
from convscope.diagnosis.verdict import HEALTHY, judge
from convscope.errors import ConvscopeError, DataError, UsageError
from following import ask


def falling(count: int = 200, noise: float = 0.1, seed: int = 0) -> np.ndarray:
    """Losses of a training that learns: 2.3 down to 0.1, with noise in proportion."""
    draw = np.random.default_rng(seed)
    return (0.1 + 2.2 * np.exp(-np.arange(count) / (count / 6))) * np.exp(noise * draw.standard_normal(count))


def said(losses: object, **others: np.ndarray) -> tuple[str, str, float]:
    """The first fault of a curve, its sentence, and the step that it names."""
    curve = Curve(np.asarray(losses, np.float64), others)
    verdict = judge(collect_curve(curve))
    if not verdict.findings:
        return HEALTHY, "", math.nan
    evidence = verdict.evidence
    steps = {"ran-away": evidence.ran_from, "schedule-ended": evidence.idle_from, "odd-batch": evidence.odd_step}
    return verdict.fault, verdict.findings[0].sentence, steps.get(verdict.fault, math.nan)


@settings(max_examples=60, deadline=None)
@given(st.integers(40, 400), st.floats(0.0, 0.3), st.integers(0, 10**6))
def test_a_curve_that_falls_is_healthy(count: int, noise: float, seed: int):
    assert said(falling(count, noise, seed))[0] == HEALTHY


@settings(max_examples=40, deadline=None)
@given(st.integers(60, 150), st.floats(0.0, 0.2), st.integers(0, 10**6))
def test_the_step_from_which_it_ran_away_is_named(step: int, noise: float, seed: int):
    losses = falling(200, noise, seed)
    losses[step:] = 2.0 + 0.1 * np.random.default_rng(seed).standard_normal(200 - step)
    fault, sentence, found = said(losses)
    assert fault == "ran-away"
    assert abs(found - step) <= 3
    assert "it was learning until step" in sentence


def test_what_changed_where_it_ran_away_is_told():
    losses = falling()
    losses[100:] = 2.0
    fault, sentence, step = said(losses, rate=np.where(np.arange(200) < 100, 0.1, 1.5))
    assert (fault, step) == ("ran-away", 100)
    assert "the rate grew x15 there, seen at step 100" in sentence


def test_it_ran_away_to_what_is_no_number():
    losses = falling()
    losses[120:] = math.inf
    fault, sentence, step = said(losses)
    assert (fault, step) == ("ran-away", 120)
    assert "to what is no number" in sentence


def test_one_that_runs_away_at_once_has_another_fault():
    losses = [2.3, 9.0, 80.0, *[math.inf] * 3]
    assert said(losses)[0] == "rate-too-high"


@settings(max_examples=40, deadline=None)
@given(st.integers(60, 180), st.integers(0, 10**6))
def test_one_odd_step_is_named(step: int, seed: int):
    losses = falling(200, 0.1, seed)
    losses[step] += 12
    assert said(losses)[::2] == ("odd-batch", step)


def test_a_schedule_that_ended_is_seen_in_its_rates():
    rates = np.where(np.arange(200) < 60, 0.1, 0.0)
    fault, sentence, step = said(falling(), rate=rates)
    assert (fault, step) == ("schedule-ended", 60)
    assert "the schedule ended at step 60 of 200: after that the rate was next to 0" in sentence


@pytest.mark.parametrize("shape", ["cosine", "linear", "steps", "one-cycle"])
def test_a_schedule_that_ends_with_the_training_is_sound(shape: str):
    done = np.arange(200) / 200
    rates = {
        "cosine": 0.5 + 0.5 * np.cos(math.pi * done),
        "linear": 1 - done,
        "steps": 0.1 ** np.floor(3 * done),
        "one-cycle": np.where(done < 0.3, done / 0.3, (1 - done) / 0.7),
    }[shape]
    assert said(falling(), rate=rates)[0] == HEALTHY


def test_a_curve_that_stands_still_and_one_that_swings():
    draw = np.random.default_rng(0)
    assert said(2.3 + 0.05 * draw.standard_normal(200))[0] == "plateau"
    swing = 2.3 + np.linspace(0.02, 3.0, 200) * np.where(np.arange(200) % 2, 1, -0.3)
    assert said(swing)[0] == "rate-too-high"


def test_gaps_what_was_not_told_and_few_steps_are_borne():
    losses = falling()
    losses[::3] = np.nan
    assert said(losses)[0] == HEALTHY
    for few in ([], [2.3], [math.nan], [math.inf], [2.3, 2.2, 2.1], [None, None]):
        judge(collect_curve(from_losses(few)))
    assert read_course(from_losses([]), 2.3) == ({}, {})


def test_the_level_is_the_median_of_five():
    losses = np.random.default_rng(0).random(30)
    for place in range(2, 28):
        assert levels(losses)[place] == np.median(losses[place - 2 : place + 3])


# ------------------------------------------------------------------------------------------------------ from elsewhere


def rows(step: str, loss: str, rate: str) -> list[dict[str, float]]:
    return [{step: n, loss: x, rate: 0.1} for n, x in enumerate(falling(60))]


@pytest.mark.parametrize(
    "names",
    [("step", "loss", "lr"), ("global_step", "train/loss", "learning_rate"), ("_step", "Train Loss", "train/lr"),
     ("iteration", "train_loss_step", "lr-SGD"), ("epoch", "training_loss", "rate")],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "json"])
def test_what_loggers_call_a_column_is_known(names: tuple[str, str, str], kind: str, tmp_path: Path):
    path, table = tmp_path / f"log.{kind}", rows(*names)
    mark = "\t" if kind == "tsv" else ","
    text = {
        "jsonl": "\n".join(json.dumps(row) for row in table),
        "json": json.dumps({"log_history": table, "epoch": 3}),
    }.get(kind) or "\n".join(mark.join(map(str, line)) for line in [names, *(row.values() for row in table)])
    path.write_text(text)
    found = read_curve(str(path))
    np.testing.assert_allclose(found.losses, falling(60))
    np.testing.assert_allclose(found.of("rate"), 0.1)


def test_a_training_that_went_on_tells_some_steps_twice_and_the_later_counts(tmp_path: Path):
    path = tmp_path / "log.csv"
    path.write_text("step,loss,val_loss\n0,2.3,\n10,2.0,\n20,9,\n10,1.9,\n20,1.8,2.0\n30,nan,\n40,,1.0\n")
    found = read_curve(str(path))
    assert found.steps is not None
    assert found.steps.tolist() == [0, 10, 20, 30]
    assert found.losses.tolist() == [2.3, 1.9, 1.8, math.inf]


@pytest.mark.parametrize(
    ("name", "text", "error"),
    [
        ("a.csv", "step,accuracy\n1,0.5\n", "no column of training losses"),
        ("a.csv", "", "is empty"),
        ("a.csv", "step,loss\n1,\n2,\n", "no numbers"),
        ("a.json", "{", "cannot be read"),
        ("a.json", '[{"acc": 1}]', "no column"),
        ("a.jsonl", "{}\nx\n", "cannot be read"),
        ("a.csv", "loss\n\x00\n", "no numbers|cannot be read|no column"),
    ],
)
def test_what_is_no_curve_is_told_in_a_sentence(name: str, text: str, error: str, tmp_path: Path):
    (tmp_path / name).write_text(text)
    with pytest.raises((UsageError, DataError), match=error):
        read_curve(str(tmp_path / name))


def test_bytes_that_are_no_text_are_told_in_a_sentence(tmp_path: Path):
    (tmp_path / "a.csv").write_bytes(bytes(range(128, 256)))
    with pytest.raises(ConvscopeError, match="cannot be read"):
        read_curve(str(tmp_path / "a.csv"))


def test_events_of_tensorboard_are_read_by_its_reader(tmp_path: Path):
    pytest.importorskip("tensorboard")
    script = (
        "import sys\nfrom torch.utils.tensorboard import SummaryWriter\n"
        "with SummaryWriter(sys.argv[1]) as out:\n"
        "    for n in range(60):\n"
        "        out.add_scalar('train/loss', 2.3 * 0.95**n, n)\n        out.add_scalar('lr', 0.1, n)\n"
        "        out.add_scalar('val/loss', 1.0, n)\n    out.add_text('note', 'hello', 3)\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", script, str(tmp_path / "events")], check=True)
    found = read_curve(str(tmp_path / "events"))
    np.testing.assert_allclose(found.losses, 2.3 * 0.95 ** np.arange(60), rtol=1e-6)
    np.testing.assert_allclose(found.of("rate"), 0.1, rtol=1e-6)
    (file,) = (tmp_path / "events").iterdir()
    np.testing.assert_array_equal(read_curve(str(file)).losses, found.losses)
    file.write_bytes(file.read_bytes()[:200] + b"\x00" * 40)
    try:
        broken = read_curve(str(file)).losses
    except ConvscopeError:
        return
    np.testing.assert_array_equal(broken, found.losses[: len(broken)])  # what was written before it broke off


def test_without_the_reader_of_events_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "events.out.tfevents.1").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "tensorboard.backend.event_processing.event_file_loader", None)
    with pytest.raises(UsageError, match=r"pip install convscope\[tensorboard\]"):
        read_curve(str(tmp_path / "events.out.tfevents.1"))


# ------------------------------------------------------------------------------------------------- as they are asked


def test_a_list_of_losses_is_diagnosed(tmp_path: Path):
    losses = falling()
    losses[100:] = 2.0
    for given_ in (losses.tolist(), losses, tuple(losses)):
        found = convscope.diagnose(given_, runs=tmp_path)
        assert found.verdict.fault == "ran-away"
    assert found.losses is not None
    assert "optimizer.param_groups" in found.fix()
    assert (tmp_path / "losses" / "diagnose" / "losses.png").exists()
    assert "ran-away" in (tmp_path / "losses" / "diagnose" / "index.html").read_text()


def test_a_csv_is_diagnosed_and_its_fix_printed(tmp_path: Path):
    losses = falling()
    losses[100:] = 2.0
    path = tmp_path / "log.csv"
    path.write_text("step,loss\n" + "\n".join(f"{n},{x}" for n, x in enumerate(losses)))
    answer = ask("diagnose", str(path), "--runs", str(tmp_path / "runs"), "--fix")
    assert answer.code == 0
    assert "ran-away: it was learning until step 100" in answer.out
    assert "seen by the told losses, at step 100. To test the next step:" in answer.out
    assert 'group["lr"] /= 3' in answer.out
    assert path.read_text().startswith("step,loss")


def test_losses_that_were_told_go_with_a_network(tmp_path: Path):
    import torch
    from torch import nn

    torch.manual_seed(0)
    network = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, 10))
    losses = falling()
    losses[100:] = 2.0
    start = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, 10))
    found = convscope.diagnose(network, "digits", start=start, losses=losses.tolist(), runs=tmp_path)
    assert "ran-away" in [finding.fault for finding in found.verdict.findings]
    assert found.summary["evidence"]["ran_from"] == 100
