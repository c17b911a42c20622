"""Every report that a Python function returns has its notes, and a notebook shows them; names of any kind."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file

import convscope
from convscope import cli
from convscope.classifying.classifier import Classifier
from convscope.cli.commands import COMMANDS
from convscope.datasets.named_before import remember
from convscope.noted import Noted
from convscope.portable import LONGEST_NAME, folder_name, shortened
from convscope.storage import commit_bytes, commit_json, read_json
from convscope.studies.report import StudyReport
from small_targets import discs

TINY: dict[str, Any] = {"model": "resnet20", "width": 4, "image_size": 16, "epochs": 1, "flip": "none"}
LITTLE: dict[str, Any] = {"layer": "conv1", "seeds": 0, "ablate": 0}
BAD = "<script>alert(1)<"  # of a file that cannot be read, which every note about the data names


@dataclass(frozen=True)
class Home:
    """Photos of two classes, one of which cannot be read, and a run of them."""

    folder: Path
    trained: Any

    @property
    def photos(self) -> Path:
        return self.folder / "photos"

    @property
    def run(self) -> Path:
        return self.folder / "runs" / "r"

    @property
    def image(self) -> Path:
        return self.photos / "ant" / "0.png"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Home:
    folder, random = tmp_path_factory.mktemp("home"), np.random.default_rng(0)
    for k, name in enumerate(("ant", "bee")):
        (folder / "photos" / name).mkdir(parents=True)
        for i in range(14):
            colour = np.array([(200, 30, 30), (30, 200, 30)][k]) + random.integers(-30, 30, (16, 16, 3))
            Image.fromarray(colour.astype(np.uint8)).save(folder / "photos" / name / f"{i}.png")
    (folder / "photos" / "ant" / f"{BAD}.png").write_bytes(b"")
    trained = convscope.train(folder / "photos", runs=folder / "runs", name="r", bad_images="skip", **TINY)
    return Home(folder, trained)


@pytest.fixture
def home(shared: Home) -> Home:
    remember(shared.photos)  # the cache is another one in each test
    return shared


def bound(h: Home) -> Path:
    """A classifier whose weights are not for every use."""
    classifier = Classifier.load(h.run / "classifier.safetensors")
    classifier = replace(classifier, provenance={**classifier.provenance, "licence": "cc-by-nc-4.0"})
    classifier.save(h.folder / "bound.safetensors")
    return h.folder / "bound.safetensors"


def adopted(h: Home) -> Any:
    network = Classifier.load(h.run / "classifier.safetensors").network
    save_file({f"module.{n}": t.contiguous() for n, t in network.state_dict().items()}, h.folder / "w.safetensors")
    given: dict[str, Any] = {"weights": h.folder / "w.safetensors", "classes": h.photos, "runs": h.folder / "more"}
    return convscope.adopt("resnet20", width=4, input_size=16, mean=(0.5,) * 3, std=(0.25,) * 3, **given)


def masked(h: Home) -> Any:
    """A transfer to masks, one of which cannot be read."""
    root = discs(h.folder / "masked", 24)
    shutil.copy(root / "images" / "0.png", root / "images" / f"{BAD}.png")
    (root / "masks" / f"{BAD}.png").write_bytes(b"")
    return convscope.transfer(root, runs=h.folder / "more", name="m", quick=True, **{**STORE, "image_size": 64})


NAMING_BAD = "train evaluate explain explain_image diagnose features transfer transfer_to_masks study".split()
OUTCOME = {"claim": "width", "verdict": "holds", "notes": [f"one arm of {BAD} diverged."]}
STORE: dict[str, Any] = {"image_size": 32, "engine": "torch", "bad_images": "skip"}
REPORTS: dict[str, Callable[[Home], Any]] = {
    "train": lambda h: h.trained,
    "evaluate": lambda h: convscope.evaluate(h.run),
    "predict": lambda h: convscope.predict(h.run, h.image, views="flip"),
    "explain": lambda h: convscope.explain(h.run, **LITTLE),
    "explain_image": lambda h: convscope.explain_image(h.run, h.image, methods="cam"),
    "localize": lambda h: convscope.localize(h.run, h.photos),
    "diagnose": lambda h: convscope.diagnose(h.run, images=1),
    "doctor": lambda h: convscope.doctor(h.photos, labels=False, runs=h.folder / "more"),
    "features": lambda h: convscope.features(h.photos, **STORE),
    "transfer": lambda h: convscope.transfer(h.photos, runs=h.folder / "more", name="t", **STORE),
    "transfer_to_masks": masked,
    "similar": lambda h: convscope.similar(h.run, h.image, h.photos, engine="torch"),
    "adopt": adopted,
    "report": lambda h: convscope.report(h.run),
    "compare": lambda h: convscope.compare([str(h.run)] * 2),
    "export": lambda h: convscope.export(bound(h), format="safetensors", runs=h.folder / "more"),
    "study": lambda h: StudyReport(h.folder, "small", (OUTCOME,)),  # a real one takes minutes
    "models": lambda h: convscope.model_table("alexnet"),
}


def test_no_command_is_forgotten() -> None:
    assert REPORTS.keys() - {"explain_image", "transfer_to_masks"} == COMMANDS.keys() - {"demo", "serve"}


@pytest.mark.parametrize("command", REPORTS)
def test_a_report_holds_its_notes_and_a_notebook_shows_them(home: Home, command: str) -> None:
    report = REPORTS[command](home)
    assert isinstance(report, Noted)
    assert isinstance(report.notes, tuple)
    assert report.notes
    assert all((isinstance(note, str) and note[-1] in ".!%") or command == "models" for note in report.notes)
    shown = report._repr_html_()
    assert all(f"<p>note: {escape(note)}</p>" in shown for note in report.notes)
    assert "<script" not in shown
    assert len(shown) < 2_000_000
    words = re.sub("<[^>]*>", " ", shown)
    assert sum(c.isdigit() for c in words) > 0 or command in ("study", "models")
    if command in (
        "train",
        "evaluate",
        "explain",
        "explain_image",
        "localize",
        "diagnose",
        "features",
        "transfer",
        "transfer_to_masks",
        "study",
    ):
        assert BAD in " ".join(report.notes)
    if command not in ("predict", "models"):
        assert "written to" in shown
        assert "<a href=" in shown


def test_what_a_notebook_shows_of_answers_is_escaped(home: Home) -> None:
    shown = convscope.predict(home.run, [home.photos / "ant" / f"{BAD}.png", home.image])._repr_html_()
    assert escape(BAD) in shown
    assert "<script" not in shown


NOTES_TYPED = {
    ("predict", "--views", "flip-shift"): "trained without mirrored images, so --views flip-shift leaves them out.",
    ("similar", "--engine", "torch"): "the image itself is among them and is left out: ant/0.png.",
}


@pytest.mark.parametrize("words", NOTES_TYPED)
def test_the_command_line_prints_them(home: Home, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    command, *options = words
    assert cli.run([command, str(home.run), str(home.image), *options]) == 0
    out, err = capsys.readouterr()
    assert NOTES_TYPED[words] in err
    assert "note:" not in out


def test_copies_of_the_image_asked_about_are_left_out(home: Home, tmp_path: Path) -> None:
    """Under other names, as another file of the same pixels, and wherever they are; what is only alike is not."""
    photos = tmp_path / "photos"
    shutil.copytree(home.photos, photos)
    (photos / "ant" / f"{BAD}.png").unlink()
    image = Image.open(home.image)
    image.save(photos / "bee" / "copy.bmp")
    shutil.copy(home.image, photos / "ant" / "other.png")
    changed = np.array(image)
    changed[0, 0, 0] ^= 1
    Image.fromarray(changed).save(photos / "bee" / "changed.png")
    found = convscope.similar(home.run, home.image, photos, engine="torch", count=100)
    left = {row["origin"] for row in found.summary["nearest"]}
    assert not left & {"ant/0.png", "ant/other.png", "bee/copy.bmp"}
    assert "bee/changed.png" in left
    assert len(left) == 29 - 1
    (told,) = [note for note in found.notes if "itself" in note]
    assert all(name in told for name in ("ant/0.png", "ant/other.png", "bee/copy.bmp"))


def test_a_search_that_finds_nothing_but_the_image_itself(home: Home, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    shutil.copy(home.image, tmp_path / "one" / "0.png")
    found = convscope.similar(home.run, home.image, tmp_path / "one", engine="torch")
    assert found.summary["nearest"] == []
    assert "itself" in " ".join(found.notes)
    assert (found.folder / "similar.png").exists()


# ------------------------------------------------------------------------------------------- names of any kind


NAMES = {
    "as long as a name can be": "a" * 251 + ".png",
    "in three bytes a letter": "\u65e5" * 83 + ".png",
    "with a line feed": "two\nlines.png",
    "with dots alone": "...png",
    "with a tilde": "~.png",
}


@pytest.mark.parametrize("kind", NAMES)
def test_an_image_may_have_any_name(
    home: Home, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(home.image, NAMES[kind])
    run = ["--runs", str(home.folder / "runs")]
    for words in (["similar", "r", NAMES[kind], str(home.photos), "--engine", "torch"],):
        assert cli.run([*words, *run]) == 0, capsys.readouterr()
    assert cli.run(["explain", "r", "--image", NAMES[kind], "--method", "cam", *run]) == 0, capsys.readouterr()
    assert cli.run(["predict", "r", NAMES[kind], *run]) == 0
    out, err = capsys.readouterr()
    assert "two\nlines" not in out + err
    if kind == "with a line feed":
        assert out.count(r"two\nlines") >= 2


def test_every_path_that_is_printed_is_on_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder of runs with a line feed in its name, through every command that writes into it."""
    runs = ["--runs", str(tmp_path / "two\nlines")]
    small = ["--model", "resnet20", "--width", "4", "--image-size", "16", "--epochs", "1", "--limit", "60"]
    for words in (
        ["train", "shapes", *small, "--name", "r"],
        ["evaluate", "r"],
        ["explain", "r", "--layer", "conv1", "--seeds", "0", "--ablate", "0"],
        ["diagnose", "r", "--images", "1"],
        ["export", "r", "--format", "safetensors"],
        ["evaluate", "none"],
    ):
        assert cli.run([*words, *runs]) == (2 if words[1] == "none" else 0), capsys.readouterr()
        out, err = capsys.readouterr()
        assert "two\nlines" not in out + err, words
        assert r"two\nlines" in out or words[1] == "none"


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "latin-1", "ascii"])
def test_every_stream_holds_every_answer(
    home: Home, encoding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One file name that is no UTF-8, and one in another script, cost no answer; JSON is JSON."""
    for name in (b"b\xe9.png", "\u65e5\u672c.png".encode(), b"a.png"):
        shutil.copy(os.fsencode(home.image), os.fsencode(tmp_path) + b"/" + name)
    for form in ([], ["--json"], ["--csv", "-"]):
        raw = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding, errors="strict"))
        assert cli.run(["predict", str(home.run), str(tmp_path), *form]) == 0
        said = raw.getvalue().decode(encoding)
        assert said.count(".png") == 3
        if form == ["--json"]:
            assert {Path(row["path"]).name for row in json.loads(said)} == {
                "a.png",
                "\u65e5\u672c.png",
                os.fsdecode(b"b\xe9.png"),
            }


def test_a_class_whose_name_is_no_text(home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(home.photos / "ant", tmp_path / "photos" / "ant")
    (tmp_path / "photos" / "ant" / f"{BAD}.png").unlink()
    shutil.copytree(home.photos / "bee", tmp_path / "photos" / os.fsdecode(b"b\xe9e"))
    small = "--model resnet20 --width 4 --image-size 16 --epochs 1 --name b".split()
    assert cli.run(["train", str(tmp_path / "photos"), *small]) == 0
    capsys.readouterr()
    assert cli.run(["evaluate", "b", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["classes"][1]["name"] == r"b\xe9e"
    assert cli.run(["export", "b", "--format", "safetensors"]) == 0
    assert cli.run(["export", "b"]) == (0 if importlib.util.find_spec("onnxscript") else 2)


@pytest.mark.parametrize("command", ["evaluate", "predict", "explain", "diagnose", "similar", "export", "train"])
def test_a_name_too_long_for_any_file_is_a_sentence(
    home: Home, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    long = "a" * 300
    words = {"train": [long], "similar": [long, str(home.image)], "predict": [long, str(home.image)]}
    assert cli.run([command, *words.get(command, [long])]) in (2, 65)
    _, err = capsys.readouterr()
    assert err.startswith("convscope: ")
    assert err.count("\n") == 1


def test_one_image_with_a_name_too_long_does_not_cost_the_others(home: Home) -> None:
    answers = convscope.predict(home.run, ["a" * 300 + ".png", str(home.image)])
    assert "error" in answers[0].to_json()
    assert "error" not in answers[1].to_json()


def test_data_in_a_folder_of_the_longest_name(home: Home, tmp_path: Path) -> None:
    long = tmp_path / ("\u65e5" * 85)
    shutil.copytree(home.photos / "bee", long / "bee")
    found = convscope.evaluate(home.run, long)
    assert read_json(found.folder / "evaluation.json")["n"] == 14
    assert (convscope.explain(home.run, long, **LITTLE).folder / "index.html").exists()


def test_a_file_of_the_longest_name_is_written(tmp_path: Path) -> None:
    for name in ("a" * 255, "\u65e5" * 85):
        commit_bytes(tmp_path / name, b"content")
        assert (tmp_path / name).read_bytes() == b"content"
    commit_json(tmp_path / ("b" * 250 + ".json"), {"a": 1})
    assert len([*tmp_path.iterdir()]) == 3


def test_names_that_are_cut_stay_apart() -> None:
    assert shortened("a" * LONGEST_NAME) == "a" * LONGEST_NAME
    cut = {shortened("a" * 300 + end) for end in "bcd"} | {shortened("\u65e5" * 100)}
    assert len(cut) == 4
    assert all(len(name.encode()) <= LONGEST_NAME + 9 for name in cut)
    assert folder_name("x/photo.jpg") == "photo"
    assert folder_name("...png") not in ("", ".", "..")
    assert folder_name("..") not in ("", ".", "..")
