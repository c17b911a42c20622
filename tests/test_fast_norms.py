"""Batch norms in one go with what stands beside them give what torch gives, whoever looks on."""

from __future__ import annotations

import copy
import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import convscope
from convscope.classifying.classifier import Classifier
from convscope.convolution import timing
from convscope.convolution.normalised import Row, RowShape, by_torch, normalise
from convscope.convolution.peaks import peaks
from convscope.convolution.timing import EPSILON, faster_rows
from convscope.explanation.ablation import ablate
from convscope.explanation.layers import find_layers
from convscope.images.preprocess import Preprocess
from convscope.models import fast_norms
from convscope.models.fast_convolutions import convolving
from convscope.models.fast_norms import rows_of
from convscope.models.recomputing import recomputing
from convscope.models.registry import build
from convscope.models.taps import computing_by, record
from convscope.training.runs import Run

LAST = torch.channels_last
POOLS = [(False, False), (True, False), (False, True)]
ROWS = [Row(before, activation, after) for before, after in POOLS for activation in (0, 1, 2)]
TIMED = timing.timed_row

pytestmark = pytest.mark.skipif(not timing.is_possible(), reason="Numba is not installed")


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def ours(x: Tensor, weight: Tensor, bias: Tensor, row: Row) -> Tensor:
    return normalise(x, weight, bias, EPSILON, row)


