"""Options, each declared once: its type, default and help stand beside the field of a frozen dataclass.

The command line flattens such a group (``Flat``), and a Python function takes its fields as typed keywords
(``with_options``, ``with_data_and_options``). A field's help is the text below it.

Files with options do without ``from __future__ import annotations``: the types of a field are read from classes that
inherit it elsewhere, where a name in quotes would mean nothing.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Annotated, Any, Literal, ParamSpec, Protocol, TypeVar, get_type_hints

from cyclopts import Parameter

from .errors import UnknownName, UsageError
from .given import bound_arguments, turn
from .progress import Progress
from .renaming import table_of
from .spoken import called

Flag = Annotated[bool, Parameter(negative=())]
Part = Literal["train", "val", "test", "all"]
Views = Literal["none", "flip", "shift", "flip-shift"]
Engines = Literal["auto", "torch", "onnxruntime"]
STANDARD_INPUT = "standard input"  # what the parser is given instead of "-", to it an unknown option

O = TypeVar("O")  # noqa: E741 - a group of options
P = ParamSpec("P")  # its fields
S = TypeVar("S", contravariant=True)  # what a command is asked about
I = TypeVar("I", contravariant=True)  # noqa: E741 - an image
D = TypeVar("D", contravariant=True)  # the data it is asked on
R = TypeVar("R", covariant=True)  # its answer

Flat = Annotated[O, Parameter(name="*")]  # on the command line: the fields of the group as options


# ----------------------------------------------------------------------------------------- groups that commands share


@dataclass(frozen=True, kw_only=True)
class Runs:
    """Where runs lie."""

    runs: Path | None = None
    """The folder of runs (default: $CONVSCOPE_RUNS, else runs)."""


@dataclass(frozen=True, kw_only=True)
class DataRoot:
    """Where data lie."""

    data_root: Path | None = None
    """Where cifar10 lies (default: $CONVSCOPE_DATA, else the cache)."""


@dataclass(frozen=True, kw_only=True)
class Places(DataRoot, Runs):
    """Where data and runs lie."""


@dataclass(frozen=True, kw_only=True)
class ProgressOption:
    """Who is told how far the work is."""

    progress: Annotated[Progress | None, Parameter(parse=False)] = None
    """Called with (what, done, total) as the work goes on."""


@dataclass(frozen=True, kw_only=True)
class OwnCode:
    """The code of a network of one's own."""

    model: str | None = None
    """Needed for a net of your own: module.py:function, or the file alone, whose code is run."""


@dataclass(frozen=True, kw_only=True)
class PretrainedWeights:
    """The weights of a pretrained network."""

    weights: Path | None = None
    """For pretrained:NAME: a safetensors file to take the weights from."""


@dataclass(frozen=True, kw_only=True)
class ArchitectureOptions:
    """What a network of ours can be built with; None leaves a choice to the network."""

    width: int | None = None
    """Filters of the first layer."""
    depth: int | None = None
    """Convolutions, for models that have a choice."""
    batch_norm: bool | None = None
    """With or without batch normalization."""
    dropout: float | None = None
    """The probability of dropping a unit between the fully connected layers."""
    stem: int | Literal["small"] | None = None
    """Filter size of resnet's first layer, or small for images of about 32 pixels."""
    shortcut: Literal["pad", "projection"] | None = None
    """pad or projection: how the CIFAR residual nets skip where the size changes."""


@dataclass(frozen=True, kw_only=True)
class Corrections:
    """What is left out or relabelled."""

    corrections: Path | None = None
    """A file of images to leave out or relabel, as `convscope doctor` writes it."""


@dataclass(frozen=True, kw_only=True)
class Device:
    """What it is computed on."""

    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""


@dataclass(frozen=True, kw_only=True)
class SubjectOptions(Corrections, OwnCode, Device, Places, ProgressOption):
    """How a run, a classifier file or a model's name is found, with its data."""

    weights: Path | None = None
    """For a model's name: a safetensors file to take the weights from (random weights without)."""


