"""Curves as others wrote them: which column, which training and which order is meant, in files of all kinds."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import convscope
from convscope.diagnosis.curve_files import read_curve
from convscope.diagnosis.curves import Curve
from convscope.diagnosis.evidence import collect_curve
from convscope.diagnosis.verdict import HEALTHY, judge
from convscope.errors import DataError, UsageError

LOSSES = [round(float(x), 4) for x in 0.2 + 2.1 * np.exp(-np.arange(300) / 60)]


def read(folder: Path, name: str, text: str | bytes, code: str = "utf-8") -> Curve:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode(code))
    return read_curve(str(path))


def table(header: str, rows: Iterator[Sequence[object]] | Sequence[Sequence[object]], mark: str = ",") -> str:
    return "\n".join([header, *(mark.join("" if x is None else str(x) for x in row) for row in rows)]) + "\n"


def lines(rows: Sequence[dict[str, object]]) -> str:
    return "\n".join(map(json.dumps, rows)) + "\n"


def fault(curve: Curve) -> str:
    return judge(collect_curve(curve)).fault


# ------------------------------------------------------------------------------------------------------- which column


def test_of_several_columns_of_losses_the_one_with_the_most_numbers_is_meant(tmp_path: Path):
    rows = [{"epoch": n / 100, "step": n + 1, "loss": x, "learning_rate": 1e-4} for n, x in enumerate(LOSSES)]
    end = {"epoch": 3.0, "step": 300, "train_loss": 0.8, "train_runtime": 10.0}
    found = read(tmp_path, "trainer_state.json", json.dumps({"log_history": [*rows, end]}))
    assert (found.losses.tolist(), fault(found)) == (LOSSES, HEALTHY)
    text = table("step,train_loss,loss", [(n, 0.9 if n % 100 == 99 else None, x) for n, x in enumerate(LOSSES)])
    assert read(tmp_path, "a.csv", text).losses.tolist() == LOSSES
    text = table("step,train/loss,train_loss", [(n, x, None) for n, x in enumerate(LOSSES)])  # plainly the same name
    assert read(tmp_path, "b.csv", text).losses.tolist() == LOSSES


# ------------------------------------------------------------------------------------------------------- which order


@settings(max_examples=40, deadline=None)
@given(st.integers(5, 60), st.integers(1, 9), st.sampled_from(["batch", "step", "iter", None]), st.booleans())
def test_steps_that_start_anew_each_epoch_lose_no_loss(tmp_path_factory, size: int, first: int, name: str, known: bool):
    folder = tmp_path_factory.mktemp("curve")
    if name is None:
        text = table("epoch,loss", [(n // size, x) for n, x in enumerate(LOSSES)])
    elif known:
        text = table(f"epoch,{name},loss", [(n // size + first % 2, n % size, x) for n, x in enumerate(LOSSES)])
    else:
        text = table(f"{name},loss", [(n % size + first, x) for n, x in enumerate(LOSSES)])
    found = read(folder, "a.csv", text)
    assert found.losses.tolist() == LOSSES
    assert found.steps is None
    assert any("rows are counted" in note for note in found.notes)
    assert not found.late


@settings(max_examples=40, deadline=None)
@given(st.integers(60, 250), st.integers(1, 50), st.integers(1, 7), st.booleans())
def test_a_training_that_went_on_from_a_checkpoint_counts_as_told_last(
    tmp_path_factory, crash: int, back: int, every: int, epochs: bool
):
    """The steps before the crash are told with other losses, and at other places where not all are told."""
    folder = tmp_path_factory.mktemp("curve")
    before = [(n, 9.0 if n >= crash - back else LOSSES[n]) for n in range(0, crash, every)]
    after = [(n, LOSSES[n]) for n in range(crash - back, 300, every)]
    rows = [(n // 50, n, x) if epochs else (n, x) for n, x in before + after]
    found = read(folder, "a.csv", table("epoch,step,loss" if epochs else "step,loss", rows))
    assert found.steps is not None
    assert (np.diff(found.steps) > 0).all()
    assert found.losses.tolist() == [LOSSES[int(n)] for n in found.steps]
    if crash - back < before[-1][0]:
        assert any("what was told later counts" in note for note in found.notes)


def test_the_same_script_run_twice_into_one_file_counts_as_told_last(tmp_path: Path):
    worse = [x + 0.3 for x in LOSSES]
    found = read(tmp_path, "a.csv", table("step,loss", [*enumerate(worse), *enumerate(LOSSES)]))
    assert found.losses.tolist() == LOSSES
    assert "what was told later counts" in found.notes[0]
    rows = [(n // 50, n % 50, x) for losses in (worse, LOSSES) for n, x in enumerate(losses)]
    assert read(tmp_path, "b.csv", table("epoch,batch,loss", rows)).losses.tolist() == LOSSES


@pytest.mark.parametrize("rows", ["newest first", "shuffled", "two parts"])
def test_rows_without_order_are_put_in_order(rows: str, tmp_path: Path):
    told = list(enumerate(LOSSES))
    order = {
        "newest first": told[::-1],
        "shuffled": [told[n] for n in np.random.default_rng(0).permutation(300)],
        "two parts": told[200:] + told[:200],
    }[rows]
    found = read(tmp_path, "a.csv", table("step,loss", order))
    assert (found.losses.tolist(), found.notes) == (LOSSES, ())


def test_rates_in_rows_of_their_own_go_with_their_losses(tmp_path: Path):
    rows = [row for n, x in enumerate(LOSSES) for row in ((n // 50, n % 50, x, None), (None, n % 50, None, n / 300))]
    found = read(tmp_path, "a.csv", table("epoch,batch,loss,lr", [(None, None, None, 0.5), *rows]))
    assert found.losses.tolist() == LOSSES
    np.testing.assert_allclose(found.of("rate"), [0.5, *(n / 300 for n in range(299))])
    rows = [row for n, x in enumerate(LOSSES) for row in ((n, x, None), (n, None, n / 300))]
    np.testing.assert_allclose(read(tmp_path, "b.csv", table("step,loss,lr", rows)).of("rate"), np.arange(300) / 300)


# ----------------------------------------------------------------------------------------------------- which training


@pytest.mark.parametrize("column", ["phase", "split", "mode", "Set"])
@pytest.mark.parametrize("names", [("train", "val"), ("Training", "test"), ("a", "valid")])
def test_a_column_that_says_of_which_data_a_row_is_is_honoured(column: str, names: tuple[str, str], tmp_path: Path):
    rows = [{"step": n, column: p, "loss": x if p == names[0] else 3.0} for n, x in enumerate(LOSSES) for p in names]
    found = read(tmp_path, "a.jsonl", lines(rows))
    assert found.losses.tolist() == LOSSES
    assert f"rows whose {column} is {names[1]} are left out" in found.notes[0]
    with pytest.raises(UsageError, match=f"losses of {names[1]} alone"):
        read(tmp_path, "b.jsonl", lines([row for row in rows if row[column] == names[1]]))


@pytest.mark.parametrize("column", ["run", "seed", "phase"])
def test_several_curves_in_a_file_are_refused_and_named(column: str, tmp_path: Path):
    runs = ("one", "two") if column != "seed" else ("1", "2")
    rows = [(n, run, x) for run in runs for n, x in enumerate(LOSSES)]
    with pytest.raises(UsageError, match=f"several curves, by {column}: {runs[0]}, {runs[1]}; keep one"):
        read(tmp_path, "a.csv", table(f"step,{column},loss", rows))
    after = [(n, runs[n > 200], x) for n, x in enumerate(LOSSES)]  # one after the other are of one training
    assert read(tmp_path, "a.csv", table(f"step,{column},loss", after)).losses.tolist() == LOSSES


def test_each_folder_of_tensorboard_is_a_curve_of_its_own(tmp_path: Path):
    pytest.importorskip("tensorboard")
    script = (
        "import json, sys\nfrom torch.utils.tensorboard import SummaryWriter\n"
        "for folder, tag, losses in json.loads(sys.argv[1]):\n"
        "    with SummaryWriter(folder) as out:\n"
        "        for n, x in losses:\n            out.add_scalar(tag, x, n)\n"
    )
    told, high = list(enumerate(LOSSES)), [(n, 2.3) for n in range(300)]
    parts = [("both/train", "loss", told), ("both/validation", "loss", high), ("runs/a", "train/loss", told),
             ("runs/b", "train/loss", high), ("alone/val", "loss", high), ("root", "loss", told),
             ("root/eval", "loss", high), ("root/rates", "lr", high), ("again", "loss", high),
             ("again", "loss", told)]  # fmt: skip
    given_ = json.dumps([(str(tmp_path / folder), tag, losses) for folder, tag, losses in parts])
    subprocess.run([sys.executable, "-W", "ignore", "-c", script, given_], check=True)
    for folder, note in (
        ("both", "both train is read, and validation is not"),
        ("root", "root is read"),
        ("again", ""),
    ):
        found = read_curve(str(tmp_path / folder))
        np.testing.assert_allclose(found.losses, LOSSES, rtol=1e-6)
        assert note in found.notes[0]
    assert "what was told later counts" in found.notes[0]
    with pytest.raises(UsageError, match="runs has several curves, a, b"):
        read_curve(str(tmp_path / "runs"))
    with pytest.raises(UsageError, match="losses of val alone"):
        read_curve(str(tmp_path / "alone"))
    np.testing.assert_allclose(read_curve(str(tmp_path / "runs" / "a")).losses, LOSSES, rtol=1e-6)


# -------------------------------------------------------------------------------------------------- too late, too early


@pytest.mark.parametrize("column", ["step", "epoch"])
def test_a_curve_that_begins_late_does_not_stand_still_from_the_beginning(column: str, tmp_path: Path):
    noise = 0.02 * np.random.default_rng(0).standard_normal(200)
    found = read(tmp_path, "a.csv", table(f"{column},loss", [(5000 + n, 0.3 + x) for n, x in enumerate(noise)]))
    assert fault(found) == HEALTHY
    assert f"begins at {column} 5000: what the loss was before that is not known" in found.notes[0]
    text = table(f"{column},loss", [(5000 + n, 0.3 + x + 1.5 * (n > 120)) for n, x in enumerate(noise)])
    assert fault(read(tmp_path, "b.csv", text)) == "ran-away"
    for first, every in ((0, 1), (1, 1), (50, 50), (2, 1)) if column == "step" else ((0, 1), (1, 1), (5, 5)):
        rows = [(first + every * n, 2.3 + x) for n, x in enumerate(noise)]
        found = read(tmp_path, "c.csv", table(f"{column},loss", rows))
        assert (fault(found), found.notes) == ("plateau", ())


def test_late_where_steps_start_anew_each_epoch(tmp_path: Path):
    rows = [(40 + n // 50, n % 50, x) for n, x in enumerate([0.3] * 200)]
    found = read(tmp_path, "a.csv", table("epoch,batch,loss", rows))
    assert fault(found) == HEALTHY
    assert "begins at epoch 40" in found.notes[-1]


@pytest.mark.parametrize("losses", [[2.3], [], [2.3, 2.29, 2.3], [2.3] * 19, [None, 2.3]])
def test_a_few_losses_are_too_early_to_tell_of(losses: list[float | None], tmp_path: Path):
    found = convscope.diagnose(losses, runs=tmp_path)
    assert found.verdict.fault == HEALTHY
    assert found.sentence().startswith("too early to tell: ")
    assert fault(read_curve([2.3] * 20)) == "plateau"


def test_few_losses_that_stand_for_many_steps_are_enough(tmp_path: Path):
    sentence = "the loss has stood still from the beginning: after {} it is 1.00 of what it was."
    for header, rows, told in (("step,loss", [(500 * n, 2.3) for n in range(5)], "2500 steps"),
                               ("epoch,loss", [(n, 2.3) for n in range(5)], "5 epochs"),
                               ("loss,val_loss", [(2.3, 2.3)] * 5, "5 epochs")):  # fmt: skip
        (finding,) = judge(collect_curve(read(tmp_path, "a.csv", table(header, rows)))).findings
        assert finding.sentence == sentence.format(told)
    assert fault(read(tmp_path, "a.csv", "step,loss\n0,2.3\n5000,2.3\n")) == HEALTHY


# -------------------------------------------------------------------------------------------------------- which file

COMMAS = [(n, str(x).replace(".", ",")) for n, x in enumerate(LOSSES)]
KINDS = {
    "one.csv": table("loss", [(x,) for x in LOSSES]),
    "one-without-name.csv": "\n".join(map(str, LOSSES)),
    "one-with-commas.csv": table("loss", [(x,) for _, x in COMMAS]),
    "semicolons.csv": table("step;loss", COMMAS, ";"),
    "semicolons-with-points.csv": table("step;loss", enumerate(LOSSES), ";"),
    "tabs.tsv": table("step\tloss", COMMAS, "\t"),
    "quoted.csv": table("step,loss", [(n, f'"{x}"') for n, x in COMMAS]),
    "thousands.csv": table("step;loss", [(f"{10**6 + n:,}".replace(",", "."), x) for n, x in COMMAS], ";"),
    "list.json": json.dumps(LOSSES),
    "rows.json": json.dumps([{"loss": x} for x in LOSSES]),
    "lines.json": lines([{"step": n, "loss": x} for n, x in enumerate(LOSSES)]),
    "numbers.jsonl": "\n".join(map(str, LOSSES)),
    "history.json": json.dumps({"loss": LOSSES, "val_loss": LOSSES[:200], "accuracy": [0.5] * 300}),
    "frame.json": json.dumps({"loss": {str(n): x for n, x in enumerate(LOSSES)}}),
    "boxed.json": json.dumps({"config": {"rate": 0.1}, "history": {"loss": LOSSES}}),
    "parts.json": json.dumps({"train": {"loss": LOSSES}, "val": {"loss": [1.0] * 300}}),
    "mac.csv": table("step,loss", enumerate(LOSSES)).replace("\n", "\r"),
    "windows.csv": table("step,loss", enumerate(LOSSES)).replace("\n", "\r\n"),
    "odd-text.jsonl": "\n".join(
        json.dumps({"step": n, "loss": x, "note": "\u2028\x85"}, ensure_ascii=False) for n, x in enumerate(LOSSES)
    ),
}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("code", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_the_same_losses_come_out_of_each_kind_of_file(name: str, code: str, tmp_path: Path):
    assert read(tmp_path, name, KINDS[name], code).losses.tolist() == LOSSES


@pytest.mark.parametrize("code", ["latin-1", "cp1252"])
def test_western_letters_in_a_header_are_borne(code: str, tmp_path: Path):
    text = table("step,loss,für", [(n, x, 1) for n, x in enumerate(LOSSES)])
    assert read(tmp_path, "a.csv", text, code).losses.tolist() == LOSSES


@pytest.mark.parametrize("cut", [1, 5, 12, 20])
def test_a_last_line_that_is_cut_is_left_out_with_a_note(cut: int, tmp_path: Path):
    text = lines([{"step": n, "loss": x} for n, x in enumerate(LOSSES)])
    found = read(tmp_path, "a.jsonl", text + '{"step": 300, "loss": 0.2}'[:cut])
    assert found.losses.tolist() == LOSSES
    assert found.notes == ("a.jsonl: its last line is cut, and is left out.",)
    for broken, row in ((text.replace('{"step": 7,', '{"step" 7,'), 8), (text + '{"step": 300\n', 301)):
        with pytest.raises(DataError, match=f"line {row} is no JSON"):
            read(tmp_path, "a.jsonl", broken)


def test_numbers_beyond_all_numbers_are_borne(tmp_path: Path):
    for digits in (400, 5000):
        huge = "9" * digits
        for name, text in (("a.jsonl", f'{{"step":1,"loss":2.5}}\n{{"step":2,"loss":{huge}}}\n'),
                           ("a.json", f"[2.5, {huge}]"), ("a.csv", f"step,loss\n1,2.5\n2,{huge}\n")):  # fmt: skip
            assert read(tmp_path, name, text).losses.tolist() == [2.5, math.inf]
        steps = "\n".join(f'{{"step":{huge}{n},"loss":{x}}}' for n, x in enumerate(LOSSES))
        assert read(tmp_path, "b.jsonl", steps).losses.tolist() == LOSSES
    assert read_curve([2.5, 10**400]).losses.tolist() == [2.5, math.inf]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.csv", "step,loss\n", "a.csv has a header and no rows"),
        ("a.csv", "0,2.3\n1,2.2\n", "write the names of its columns above"),
        ("a.csv", "step,loss\n0,2,3\n1,2,2\n", "more cells in its rows than names"),
        ("a.jsonl", " \n", "a.jsonl is empty"),
        ("a.json", "[]", "a.json holds no rows of numbers"),
        ("a.json", '{"a": {"loss": [1]}, "b": {"loss": [2]}}', "several curves, a, b"),
        ("a.jsonl", '{"step": 3', "cannot be read"),
    ],
)
def test_what_is_missing_in_a_file_is_said(name: str, text: str, words: str, tmp_path: Path):
    with pytest.raises((UsageError, DataError), match=words):
        read(tmp_path, name, text)


def test_what_a_refusal_says_helps(tmp_path: Path):
    rows = table("", enumerate(LOSSES)).lstrip()
    with pytest.raises(UsageError, match="write the names of its columns above them"):
        read(tmp_path, "a.csv", rows)
    assert read(tmp_path, "a.csv", "step,loss\n" + rows).losses.tolist() == LOSSES
    both = [{"step": n, "run": run, "loss": x} for run in "ab" for n, x in enumerate(LOSSES)]
    with pytest.raises(UsageError, match="by run: a, b; keep one of them"):
        read(tmp_path, "a.jsonl", lines(both))
    assert read(tmp_path, "a.jsonl", lines(both[:300])).losses.tolist() == LOSSES
    with pytest.raises(UsageError, match="several curves, a, b: name or keep one of them"):
        read(tmp_path, "a.json", json.dumps({"a": {"loss": LOSSES}, "b": {"loss": LOSSES}}))
    assert read(tmp_path, "a.json", json.dumps({"b": {"loss": LOSSES}})).losses.tolist() == LOSSES


def test_values_of_python_are_taken_as_files_are(tmp_path: Path):
    rows = [{"step": n, "loss": x} for n, x in enumerate(LOSSES)]
    tensors = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in LOSSES]
    for values in (
        LOSSES,
        np.array(LOSSES),
        torch.tensor(LOSSES, dtype=torch.float64),
        tensors,
        rows,
        {"loss": LOSSES},
    ):
        assert read_curve(values).losses.tolist() == LOSSES
    for wrong in (["a"], np.zeros((3, 2)), [[1.0, 2.0]], 5):
        with pytest.raises(UsageError, match="a curve is numbers in a row"):
            read_curve(wrong)
    path = tmp_path / "a.csv"
    path.write_text(table("epoch,batch,loss", [(n // 50, n % 50, x) for n, x in enumerate(LOSSES)]))
    found = convscope.diagnose(path, runs=tmp_path)
    assert "a.csv: steps start anew with each epoch, so rows are counted." in found.notes
    for values in (rows, {"loss": LOSSES}, np.array(LOSSES), tuple(LOSSES)):
        found = convscope.diagnose(values, runs=tmp_path)
        assert (found.verdict.fault, found.verdict.evidence.steps) == (HEALTHY, 300)
    with pytest.raises(UsageError, match="a curve is numbers in a row"):
        convscope.diagnose(["a"], runs=tmp_path)
