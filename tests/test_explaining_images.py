"""One image taken apart: the evidence at once, then the rest, and nothing computed again that was recorded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import convscope
from convscope import cli
from convscope.classifying.classifier import Classifier
from convscope.datasets.named_before import remember
from convscope.explanation import image_command
from convscope.explanation.attribution import METHODS
from convscope.explanation.cards import LayerCards
from convscope.explanation.image_command import Answered, Compared, Looked, explaining_image
from convscope.explanation.image_report import ImageReport
from convscope.models.registry import build
from convscope.training.runs import Run


def draw(folder: Path, name: str, seed: int) -> Path:
    y, x = np.mgrid[:48, :48]
    random = np.random.default_rng(seed)
    wave = ((x if name == "upright" else y) // int(random.integers(3, 8))) % 2 * 200
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{seed}.png"
    Image.fromarray((wave[..., None] * random.uniform(0.3, 1, 3)).astype(np.uint8)).save(path)
    return path


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("waves")
    for seed in range(24):
        for name in ("upright", "level"):
            draw(root / name, name, seed)
    return root


@pytest.fixture
def run(images: Path, tmp_path: Path) -> Run:
    """A transfer; its features are recorded in the test's own cache."""
    remember(images)
    made = convscope.transfer(images, name="t", runs=tmp_path / "runs", image_size=64, engine="torch", fcnn="none")
    return made.run


def test_the_evidence_comes_first_and_before_the_data_are_read(
    run: Run, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_args: object) -> None:
        raise AssertionError("the data are read")

    monkeypatch.setattr(image_command, "open_subject", refused)
    first = next(iter(explaining_image(str(run.folder), images / "level" / "3.png")))
    assert isinstance(first, Answered)
    lines = cli_lines(first)
    assert lines[0].endswith("(logits)")
    assert any(line.startswith("pushed for ") for line in lines)
    assert first.evidence.lead > 0


def cli_lines(event: Answered) -> list[str]:
    from convscope.explanation.cli import image_lines

    return image_lines(event)


def test_recorded_features_are_found_and_each_answer_comes_as_it_is_made(
    run: Run, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_args: object, **_options: object) -> None:
        raise AssertionError("another pass")

    monkeypatch.setattr(image_command, "head_inputs", refused)
    train = len(convscope.load_dataset(str(images)).parts["train"])
    events = list(explaining_image(str(run.folder), images / "level" / "3.png"))
    kinds = [type(event) for event in events]
    looked = [event for event in events if isinstance(event, Looked)]
    assert kinds == [Answered, Compared, *[Looked] * len(looked), LayerCards, ImageReport]
    assert [event.method for event in looked] == list(METHODS)
    compared = events[1]
    assert isinstance(compared, Compared)
    assert compared.recorded == compared.searched == train
    assert compared.nearest[0]["cosine"] == pytest.approx(1, abs=1e-4) or compared.nearest[0]["label"] == "level"


def test_only_what_is_not_recorded_passes_the_network(
    run: Run, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other data, some of whose images are the recorded ones."""
    other = tmp_path / "other"
    for name in ("upright", "level"):
        for seed in range(40):
            draw(other / name, name, seed)
    remember(other)
    passed: list[int] = []
    plain = image_command.head_inputs

    def counted(network, images, preprocess, index, *rest):
        passed.extend(index.tolist())
        return plain(network, images, preprocess, index, *rest)

    monkeypatch.setattr(image_command, "head_inputs", counted)
    events = explaining_image(str(run.folder), other / "level" / "30.png", other)
    assert isinstance(next(events), Answered)
    compared = next(events)
    assert isinstance(compared, Compared)
    assert 0 < compared.recorded < compared.searched
    assert len(passed) == compared.searched - compared.recorded
    assert compared.nearest[0]["label"] == "level"


def test_a_costly_network_sees_fewer_images_and_says_so(
    run: Run, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_command, "GFLOP", 0.0)
    monkeypatch.setattr(image_command, "LEAST_IMAGES", 7)
    monkeypatch.setattr(image_command, "find_recorded", lambda *_: None)
    made = convscope.explain_image(str(run.folder), images / "level" / "3.png", methods=["cam"])
    assert any("among 7 of the" in note for note in made.summary["notes"])
    assert any("the best of 7 images of" in note for note in made.summary["notes"])


@pytest.mark.parametrize("head", [{"head": "knn", "rows": 5}, {"head": "fcnn"}, {"head": "linear"}])
def test_every_head_has_images_that_are_alike(head: dict[str, object], images: Path, tmp_path: Path) -> None:
    remember(images)
    preprocess = convscope.Preprocess(32)
    network = build("timm:resnet10t", 2, 32, head)
    path = tmp_path / "net.safetensors"
    architecture = image_architecture(head)
    Classifier(network.eval(), ("level", "upright"), preprocess, architecture, {}).save(path)
    made = convscope.explain_image(
        path, images / "level" / "3.png", images, methods=["grad-cam"], runs=tmp_path / "runs"
    )
    assert len(made.summary["nearest"]) == 8


def image_architecture(head: dict[str, object]):
    from convscope.models.architecture import Architecture

    return Architecture("timm:resnet10t", 32, head)


def test_json_is_one_object(run: Run, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["explain", str(run.folder), "--image", str(images / "level" / "3.png"), "--method", "cam"]
    assert cli.run([*words, "--json"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1
    assert cli.run(words) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].endswith("(logits)")
    assert said[-1].startswith("written: ")
