"""The command line as a person meets it: every answer, every bad input, every exit code."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from convscope import cli
from convscope.cache import cache_folder
from convscope.models.registry import MODELS
from convscope.training.runs import Run

TINY = ["--epochs", "1", "--width", "4", "--batch-size", "32", "--limit", "150"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one finished run, "tiny", of shapes."""
    folder = tmp_path_factory.mktemp("runs")
    assert cli.run(["train", "shapes", *TINY, "--name", "tiny", "--runs", str(folder)]) == 0
    return folder


def ask(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of one command."""
    capsys.readouterr()
    code = cli.run(list(words))
    said = capsys.readouterr()
    return code, said.out, said.err


def refused(capsys: pytest.CaptureFixture[str], code: int, *words: str) -> str:
    """The one sentence with which a command refuses; nothing on standard output, no traceback."""
    got, out, err = ask(capsys, *words)
    lines = [line for line in err.splitlines() if not line.startswith("note: ")]
    assert got == code, err
    assert out == ""
    assert len(lines) == 1, err
    assert lines[0].startswith("convscope: ")
    assert "Traceback" not in err
    return lines[0]


def test_train_json_ends_with_the_summary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = ask(capsys, "train", "shapes", *TINY[2:], "--epochs", "2", "--runs", str(tmp_path), "--json")
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [row.get("epoch") for row in rows] == [1, 2, None]
    last = rows[-1]
    assert {"run", "epochs", "val_top1", "images_per_second", "percent_of_peak"} <= set(last)
    assert last["epochs"] == 2
    assert 0 <= last["val_top1"] <= 1
    assert 0 < last["percent_of_peak"] <= 100
    assert Run(Path(last["run"])).classifier().class_names[0] == "circle"
    for name in ("report.html", "curves.png", "augment.png", "summary.json"):
        assert (Path(last["run"]) / name).stat().st_size > 100


def test_evaluate_json_holds_what_is_promised_and_repeats_to_the_last_digit(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = [json.loads(ask(capsys, "evaluate", "tiny", "--runs", str(runs), "--json")[1]) for _ in range(2)]
    assert {"top1", "top5", "n", "top1_low", "top1_high", "loss", "classes"} <= set(answers[0])
    openings = [a.pop("test_openings") for a in answers]
    assert openings[1] == openings[0] + 1
    assert answers[0] == answers[1]
    assert len(answers[0]["classes"]) == 6
    assert answers[0]["top1_low"] <= answers[0]["top1"] <= answers[0]["top1_high"]
    folder = runs / "tiny" / "evaluate" / "shapes-test"
    assert {p.name for p in folder.iterdir()} >= {"evaluation.json", "confusion.png", "calibration.png", "mistakes.png"}


def test_train_never_opens_the_test_images(tmp_path: Path) -> None:
    cli.run(["train", "shapes", *TINY, "--name", "r", "--runs", str(tmp_path)])
    assert Run(tmp_path / "r").openings() == []


def test_evaluate_another_dataset_matches_classes_by_name(
    runs: Path, shapes_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = ask(capsys, "evaluate", "tiny", str(shapes_folder), "--runs", str(runs), "--json")
    answer = json.loads(out)
    assert code == 0
    assert answer["part"] == "all"
    assert {c["name"] for c in answer["classes"] if c["n"]} == {"circle", "ring", "cross"}
    assert any("not in" in note for note in answer["notes"])
    limited = json.loads(
        ask(capsys, "evaluate", "tiny", str(shapes_folder), "--runs", str(runs), "--json", "--limit", "9")[1]
    )
    assert limited["n"] == 9
    assert {c["n"] for c in limited["classes"]} == {0, 3}


def test_the_data_it_was_trained_on_is_evaluated_on_its_test_part_though_it_grew(
    shapes_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["--runs", str(tmp_path / "runs")]
    assert ask(capsys, "train", str(shapes_folder), *TINY[:-2], "--name", "grown", *common)[0] == 0
    Image.new("RGB", (9, 9), (1, 2, 3)).save(shapes_folder / "ring" / "new.png")
    assert "the data changed" in refused(capsys, 65, "evaluate", "grown", *common)
    answer = json.loads(ask(capsys, "evaluate", "grown", str(shapes_folder), *common, "--json")[1])
    assert answer["part"] == "test"
    assert answer["test_openings"] == 1
    assert any("the data changed" in note for note in answer["notes"])
    answer = json.loads(ask(capsys, "evaluate", "grown", str(shapes_folder), "--part", "all", *common, "--json")[1])
    assert answer["test_openings"] == 2
    assert any("it was trained on" in note for note in answer["notes"])
    file = str(tmp_path / "runs" / "grown" / "classifier.safetensors")
    answer = json.loads(ask(capsys, "evaluate", file, str(shapes_folder), *common, "--json")[1])
    assert answer["test_openings"] == 3


def test_the_same_command_with_resume_is_accepted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "digits", "--recipe", "digits", "--epochs", "1", "--width", "4", "--precision", "auto"]
    words += ["--limit", "200", "--name", "again", "--runs", str(tmp_path)]
    assert ask(capsys, *words)[0] == 0
    assert ask(capsys, *words, "--resume")[0] == 0


def test_the_code_of_ones_own_net_may_not_change_under_a_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = tmp_path / "net.py"
    module.write_text(OWN)
    words = ["train", "shapes", "--model", f"{module}:small", "--epochs", "1", "--limit", "150", "--name", "own"]
    words += ["--runs", str(tmp_path / "runs")]
    assert ask(capsys, *words)[0] == 0
    module.write_text(OWN.replace("ReLU", "Sigmoid"))
    assert "changed since run 'own' began" in refused(capsys, 65, *words, "--resume")


def test_class_names_are_never_markup(shapes_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shapes_folder / "ring").rename(shapes_folder / "[red]ring")
    common = ["--runs", str(tmp_path / "runs")]
    assert ask(capsys, "train", str(shapes_folder), *TINY[:-2], "--name", "markup", *common)[0] == 0
    code, out, _ = ask(capsys, "evaluate", "markup", *common)
    assert code == 0
    assert "[red]ring" in out
    page = (tmp_path / "runs" / "markup" / "report.html").read_text()
    assert "<script" not in page


@pytest.mark.parametrize("damage", ["{}", '{"format": 99}', "not json"])
def test_a_damaged_description_is_told(damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ["--runs", str(tmp_path)]
    assert ask(capsys, "train", "shapes", *TINY, "--name", "r", *common)[0] == 0
    (tmp_path / "r" / "recipe.json").write_text(damage)
    refused(capsys, 65, "train", "shapes", "--name", "r", "--resume", *common)


def test_a_class_that_the_classifier_does_not_know(
    runs: Path, shapes_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (shapes_folder / "ring").rename(shapes_folder / "doughnut")
    said = refused(capsys, 65, "evaluate", "tiny", str(shapes_folder), "--runs", str(runs))
    assert "does not know the class 'doughnut'" in said


def test_predict_answers_name_the_bad_and_go_on(
    runs: Path, shapes_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"\x89PNG\r\n\x1a\nnonsense")
    good = sorted((shapes_folder / "ring").glob("*.png"))[:2]
    words = ["predict", "tiny", str(good[0]), str(bad), str(tmp_path / "none.png"), str(good[1]), "--runs", str(runs)]
    code, out, _ = ask(capsys, *words, "--json")
    answers = json.loads(out)
    assert code == 65
    answered = {"path", "label", "probability", "top", "one_view", "refused", "familiarity", "nearest"}
    failed = {"path", "error"}
    assert [set(a) for a in answers] == [answered, failed, failed, answered]
    assert answers[2]["error"] == "does not exist"
    assert answers[0]["probability"] == answers[0]["top"][0]["probability"]
    assert len(answers[0]["top"]) == 5
    code, out, _ = ask(capsys, *words, "--csv", "-")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [bool(r["error"]) for r in rows] == [False, True, True, False]
    assert float(rows[0]["probability"]) == answers[0]["probability"]
    code, out, _ = ask(capsys, *words)
    assert code == 65
    assert "cannot be read" in out
    file, many = tmp_path / "answers.csv", [*words[:2], *words[2:6] * 6, *words[6:]]
    code, out, _ = ask(capsys, *many, "--csv", str(file))
    assert code == 65
    assert f"12 of 24 images are answered: {file}" in " ".join(out.split())
    assert good[0].name not in out  # of so many only those that cannot be read are shown
    assert bad.name in out
    assert len(file.read_text(encoding="utf-8").splitlines()) == 25


def test_predict_folders_globs_and_standard_input(
    runs: Path, shapes_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    common = ["--runs", str(runs), "--json"]
    folder = json.loads(ask(capsys, "predict", "tiny", str(shapes_folder), *common)[1])
    assert len(folder) == 60
    globbed = json.loads(ask(capsys, "predict", "tiny", str(shapes_folder / "ring" / "*.png"), *common)[1])
    assert len(globbed) == 20
    answers = {a["path"]: (a["label"], pytest.approx(a["probability"], rel=1e-5)) for a in folder}
    assert all((g["label"], g["probability"]) == answers[g["path"]] for g in globbed)
    one = sorted((shapes_folder / "ring").glob("*.png"))[0]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(one.read_bytes())))
    piped = json.loads(ask(capsys, "predict", "tiny", "-", *common)[1])
    assert piped[0]["label"] == globbed[0]["label"]
    assert piped[0]["probability"] == pytest.approx(globbed[0]["probability"], rel=1e-5)


def test_grey_and_tiny_images_are_predicted(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("L", (1, 1), 90).save(tmp_path / "a.png")
    Image.new("RGBA", (500, 3), (9, 9, 9, 0)).save(tmp_path / "b.png")
    code, out, _ = ask(capsys, "predict", "tiny", str(tmp_path), "--runs", str(runs), "--json")
    assert code == 0
    assert len(json.loads(out)) == 2


def test_models_prints_the_lectures_table(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = ask(capsys, "models", "alexnet")
    assert code == 0
    assert "conv1" in out
    assert "2,875,466 parameters" in out
    assert {row["name"] for row in json.loads(ask(capsys, "models", "--json")[1])} == set(MODELS)
    book = json.loads(ask(capsys, "models", "vgg", "--depth", "6", "--json")[1])
    assert sum(row["kind"] == "Conv" for row in book["rows"]) == 6


OWN = """
import torch
def small(num_classes):
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, 2), torch.nn.ReLU(), torch.nn.Flatten(),
                               torch.nn.Linear(900, num_classes))
