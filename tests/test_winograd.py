"""Convolutions with fewer multiplications give what direct ones do, in all three passes, chosen by the clock."""

from __future__ import annotations

import json
import math
import os
import stat
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import convscope
import slow_winograd
from convscope.convolution import timing
from convscope.convolution.minimal_filtering import Filtering
from convscope.convolution.passes import DIRECT, Passes, convolve
from convscope.convolution.timing import SIZES, Shape, fastest_tiles, usual_tiles
from convscope.models.fast_convolutions import convolving, shapes_of
from convscope.models.registry import build
from convscope.storage import file_hash
from convscope.training.runs import Run

FILTERINGS = [Filtering(m, r) for r in (3, 5) for m in SIZES if m + r - 1 <= 8]
NEAR = 3e-5  # of the largest sum of absolute products: float32 through the larger tiles
LAST = torch.channels_last
TIMED = timing.timed  # as it is; no test but those here times a layer

needs_numba = pytest.mark.skipif(not timing.is_possible(), reason="Numba is not installed")


@pytest.mark.parametrize("filtering", FILTERINGS, ids=str)
def test_the_maps_are_exact(filtering: Filtering):
    """One axis, in fractions: no rounding is left to hide behind."""
    m, r, side = filtering.outputs, filtering.filter_size, filtering.side
    tile, taps = [Fraction(i * i - 7, 3) for i in range(side)], [Fraction(2 * i + 1, 5) for i in range(r)]

    def times(matrix, values):
        return [sum((a * b for a, b in zip(row, values, strict=True)), Fraction(0)) for row in matrix]

    products = [a * b for a, b in zip(times(filtering.input_map, tile), times(filtering.filter_map, taps), strict=True)]
    direct = [sum((tile[i + j] * taps[j] for j in range(r)), Fraction(0)) for i in range(m)]
    assert times(filtering.output_map, products) == direct


@pytest.mark.parametrize("filtering", FILTERINGS, ids=str)
def test_the_twin_and_its_gradients_are_right_in_float64(filtering: Filtering):
    draw = torch.Generator().manual_seed(0)
    r = filtering.filter_size
    x = torch.randn(2, 2, 7, 6, dtype=torch.float64, generator=draw, requires_grad=True)
    w = torch.randn(2, 2, r, r, dtype=torch.float64, generator=draw, requires_grad=True)
    assert torch.allclose(slow_winograd.convolve(x, w, filtering, (1, 2)), F.conv2d(x, w, padding=(1, 2)), atol=1e-11)
    assert torch.autograd.gradcheck(
        lambda a, b: slow_winograd.convolve(a, b, filtering, (1, 2)), (x, w), fast_mode=True
    )


def passes_of(filtering: Filtering) -> Passes:
    return Passes(filtering, filtering, filtering)


def all_passes(x: Tensor, w: Tensor, dy: Tensor, padding: tuple[int, int], passes: Passes | None) -> list[Tensor]:
    """Outputs and both gradients; by torch where there are no passes."""
    x, w = x.clone(memory_format=torch.preserve_format).requires_grad_(), w.clone().requires_grad_()
    out = F.conv2d(x, w, padding=padding) if passes is None else convolve(x, w, None, padding, passes)
    return [out.detach(), *torch.autograd.grad(out, (x, w), dy)]


def error(found: Tensor, right: Tensor) -> float:
    return float((found - right).abs().max() / right.abs().max().clamp(min=1e-6))


@needs_numba
@settings(max_examples=40, deadline=None, phases=[Phase.generate])
@given(
    st.sampled_from(FILTERINGS), st.tuples(*[st.integers(1, 3), st.integers(1, 35), st.integers(1, 35)]),
    st.tuples(st.integers(1, 14), st.integers(1, 14)), st.tuples(st.integers(0, 4), st.integers(0, 4)),
    st.integers(1, 2), st.integers(0, 10**6),
)  # fmt: skip
def test_all_passes_of_any_shape_are_those_of_a_direct_convolution(  # noqa: PLR0913
    filtering, counts, sides, padding, threads, seed
):
    """Odd sides, one channel, one image, any padding; asked again, on as many threads, the same bits."""
    (images, channels, filters), r = counts, filtering.filter_size
    padding = tuple(min(p, r - 1) for p in padding)
    if min(s + 2 * p for s, p in zip(sides, padding, strict=True)) < r:
        return
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(images, channels, *sides, generator=draw).contiguous(memory_format=LAST)
    w = torch.randn(filters, channels, r, r, generator=draw)
    dy = torch.randn(F.conv2d(x, w, padding=padding).shape, generator=draw)
    right = all_passes(x.double(), w.double(), dy.double(), padding, None)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        found = all_passes(x, w, dy, padding, passes_of(filtering))
        others = all_passes(x, w, dy, padding, passes_of(filtering))
    finally:
        torch.set_num_threads(before)
    most = all_passes(x.double().abs(), w.double().abs(), dy.double().abs(), padding, None)
    for ours, theirs, scale in zip(found, right, most, strict=True):
        assert float((ours - theirs).abs().max()) <= NEAR * float(scale.max())
    assert all(torch.equal(a, b) for a, b in zip(found, others, strict=True))