def passes(way, x: Tensor, weight: Tensor, bias: Tensor, row: Row) -> list[Tensor]:
    """The output, and the gradients of all three under a loss that weighs each output differently."""
    given = [t.detach().clone(memory_format=torch.preserve_format).requires_grad_() for t in (x, weight, bias)]
    out = way(*given, row)
    dz = drawn(*out.shape, seed=1).to(out.dtype).contiguous(memory_format=LAST)
    return [out.detach(), *torch.autograd.grad(out, given, dz)]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.sampled_from(ROWS), st.integers(1, 4), st.integers(1, 40), st.tuples(st.integers(2, 13), st.integers(2, 13)),
    st.floats(-20, 20), st.integers(0, 10**6),
)  # fmt: skip
def test_a_row_of_any_shape_is_that_of_torch_in_float64(row, images, channels, sides, mean, seed):  # noqa: PLR0913
    """Odd sides, one image, one channel, a mean far from 0; and the same bits on one thread and on two."""
    if row.after:
        sides = tuple(2 * side for side in sides)
    if images * math.prod(side // 2 if row.before else side for side in sides) < 8:
        return  # the gradients of two or three nearly equal numbers are those of their last digits
    x = (drawn(images, channels, *sides, seed=seed) + mean).contiguous(memory_format=LAST)
    weight, bias = drawn(channels, seed=seed + 1) + 1, drawn(channels, seed=seed + 2)
    right = passes(by_torch, x.double(), weight.double(), bias.double(), row)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(passes(ours, x, weight, bias, row))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    for name, mine, theirs in zip(("output", "images", "weight", "bias"), found[0], right, strict=True):
        scale = float(theirs.abs().max()) + (1 + abs(mean) if name in ("images", "weight") else 1)
        assert float((mine - theirs).abs().max()) <= 1e-5 * scale * math.sqrt(images * math.prod(sides)), name


def test_many_threads_give_the_same_bits_as_one():
    x, weight, bias = drawn(6, 24, 64, 64).contiguous(memory_format=LAST), drawn(24), drawn(24, seed=2)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found.append(passes(ours, x, weight, bias, Row(activation=2, after=True)))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("value", [math.nan, math.inf, 3e38])
@pytest.mark.parametrize("row", ROWS)
def test_what_is_no_number_spoils_its_channel_and_no_other(row: Row, value: float):
    x = drawn(2, 3, 8, 8).contiguous(memory_format=LAST)
    x[1, 1, 2, 2] = value
    weight, bias = torch.ones(3), torch.zeros(3)
    for mine, theirs in zip(*(passes(way, x, weight, bias, row) for way in (ours, by_torch)), strict=True):
        assert torch.equal(torch.isfinite(mine), torch.isfinite(theirs)) or value == 3e38  # torch sums in float32
        others = [0, 2]
        shown = mine[others] if mine.ndim == 1 else mine[:, others]
        assert torch.isfinite(shown).all()


def step(network: nn.Module, norms: list[str], images: Tensor) -> list[Tensor]:
    """The loss, all gradients and all running statistics after a step."""
    network = build_like(network)
    labels = torch.arange(len(images)) % 4
    with convolving(network, {}, norms):
        loss = F.cross_entropy(network(images), labels)
        loss.backward()
    assert "forward" not in {key for module in network.modules() for key in module.__dict__}
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    return [loss.detach(), *gradients, *network.buffers()]


def build_like(network: nn.Module) -> nn.Module:
    return copy.deepcopy(network).to(memory_format=LAST).train()


IMAGES = drawn(8, 3, 32, 32, seed=5).contiguous(memory_format=LAST)


@pytest.mark.parametrize("name", ["alexnet", "vgg", "speednet"])
def test_a_network_of_rows_learns_as_by_torch(name: str):
    network = build(name, 4, 32, seed=0)
    norms = list(rows_of(network, 32))
    assert len(norms) == sum(isinstance(m, nn.BatchNorm2d) for m in network.modules())
    found, right = step(network, norms, IMAGES), step(network, [], IMAGES)
    assert float(found[0]) == pytest.approx(float(right[0]), rel=1e-5)
    buffers = len(list(network.buffers()))
    for mine, theirs in zip(found[-buffers:], right[-buffers:], strict=True):
        assert torch.allclose(mine.double(), theirs.double(), rtol=1e-4, atol=1e-5)
    if name == "speednet":  # SiLU is smooth
        for mine, theirs in zip(found, right, strict=True):
            assert float((mine - theirs).abs().max()) <= 2e-4 * float(theirs.abs().max().clamp(min=1e-3))


def test_what_is_watched_is_what_the_layer_outputs():
    network = build_like(build("alexnet", 4, 32, seed=0))
    names = ["conv1", "norm1", "relu1", "pool1"]
    with convolving(network, {}, list(rows_of(network, 32))), record(network, names) as seen:
        network(IMAGES)
    assert (seen.outputs["norm1"] < 0).any()
    assert torch.equal(seen.outputs["relu1"], F.relu(seen.outputs["norm1"]))
    assert torch.equal(seen.outputs["pool1"], F.max_pool2d(seen.outputs["relu1"], 2))


def test_rows_are_found_with_what_stands_beside_the_norm():
    assert rows_of(build("alexnet", 4, 32), 32) == {
        f"norm{i}": RowShape(32 * 2**i, 64 >> i, 64 >> i, Row(False, 1, True)) for i in (1, 2, 3)
    }
    found = rows_of(build("speednet", 4, 32, seed=0), 32)
    assert found["norm1_1"] == RowShape(64, 31, 31, Row(True, 2, False))
    assert found["norm1_2"] == RowShape(64, 15, 15, Row(False, 2, False))
    assert not rows_of(build("resnet20", 4, 32), 32).keys() - {"bn1"}, "a block calls its layers by itself"


@pytest.mark.parametrize(
    ("layers", "row"),
    [
        ([nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.MaxPool2d(2)], Row(False, 1, True)),
        ([nn.MaxPool2d(2), nn.BatchNorm2d(4)], Row(True, 0, False)),
        ([nn.MaxPool2d(2), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)], Row(True, 1, False)),
        ([nn.BatchNorm2d(4), nn.MaxPool2d((2, 2), (2, 2))], Row(False, 0, True)),
        ([nn.BatchNorm2d(4, affine=False), nn.SiLU()], Row(False, 2, False)),
        ([nn.BatchNorm2d(4, momentum=None), nn.ReLU(), nn.MaxPool2d(3, 2)], Row(False, 1, False)),
        ([nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True)], Row(False, 1, False)),
        ([nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2, padding=1)], Row(False, 1, False)),
        ([nn.BatchNorm2d(4), nn.GELU(), nn.MaxPool2d(2)], None),
        ([nn.BatchNorm2d(4, track_running_stats=False), nn.ReLU()], None),
        ([nn.Identity(), nn.BatchNorm2d(4)], None),
    ],
    ids=str,
)
def test_other_layers_beside_a_norm_are_left_as_they_are(layers: list[nn.Module], row: Row | None):
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=False), *layers, nn.Flatten(), nn.LazyLinear(4))
    network(IMAGES)
    found = rows_of(network, 32)
    assert [shape.row for shape in found.values()] == ([row] if row else [])
    mine, theirs = step(network, list(found), IMAGES), step(network, [], IMAGES)
    for a, b in zip(mine, theirs, strict=True):
        assert torch.allclose(a.double(), b.double(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("fault", ["contiguous", "double", "evaluating", "autocast", "one number", "a slice"])
def test_where_a_row_cannot_be_torch_does_it(fault: str):
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()).to(memory_format=LAST)
    x = drawn(2, 3, 6, 6).contiguous(memory_format=LAST)
    twin = build_like(network)
    if fault == "contiguous":
        network, twin, x = (t.to(memory_format=torch.contiguous_format) for t in (network, twin, x))
    if fault == "double":
        network, twin, x = network.double(), twin.double(), x.double()
    if fault == "evaluating":
        network.eval(), twin.eval()
    if fault == "one number":
        with convolving(network, {}, ["1"]), pytest.raises(ValueError, match="more than 1 value"):
            network(x[:1, :, :1, :1])
        return
    with convolving(network, {}, ["1"]), torch.autocast("cpu", torch.bfloat16, enabled=fault == "autocast"):
        out = network[:2](x) if fault == "a slice" else network(x)
    with torch.autocast("cpu", torch.bfloat16, enabled=fault == "autocast"):
        right = twin[:2](x) if fault == "a slice" else twin(x)
    assert out.dtype == right.dtype
    assert torch.allclose(out, right, atol=1e-5)
    for mine, theirs in zip(network.buffers(), twin.buffers(), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-6)


def test_a_row_is_timed_and_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    shapes = [RowShape(4, 8, 8, Row(False, 1, True)), RowShape(4, 8, 8, Row(True, 2, False))]
    assert all(isinstance(TIMED(shape), bool) for shape in shapes)
    monkeypatch.setenv("CONVSCOPE_CACHE", str(tmp_path))
    asked: list[RowShape] = []
    monkeypatch.setattr(timing, "timed_row", lambda shape: (asked.append(shape), shape.row.after)[1])
    assert faster_rows(shapes) == {shapes[0]: True, shapes[1]: False} == faster_rows(shapes)
    assert asked == shapes


def test_a_run_records_its_rows_and_one_that_goes_from_layer_to_layer_has_none(tmp_path: Path):
    options = {"model": "speednet", "width": 4, "precision": "float32", "runs": tmp_path, "limit": 120, "epochs": 2}
    ways = {"a": {}, "b": {}, "watched": {"watch": True}, "saving": {"save_memory": True}}
    for name, more in ways.items():
        convscope.train("digits", name=name, convolution="winograd", **options, **more)
    convscope.train("digits", name="direct", convolution="direct", **options)
    rows = {name: Run(tmp_path / name).recipe().convolution.fused for name in (*ways, "direct")}
    assert rows["a"][:2] == rows["b"][:2] == ("norm1_1", "norm1_2")
    assert rows["watched"] == rows["saving"] == rows["direct"] == ()
    losses = {name: [row["train_loss"] for row in Run(tmp_path / name).log()] for name in rows}
    assert losses["a"] == losses["b"]
    assert losses["watched"] == losses["saving"]
    assert losses["a"] == pytest.approx(losses["direct"], rel=0.05)


@pytest.mark.parametrize("row", ROWS)
def test_in_evaluation_a_row_goes_by_the_running_statistics(row: Row):
    pool, act = nn.MaxPool2d(2), (None, nn.ReLU(), nn.SiLU())[row.activation]
    norm = nn.BatchNorm2d(5)
    layers = [pool if row.before else None, norm, act, nn.MaxPool2d(2) if row.after else None]
    network = nn.Sequential(*[layer for layer in layers if layer]).to(memory_format=LAST)
    for buffer in (norm.running_mean, norm.running_var, norm.weight, norm.bias):
        nn.init.uniform_(buffer, 0.5, 2)
    x = (3 * drawn(2, 5, 12, 8)).contiguous(memory_format=LAST)
    name = str(int(row.before))
    if len(network) == 1:
        return  # a norm by itself is no row
    network.eval()
    with torch.no_grad():
        right = network.double()(x.double())
        network.float()
        with convolving(network, {}, [name]):
            found = network(x)
    assert torch.allclose(found.double(), right, rtol=1e-5, atol=1e-5)
    with convolving(network, {}, [name]):  # with gradients it is torch's
        assert torch.equal(network(x), nn.Sequential.forward(network, x))


def test_a_classifier_answers_by_the_layers_its_training_found_faster(tmp_path: Path):
    options = {"model": "alexnet", "width": 8, "precision": "float32", "runs": tmp_path, "limit": 200, "epochs": 1}
    convscope.train("digits", name="fast", convolution="winograd", **options)
    convscope.train("digits", name="slow", convolution="direct", **options)
    fast, slow = (Classifier.load(tmp_path / name / "classifier.safetensors") for name in ("fast", "slow"))
    assert len(fast.faster()) == 2 + 1
    assert slow.faster() == {}
    seen = convscope.evaluate(tmp_path / "fast", part="val")
    assert seen.summary["top1"] == Run(tmp_path / "fast").log()[-1]["val_top1"]
    assert seen.summary["loss"] == Run(tmp_path / "fast").log()[-1]["val_loss"]
    assert "forward" not in {key for module in fast.network.modules() for key in module.__dict__}
    damaged = dataclasses.replace(fast, provenance={"recipe": {"convolution": {"tiles": [["conv2", -1, 99, "x"]]}}})
    assert damaged.faster() == {}


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(1, 5), st.integers(1, 300), st.tuples(st.integers(1, 17), st.integers(1, 17)), st.integers(0, 999))
def test_the_peaks_of_maps_are_those_of_torch(images: int, channels: int, sides: tuple[int, int], seed: int):
    x = drawn(images, channels, *sides, seed=seed).mul(3).round().contiguous(memory_format=LAST)  # with ties and zeros
    if seed % 5 == 0:
        x[0, 0, -1, -1] = math.nan
    highest, places, above = peaks(x)
    flat = x.flatten(2)
    assert torch.equal(highest.nan_to_num(99), flat.amax(2).nan_to_num(99))
    assert torch.equal(places, flat.nan_to_num(99).argmax(2))
    assert torch.equal(above, (flat > 0).sum((0, 2)).double())


