"""What people pass from Python is turned into what is declared, or refused in one sentence."""

from __future__ import annotations

import dataclasses
import inspect
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import convscope
from convscope import given as given_module
from convscope.datasets.options import DatasetOptions
from convscope.diagnosis.options import DiagnoseOptions
from convscope.errors import UsageError
from convscope.evaluation.options import EvaluateOptions, PredictOptions
from convscope.explanation.options import ExplainOptions, ImageOptions
from convscope.exporting.options import ExportOptions
from convscope.feature_store.options import FeaturesOptions, SimilarOptions
from convscope.given import as_declared
from convscope.images.from_memory import held_images
from convscope.models.options import ModelOptions
from convscope.progress import Progress
from convscope.studies.options import StudyOptions
from convscope.training.options import TrainOptions
from convscope.transfer_learning.options import TransferOptions

GROUPS = [
    DatasetOptions,
    TrainOptions,
    EvaluateOptions,
    PredictOptions,
    ExplainOptions,
    ImageOptions,
    DiagnoseOptions,
    FeaturesOptions,
    SimilarOptions,
    TransferOptions,
    StudyOptions,
    ExportOptions,
    ModelOptions,
]


class Foreign:
    """A path of another library."""

    def __fspath__(self) -> str:
        return "some/where"


MEANT: list[tuple[Any, Any, Any]] = [
    (Path | None, "some/where", Path("some/where")),
    (Path | None, b"some/where", Path("some/where")),
    (Path | None, Foreign(), Path("some/where")),
    (Path | None, Path("some/where"), Path("some/where")),
    (Path | None, os.fsencode(Path("caf\xe9")), Path("caf\xe9")),
    (Path | None, None, None),
    (str, Path("some/where"), "some/where"),
    (str, b"some/where", "some/where"),
    (str, Foreign(), "some/where"),
    (str, np.str_("name"), "name"),
    (str, torch.device("cpu"), "cpu"),
    (str | None, torch.device("cuda", 1), "cuda:1"),
    (Literal["float32", "float16"], torch.float16, "float16"),
    (str | Path, Path("some/where"), Path("some/where")),
    (str | Path | None, "some/where", "some/where"),
    (Sequence[str] | None, "conv1", ["conv1"]),
    (Sequence[str] | None, ("conv1", "conv2"), ["conv1", "conv2"]),
    (Sequence[str] | None, np.array(["conv1", "conv2"]), ["conv1", "conv2"]),
    (Sequence[str] | None, (name for name in ["conv1"]), ["conv1"]),
    (Sequence[str] | None, {"conv1": 1}.keys(), ["conv1"]),
    (Annotated[Sequence[str] | None, "with a name"], "cam", ["cam"]),
    (Sequence[int] | None, 3, [3]),
    (Sequence[int] | None, np.int64(3), [3]),
    (Sequence[int] | None, np.array([3, 4]), [3, 4]),
    (Sequence[int] | None, np.array(3), [3]),
    (Sequence[int] | None, torch.tensor([3, 4]), [3, 4]),
    (Sequence[int] | None, torch.tensor(3), [3]),
    (Sequence[int] | None, range(3), [0, 1, 2]),
    (Sequence[int] | None, (3, np.int32(4)), [3, 4]),
    (Sequence[int] | None, {3}, [3]),
    (int, np.int16(5), 5),
    (int, 5.0, 5),
    (int, np.float32(5), 5),
    (int | None, torch.tensor(5), 5),
    (int | Literal["small"] | None, "small", "small"),
    (int | Literal["small"] | None, np.uint8(7), 7),
    (float | Literal["auto"] | None, np.float32(0.5), 0.5),
    (float | Literal["auto"] | None, "auto", "auto"),
    (float | None, np.float16(0.5), 0.5),
    (float | None, torch.tensor(0.5), 0.5),
    (float | None, 1, 1),
    (Annotated[bool | None, "a flag"], np.True_, True),
    (bool, 1, True),
    (Mapping[str, float] | None, {"rotate": np.float32(5)}, {"rotate": 5.0}),
    (Mapping[str, float] | None, {"rotate": 5}, {"rotate": 5}),
    (Progress | None, print, print),
    (bytes | None, b"an image", b"an image"),
    (Any, 3, 3),
]


