"""`convscope diagnose` from end to end: runs, models, networks of one's own; what is written; what cannot be done."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import convscope
from convscope import cli
from convscope.datasets.registry import DATASETS, load_dataset
from convscope.datasets.unsplit import Unsplit
from convscope.diagnosis.report import DiagnoseReport
from convscope.errors import ConvscopeError, DataError, StorageError, UnknownName, UsageError
from convscope.models.registry import build
from convscope.models.taps import count_hooks
from convscope.storage import read_json
from convscope.training.runs import Run
from convscope.training.session import WATCHED
from convscope.training.watching import watching

OPTIONS = {"model": "resnet20", "width": 4, "epochs": 1, "batch_size": 32, "image_size": 16, "limit": 240}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("runs")
    convscope.train("shapes", name="seen", runs=place, watch=True, **OPTIONS)
    convscope.train("shapes", name="unseen", runs=place, **OPTIONS | {"model": "alexnet", "width": 4})
    return place


@pytest.fixture(scope="module")
def found(runs: Path) -> DiagnoseReport:
    return convscope.diagnose("seen", norm="bn1:2", runs=runs)


def test_a_watched_run_is_diagnosed_from_its_start_on(found: DiagnoseReport, runs: Path):
    assert list(found.states) == ["start", "now"]
    start, now = found.states["start"], found.states["now"]
    assert start.gradients.names == now.gradients.names
    assert start.gradients.loss > now.gradients.loss > 0
    assert start.gradients.off < 1e-5 > now.gradients.off
    assert found.watched is not None
    steps = len(found.watched.losses)
    assert found.summary["watched"] == {"looks": 1 + (steps - 1) // 10, "steps": steps, "every": 10}
    assert found.norm is not None
    assert (found.norm.channel, found.norm.off < 1e-4) == (2, True)
    written = {path.name for path in (runs / "seen" / "diagnose").iterdir()}
    assert written >= {"diagnose.json", "index.html", "factors.png", "watched.png", "norm.png", Path(WATCHED).name}
    page = (runs / "seen" / "diagnose" / "index.html").read_text()
    assert page.count("data:image/png;base64,") == 3
    assert not re.search(r"(src|href)=.(https?:|/)", page)
    assert read_json(runs / "seen" / "diagnose" / "diagnose.json") == json.loads(json.dumps(found.summary))


def test_the_jacobians_of_a_residual_run(found: DiagnoseReport):
    factors = found.summary["states"]["now"]["jacobians"]
    assert [f["name"] for f in factors][:2] == ["conv1", "layer1.0"]
    by_name = {f["name"]: f for f in factors}
    assert by_name["layer1.0"]["total_least"] is not None
    assert by_name["layer2.0"]["total_least"] is None
    state = found.summary["states"]["now"]
    assert state["norm_end_to_end"] <= state["norm_bound"]
    assert found._repr_png_().startswith(b"\x89PNG")  # type: ignore[union-attr]


def test_a_run_that_was_not_watched_says_so(runs: Path):
    found = convscope.diagnose("unseen", runs=runs)
    assert found.watched is None
    assert any("--watch" in note for note in found.summary["notes"])
    assert found.verdict.evidence.steps == 1  # epochs stand for steps


def test_the_network_of_the_run_is_as_it_was(runs: Path):
    before = (runs / "seen" / "classifier.safetensors").read_bytes()
    convscope.diagnose("seen", runs=runs, images=1)
    assert (runs / "seen" / "classifier.safetensors").read_bytes() == before


def test_a_model_by_name_is_looked_at_before_it_is_trained(tmp_path: Path):
    found = convscope.diagnose("plain20", "digits", runs=tmp_path, images=1)
    assert list(found.states) == ["start"]
    assert found.folder == tmp_path / "plain20" / "diagnose" / "digits"
    assert "random" in found.summary["notes"][0]
    with pytest.raises(UsageError, match="name a dataset to diagnose it on"):
        convscope.diagnose("plain32", runs=tmp_path)


class Wide(nn.Module):
    """A network of one's own that gives a tuple and uses a module twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)
        self.head = nn.Linear(3 * 64, 6)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = torch.relu(self.norm(self.conv(torch.relu(self.conv(x)))))
        return self.head(nn.functional.adaptive_avg_pool2d(x, 8).flatten(1)), x