def counted(monkeypatch: pytest.MonkeyPatch) -> list[Row]:
    """The rows that were computed in one go from here on."""
    seen: list[Row] = []
    for name in ("normalise", "normalise_by"):
        function = getattr(fast_norms, name)
        monkeypatch.setattr(fast_norms, name, lambda *a, f=function: (seen.append(a[4]), f(*a))[1])
    return seen


@pytest.mark.parametrize("name", ["alexnet", "vgg", "speednet"])
def test_rows_are_computed_in_one_go_unless_somebody_looks(name: str, monkeypatch: pytest.MonkeyPatch):
    network, seen = build_like(build(name, 4, 32, seed=0)), counted(monkeypatch)
    rows = rows_of(network, 32)
    norm = network.get_submodule(next(iter(rows)))
    with convolving(network, {}, list(rows)):
        network(IMAGES)
        assert seen == [shape.row for shape in rows.values()]
        network.eval()
        with torch.no_grad():
            network(IMAGES)
        assert len(seen) == 2 * len(rows)
        network(IMAGES)  # with gradients
        assert len(seen) == 2 * len(rows)
        network.train()
        with record(network, [next(iter(rows))]):
            network(IMAGES)
        assert len(seen) == 3 * len(rows) - 1
        with computing_by({norm: lambda x: x / 2}):
            out = network(IMAGES)
        assert len(seen) == 4 * len(rows) - 2
    with computing_by({norm: lambda x: x / 2}):
        assert torch.allclose(out, network(IMAGES), atol=1e-3)