@pytest.mark.parametrize(
    ("declared", "value", "meant"), MEANT, ids=[f"{i} {d}"[:60] for i, (d, *_) in enumerate(MEANT)]
)
def test_what_is_meant_is_taken(declared: Any, value: Any, meant: Any) -> None:
    found = as_declared("option", value, declared)
    assert found == meant
    assert type(found) is type(meant) or isinstance(meant, str)
    assert as_declared("option", found, declared) == meant


NOT_MEANT: list[tuple[Any, Any, str]] = [
    (str, 3, r"^option takes a string, not 3\.$"),
    (str, None, r"^option takes a string, not None\.$"),
    (str | Path, 3.5, r"^option takes a string or a path, not 3\.5\.$"),
    (Path | None, 3, r"^option takes a path, not 3\.$"),
    (int, "3", r"^option takes a whole number, not '3'\.$"),
    (int, 3.5, r"^option takes a whole number, not 3\.5\.$"),
    (int | None, float("nan"), r"not nan\.$"),
    (int | None, float("inf"), r"not inf\.$"),
    (int | None, True, r"^option takes a whole number, not True\.$"),
    (int | None, [3], r"not \[3\]\.$"),
    (float | None, "fast", r"^option takes a number, not 'fast'\.$"),
    (float | None, np.array([0.1, 0.2]), r"^option takes a number, not \[0\.1, 0\.2\]\.$"),
    (bool, "yes", r"^option takes True or False, not 'yes'\.$"),
    (Sequence[int] | None, "3", r"^option takes a whole number or several of these, not '3'\.$"),
    (Sequence[str] | None, 3, r"^option takes a string or several of these, not 3\.$"),
    (Sequence[str] | None, [3], r"not \[3\]\.$"),
    (Mapping[str, float] | None, 3, r"^option takes a mapping of names to numbers, not 3\.$"),
    (Mapping[str, float] | None, {"rotate": "far"}, r"^option\['rotate'\] takes a number, not 'far'\.$"),
    (
        Progress | None,
        False,
        r"^option takes a function \(what, done, total\) that is told .*, not False\.$",
    ),
    (Callable[[int], int] | None, 3, r"^option takes a function, not 3\.$"),
    (str | Path, object(), r"not an object of type object\.$"),
]