def test_a_network_of_ones_own_with_what_was_seen_of_its_training(tmp_path: Path):
    class Logits(Wide):
        def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
            return super().forward(x)[0]

    torch.manual_seed(0)
    network, start = Logits(), Logits()
    start.load_state_dict(network.state_dict())
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    generator = torch.Generator().manual_seed(0)
    with watching(network, 2) as watch:
        for _ in range(4):
            loss = network(torch.randn(8, 3, 32, 32, generator=generator)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watch.step(loss.item())
    found = convscope.diagnose(network, "shapes", start=start, watched=watch.watched(), runs=tmp_path, double=True)
    assert list(found.states["now"].gradients.names) == ["conv", "conv (call 2)", "head"]
    assert found.summary["watched"]["looks"] == 2
    assert count_hooks(network) == 0
    assert network.training


def test_layers_can_be_named(runs: Path):
    found = convscope.diagnose("seen", layer=["layer1.2", "layer3.2"], runs=runs, images=1)
    assert found.states["now"].gradients.names == ("layer1.2", "layer3.2", "the rest")
    with pytest.raises(UnknownName, match="layer9"):
        convscope.diagnose("seen", layer=["layer9"], runs=runs)


def test_what_cannot_be_asked_is_told(runs: Path, tmp_path: Path):
    with pytest.raises(UsageError, match="leaves nothing to measure"):
        convscope.diagnose("seen", images=0, runs=runs)
    with pytest.raises(UsageError, match=r"such as bn1:3"):
        convscope.diagnose("seen", norm="bn1:x", runs=runs)
    with pytest.raises(UnknownName, match="no batch norm named 'conv1'"):
        convscope.diagnose("seen", norm="conv1", runs=runs)
    with pytest.raises(DataError, match="name the data it was trained on"):
        convscope.diagnose("seen", "digits", runs=runs)

    class Needy(nn.Module):
        def forward(self, x: Tensor, more: Tensor) -> Tensor:
            return x + more

    with pytest.raises(UsageError, match="Needy cannot take images"):
        convscope.diagnose(Needy(), "shapes", runs=tmp_path)


def test_weights_that_are_no_numbers_are_named(runs: Path, tmp_path: Path):
    network = convscope.open_classifier("seen", runs)[0].network
    with torch.no_grad():
        network.get_parameter("layer2.1.conv1.weight")[0, 0] = torch.nan
    found = convscope.diagnose(network, "shapes", runs=tmp_path)
    assert found.verdict.fault == "not-a-number"
    assert "layer2.1.conv1.weight" in found.sentence()
    assert found.states == {}
    assert json.dumps(found.summary, allow_nan=False)


def test_one_image_in_training_mode_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("convscope.diagnosis.command.SAMPLE", 1)

    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 6), nn.BatchNorm1d(6))

        def forward(self, x: Tensor) -> Tensor:
            return self.layers(x)

    with pytest.raises(UsageError, match=r"\(1, 3, 32, 32\): Expected more than 1 value per channel"):
        convscope.diagnose(Flat(), "shapes", runs=tmp_path)


