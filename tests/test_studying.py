"""The command `study`: what it prints and writes, how it goes on after a stop, and what it says to bad input."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import convscope
from convscope import cli, storage
from convscope.errors import UnknownName, UsageError
from convscope.studies.arms import Training
from convscope.studies.command import study_events
from convscope.studies.judging import VERDICTS
from convscope.studies.options import StudyOptions
from convscope.studies.registry import CLAIMS
from convscope.studies.report import draw_places
from convscope.studies.running import Outcome
from toyclaim import ARMS, CLAIM, PLAN

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """One more claim in the table."""
    monkeypatch.setitem(CLAIMS, "toy", CLAIM)


def said(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> tuple[str, str]:
    assert cli.run(["study", *words]) == code
    printed = capsys.readouterr()
    return printed.out, printed.err


def test_the_list_of_claims(capsys: pytest.CaptureFixture[str]) -> None:
    listed = json.loads(said(capsys, "--list", "--json")[0])
    assert [row["name"] for row in listed] == list(CLAIMS)
    assert all(row.keys() == {"name", "sentence", "size_minutes", "needs"} for row in listed)
    words = said(capsys, "--list", "toy", "--size", "medium")[0]
    assert "Wide is better." in words
    assert "2 min  cifar10" in words
    assert words.splitlines()[-1] == "1 claim at size medium: about 2 minutes on two cores"


def test_a_verdict_is_printed_with_its_numbers_and_the_page_stands_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, _ = said(capsys, "toy", "alexnet-75", "--html", "--runs", str(tmp_path))
    assert re.search(r"^toy: (holds|does not hold|inconclusive)$", out, re.M)
    assert re.search(r"accuracy gained by width: .* \[.*\] points; wanted above 0", out)
    assert "alexnet-75: inconclusive\n    Size small has no data" in out
    page = (tmp_path / "study" / "study-small.html").read_text(encoding="utf-8")
    assert out.endswith(f"written: {tmp_path / 'study' / 'study-small.html'}\n")
    outcome = json.loads((tmp_path / "study" / "toy-small.json").read_text())
    for word in (
        CLAIM.sentence,
        outcome["data"]["fingerprint"][:16],
        outcome["versions"]["torch"],
        outcome["quantities"][0]["told"],
        "seeds 1, 2, 3",
        "convscope study alexnet-75 toy --size small --html",
        *(arm.name for arm in ARMS),
    ):
        assert word in page
    assert page.count("data:image/png") == 1
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", page)
    assert str(tmp_path) not in page


def test_a_study_from_python(tmp_path: Path) -> None:
    moved: list[tuple[str, int, int]] = []
    report = convscope.study(["toy"], runs=tmp_path, progress=lambda *where: moved.append(where))
    first, last = study_events(["toy"], StudyOptions(runs=tmp_path))
    assert isinstance(first, Outcome)
    assert isinstance(last, convscope.StudyReport)
    assert report.verdicts() == last.verdicts() == {"toy": first.verdict}
    assert sum(report.counts.values()) == 1
    assert report.counts.keys() == set(VERDICTS)
    assert moved[0] == ("toy, narrow", 1, 10)
    assert moved[-1][1:] == (10, 10)
    image = report.drawing("toy")
    assert image is not None
    assert image.png[:4] == b"\x89PNG"


def test_what_was_trained_is_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = convscope.study(["toy"], runs=tmp_path)

    def never(*_: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr("convscope.studies.arms.Training._train", never)
    second = convscope.study(["toy"], runs=tmp_path)
    for key in ("quantities", "arms", "verdict"):
        assert second.outcomes[0][key] == first.outcomes[0][key]


def sizes_of_weights(network: nn.Module, *_: object) -> dict[str, torch.Tensor]:
    """Something by place: the mean size of the weights of each parameter."""
    return {"sizes": torch.stack([p.detach().abs().mean() for p in network.parameters()])}


def test_what_was_measured_by_place_is_drawn_before_and_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = replace(PLAN, measure=sizes_of_weights, measure_start=True, by_place=("size of weights", "parameter"))
    monkeypatch.setitem(CLAIMS, "toy", replace(CLAIM, plans=lambda size: asked))
    drawn: dict[str, Any] = {}
    monkeypatch.setattr("convscope.studies.drawing.profiles", lambda panels, along: drawn.update(panels, along=along))
    report = convscope.study(["toy"], runs=tmp_path)
    draw_places(report.outcomes[0])
    assert drawn.pop("along") == "parameter"
    assert list(drawn) == ["Size of weights, before the first update", "Size of weights, after training"]
    for panel in drawn.values():
        assert list(panel) == [arm.name for arm in ARMS]
        assert all(len(line) == 4 for line in panel.values())
    before, after = drawn.values()
    assert before != after


def test_minutes_are_those_of_the_whole_command(tmp_path: Path) -> None:
    report = convscope.study(["toy", "location"], runs=tmp_path, minutes=1e-6)
    assert [o["interrupted"] for o in report.outcomes] == [True, True]
    assert "were not made: interrupted" in report.outcomes[0]["words"]


def test_a_stop_is_said_and_the_outcome_tells_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked, count = Training._asked, iter(range(100))

    def stop(training: Training, *arguments: Any) -> Any:
        if next(count) == 5:
            raise KeyboardInterrupt
        return asked(training, *arguments)

    monkeypatch.setattr(Training, "_asked", stop)
    _, err = said(capsys, "toy", "--runs", str(tmp_path), code=130)
    assert (
        err.splitlines()[-1]
        == "convscope: interrupted; every training that was done is kept, and the same command goes on."
    )
    outcome = json.loads((tmp_path / "study" / "toy-small.json").read_text())
    assert outcome["interrupted"]
    assert outcome["verdict"] in VERDICTS
    assert len(list((tmp_path / "study" / "trainings").glob("*.safetensors"))) == 5


def test_a_full_disk_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object, **__: object) -> None:
        raise storage.storage_error(tmp_path, OSError(28, "No space left on device"))

    monkeypatch.setattr("convscope.studies.arms.commit_tensors", full)
    _, err = said(capsys, "toy", "--runs", str(tmp_path), code=storage.StorageError.exit_code)
    assert "the disk is full" in err
    assert len([line for line in err.splitlines() if "claim at size" not in line]) == 1


def test_an_arm_that_diverges_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wild = replace(PLAN, arms=(ARMS[0], replace(ARMS[1], rates=(1e30,))))
    monkeypatch.setitem(CLAIMS, "toy", replace(CLAIM, plans=lambda size: wild))
    (outcome,) = convscope.study(["toy"], runs=tmp_path).outcomes
    assert outcome["verdict"] == "inconclusive"
    assert "wide: 3 of 3 trainings diverged; no mean holds a figure of theirs." in outcome["notes"]
    page = convscope.StudyReport(tmp_path, "small", (outcome,)).write().read_text(encoding="utf-8")
    assert "wide: 3 of 3 trainings diverged" in page
    assert "0 of 3" in page


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("depth-plian",), "depth-plain"),
        (("toy", "--minutes", "0"), "must be above 0"),
        (("toy", "--device", "warp"), "warp"),
    ],
)
def test_bad_input_is_one_sentence(
    words: tuple[str, ...], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, err = said(capsys, *words, "--runs", str(tmp_path), code=2)
    assert sentence in err
    assert len([line for line in err.splitlines() if "claim at size" not in line]) == 1


def test_bad_names_from_python() -> None:
    with pytest.raises(UnknownName, match="small"):
        convscope.study(["toy"], size="tiny")
    with pytest.raises(UsageError):
        convscope.study(["toy"], minutes=-1)


def test_a_killed_study_loses_one_training(tmp_path: Path) -> None:
    """SIGKILL in the middle: what was committed is found again, and the rest gives the same figures."""
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from toyclaim import CLAIM; from convscope.studies.registry import CLAIMS; CLAIMS['toy'] = CLAIM\n"
        "import convscope; print('begun', flush=True)\n"
        "convscope.study(['toy'], runs=__import__('pathlib').Path(sys.argv[2]))\n"
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    arguments = [sys.executable, "-c", program, str(ROOT / "tests"), str(tmp_path / "killed")]
    done = tmp_path / "killed" / "study" / "trainings"
    with subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE) as process:
        while not list(done.glob("*.safetensors")) and process.poll() is None:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    kept = {path: path.stat().st_mtime_ns for path in done.glob("*.safetensors")}
    assert kept
    again = convscope.study(["toy"], runs=tmp_path / "killed")
    whole = convscope.study(["toy"], runs=tmp_path / "whole")
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items())
    assert again.outcomes[0]["quantities"] == whole.outcomes[0]["quantities"]


def test_a_claim_without_data_is_handed_in_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, err = said(capsys, "alexnet-75", "--runs", str(tmp_path))
    assert err.splitlines()[0] == "1 claim at size small: nothing to train"
    handed = convscope.compare_hand_ins(tmp_path / "study")
    assert [one.said.claim for one in handed.hand_ins] == ["alexnet-75"]


def test_the_page_keeps_what_earlier_calls_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, "toy", "--runs", str(tmp_path))
    said(capsys, "alexnet-75", "--html", "--runs", str(tmp_path))
    page = (tmp_path / "study" / "study-small.html").read_text(encoding="utf-8")
    assert CLAIM.sentence in page
    assert CLAIMS["alexnet-75"].sentence in page


def test_a_claim_that_was_not_run_has_no_drawing(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="Did you mean 'toy'"):
        convscope.study(["toy"], runs=tmp_path).drawing("toi")
