"""What people pass from Python, and what they see: paths or text, one image or several, notes, and names in full."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import convscope
from convscope import cli
from convscope.errors import UnknownName, UsageError
from convscope.evaluation.cli import print_evaluation, print_predictions
from convscope.training.runs import Run
from two_kinds import write_photos

TINY: dict[str, Any] = {
    "model": "resnet20",
    "width": 4,
    "image_size": 16,
    "epochs": 1,
    "flip": "none",
    "augment": "none",
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with photos of two classes, and run r of them."""
    folder = tmp_path_factory.mktemp("home")
    write_photos(folder / "photos", 12)
    convscope.train(folder / "photos", runs=folder / "runs", name="r", **TINY)
    return folder


IMAGE = "photos/ant/0.png"
LITTLE: dict[str, Any] = {"layer": ["conv1"], "seeds": 0, "ablate": 0}
FORMS: dict[str, Callable[[Any], Any]] = {
    "predict, one text": lambda h: convscope.predict("r", str(h / IMAGE), runs=h / "runs"),
    "predict, one path": lambda h: convscope.predict("r", h / IMAGE, runs=h / "runs"),
    "predict, paths": lambda h: convscope.predict("r", [h / IMAGE], runs=h / "runs"),
    "predict, text and path": lambda h: convscope.predict("r", (str(h / IMAGE), h / IMAGE), runs=h / "runs"),
    "predict, a generator": lambda h: convscope.predict("r", (h / IMAGE for _ in range(2)), runs=h / "runs"),
    "predict, runs as text": lambda h: convscope.predict("r", h / IMAGE, runs=text(h / "runs")),
    "predict, run as path": lambda h: convscope.predict(any_kind(h / "runs" / "r"), h / IMAGE),
    "predict, a Run": lambda h: convscope.predict(any_kind(Run(h / "runs" / "r")), h / IMAGE),
    "predict, a file": lambda h: convscope.predict(any_kind(h / "runs" / "r" / "classifier.safetensors"), h / IMAGE),
    "predict, a folder": lambda h: convscope.predict("r", h / "photos" / "ant", runs=h / "runs"),
    "evaluate, run as path": lambda h: convscope.evaluate(any_kind(h / "runs" / "r"), h / "photos"),
    "evaluate, run as text": lambda h: convscope.evaluate(str(h / "runs" / "r"), str(h / "photos")),
    "evaluate, runs as text": lambda h: convscope.evaluate("r", h / "photos", runs=text(h / "runs")),
    "diagnose, run as path": lambda h: convscope.diagnose(any_kind(h / "runs" / "r"), h / "photos"),
    "explain, run as path": lambda h: convscope.explain(any_kind(h / "runs" / "r"), h / "photos", **LITTLE),
    "explain an image": lambda h: convscope.explain_image(any_kind(h / "runs" / "r"), h / IMAGE, h / "photos"),
    "localize, run as path": lambda h: convscope.localize(any_kind(h / "runs" / "r"), text(h / "photos"), target="ant"),
    "similar, paths": lambda h: convscope.similar(any_kind(h / "runs" / "r"), h / IMAGE, h / "photos", engine="torch"),
    "similar, text": lambda h: convscope.similar(
        str(h / "runs" / "r"), str(h / IMAGE), str(h / "photos"), engine="torch"
    ),
    "export, output as text": lambda h: convscope.export(
        any_kind(h / "runs" / "r"), format="safetensors", output=text(h / "out")
    ),
    "export, output as path": lambda h: convscope.export(str(h / "runs" / "r"), format="safetensors", output=h / "out"),
    "train, runs as text": lambda h: convscope.train(str(h / "photos"), runs=text(h / "more"), **TINY),
    "load_dataset, a path": lambda h: convscope.load_dataset(h / "photos"),
    "predict, bytes": lambda h: convscope.predict(any_kind(bytes(h / "runs" / "r")), any_kind(bytes(h / IMAGE))),
    "predict, top of NumPy's": lambda h: convscope.predict(h / "runs" / "r", h / IMAGE, top=any_kind(np.int32(1))),
    "predict, a glob": lambda h: convscope.predict(h / "runs" / "r", h / "photos" / "ant" / "0.*"),
    "predict, Pillow's": lambda h: convscope.predict(h / "runs" / "r", Image.open(h / IMAGE)),
    "predict, an array": lambda h: convscope.predict(h / "runs" / "r", pixels(h)),
    "predict, arrays": lambda h: convscope.predict(h / "runs" / "r", [pixels(h), pixels(h) / 255]),
    "predict, a batch of arrays": lambda h: convscope.predict(h / "runs" / "r", np.stack([pixels(h), pixels(h)])),
    "predict, a tensor": lambda h: convscope.predict(h / "runs" / "r", torch.from_numpy(pixels(h)).permute(2, 0, 1)),
    "predict, image and path": lambda h: convscope.predict(h / "runs" / "r", [Image.open(h / IMAGE), str(h / IMAGE)]),
    "evaluate, bytes": lambda h: convscope.evaluate("r", as_bytes(h / "photos"), runs=as_bytes(h / "runs")),
    "evaluate, by name": lambda h: convscope.evaluate(run=h / "runs" / "r", data=h / "photos"),
    "evaluate, limit of NumPy's": lambda h: convscope.evaluate(
        h / "runs" / "r", h / "photos", part="all", limit=any_kind(np.int64(4))
    ),
    "explain, one layer, one filter": lambda h: convscope.explain(
        h / "runs" / "r", h / "photos", layer="conv1", filter=any_kind(1), seeds=0, ablate=0
    ),
    "explain, filters of an array": lambda h: convscope.explain(
        h / "runs" / "r", h / "photos", filter=any_kind(np.array([0, 2])), **LITTLE | {"seeds": 0.0}
    ),
    "explain an image, one method": lambda h: convscope.explain_image(
        h / "runs" / "r", str(h / IMAGE), h / "photos", methods="cam", layer="conv1"
    ),
    "diagnose, images of NumPy's": lambda h: convscope.diagnose(
        h / "runs" / "r", h / "photos", images=any_kind(np.int64(1))
    ),
    "train, numbers of NumPy's, a device of torch's": lambda h: convscope.train(
        any_kind(bytes(h / "photos")),
        runs=text(h / "more"),
        name="n",
        device=any_kind(torch.device("cpu")),
        lr=any_kind(np.float32(0.1)),
        amounts=any_kind({"rotate": np.float32(5)}),
        **TINY | {"epochs": np.int64(1)},
    ),
    "load_dataset, text and NumPy's": lambda h: convscope.load_dataset(
        str(h / "photos"), data_root=text(h), image_size=any_kind(np.int64(16)), limit=any_kind(np.int8(9))
    ),
    "load_dataset, bytes": lambda h: convscope.load_dataset(any_kind(bytes(h / "photos"))),
    "open_classifier, a path": lambda h: convscope.open_classifier(any_kind(h / "runs" / "r")),
    "open_classifier, a name": lambda h: convscope.open_classifier("r", str(h / "runs")),
    "open_classifier, a Run": lambda h: convscope.open_classifier(any_kind(Run(h / "runs" / "r"))),
    "a classifier, text": lambda h: saved(h, text),
    "a classifier, bytes": lambda h: saved(h, bytes),
    "save_example, text": lambda h: convscope.save_example(convscope.load_dataset(h / "photos"), str(h)),
    "model_table, NumPy's": lambda h: convscope.model_table("resnet20", image_size=any_kind(np.int64(16))),
    "prepare_training, bytes": lambda h: convscope.prepare_training(
        h / "photos", runs=any_kind(bytes(h / "more")), **TINY
    ),
}