def test_a_full_disk_is_told_and_leaves_nothing_torn(runs: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> None:
        raise StorageError("no room")

    before = (runs / "seen" / "diagnose" / "diagnose.json").read_bytes()
    monkeypatch.setattr("convscope.diagnosis.report.write_derived", full)
    with pytest.raises(StorageError, match="no room"):
        convscope.diagnose("seen", runs=runs, images=1)
    assert (runs / "seen" / "diagnose" / "diagnose.json").read_bytes() == before


def test_the_command_line(runs: Path, capsys: pytest.CaptureFixture[str]):
    assert cli.run(["diagnose", "seen", "--norm", "bn1:1", "--images", "1", "--runs", str(runs)]) == 0
    out = capsys.readouterr().out
    assert "start:" in out
    assert "now:" in out
    assert "bn1:1: mu" in out
    assert cli.run(["diagnose", "seen", "--images", "1", "--runs", str(runs), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert np.isfinite(summary["states"]["now"]["reach"])


def test_a_run_that_diverged_in_its_first_epoch_is_told_why(tmp_path: Path):
    with pytest.raises(ConvscopeError, match="learning rate"):
        convscope.train("shapes", name="wild", runs=tmp_path, watch=True, **OPTIONS | {"lr": 1e8})
    found = convscope.diagnose("wild", runs=tmp_path)
    assert found.verdict.findings[0].fault == "rate-too-high"
    assert list(found.states) == ["start"]
    assert any("left no weights" in note for note in found.summary["notes"])
    assert "ran away" in found.sentence()
    with pytest.raises(UsageError, match="no classifier yet"):
        convscope.evaluate("wild", runs=tmp_path)


def test_a_run_that_got_past_its_divergence_is_not_accused_of_it(tmp_path: Path):
    convscope.train("shapes", name="tamed", runs=tmp_path, **OPTIONS)
    run = Run(tmp_path / "tamed")
    details = {"step": 2, "lr": 0.1, "loss": "inf", "images": []}
    run.log_divergence({"epoch": len(run.log()), **details})
    assert run.diverged() is None
    assert "ran away" not in convscope.diagnose("tamed", runs=tmp_path, images=1).sentence()
    run.log_divergence({"epoch": len(run.log()) + 1, **details})
    assert run.diverged() is not None
    assert "ran away" in convscope.diagnose("tamed", runs=tmp_path, images=1).sentence()


@pytest.mark.parametrize("name", ["pretrained:nonsense", "lost.safetensors", "shapes-alexnt"])
def test_a_name_that_is_nothing_is_told_as_every_command_tells_it(name: str, tmp_path: Path):
    def told(command: Callable[..., object]) -> str:
        with pytest.raises(ConvscopeError) as caught:
            command(name, runs=tmp_path)
        return str(caught.value)

    assert told(convscope.diagnose) == told(convscope.evaluate) == told(convscope.explain)


@pytest.mark.parametrize(("depth", "fault"), [(24, "exploding"), (44, "not-a-number")])
def test_a_network_that_explodes_beyond_all_bounds_is_still_told(depth: int, fault: str, tmp_path: Path):
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for place in range(depth):
        conv = nn.Conv2d(16 if place else 3, 16, 3, padding=1)
        nn.init.normal_(conv.weight)
        layers += [conv, nn.ReLU()]
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 6))
    found = convscope.diagnose(network, load_dataset("shapes", image_size=8), runs=tmp_path)
    assert found.verdict.fault == fault
    read = json.loads((found.folder / "diagnose.json").read_text())
    state = read["states"]["now"]
    if depth == 24:
        assert state["norm_end_to_end"] > 1e18
        assert state["norm_bound"] >= state["norm_end_to_end"]
        assert state["reach_difference"] < 1e-5
    else:
        assert state["loss"] is None
        assert any("beyond float32" in note for note in read["notes"])
    assert (found.folder / "index.html").stat().st_size > 10_000


def test_what_was_frozen_at_the_start_is_a_note_and_no_fault(tmp_path: Path):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3, stride=4), nn.ReLU(), nn.Flatten(), nn.LazyLinear(6))
    network(torch.zeros(1, 3, 32, 32))
    network[0].requires_grad_(False)
    start = deepcopy(network)
    with torch.no_grad():
        network[3].weight += 0.01
    found = convscope.diagnose(network, "shapes", start=start, runs=tmp_path)
    assert "frozen" not in [f.fault for f in found.verdict.findings]
    assert any("0.bias, 0.weight" in note for note in found.summary["notes"])


def test_a_network_whose_norms_have_seen_nothing_is_taken_for_fresh(tmp_path: Path):
    """At test time a fresh residual network doubles its signal at each block; that is no fault of the network."""
    images = load_dataset("shapes", image_size=8)
    found = convscope.diagnose(build("resnet44", 6, 8, {"width": 4}, seed=0), images, runs=tmp_path)
    assert found.verdict.fault == "healthy"
    assert list(found.states) == ["start"]
    assert found.states["start"].jacobians is not None
    assert found.states["start"].jacobians.end_to_end.norm < 100


