"""Recipes: every hyper-parameter of a training as nested frozen records, and the named recipes with their claims.

A recipe is flattened into options (``--lr``, ``--epochs``, ...) by ``Recipe.flat`` and changed by
``Recipe.with_options``; ``recipe.json`` in a run holds it whole. Nothing here needs torch, so that the command line
starts at once.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import field
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from .errors import UnknownName, UsageError
from .spoken import option_name

_frozen = dataclass(frozen=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))
Positive = Annotated[int, Field(gt=0, le=10**9)]
TileSide = Annotated[int, Field(ge=0, le=6)]
Share = Annotated[float, Field(ge=0, lt=1)]
Alpha = Annotated[float, Field(ge=0, le=100)]


@_frozen
class Model:
    """Which network. ``None`` leaves a choice to the model: see ``convscope models NAME``."""

    name: str = "alexnet"
    width: Positive | None = None
    depth: Positive | None = None
    batch_norm: bool | None = None
    dropout: Share | None = None
    stem: Positive | Literal["small"] | None = None
    shortcut: str | None = None
    weights: str | None = None

    def options(self) -> dict[str, Any]:
        """Tell what the model's builder is given."""
        return {name: value for name, value in vars(self).items() if name not in ("name", "weights")}


@_frozen
class Data:
    """Which images, and how they are fitted: ``image_size`` in pixels (None: the dataset's own default).

    ``stretch`` spreads the range of each image over all of it. ``fold`` "2/5" validates on the second of five folds of
    the training and validation images, and trains on the others. ``sides`` are parts of images, by the first 8 bytes of
    their hash in hexadecimal: those that are not where they would be if they were split anew.
    """

    name: str = "digits"
    image_size: Positive | None = None
    fit: str = "crop"
    stretch: bool = False
    limit: Positive | None = None
    bad_images: str = "error"
    fold: Annotated[str, Field(pattern=r"^[1-9]\d?/[1-9]\d?$")] | None = None
    sides: dict[str, str] | None = field(default=None, hash=False)


@_frozen
class Source:
    """How images and labels are read from a folder or a table, where their layout alone does not say it.

    ``path_column`` and ``label_column`` name columns of a table, whose paths are in the folder ``images`` and end in
    ``suffix``; ``label_from`` and ``group`` are regular expressions for the names of files, or ``group`` a column: what
    has one group stays on one side of every split. ``corrections`` is a file of images to leave out or relabel.
    ``renamed`` is a table of classes' old names and new ones, the same for classes that are merged.
    """

    path_column: str | None = None
    label_column: str | None = None
    images: str | None = None
    suffix: str | None = None
    label_from: str | None = None
    group: str | None = None
    corrections: str | None = None
    renamed: dict[str, str] | None = field(default=None, hash=False)


@_frozen
class Optimizer:
    """How weights move: rates are peaks of the schedule, ``warmup`` is a share of the run.

    ``clip`` is the largest norm of a gradient; 0 is none.
    """

    name: str = "sgd"
    lr: Annotated[float, Field(gt=0)] = 0.03
    momentum: Share = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    schedule: str = "one-cycle"
    warmup: Share = 0.25
    clip: Annotated[float, Field(ge=0)] | None = 1.0
    label_smoothing: Share = 0.1


# Each operation of augmentation with what its amount may be; 0 is off. Lengths are shares of the image's width and
# height, angles degrees; zoom 0.2 means up to 1.2 times closer to the camera. images/augmentation.py has what they do.
OPERATIONS: dict[str, Any] = {
    "translate": Share,
    "zoom": Annotated[float, Field(ge=0, le=2)],
    "rotate": Annotated[float, Field(ge=0, le=180)],
    "brightness": Share,
    "contrast": Share,
    "cutout": Share,
}