@dataclass(frozen=True, kw_only=True)
class SourceOptions(Corrections):
    """How images and labels are read from a folder or a table, where the layout alone does not say it."""

    path_column: str | None = None
    """The column of a table that names the image (default: path, file, image and the like)."""
    label_column: str | None = None
    """The column of a table that holds the label (default: label, class, category and the like)."""
    images: Path | None = None
    """The folder that a table's paths are in (default: that of the table)."""
    suffix: str | None = None
    """What a table's names lack at their ends, such as .jpg."""
    label_from: str | None = None
    """A regular expression that finds the class in a file's name, such as '^([a-z]+)'."""
    group: str | None = None
    """A regular expression for file names, or a table's column: images of one group stay on one side of every split."""
    merge: Annotated[Sequence[str] | None, Parameter(consume_multiple=False)] = None
    """glass,plastic=container makes one class of several; repeat it for other classes."""
    rename: Annotated[Sequence[str] | None, Parameter(consume_multiple=False)] = None
    """glas=glass gives a class another name; repeat it for other classes."""

    def reading(self) -> dict[str, Any]:
        """The fields of a recipe's source that were given, by their names, and None for the others.

        UsageError where ``merge`` or ``rename`` do not fit together.
        """
        given = {field.name: getattr(self, field.name) for field in dataclasses.fields(SourceOptions)}
        return given | {"renamed": table_of(given.pop("merge"), given.pop("rename")) or None}


@dataclass(frozen=True, kw_only=True)
class Fitting(SourceOptions):
    """Which images, and how they are fitted to the network's input."""

    image_size: int | None = None
    """Side of the images in pixels: by default 32 for named datasets, 64 for folders and tables, or the backbone's."""
    fit: str | None = None
    """crop (the middle), pad (the whole image with borders), squash, or auto: what costs these images least."""
    stretch: Annotated[bool | None, Parameter(negative=())] = None
    """Spread each image's range of values over all of 0 to 255, at its own depth: for 12 bits in 16, for X-rays."""
    limit: int | None = None
    """Use so many images, stratified."""
    bad_images: str | None = None
    """error, or skip those that cannot be read."""


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Which cluster, and how much of it."""

    workers: int | None = None
    """With --engine ray: so many processes that hold the network (default: one for each processor there is)."""
    address: str | None = None
    """With --engine ray: a cluster's HOST:PORT, or auto (default: $RAY_ADDRESS, else workers on this machine)."""


@dataclass(frozen=True, kw_only=True)
class Hiring(Cluster):
    """Where the work is done."""

    engine: Literal["local", "ray"] = "local"
    """local, or ray: by workers on a cluster or on this machine (pip install 'convscope[scale]'), the same results."""


def check_unasked(options: Any, used: Collection[str], what_for: str) -> None:
    """UsageError where an option that is not among the ``used`` was given, so that none is passed over in silence."""
    for field in dataclasses.fields(options):
        made = field.default_factory
        usual = field.default if made is dataclasses.MISSING else made()
        if field.name not in (*used, "progress") and getattr(options, field.name) != usual:
            raise UsageError(f"{_typed_name(field)} is for {what_for}.")


def _typed_name(field: "dataclasses.Field[Any]") -> str:
    """What an option is called on the command line."""
    for parameter in getattr(field.type, "__metadata__", ()):
        names = parameter.name if isinstance(parameter, Parameter) else None
        if names:
            return names if isinstance(names, str) else next(iter(names))
    return f"--{field.name.replace('_', '-')}"


# ---------------------------------------------------------------------------------------------------- typed keywords


class TakesOptions(Protocol[S, P, R]):
    """A function of one thing, and options by keyword."""

    def __call__(self, subject: S, /, *args: P.args, **options: P.kwargs) -> R: ...