@pytest.mark.parametrize(
    ("declared", "value", "said"), NOT_MEANT, ids=[f"{i} {d}"[:60] for i, (d, *_) in enumerate(NOT_MEANT)]
)
def test_what_cannot_be_meant_is_a_sentence(declared: Any, value: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        as_declared("option", value, declared)


def fields() -> Iterator[tuple[str, Any, Any]]:
    """(name, declared type, default) of every option of every function."""
    for group in GROUPS:
        hints = get_type_hints(group)
        for field in dataclasses.fields(group):
            yield f"{group.__name__}.{field.name}", hints[field.name], field.default


@pytest.mark.parametrize(("name", "declared", "default"), [*fields()], ids=[name for name, *_ in fields()])
def test_every_default_is_what_its_option_takes(name: str, declared: Any, default: Any) -> None:
    assert as_declared(name, default, declared) is default
    if declared is not Any:
        with pytest.raises(UsageError, match=f"^{name} takes .* not an object of type object.$"):
            as_declared(name, object(), declared)


FUNCTIONS = [
    thing
    for name in convscope.__all__
    if inspect.isfunction(thing := getattr(convscope, name)) and hasattr(thing, "__wrapped__") and name != "watching"
]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_every_function_knows_what_it_declares(function: Callable[..., Any]) -> None:
    """Else the first call would raise a NameError; and what is none of it is refused before anything is read."""
    assert get_type_hints(function.__wrapped__)
    first = next(iter(inspect.signature(function).parameters))
    others = [object() for p in inspect.signature(function).parameters.values() if p.default is p.empty][1:]
    with pytest.raises(UsageError, match=f"^{first} takes "):
        function(object(), *others)


def test_all_functions_take_what_is_meant() -> None:
    assert {f.__name__ for f in FUNCTIONS} >= {"train", "predict", "load_dataset", "open_classifier", "save_example"}
    functions = {name for name in convscope.__all__ if inspect.isfunction(getattr(convscope, name))}
    assert functions - {f.__name__ for f in FUNCTIONS} == {"watching"}  # whose network is no path, nor a name


@given(st.text(min_size=1).filter(lambda t: "\0" not in t and not any("\ud800" <= c <= "\udfff" for c in t)))
def test_a_path_is_the_same_in_each_form(name: str) -> None:
    forms = [name, Path(name), os.fsencode(name)]
    assert len({as_declared("path", form, Path) for form in forms}) == 1


def test_a_path_may_begin_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    for form in ("~/runs", Path("~/runs"), b"~/runs"):
        assert as_declared("runs", form, Path | None) == tmp_path / "home" / "runs"
    (tmp_path / "~").mkdir()
    (tmp_path / "~" / "runs").mkdir()
    assert as_declared("runs", "~/runs", Path | None) == Path("~/runs")


PIXELS = np.random.default_rng(0).integers(0, 256, (6, 5, 3), dtype=np.uint8)
CHANNELS_FIRST = torch.from_numpy(PIXELS).permute(2, 0, 1)
HELD: dict[str, tuple[Any, int]] = {
    "Pillow's": (Image.fromarray(PIXELS), 1),
    "an array": (PIXELS, 1),
    "an array of floats": (PIXELS / 255, 1),
    "an array of float32": ((PIXELS / 255).astype(np.float32), 1),
    "a batch": (np.stack([PIXELS, PIXELS]), 2),
    "a tensor": (CHANNELS_FIRST, 1),
    "a tensor of floats": (CHANNELS_FIRST / 255, 1),
    "a tensor with a gradient": ((CHANNELS_FIRST / 255).requires_grad_(), 1),
    "a batch of tensors": (torch.stack([CHANNELS_FIRST] * 3), 3),
    "not contiguous": (np.stack([PIXELS, PIXELS], axis=3)[..., 0], 1),
}


@pytest.mark.parametrize("form", HELD)
def test_an_image_in_memory_is_taken_in_each_form(form: str) -> None:
    given, count = HELD[form]
    found = held_images(given)
    assert len(found) == count
    assert all(np.array_equal(np.asarray(image), PIXELS) for image in found)


def test_grey_and_transparent_images_in_memory() -> None:
    for grey in (PIXELS[:, :, 0], PIXELS[:, :, :1], CHANNELS_FIRST[0], CHANNELS_FIRST[:1]):
        (image,) = held_images(grey)
        assert image.mode == "L"
    clear = np.concatenate([PIXELS, PIXELS[:, :, :1]], axis=2)
    assert held_images(clear)[0].mode == "RGBA"


NOT_HELD = [
    PIXELS.astype(np.uint16),
    PIXELS.astype(np.float32),
    (PIXELS / 255 - 0.5) / 0.25,
    PIXELS[:0],
    PIXELS[0, 0],
    np.stack([PIXELS] * 2)[None],
    np.full((6, 5, 3), np.nan),
    np.array(["a.png"]),
    torch.from_numpy(PIXELS),
    CHANNELS_FIRST.to(torch.int64),
    torch.zeros(2, 6, 5),
]


@pytest.mark.parametrize("given", NOT_HELD, ids=map(str, range(len(NOT_HELD))))
def test_what_is_no_image_in_memory_is_a_sentence(given: Any) -> None:
    with pytest.raises(UsageError, match=r"^an image in memory is uint8, .*normalised, or its file\.$"):
        held_images(given)


def test_the_words_for_a_type_need_no_article_of_their_own() -> None:
    assert given_module._words(str | Path | Image.Image | Sequence[str]) == (
        "a string, a path, Image or several of these"
    )


@pytest.mark.parametrize(
    ("declared", "value", "told"),
    [
        (Literal["quick", "full"], "quik", "no x named 'quik'. Did you mean 'quick'? Known: quick, full."),
        (Literal["a", "b", "c"] | None, "d", "no x named 'd'. Known: a, b, c."),
        (Annotated[Literal[1, 2], "said"], 3, "x takes 1 or 2, not 3."),
        (Sequence[Literal["a", "b"]], ["a", "c"], "x takes"),
    ],
)
def test_values_that_are_declared_are_the_only_ones(declared: Any, value: Any, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        as_declared("x", value, declared)
    assert str(caught.value).startswith(told)