def pixels(home: Path) -> np.ndarray:
    """The image, as a program holds it."""
    return np.array(Image.open(home / IMAGE))


def as_bytes(path: Path) -> Any:
    """A path as the bytes of its name."""
    return bytes(path)


def saved(home: Path, form: Callable[[Path], Any]) -> convscope.Classifier:
    """Save a classifier under a path in this form, and load it."""
    classifier, _ = convscope.open_classifier(str(home / "runs" / "r"))
    classifier.save(form(home / "copy.safetensors"))
    assert (home / "copy.json").exists()
    return convscope.Classifier.load(form(home / "copy.safetensors"))


def any_kind(value: Any) -> Any:
    """The value, for a parameter whose type does not name its kind."""
    return value


def text(path: Path) -> Any:
    """A path as text, where the type asks for a Path."""
    return str(path)


@pytest.mark.parametrize("form", FORMS)
def test_paths_and_text_do_wherever_either_does(home: Path, form: str) -> None:
    answer = FORMS[form](home)
    if form.startswith("predict"):
        several = {"predict, text and path": 2, "predict, a generator": 2, "predict, a folder": 12}
        several |= {"predict, arrays": 2, "predict, a batch of arrays": 2, "predict, image and path": 2}
        assert len(answer) == several.get(form, 1)