def test_a_layer_that_stands_twice_in_a_sequence_is_called_twice():
    act, pool = nn.ReLU(), nn.MaxPool2d(2)
    first, second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
    layers = [first, nn.BatchNorm2d(4), act, pool, second, nn.BatchNorm2d(4), act, pool]
    network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(4 * 8 * 8, 4))
    rows = rows_of(network, 32)
    assert [shape.row for shape in rows.values()] == 2 * [Row(False, 1, True)]
    for mine, theirs in zip(step(network, list(rows), IMAGES), step(network, [], IMAGES), strict=True):
        assert torch.allclose(mine.double(), theirs.double(), rtol=1e-3, atol=1e-4)
    twin = build_like(network)
    with recomputing(twin):
        found = twin(IMAGES)
    assert torch.equal(found, build_like(network)(IMAGES))


@pytest.mark.parametrize("tiles", [{}, {"0": (4, 4, 4)}])
def test_what_comes_behind_may_work_in_place(tiles: dict):
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False), nn.ReLU(inplace=True), nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4),
        nn.MaxPool2d(2), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(4 * 15 * 15, 4),
    )  # fmt: skip
    mine, theirs = build_like(network), build_like(network)
    with convolving(mine, tiles, ["3"]):
        F.cross_entropy(mine(IMAGES), torch.arange(8) % 4).backward()
    F.cross_entropy(theirs(IMAGES), torch.arange(8) % 4).backward()
    for a, b in zip(mine.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(a.grad, b.grad, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("channels", [1, 300])
def test_other_channels_than_a_norm_has_get_the_sentence_of_torch(channels: int):
    network = nn.Sequential(nn.BatchNorm2d(3), nn.ReLU())
    x = drawn(2, channels, 4, 4).contiguous(memory_format=LAST)
    for training in (True, False):
        network.train(training)
        with convolving(network, {}, ["0"]), torch.no_grad(), pytest.raises(RuntimeError, match="running_mean"):
            network(x)


def test_one_number_behind_a_pool_is_refused_as_by_torch():
    network = nn.Sequential(nn.MaxPool2d(2), nn.BatchNorm2d(3))
    with convolving(network, {}, ["1"]), pytest.raises(ValueError, match="more than 1 value"):
        network(drawn(1, 3, 3, 3).contiguous(memory_format=LAST))


def test_silencing_a_filter_is_the_same_whatever_its_layers_are_computed_by():
    network = build_like(build("alexnet", 4, 32, seed=0)).eval()
    images = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), np.uint8)
    labels, preprocess = np.arange(40) % 4, Preprocess(32)
    found = []
    for norms in ([], list(rows_of(network, 32))):
        for layer in find_layers(network, torch.zeros(1, 3, 32, 32)):
            with convolving(network, {}, norms):
                found.append(ablate(network, images, labels, preprocess, layer, np.arange(40), [0, 1]))
    for plain, fast in zip(found[:3], found[3:], strict=True):
        assert plain.logit_lost.abs().max() > 0
        assert torch.allclose(plain.logit_lost, fast.logit_lost, atol=1e-4)


@pytest.mark.parametrize("threads", [1, 2])
def test_training_goes_on_after_a_validation_in_one_thread(tmp_path: Path, threads: int):
    before = torch.get_num_threads()
    options = {"model": "vgg", "width": 8, "precision": "float32", "runs": tmp_path, "limit": 120, "batch_size": 16}
    try:
        torch.set_num_threads(threads)
        convscope.train("digits", name="a", convolution="winograd", epochs=2, **options)
    finally:
        torch.set_num_threads(before)
    assert len(Run(tmp_path / "a").log()) == 2


def test_a_run_of_a_named_recipe_goes_on_by_the_same_command(tmp_path: Path):
    options = {"recipe": "speed-small", "width": 4, "precision": "float32", "runs": tmp_path, "limit": 60}
    options |= {"convolution": "winograd", "name": "a"}
    convscope.train("digits", epochs=1, **options)
    convscope.train("digits", epochs=1, resume=True, **options)
    report = convscope.train("digits", epochs=1, resume=True, watch=True, **options)
    assert any("watched by themselves" in note for note in report.notes)