"""


def test_a_net_of_ones_own_trains_and_runs_only_when_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module = tmp_path / "net.py"
    module.write_text(OWN)
    model, common = f"{module}:small", ["--runs", str(tmp_path / "runs")]
    short = ["--epochs", "1", "--limit", "150", "--name", "own"]
    code, _, err = ask(capsys, "train", "shapes", "--model", model, *short, *common)
    assert code == 0
    assert "your own code" in err
    assert "--model" in refused(capsys, 2, "evaluate", "own", *common)
    assert ask(capsys, "evaluate", "own", "--model", model, *common)[0] == 0
    weights = tmp_path / "runs" / "own" / "classifier.safetensors"
    again = ["train", "shapes", "--model", model, "--weights", str(weights), "--epochs", "1", "--limit", "150"]
    assert ask(capsys, *again, *common)[0] == 0
    assert "another network" in refused(
        capsys, 65, "train", "shapes", "--weights", str(weights), "--limit", "150", *common
    )


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["train", "cifar100"], 2, "Did you mean 'cifar10'"),
        (["train", "shapes", "--model", "alexnot"], 2, "Did you mean 'alexnet'"),
        (["train", "shapes", "--recipe", "lecture-5"], 2, "Did you mean 'lecture-"),
        (["train", "shapes", "--epochz", "3"], 2, "Did you mean --epochs"),
        (["train", "shapes", "--augment", "stong"], 2, "Did you mean 'strong'"),
        (["train", "shapes", "--lr", "-1"], 2, "greater than 0"),
        (["train", "shapes", "--epochs", "many"], 2, "many"),
        (["train", "shapes", "--depth", "3"], 2, "no option 'depth'"),
        (["train", "shapes", "--image-size", "4"], 2, "4"),
        (["train", "shapes", "--device", "cuda:9"], 2, "cuda:9"),
        (["train", "shapes", "--model", "nowhere.py:net"], 2, "nowhere.py"),
        (["train", "shapes", "--name", "../x"], 2, "cannot be a run's name"),
        (["trian", "shapes"], 2, 'Did you mean "train"'),
        (["train", "no/such/folder"], 65, "does not exist"),
        (["train", "shapes", "--limit", "1"], 65, "images"),
        (["evaluate", "nothing"], 2, "no run named 'nothing'"),
        (["evaluate", "last"], 2, "no last run"),
        (["predict", "nothing", "x.png"], 2, "no run named"),
        (["models", "vgg", "--depth", "1"], 2, "1"),
        (["train"], 2, ""),
        (["predict", "x", "a.png", "--jsn"], 2, "Did you mean --json"),
        (["predict", "x", "a.png", "--top", "0"], 2, "--top 0"),
    ],
)
def test_bad_requests_get_one_sentence_and_the_right_code(
    words: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in refused(capsys, code, *words)


def test_offline_cifar_names_the_three_ways(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(*args: object, **kwargs: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr("urllib.request.urlopen", closed)
    said = refused(capsys, 69, "train", "cifar10")
    assert all(way in said for way in ("--data-root", "CONVSCOPE_DATA", "cache"))


@pytest.mark.parametrize("damage", ["truncated", "altered", "pickle", "empty", "missing"])
def test_a_damaged_classifier_is_refused(
    damage: str, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = bytearray((runs / "tiny" / "classifier.safetensors").read_bytes())
    path = tmp_path / "c.safetensors"
    if damage == "altered":
        data[len(data) // 2] ^= 4
    contents = {"truncated": data[:-7], "altered": data, "pickle": b"\x80\x04cos\nsystem\n.", "empty": b""}
    if damage != "missing":
        path.write_bytes(contents[damage])
    refused(capsys, 2 if damage == "missing" else 65, "predict", str(path), "x.png")


def test_folders_that_cannot_be_trained_on(
    shapes_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "class folders" in refused(capsys, 65, "train", str(empty))
    (shapes_folder / "ring" / "x.png").write_bytes(b"not an image at all")
    said = refused(capsys, 65, "train", str(shapes_folder), *TINY[:-2])
    assert "ring/x.png" in said
    assert "--bad-images skip" in said
    code, _, err = ask(capsys, "train", str(shapes_folder), *TINY[:-2], "--bad-images", "skip")
    assert code == 0
    assert "left out" in err
    (shapes_folder / "void").mkdir()
    assert "void" in refused(capsys, 65, "train", str(shapes_folder))


def test_out_of_memory_is_71_and_a_bug_is_1_with_its_traceback_in_a_file(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(error: Exception) -> None:
        def raising(*args: object, **kwargs: object) -> None:
            raise error

        monkeypatch.setattr("convscope.models.command.model_list", raising)

    fail(RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."))
    assert "--image-size" in refused(capsys, 71, "models")
    fail(MemoryError())
    refused(capsys, 71, "models")
    fail(ZeroDivisionError("oops"))
    said = refused(capsys, 1, "models")
    log = cache_folder() / "error.log"
    assert str(log) in said
    assert "ZeroDivisionError: oops" in log.read_text()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give its rights away")
def test_a_folder_that_cannot_be_written_is_74(tmp_path: Path) -> None:
    """As another user, for root may write everywhere."""
    code = (
        "import os, sys; from convscope.cli import run; import convscope.training.command, sklearn.metrics; "
        "os.setuid(65534); "
        f"sys.exit(run(['train', 'shapes', '--limit', '60', '--runs', {str(tmp_path / 'no')!r}]))"
    )
    environment = os.environ | {"HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 74, done.stderr
    assert "permission denied" in done.stderr.splitlines()[-1]


def test_help_needs_no_torch() -> None:
    code = (
        "import sys; from convscope.cli import COMMANDS, run; "
        "[run([command, '--help']) for command in COMMANDS]; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_preview_writes_the_sheet_and_trains_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "sheet.png"
    code, out, _ = ask(capsys, "train", "shapes", "--preview", str(target), "--runs", str(tmp_path / "runs"))
    assert code == 0
    assert str(target) in out
    with Image.open(target) as sheet:
        assert sheet.width > 500
    assert not (tmp_path / "runs").exists()
