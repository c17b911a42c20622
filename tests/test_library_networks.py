"""Networks of torchvision and timm by name: found, built from scratch, refused in a sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from convscope import cli
from convscope.errors import UnknownName, UsageError
from convscope.models import library_networks as zoo
from convscope.models.architecture import architecture_of
from convscope.models.registry import build, full_name


@pytest.mark.parametrize(
    ("name", "full", "image_size"),
    [
        ("resnet18", "torchvision:resnet18", 64),
        ("torchvision:alexnet", "torchvision:alexnet", 64),
        ("googlenet", "torchvision:googlenet", 64),
        ("timm:resnet10t", "timm:resnet10t", 32),
        ("resnet10t", "timm:resnet10t", 32),
        ("timm:test_vit", "timm:test_vit", 32),
        ("vit_b_16", "torchvision:vit_b_16", 32),
    ],
)
def test_they_are_found_and_start_fresh(name: str, full: str, image_size: int) -> None:
    assert full_name(name) == full
    architecture, network = architecture_of(name, image_size, {}, 7)
    assert architecture.name == full, "a run finds it again whatever is added to our own table"
    network.train()
    assert network(torch.rand(2, 3, image_size, image_size)).shape == (2, 7)
    other = build(full, 7, image_size, seed=0)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), other.parameters(), strict=True))


def test_ours_come_first() -> None:
    assert full_name("alexnet") == "alexnet"


@pytest.mark.parametrize(
    ("name", "image_size", "sentence"),
    [
        ("torchvision:alexnet", 32, "torchvision:alexnet cannot take images of 32 pixels"),
        ("vit_b_16", 30, "torchvision cannot build vit_b_16 for images of 30 pixels|cannot take images of 30"),
        ("timm:nothing", 32, "no model of timm named 'nothing'"),
        ("timn:resnet10t", 32, "no model named 'timn:resnet10t'"),
        ("resnt20", 32, "no model named 'resnt20'. Did you mean 'resnet20'"),
    ],
)
def test_what_cannot_be_built_is_one_sentence(name: str, image_size: int, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        architecture_of(name, image_size, {}, 10)


def test_they_take_no_options_of_ours() -> None:
    with pytest.raises(UsageError, match="resnet18 has no option 'width'"):
        architecture_of("resnet18", 32, {"width": 8}, 10)


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoo, "_library", lambda source: None)
    with pytest.raises(UsageError, match="timm:resnet10t is timm's, which is not installed: pip install timm"):
        build("timm:resnet10t", 10, 32)
    with pytest.raises(UnknownName, match="no model named 'resnet18'"):
        build("resnet18", 10, 32)


def test_one_of_them_trains_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "shapes", "--model", "timm:resnet10t", "--limit", "150", "--epochs", "1", "--runs", str(tmp_path)]
    assert cli.run([*words, "--json"]) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert Path(summary["run"]).name == "shapes-resnet10t-1"
    assert cli.run(["evaluate", summary["run"], "--json"]) == 0


def test_a_network_of_ones_own_must_outputs_logits(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("import torch\ndef make():\n    return torch.nn.Conv2d(3, 4, 3)\n")
    with pytest.raises(
        UsageError,
        match=r"must output \(1, 10\) logits for one image, one for each of 10 .* outputs \(1, 4, 30",
    ):
        architecture_of(f"{tmp_path / 'net.py'}:make", 32, {}, 10)
