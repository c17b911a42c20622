"""The attack on numbers has an entry for all that computes, sees planted faults, and what it found stays mended."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

import convscope
from convscope.classifying import metrics
from convscope.convolution import minimal_filtering, normalised, timing
from convscope.convolution.normalised import Row
from convscope.explanation import attribution
from convscope.explanation.attribution import METHODS
from convscope.explanation.crops import OUTSIDE, cut
from convscope.explanation.maximize import _unit
from convscope.feature_store.nearest import most_similar
from convscope.images import mixing
from convscope.images.augmentation import CHANGES, PLACES
from convscope.models.registry import MODELS
from convscope.recipes import OPTIMIZERS
from convscope.tasks import regression
from convscope.tasks.multi_label import settings as thresholds_of
from convscope.tasks.registry import TASKS
from convscope.training import loop, muon, schedules
from convscope.training.muon import orthogonal
from convscope.training.schedules import SCHEDULES
from torture import right_numbers
from torture.numbers_compare import KINDS, apart, unequal
from torture.numbers_functions import FILTERINGS, FUNCTIONS, convolved, normed
from torture.numbers_layers import LAYERS
from torture.right_numbers import NUMBERS, attack, flaw_of

SOURCES = sorted(Path(convscope.__file__).parent.rglob("*.py"))
OWN_BASES = {"MapNetwork"}

needs_numba = pytest.mark.skipif(not timing.is_possible(), reason="Numba is not installed")


def classes() -> dict[str, str]:
    """All classes of the package with their bases, as they are written."""
    texts = (path.read_text(encoding="utf-8") for path in SOURCES)
    return {name: bases for text in texts for name, bases in re.findall(r"^class (\w+)\(([^)]*)\):", text, re.M)}


# ------------------------------------------------------------------------------------------------------- completeness


def test_each_function_of_autograd_has_an_entry() -> None:
    own = {name for name, bases in classes().items() if "autograd.Function" in bases}
    assert own == set(FUNCTIONS) == {"_Convolution", "_Normalised", "_Synchronised"}
    assert all(f"function {name}" in NUMBERS for name in own)


def test_each_layer_of_ours_has_an_entry() -> None:
    own = {name for name, bases in classes().items() if bases.startswith("nn.") or bases in OWN_BASES}
    assert own == set(LAYERS)
    assert len(own) > 10


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("layer", LAYERS),
        ("model", MODELS),
        ("loss", TASKS),
        ("figures", TASKS),
        ("method", METHODS),
        ("optimizer", OPTIMIZERS),
        ("schedule", SCHEDULES),
        ("augmentation", [*PLACES, *(name for names in CHANGES for name in names)]),
    ],
)
def test_each_name_of_a_table_has_an_entry(kind: str, names: list[str]) -> None:
    entries = {name.removeprefix(f"{kind} ") for name in NUMBERS if name.startswith(f"{kind} ")}
    assert not set(names) - entries, f"write a check of it into tests/torture/numbers_*.py: {kind}"


def test_an_attack_tries_each_entry_before_it_tries_one_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(right_numbers, "NUMBERS", dict.fromkeys("abcdefgh", lambda random: f"{random.random()}"))
    one, again, other = (list(attack(seed, 20, tmp_path)) for seed in (3, 3, 4))
    assert one == again != other
    assert sorted(a.what[0] for a in one[:8]) == sorted(a.what[0] for a in one[8:16]) == list("abcdefgh")
    assert len({a.flaw for a in one}) == len(one) == 20
    assert list(attack(0, 0, tmp_path)) == []


def test_what_a_check_raises_or_warns_of_is_a_flaw(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NUMBERS, "raises", lambda random: 1 / 0)
    monkeypatch.setitem(NUMBERS, "warns", lambda random: str(np.float64(1) / np.zeros(1)))
    assert flaw_of("raises", 0, 0) == "ZeroDivisionError: division by zero"
    assert flaw_of("warns", 0, 0).startswith("RuntimeWarning")


# ------------------------------------------------------------------------------------------------------ planted faults


def test_what_differs_is_told_and_what_rounding_leaves_is_not() -> None:
    right = np.array([1000.0, 1.0, 0.0])
    assert not apart(right + 0.009, right, "it")
    assert apart(right + np.array([0, 0.011, 0]), right, "it") == "it is 1.011 and not 1, 1.1e-05 of the largest"
    assert not apart(right + np.array([0, 0.011, 0]), right, "it", scale=2000.0)
    assert "has the shape" in apart(right[:2], right, "it")
    for odd in (np.nan, np.inf, -np.inf):
        assert "not finite" in apart(np.where(right == 1, odd, right), right, "it")
        assert not apart([odd, 1.0], [odd, 1.0], "it")
    assert apart([np.inf], [-np.inf], "it")
    assert not apart(np.zeros((0, 3)), np.zeros((0, 3)), "nothing")
    assert unequal([np.array([0.0])], [np.array([-0.0])], "zeros")
    assert not unequal([torch.ones(2)], [torch.ones(2)], "ones")


def scaled(function: Callable, by: float = 1.0005) -> Callable:
    return lambda *args, **more: function(*args, **more) * by


@needs_numba
@pytest.mark.parametrize(
    ("entry", "module", "name", "fault"),
    [
        ("layer, a row in evaluation", normalised, "_line", scaled),
        ("loss, labels that are mixed, smoothed and weighed", loop.F, "cross_entropy", scaled),
        ("metric, cross-entropy", metrics, "log_softmax", scaled),
        ("figures regression", regression, "_r2", scaled),
        ("method occlusion", attribution, "_moves", lambda f: lambda size, side, stride: f(size, side, stride) - 1),
        ("method integrated-gradients", attribution, "leggauss", lambda f: lambda n: (f(n)[0], f(n)[1] * 1.001)),
        ("optimizer muon", muon, "orthogonal", scaled),
        ("schedule cosine", schedules, "_warm", scaled),
        ("training, mixing", mixing, "_cut", lambda f: lambda *a: f(*a) & (np.arange(a[2]) % 2 == 0)),
    ],
)
def test_a_fault_of_one_in_two_thousand_is_seen(
    entry: str, module: object, name: str, fault: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not any(flaw_of(entry, 1, number) for number in range(12))
    monkeypatch.setattr(module, name, fault(getattr(module, name)))
    assert any(flaw_of(entry, 1, number) for number in range(12))


def test_a_wrong_gradient_of_a_loss_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(ctx, logits, labels):
            ctx.save_for_backward(logits, labels)
            return torch.nn.functional.cross_entropy(logits, labels)

        @staticmethod
        def backward(ctx, gradient):
            logits, labels = ctx.saved_tensors
            hot = torch.nn.functional.one_hot(labels, logits.shape[1])
            return gradient * (logits.softmax(1) - hot), None  # not divided by the images

    from torture import numbers_losses

    whole = {**TASKS, "classification": type("Task", (), {"loss": staticmethod(Wrong.apply)})}
    monkeypatch.setattr(numbers_losses, "TASKS", whole)
    assert any("gradient" in flaw_of("loss classification", 0, number) for number in range(8))


# ------------------------------------------------------------------------------- shapes that shrink to the least wrong


@needs_numba
@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(FILTERINGS[1:2]),  # tests/test_winograd.py takes all: each is compiled, for seconds
    st.tuples(st.integers(1, 3), st.integers(1, 20), st.integers(1, 20)),
    st.tuples(st.integers(1, 12), st.integers(1, 12)),
    st.integers(0, 2**20),
)
@example(FILTERINGS[1], (1, 1, 2), (1, 1), 1)
def test_convolutions_of_any_shape_and_values(
    way: minimal_filtering.Filtering, counts: tuple[int, int, int], sides: tuple[int, int], seed: int
) -> None:
    assert not convolved(np.random.default_rng(seed), way, counts, sides)


@needs_numba
@settings(max_examples=25, deadline=None)
@given(
    st.builds(Row, st.booleans(), st.integers(0, 2), st.booleans()).filter(lambda row: not (row.before and row.after)),
    st.tuples(st.integers(1, 4), st.integers(1, 40)),
    st.tuples(st.integers(2, 10), st.integers(2, 10)),
    st.integers(0, 2**20),
)
def test_rows_of_any_shape_and_values(row: Row, counts: tuple[int, int], sides: tuple[int, int], seed: int) -> None:
    assert not normed(np.random.default_rng(seed), row, counts, sides)


def test_the_kinds_of_values_are_what_they_are_called() -> None:
    random = np.random.default_rng(0)
    made = {kind: make(random.normal(size=1000), random).astype(np.float32) for kind, make in KINDS.items()}
    assert 0 < np.abs(made["denormal"]).max() < np.finfo(np.float32).tiny
    assert np.ptp(made["constant"]) == 0
    assert made["negative"].max() < 0
    assert (made["half zeros"] == 0).mean() == pytest.approx(0.5, abs=0.1)
    assert made["far from 0"].min() > 40
    assert np.abs(made["large"]).max() > 1e12 > 1e-11 > np.abs(made["tiny"]).max()


# ------------------------------------------------------------------------------------------------- what stays mended


@pytest.mark.parametrize(("about", "spread"), [(0, 1.0), (0, 1e-9), (1e9, 1.0), (-1e6, 1e-3), (0, 1e100)])
def test_r2_is_that_of_the_numbers_about_their_mean(about: float, spread: float) -> None:
    random = np.random.default_rng(0)
    steps, errors = random.normal(size=60), 0.5 * random.normal(size=60)
    wanted = 1 - (errors**2).sum() / ((steps - steps.mean()) ** 2).sum()
    truth = about + spread * steps
    tallies = np.stack([truth + spread * errors, truth], 1)
    figures = regression.score(tallies, ("number",), {}).figures
    assert figures["r2"] == pytest.approx(wanted, rel=1e-5)
    assert figures["r2_low"] < figures["r2"] < figures["r2_high"]


@pytest.mark.parametrize("value", [0.0, 7.0, 1e9 + 0.1])
def test_numbers_that_are_all_one_have_no_r2(value: float) -> None:
    tallies = np.stack([np.arange(5.0), np.full(5, value)], 1)
    figures = regression.score(tallies, ("number",), {}).figures
    assert figures["r2"] is figures["r2_low"] is None


@pytest.mark.parametrize("size", [1e-40, 1e-30, 1e-20, 1e-13, 1e20, 1e30])
def test_muon_does_not_ask_how_large_a_gradient_is(size: float) -> None:
    matrix = torch.randn(8, 20, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(orthogonal(matrix * size), orthogonal(matrix), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [1e-30, 1e-22, 1e25])
def test_a_direction_has_unit_size_however_small_it_was(size: float) -> None:
    x = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(_unit(x * size), _unit(x), rtol=1e-5, atol=1e-6)
    assert torch.equal(_unit(torch.zeros(2, 3)), torch.zeros(2, 3))


def test_the_size_of_one_direction_does_not_touch_another() -> None:
    x = torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(0))
    sizes = torch.tensor([1e-30, 0.0, 1e20, 1.0]).view(4, 1, 1)
    torch.testing.assert_close(_unit(x * sizes), _unit(x) * (sizes > 0), rtol=1e-5, atol=1e-6)


def test_sizes_are_measured_without_float64_which_not_every_device_has() -> None:
    with NoFloat64():
        _unit(torch.ones(2, 3))
        orthogonal(torch.ones(2, 3))
        with pytest.raises(TypeError, match="float64"):
            torch.ones(2).double()


class NoFloat64(TorchDispatchMode):
    """Where an operation that gives float64 raises, as on Apple's MPS."""

    def __torch_dispatch__(self, function: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = function(*args, **(kwargs or {}))
        if isinstance(found, torch.Tensor) and found.dtype == torch.float64:
            raise TypeError(f"{function} gives float64")
        return found


@pytest.mark.parametrize("size", [1e-16, 1.0, 1e12])
def test_the_nearest_image_is_the_nearest_however_short_features_are(size: float) -> None:
    rows = size * np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    (nearest, cosine), *_ = most_similar(rows, rows[2], 3)
    assert (nearest, cosine) == (2, pytest.approx(1, abs=1e-6))


@pytest.mark.parametrize("best", [0.3, 1 - 2**-53, 1 - 2**-52, 1.0])
def test_a_threshold_lies_above_the_next_lower_probability(best: float) -> None:
    tallies = np.array([[[best, 1.0]], [[np.nextafter(best, 0), 0.0]], [[0.1, 0.0]]])
    (threshold,) = thresholds_of(tallies)["thresholds"]
    assert (tallies[:, 0, 0] >= threshold).tolist() == [True, False, False]


@pytest.mark.parametrize("box", [(-3, 0, -1, 2), (0, -4, 2, -2), (9, 0, 12, 2), (0, 8, 2, 11), (-2, -2, 0, 0)])
def test_a_crop_of_nothing_but_padding_is_grey(box: tuple[int, int, int, int]) -> None:
    crop = cut(np.zeros((5, 6, 3), np.uint8), box)
    assert crop.shape == (box[2] - box[0], box[3] - box[1], 3)
    assert (crop == OUTSIDE).all()