def test_an_image_in_memory_is_answered_as_its_file(home: Path) -> None:
    run, file = home / "runs" / "r", home / IMAGE
    images = [file, Image.open(file), pixels(home), pixels(home) / 255, torch.from_numpy(pixels(home)).permute(2, 0, 1)]
    answers = convscope.predict(run, images)
    assert all(isinstance(answer, convscope.Prediction) and answer.top == answers[0].top for answer in answers)
    assert [answer.path for answer in answers] == [str(file), str(file), "image 3", "image 4", "image 5"]
    assert convscope.predict(run, []) == []


NO_IMAGES: list[Any] = [
    3,
    None,
    3.5,
    object(),
    [3],
    [None],
    {"a.png": 3}.values(),
    np.full((4, 4, 3), 7.0),
    np.array(3),
]


@pytest.mark.parametrize("images", NO_IMAGES, ids=map(str, range(len(NO_IMAGES))))
def test_what_is_no_image_is_a_sentence(home: Path, images: Any) -> None:
    with pytest.raises(UsageError, match=r"^(images takes a string, a path, |an image in memory is ).*\.$"):
        convscope.predict(home / "runs" / "r", images)


def test_one_claim_is_not_its_letters() -> None:
    with pytest.raises(UnknownName, match=r"no claim named 'locations'\. Did you mean 'location'"):
        convscope.study("locations")