@_frozen
class Augment:
    """Random variations of a training image: ``amounts`` are those of OPERATIONS, which are off where none is given.

    ``flip`` is "none", "random" (each epoch a coin) or "alternating" (a coin once, then every other epoch: each pair of
    epochs shows both sides).
    """

    name: str = "none"
    flip: str = "none"
    amounts: dict[str, Any] = field(default_factory=dict, hash=False)  # floats, as OPERATIONS allows them

    def __post_init__(self) -> None:
        for operation, amount in self.amounts.items():
            if operation not in OPERATIONS:
                raise UnknownName("augmentation operation", operation, OPERATIONS)
            try:
                self.amounts[operation] = TypeAdapter(OPERATIONS[operation]).validate_python(amount)
            except ValidationError as error:
                raise UsageError(_sentence(error, operation)) from None

    def amount(self, operation: str) -> float:
        """Tell how far an operation of OPERATIONS may go; 0 where it is off."""
        return self.amounts.get(operation, 0.0)


@_frozen
class Labels:
    """What an image is taught. ``mixup`` and ``cutmix`` are the alpha of the share's Beta distribution; 0 is off.

    ``balance`` weighs each class's loss by the inverse of its number of training images.
    """

    mixup: Alpha = 0.0
    cutmix: Alpha = 0.0
    balance: bool = False


@_frozen
class Loop:
    """How long, in what pieces, in what arithmetic. ``patience``: epochs without a better validation to stop after.

    ``batch_size`` None is settled by the number of images: 128 (512 with Muon), or fewer so that an epoch has 20
    updates, never under 16. ``ema`` is the decay an update of averaged weights, which are then what is validated and
    kept; 0 is none. ``save_memory`` computes activations again in the backward pass instead of keeping them.
    """

    epochs: Positive = 20
    batch_size: Positive | None = None
    patience: Positive | None = None
    precision: str = "auto"
    compile: bool = False
    ema: Share = 0.0
    save_memory: bool = False
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0


@_frozen
class Reading:
    """How images reach the network: packed once into the cache, or decoded anew each epoch where they ``stream``."""

    stream: bool = False


@_frozen
class Parts:
    """A batch in parts: ``accumulate`` of them are computed one after the other, before one update by all of them.

    ``sync_batch_norm`` normalises by the whole batch where several processes share it, else each by its own share.
    """

    accumulate: Positive = 1
    sync_batch_norm: bool = False


@_frozen
class Convolution:
    """Direct, or with fewer multiplications: "winograd" wherever that can be, "auto" where it was timed to be faster.

    What came of it are ``tiles``: a layer with the outputs a side of its tiles in the forward pass, the input's and the
    filters' gradient, 0 for direct; layers that are not there are direct. ``fused`` names the batch norms that are
    computed in one go with the activation and the pools beside them.
    """

    name: str = "auto"
    tiles: tuple[tuple[str, TileSide, TileSide, TileSide], ...] = ()
    fused: tuple[str, ...] = ()

    @property
    def by_layer(self) -> dict[str, tuple[int, int, int]]:
        """The tiles of each layer by its name."""
        return {name: (forward, images, filters) for name, forward, images, filters in self.tiles}


AUGMENTS: dict[str, Augment] = {
    "none": Augment("none"),
    "light": Augment("light", flip="alternating", amounts={"translate": 0.0625}),
    "standard": Augment(
        "standard", flip="alternating", amounts={"translate": 0.125, "zoom": 0.1, "brightness": 0.1, "contrast": 0.1}
    ),
    "strong": Augment(
        "strong",
        flip="alternating",
        amounts={"translate": 0.125, "zoom": 0.25, "rotate": 10, "brightness": 0.2, "contrast": 0.2, "cutout": 0.25},
    ),
}
OPTIMIZERS: dict[str, Optimizer] = {
    "sgd": Optimizer(),
    "adamw": Optimizer("adamw", lr=2e-3, weight_decay=0.05),
    "muon": Optimizer("muon", lr=0.05, momentum=0.6, weight_decay=5e-4),
}
USUAL_BATCH = {"muon": 512}  # images an update where there are many; 128 with the other optimizers
SCHEDULES = ("one-cycle", "cosine", "constant")  # defined in training/schedules.py
CONVOLUTIONS = ("auto", "direct", "winograd")
PRECISIONS = ("auto", "float32", "bfloat16")
FLIPS = ("none", "random", "alternating")
BAD_IMAGES = ("error", "skip")