@needs_numba
@pytest.mark.parametrize("filtering", FILTERINGS, ids=str)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 3e38])
def test_what_is_no_number_spreads_as_in_a_direct_convolution(filtering: Filtering, value: float):
    """A NaN in a corner reaches the outputs under whose filters it lies, and no other of its tile."""
    r = filtering.filter_size
    x = torch.randn(1, 3, 11, 11, generator=torch.Generator().manual_seed(0)).contiguous(memory_format=LAST)
    x[0, 1, 0, 0] = value
    w, dy = torch.randn(4, 3, r, r), torch.randn(1, 4, 11, 11)
    dy[0, 0, 5, 5] = value
    found = all_passes(x, w, dy, (r // 2, r // 2), passes_of(filtering))
    right = all_passes(x, w, dy, (r // 2, r // 2), None)
    for a, b in zip(found, right, strict=True):
        assert torch.equal(torch.isnan(a), torch.isnan(b))
        assert torch.equal(torch.isinf(a), torch.isinf(b))


@needs_numba
@pytest.mark.parametrize("name", ["alexnet", "vgg", "speednet", "resnet20"])
def test_a_network_is_as_near_to_float64_as_a_direct_one(name: str):
    """Its loss; and its gradients, where no activation has a corner on whose other side rounding may throw a number."""
    network = build(name, 4, 32, seed=0).to(memory_format=LAST)
    tiles = {layer: usual_tiles(shape) for layer, shape in shapes_of(network, 32).items()}
    assert len(tiles) > 1
    draw = torch.Generator().manual_seed(0)
    x, y = torch.randn(8, 3, 32, 32, generator=draw).contiguous(memory_format=LAST), torch.arange(8) % 4

    def step(tiles: dict) -> tuple[float, dict[str, Tensor]]:
        network.zero_grad()
        with convolving(network, tiles):
            loss = F.cross_entropy(network(x), y)
            loss.backward()
        return loss.item(), {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}

    (direct, gradients), (found, others) = step({}), step(tiles)
    assert found == pytest.approx(direct, rel=1e-5)
    assert "forward" not in {key for module in network.modules() for key in module.__dict__}
    if name == "speednet":  # SiLU is smooth
        assert max(error(others[n], gradients[n]) for n in gradients) < 1e-4


@needs_numba
@pytest.mark.parametrize(
    "shape", [Shape(8, 8, 3, 12, 12, (1, 1)), Shape(4, 6, 5, 9, 7, (2, 2)), Shape(2, 2, 3, 1, 1, (1, 1))]
)
def test_a_shape_is_timed_in_all_passes(shape: Shape):
    assert all(tile in (0, *[way.outputs for way in shape.ways()]) for tile in TIMED(shape))


@needs_numba
def test_shapes_are_found_and_layers_that_do_not_fit_are_left():
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding="same"), nn.Conv2d(8, 8, 3, stride=2, padding=1), nn.Conv2d(8, 8, 3, groups=2),
        nn.Conv2d(8, 8, 3, dilation=2), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(8, 4, 5, padding=4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2),
    )  # fmt: skip
    assert shapes_of(network, 32) == {"0": Shape(3, 8, 3, 32, 32, (1, 1)), "6": Shape(8, 4, 5, 10, 10, (4, 4))}


@needs_numba
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64, torch.float16])
def test_other_precisions_and_layouts_go_to_torch(dtype: torch.dtype):
    x, w = torch.randn(2, 3, 8, 8, dtype=dtype), torch.randn(4, 3, 3, 3, dtype=dtype)
    passes = passes_of(Filtering(4, 3))
    assert torch.equal(convolve(x, w, None, (1, 1), passes), F.conv2d(x, w, padding=1))
    plain, filters = x.float(), w.float()
    assert torch.equal(convolve(plain, filters, None, (1, 1), passes), F.conv2d(plain, filters, padding=1))
    with torch.autocast("cpu", torch.bfloat16):
        assert convolve(plain.contiguous(memory_format=LAST), filters, None, (1, 1), passes).dtype == torch.bfloat16


SHAPE = Shape(4, 4, 3, 8, 8, (1, 1))


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[Shape]:
    """The shapes that were timed."""
    seen: list[Shape] = []
    monkeypatch.setattr(timing, "timed", lambda shape: (seen.append(shape), (4, 0, 4))[1])
    return seen