def test_a_text_is_one_image_and_not_its_letters(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    (answer,) = convscope.predict(str(home / "runs" / "r"), "0.png")
    assert answer.to_json() == {"path": "0.png", "error": "does not exist"}


@pytest.mark.parametrize(
    "name", ["~x.png", "~nobody-has-this-home.png", "~.png", "~", "~~.png", "~nobody-has-this/x.png"]
)
def test_a_name_may_begin_with_a_tilde(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    shutil.copy(home / IMAGE, tmp_path / name)
    (answer,) = convscope.predict(str(home / "runs" / "r"), name)
    assert "error" not in answer.to_json()
    (tmp_path / name).unlink()
    for other in ("~nobody-has-that/y.png", "~nobody-has-that.png"):
        (answer,) = convscope.predict(str(home / "runs" / "r"), other)
        assert answer.to_json()["error"] == "does not exist"


def test_a_report_holds_its_notes(home: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    shutil.copytree(home / "photos", photos)
    (photos / "ant" / "broken.png").write_bytes(b"")
    shutil.copy(photos / "ant" / "1.png", photos / "bee" / "same.png")
    trained = convscope.train(photos, name="n", bad_images="skip", **TINY)
    told = " ".join(trained.notes)
    assert "left out" in told
    assert "under more than one class" in told
    assert trained.summary["notes"] == list(trained.notes)
    assert "left out" in trained._repr_html_()
    found = convscope.evaluate("n")
    assert any("left out" in note for note in found.notes)
    assert "left out" in found._repr_html_()


NAMES = ["IMG_20240714_101011.png", "a" * 60 + "1.png", "a" * 60 + "2.png", "日本語" * 8 + "1.png"]
FOLDER = "/home/somebody/2024-07-14-garden-party-at-grandmothers"


@pytest.mark.parametrize("columns", [None, 40, 80, 200])
def test_no_table_cuts_a_name(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int | None
) -> None:
    """In a pipe, or on a screen of so many columns: every character of each name is there, if in several lines."""
    if columns is not None:
        for variable, value in (("COLUMNS", str(columns)), ("TTY_COMPATIBLE", "1"), ("NO_COLOR", "1")):
            monkeypatch.setenv(variable, value)
    label = "a-long-label" * 4
    top = [{"label": label, "probability": 0.9}]
    rows: list[dict[str, Any]] = [
        {"path": f"{FOLDER}/{name}", "label": label, "probability": 0.9}
        | {"one_view": None, "top": top, "refused": False}
        for name in NAMES
    ]
    rows.append({"path": "/home/somebody/unreadable" + "b" * 40, "error": "truncated"})
    print_predictions(rows)
    out = capsys.readouterr().out
    assert "…" not in out
    letters = out.replace("\n", "").replace(" ", "")
    assert letters.count("日") == 8
    assert letters.count("b") >= 40
    if columns is None or columns == 200:
        assert all(row["path"] in out for row in rows if len(row["path"]) < 100)


def test_names_of_classes_are_not_cut(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary = convscope.evaluate(str(home / "runs" / "r"), home / "photos").summary
    long = "a class with a name of sixty letters, which somebody did give it"
    print_evaluation(summary | {"classes": [summary["classes"][0] | {"name": long}]}, home)
    assert long in capsys.readouterr().out


NETS = """
import torch
from torch import nn
class Base(nn.Module):
    def __init__(s, k):
        super().__init__()
        s.c, s.f = nn.Conv2d(3, 8, 3), nn.Linear(8, k)
    def forward(s, x):
        return s.f(s.c(x).relu().mean((2, 3)))
class Branch(Base):
    def forward(s, x):
        return super().forward(x * 2 if x.mean() > 0 else x)
class Double(Base):
    def __init__(s, k):
        super().__init__(k)
        s.double()
    def forward(s, x):
        return super().forward(x.double())
def branch(num_classes): return Branch(num_classes)
def double(num_classes): return Double(num_classes)
def script(num_classes): return torch.jit.script(Base(num_classes))
"""


@pytest.mark.parametrize("name", ["branch", "double", "script"])
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")
def test_what_onnx_cannot_take_is_a_sentence(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    pytest.importorskip("onnxscript")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text(NETS)
    photos, model = str(home / "photos"), ["--model", f"nets.py:{name}"]
    assert cli.run(["train", photos, *model, "--image-size", "16", "--epochs", "1", "--name", name]) == 0
    capfd.readouterr()
    code = cli.run(["export", name, *model])
    err = re.sub("^still at work.*\n", "", capfd.readouterr().err, flags=re.MULTILINE)  # on a busy machine
    if code == 0:  # a later torch may take it
        return
    assert code == 2
    assert err.startswith("convscope: this network cannot be written as ONNX: ")
    assert ". export --format safetensors keeps it" in err
    assert err.count("\n") == 1
    assert cli.run(["export", name, *model, "--format", "safetensors"]) == 0
    capfd.readouterr()
    for engine, expected in (("auto", 0), ("onnxruntime", 2)) if name != "script" else ():  # which has no head to cut
        code = cli.run(["similar", name, str(home / IMAGE), *model, "--engine", engine, "--json"])
        out, err = capfd.readouterr()
        assert code == expected, out + err
        assert "this network cannot be written as ONNX: " in out + err
        assert "--engine torch does without." in out + err
        if expected == 0:
            (note,) = [note for note in json.loads(out)["notes"] if "ONNX" in note]
            assert note.startswith("these features are torch's: ")
            assert err == ""