def holding(kind: str) -> Unsplit:
    """Images of two classes that hold next to nothing, or something that has nothing to do with their class."""
    rng = np.random.default_rng(0)
    shape, low = (100, 16, 16, 3), rng.integers(0, 200, (100, 1, 1, 1))
    made = {
        "black": rng.integers(0, 2, shape),
        "one colour each": np.broadcast_to(low, shape),
        "noise of a camera in the dark": rng.integers(2, 5, shape),
        "12 bits of 16": rng.integers(0, 16, shape),
        "near white": rng.integers(245, 256, shape),
        "narrow, elsewhere in each": low + rng.integers(0, 20, shape),
        "noise": rng.integers(0, 256, shape),
        "fog": rng.integers(150, 231, shape),
    }[kind]
    labels = np.random.default_rng(1).integers(0, 2, 100)
    given = np.array(["train"] * 80 + ["val"] * 20)
    return Unsplit("ours", ("a", "b"), labels, given, 16, arrays=made.astype(np.uint8))


@pytest.mark.parametrize(
    ("kind", "empty"),
    [
        ("black", True),
        ("one colour each", True),
        ("noise of a camera in the dark", True),
        ("12 bits of 16", True),
        ("near white", True),
        ("narrow, elsewhere in each", True),
        ("noise", False),
        ("fog", False),
    ],
)
def test_images_that_hold_nothing_are_blamed_first(
    kind: str, empty: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(DATASETS, "ours", lambda root, progress: holding(kind))
    convscope.train("ours", name="r", runs=tmp_path, model="resnet20", width=4, epochs=2)
    found = convscope.diagnose("r", runs=tmp_path, images=1)
    assert (found.verdict.fault == "empty-images") == empty, found.sentence()
    if empty:
        assert "images" in found.sentence()
        assert "--stretch" in found.verdict.findings[0].then


class Twice(nn.Module):
    """A network with the logits of two places of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10))

    def forward(self, images: Tensor) -> Any:
        logits = self.body(images)
        return torch.stack([logits, logits], 1)


class Pair(Twice):
    """One with its features beside the logits."""

    def forward(self, images: Tensor) -> Any:
        return self.body(images), images


def test_outputs_that_are_no_logits_are_told(tmp_path: Path):
    with pytest.raises(UsageError, match=r"Twice outputs \(1, 2, 10\) for one image, and logits are \(1, classes\)"):
        convscope.diagnose(Twice(), "digits", runs=tmp_path)
    with pytest.raises(UsageError, match="Pair outputs a tuple: let its forward return the logits alone"):
        convscope.explain(Pair(), "digits", runs=tmp_path)
    assert convscope.diagnose(Pair(), "digits", runs=tmp_path).states  # among others they are found
    logits = Twice().body
    assert convscope.diagnose(logits, "digits", runs=tmp_path).states
    assert list(convscope.explain(logits, "digits", runs=tmp_path, seeds=0, ablate=0, limit=200).layers) == ["0"]
    explained = convscope.explain(Twice(), "digits", runs=tmp_path, seeds=0, ablate=0, limit=200)
    assert list(explained.layers) == ["body.0"]


def test_the_start_may_be_a_copy_of_the_state_dict(tmp_path: Path):
    torch.manual_seed(0)
    network = Twice().body
    start = deepcopy(network.state_dict())
    with torch.no_grad():
        network[0].weight += 0.1
    by_state = convscope.diagnose(network, "digits", start=start, runs=tmp_path)
    begun = Twice().body
    begun.load_state_dict(start)
    by_network = convscope.diagnose(network, "digits", start=begun, runs=tmp_path)
    assert by_state.states["start"].gradients.loss == by_network.states["start"].gradients.loss
    compiled = {f"_orig_mod.{name}": value for name, value in start.items()}
    by_compiled = convscope.diagnose(network, "digits", start=compiled, runs=tmp_path)
    assert by_compiled.states["start"].gradients.loss == by_state.states["start"].gradients.loss
    for same in (network.state_dict(), network):
        with pytest.raises(UsageError, match="start holds the weights of the network itself"):
            convscope.diagnose(network, "digits", start=same, runs=tmp_path)
    with pytest.raises(UsageError, match=r"start is no state dict of this network: .*Missing key"):
        convscope.diagnose(network, "digits", start={"a": torch.zeros(1)}, runs=tmp_path)
    with pytest.raises(UsageError, match="or its state dict, not a int"):
        convscope.diagnose(network, "digits", start=3, runs=tmp_path)
    unmoved = convscope.diagnose(network, "digits", start=deepcopy(network), runs=tmp_path)
    assert "no weight has moved by a bit: the optimizer holds" in unmoved.sentence()