@_frozen
class Recipe:
    """Every hyper-parameter of a training."""

    model: Model = field(default_factory=Model)
    data: Data = field(default_factory=Data)
    source: Source = field(default_factory=Source)
    optimizer: Optimizer = field(default_factory=Optimizer)
    augment: Augment = field(default_factory=lambda: AUGMENTS["standard"])
    labels: Labels = field(default_factory=Labels)
    loop: Loop = field(default_factory=Loop)
    parts: Parts = field(default_factory=Parts)
    convolution: Convolution = field(default_factory=Convolution)
    reading: Reading = field(default_factory=Reading)

    def __post_init__(self) -> None:
        for kind, name, known in (
            ("optimizer", self.optimizer.name, OPTIMIZERS),
            ("schedule", self.optimizer.schedule, SCHEDULES),
            ("augmentation", self.augment.name, AUGMENTS),
            ("flip", self.augment.flip, FLIPS),
            ("precision", self.loop.precision, PRECISIONS),
            ("convolution", self.convolution.name, CONVOLUTIONS),
            ("way with bad images", self.data.bad_images, BAD_IMAGES),
        ):
            if name not in known:
                raise UnknownName(kind, name, known)

    def to_dict(self) -> dict[str, Any]:
        """The recipe as JSON values; ``Recipe.from_dict`` gives it back."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> Recipe:
        """A recipe from JSON values; UsageError naming the field that does not fit."""
        try:
            return TypeAdapter(Recipe).validate_python(dict(values) if isinstance(values, Mapping) else values)
        except ValidationError as error:
            raise UsageError(_sentence(error)) from None

    def flat(self) -> dict[str, Any]:
        """Every field by its option's name: ``model``, ..., ``lr``, ...; an operation of augmentation by its own."""
        flat = {_option(s, f): v for s, fields in dataclasses.asdict(self).items() for f, v in fields.items()}
        amounts = flat.pop("amounts")
        return flat | {operation: amounts.get(operation, 0.0) for operation in OPERATIONS}

    def with_options(self, options: Mapping[str, Any]) -> Recipe:
        """This recipe with some options changed; those that are None are left as they are.

        ``augment`` takes a level of AUGMENTS and replaces the whole section; changing ``optimizer`` brings that
        optimizer's own rates. UnknownName or UsageError where an option or its value does not exist.
        """
        given = {k: v for k, v in options.items() if v is not None}
        sections = self.to_dict()
        places = {_option(s, f): (s, f) for s, fields in sections.items() for f in fields if f != "amounts"}
        for kind, table in (("optimizer", OPTIMIZERS), ("augment", AUGMENTS)):
            name = given.get(kind)
            if isinstance(name, str) and name != sections[kind]["name"]:
                if name not in table:
                    raise UnknownName("augmentation" if kind == "augment" else kind, name, table)
                sections[kind] = dataclasses.asdict(table[name])
        sections["augment"]["amounts"] |= {name: given.pop(name) for name in OPERATIONS if name in given}
        for name, value in given.items():
            if name not in places:
                raise UnknownName("option", name, [*places, *OPERATIONS])
            section, part = places[name]
            sections[section][part] = value
        return Recipe.from_dict(sections)


def _option(section: str, part: str) -> str:
    """The flat name of a field: a section's ``name`` goes by the section."""
    return section if part == "name" else part


def _sentence(error: ValidationError, operation: str = "") -> str:
    first = error.errors()[0]
    place = [str(p) for p in first["loc"]][:2]  # what follows is a kind of value, where several may be given
    field = operation or (_option(*place) if len(place) > 1 else "")
    name = option_name(field) if field else "".join(place) or "recipe"
    reason = first["msg"][0].lower() + first["msg"][1:]
    return f"{name} {first['input']!r} does not do: {reason}."