class TakesImagesAndOptions(Protocol[S, D, P, R]):
    """A function of one thing and images; and options by keyword."""

    def __call__(self, subject: S, images: D, /, *args: P.args, **options: P.kwargs) -> R: ...


class MayChooseAndTakesOptions(Protocol[S, P, R]):
    """A function of one thing, if wanted; and options by keyword."""

    def __call__(self, subject: S = ..., /, *args: P.args, **options: P.kwargs) -> R: ...


class TakesDataAndOptions(Protocol[S, D, P, R]):
    """A function of one thing and, if wanted, other data; and options by keyword."""

    def __call__(self, subject: S, data: D | None = None, /, *args: P.args, **options: P.kwargs) -> R: ...


class TakesImageDataAndOptions(Protocol[S, I, D, P, R]):
    """A function of one thing and an image and, if wanted, other data; and options by keyword."""

    def __call__(self, subject: S, image: I, data: D | None = None, /, *args: P.args, **options: P.kwargs) -> R: ...


def with_options(group: Callable[P, O]) -> Callable[[Callable[[S, O], R]], TakesOptions[S | PathLike, P, R]]:
    """Make a function of (subject, options) take the fields of ``group`` as keywords. UnknownName for any other.

    Here and below, what is given is turned into what is declared, or refused in a sentence: a path for a name, say.
    """
    return functools.partial(_by_keyword, group)


def with_choice_and_options(
    group: Callable[P, O],
) -> Callable[[Callable[[S, O], R]], MayChooseAndTakesOptions[S | str, P, R]]:
    """Do what ``with_options`` does for a function of (choice, options): without a choice it is given None."""
    return functools.partial(_by_keyword, group, may_lack=0)


def with_images_and_options(
    group: Callable[P, O],
) -> Callable[[Callable[[S, D, O], R]], TakesImagesAndOptions[S | PathLike, D, P, R]]:
    """Make a function of (subject, images, options) take the fields of ``group`` as keywords."""
    return functools.partial(_by_keyword, group)


def with_data_and_options(
    group: Callable[P, O],
) -> Callable[[Callable[[S, D | None, O], R]], TakesDataAndOptions[S | PathLike, D, P, R]]:
    """Make a function of (subject, data, options) take the fields of ``group`` as keywords; data may be left out."""
    return functools.partial(_by_keyword, group, may_lack=1)


def with_image_data_and_options(
    group: Callable[P, O],
) -> Callable[[Callable[[S, I, D | None, O], R]], TakesImageDataAndOptions[S | PathLike, I, D, P, R]]:
    """Do what ``with_data_and_options`` does for a function of (subject, image, data, options)."""
    return functools.partial(_by_keyword, group, may_lack=2)


def _by_keyword(group: Any, function: Callable[..., Any], may_lack: int | None = None) -> Any:
    """Take a group's fields as keywords; the positional of number ``may_lack`` is None where it is not given."""
    fields = [field.name for field in dataclasses.fields(group)]
    hints, subject_hints = get_type_hints(group), functools.cache(lambda: get_type_hints(function))
    *positional, _ = inspect.signature(function).parameters.values()
    if may_lack is not None:
        positional[may_lack] = positional[may_lack].replace(default=None)

    @functools.wraps(function)
    def call(*subjects: Any, **given: Any) -> Any:
        by_name = {p.name: given.pop(p.name) for p in positional if p.name in given}
        for name in given:
            if name not in fields:
                raise UnknownName("option", name, [*(p.name for p in positional), *fields])
        bound = bound_arguments(function.__name__, inspect.Signature(positional), subject_hints(), subjects, by_name)
        bound.apply_defaults()
        with called():
            turn(bound.arguments, subject_hints())
            turn(given, hints)
            return function(*bound.args, group(**given))

    keywords = [p for p in inspect.signature(group).parameters.values() if p.kind is p.KEYWORD_ONLY]
    call.__signature__ = inspect.Signature([*positional, *keywords])  # type: ignore[attr-defined]
    return call