def test_a_shape_is_timed_once_for_a_processor(timed: list[Shape], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CONVSCOPE_CACHE", str(tmp_path))
    assert fastest_tiles([SHAPE, SHAPE]) == {SHAPE: (4, 0, 4)}
    assert fastest_tiles([SHAPE]) == {SHAPE: (4, 0, 4)}
    assert timed == [SHAPE]
    monkeypatch.setattr(timing, "describe", lambda _: {"device": "another processor"})
    fastest_tiles([SHAPE])
    assert len(timed) == 2


@pytest.mark.parametrize("content", ["", "{", "[]", json.dumps({"format": 3, "x": 1}), "\x00" * 40])
def test_a_damaged_memory_of_timings_is_made_again(timed: list[Shape], tmp_path: Path, monkeypatch, content: str):
    monkeypatch.setenv("CONVSCOPE_CACHE", str(tmp_path))
    (tmp_path / timing.FILE).write_text(content)
    assert fastest_tiles([SHAPE]) == {SHAPE: (4, 0, 4)}
    fastest_tiles([SHAPE])
    assert len(timed) == 1


@pytest.mark.skipif(os.name != "posix", reason="folders have no modes")
def test_a_cache_that_cannot_be_written_costs_only_time(timed: list[Shape], tmp_path: Path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("CONVSCOPE_CACHE", str(tmp_path / "file"))
    assert fastest_tiles([SHAPE]) == {SHAPE: (4, 0, 4)}
    assert stat.S_ISREG((tmp_path / "file").stat().st_mode)


def test_direct_is_kept_where_the_lead_is_small(monkeypatch: pytest.MonkeyPatch):
    clock = iter([0.0, 1.0, 1.0, 1.95, 2.0, 3.0, 3.0, 3.95, 4.0, 5.0, 5.0, 5.95, 6.0, 7.0, 7.0, 7.95])
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(clock))
    assert timing._best(lambda: None, {4: lambda: None}) == 0
    assert usual_tiles(Shape(4, 4, 3, 1, 1, (1, 1))) == DIRECT  # one output: nothing is shared


@needs_numba
def test_a_run_records_its_choice_and_goes_on_with_it(tmp_path: Path):
    options = {"model": "speednet", "width": 4, "precision": "float32", "runs": tmp_path, "limit": 120}
    convscope.train("digits", name="a", epochs=2, convolution="winograd", **options)
    recipe = Run(tmp_path / "a").recipe()
    assert recipe.convolution.tiles
    assert set(recipe.convolution.by_layer) <= {f"conv{s}_{p}" for s in (1, 2, 3) for p in (1, 2)}
    convscope.train("digits", name="b", epochs=2, convolution="winograd", **options)
    weights = [(tmp_path / name / "classifier.safetensors").stat().st_size for name in "ab"]
    assert weights[0] == weights[1]
    logs = [[row["train_loss"] for row in Run(tmp_path / name).log()] for name in "ab"]
    assert logs[0] == logs[1]
    convscope.train("digits", name="c", epochs=2, convolution="direct", **options)
    assert Run(tmp_path / "c").recipe().convolution.tiles == ()
    direct = [row["train_loss"] for row in Run(tmp_path / "c").log()]
    assert direct != logs[0]
    assert direct == pytest.approx(logs[0], rel=0.05)


def test_without_numba_all_is_direct_and_a_wish_is_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from convscope.training import starting

    monkeypatch.setattr(starting, "is_possible", lambda: False)
    options = {"model": "speednet", "width": 4, "precision": "float32", "runs": tmp_path, "limit": 60, "epochs": 1}
    report = convscope.train("digits", name="a", convolution="winograd", **options)
    assert any("convolutions are direct" in note for note in report.notes)
    assert Run(tmp_path / "a").recipe().convolution.tiles == ()
    report = convscope.train("digits", name="b", **options)
    assert not any("direct" in note for note in report.notes)


@needs_numba
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_computes_on(tmp_path: Path):
    """The threads of a pool do not live on in a child: it makes its own instead of waiting for ever."""
    code = """
import os, torch
torch.set_num_threads(2)
from convscope.convolution.minimal_filtering import Filtering
from convscope.convolution.winograd import convolve
x, w = torch.ones(8, 4, 32, 32).contiguous(memory_format=torch.channels_last), torch.ones(4, 4, 3, 3)
before = convolve(x, w, Filtering(4, 3), (1, 1))[0]
child = os.fork()
if child == 0:
    same = torch.equal(before, convolve(x, w, Filtering(4, 3), (1, 1))[0])
    os._exit(0 if same else 1)
assert os.waitpid(child, 0)[1] == 0
assert torch.get_num_threads() == 2
"""
    done = subprocess.run([sys.executable, "-c", code], timeout=120, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@needs_numba
@pytest.mark.parametrize("harm", ["a file", "open to all", "cut short", "a bit"])
def test_compiled_loops_that_cannot_be_kept_are_compiled_again(tmp_path: Path, harm: str):
    """In a folder that others may write into nothing is read or kept: Numba runs what lies there."""
    code = """
import torch
from convscope.convolution.minimal_filtering import Filtering
from convscope.convolution.winograd import convolve
x, w = torch.ones(1, 4, 8, 8).contiguous(memory_format=torch.channels_last), torch.ones(4, 4, 3, 3)
print(convolve(x, w, Filtering(4, 3), (1, 1))[0].sum().item())
"""
    place = tmp_path / "cache"

    def run() -> str:
        env = {**os.environ, "CONVSCOPE_CACHE": str(place)}
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    if harm == "a file":
        place.touch()
    else:
        run()
    kept = sorted((place / "compiled").rglob("*.nb?")) if place.is_dir() else []
    if harm == "open to all":
        for path in kept:
            path.unlink()
        kept[0].write_bytes(b"code of somebody else")
        kept[0].with_name(f"{kept[0].name}.sha256").unlink()
        (place / "compiled").chmod(0o777)
    assert bool(kept) == (harm != "a file")
    for path in kept if harm == "cut short" else ():
        path.write_bytes(path.read_bytes()[:20])
    for path in kept if harm == "a bit" else ():
        data = path.read_bytes()
        path.write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
    assert float(run()) == pytest.approx(4 * 4 * (6 * 6 * 9 + 4 * 6 * 6 + 4 * 4), rel=1e-4)
    if harm == "open to all":
        assert list((place / "compiled").rglob("*.nb?")) == kept[:1]
        assert not kept[0].with_name(f"{kept[0].name}.sha256").exists()  # it does not become ours
    for path in kept if harm == "a bit" else ():  # it was not run, and is kept anew
        assert path.with_name(f"{path.name}.sha256").read_text() == file_hash(path)


@needs_numba
def test_a_layer_of_few_tiles_takes_the_threads_that_are_there():
    """Threads are made once, not anew wherever a layer has fewer blocks than the one before it."""
    from convscope.convolution import threads, winograd

    before, pools = torch.get_num_threads(), []
    try:
        torch.set_num_threads(3)
        for side in (40, 20, 40, 24):
            x = torch.ones(1, 4, side, side).contiguous(memory_format=LAST)
            winograd.convolve(x, torch.ones(4, 4, 3, 3), Filtering(3, 3), (1, 1))
            pools.append(threads._pool.pool)
    finally:
        torch.set_num_threads(before)
    assert pools[0] is not None
    assert len(set(map(id, pools))) == 1


@needs_numba
@pytest.mark.parametrize("tiles", [(6, 6, 6), (5, 1, 6), (0, 6, 0), (2, 2, 2)])
def test_tiles_of_a_record_that_are_never_chosen_compute_too(tiles: tuple[int, int, int]):
    """What would be too large is direct; what is small is only slow."""
    x, w, dy = torch.randn(1, 3, 9, 9).contiguous(memory_format=LAST), torch.randn(4, 3, 5, 5), torch.randn(1, 4, 9, 9)
    found = all_passes(x, w, dy, (2, 2), Passes.of(tiles, 5))
    right = all_passes(x, w, dy, (2, 2), None)
    assert max(error(a, b) for a, b in zip(found, right, strict=True)) < 1e-4


@needs_numba
def test_a_run_goes_on_without_numba_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from convscope.models import fast_convolutions
    from convscope.training import session

    options = {"model": "speednet", "width": 4, "precision": "float32", "runs": tmp_path, "limit": 60, "epochs": 2}
    begun = convscope.prepare_training("digits", name="a", convolution="winograd", **options)
    events = begun.events()
    next(event for event in events if isinstance(event, dict))  # the first epoch's row
    events.close()
    for place in (session, fast_convolutions):
        monkeypatch.setattr(place, "is_possible", lambda: False)
    report = convscope.train("digits", name="a", runs=tmp_path, resume=True)
    assert any("Numba is missing" in note for note in report.notes)
    assert len(Run(tmp_path / "a").log()) == 2


@needs_numba
def test_only_a_training_that_is_long_is_worth_timing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from convscope.models import fast_convolutions

    timed: list[Shape] = []
    monkeypatch.setattr(
        fast_convolutions, "fastest_tiles", lambda shapes, _: {s: (4, 4, 4) for s in shapes if not timed.append(s)}
    )
    options = {"model": "speednet", "width": 4, "precision": "float32", "runs": tmp_path, "limit": 60}
    assert convscope.prepare_training("digits", name="short", epochs=1, **options).recipe.convolution.tiles == ()
    assert not timed
    assert convscope.prepare_training("digits", name="long", epochs=10**6, **options).recipe.convolution.tiles
    assert timed
