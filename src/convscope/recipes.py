"""Recipes: every hyper-parameter of a training as nested frozen records, and the named recipes with their claims.

A recipe is flattened into options (``--lr``, ``--epochs``, ...) by ``Recipe.flat`` and changed by
``Recipe.with_options``; ``recipe.json`` in a run holds it whole. Nothing here needs torch, so that the command line
starts at once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import field
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from .errors import UnknownName, UsageError

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

    ``stretch`` spreads the range of each image over all of it.
    """

    name: str = "digits"
    image_size: Positive | None = None
    fit: str = "crop"
    stretch: bool = False
    limit: Positive | None = None
    bad_images: str = "error"


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
    ``convolution``: "winograd" takes fewer multiplications wherever it can, "direct" nowhere, "auto" where it was timed
    to be faster; what was found is in ``tiles``, by layer: outputs a side of a tile in the forward pass, the input's
    gradient and the filters' gradient, 0 for direct.
    """

    epochs: Positive = 20
    batch_size: Positive | None = None
    patience: Positive | None = None
    precision: str = "auto"
    compile: bool = False
    ema: Share = 0.0
    save_memory: bool = False
    convolution: str = "auto"
    tiles: dict[str, tuple[TileSide, TileSide, TileSide]] = field(default_factory=dict)
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0


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
    optimizer: Optimizer = field(default_factory=Optimizer)
    augment: Augment = field(default_factory=lambda: AUGMENTS["standard"])
    labels: Labels = field(default_factory=Labels)
    loop: Loop = field(default_factory=Loop)

    def __post_init__(self) -> None:
        for kind, name, known in (
            ("optimizer", self.optimizer.name, OPTIMIZERS),
            ("schedule", self.optimizer.schedule, SCHEDULES),
            ("augmentation", self.augment.name, AUGMENTS),
            ("flip", self.augment.flip, FLIPS),
            ("precision", self.loop.precision, PRECISIONS),
            ("convolution", self.loop.convolution, CONVOLUTIONS),
            ("way with bad images", self.data.bad_images, BAD_IMAGES),
        ):
            if name not in known:
                raise UnknownName(kind, name, known)

    def to_dict(self) -> dict[str, Any]:
        """The recipe as JSON values; ``Recipe.from_dict`` gives it back."""
        return dataclasses.asdict(self)

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> Recipe:
        """A recipe from JSON values; UsageError naming the field that does not fit."""
        try:
            return TypeAdapter(Recipe).validate_python(dict(values) if isinstance(values, Mapping) else values)
        except ValidationError as error:
            raise UsageError(_sentence(error)) from None

    def flat(self) -> dict[str, Any]:
        """Every field by its option's name: ``model``, ..., ``lr``, ...; an operation of augmentation by its own."""
        flat = {_option(s, f): v for s, fields in self.to_dict().items() for f, v in fields.items()}
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
    place = [str(p) for p in first["loc"]]
    name = operation or (_option(*place[-2:]) if len(place) > 1 else "".join(place) or "recipe")
    reason = first["msg"][0].lower() + first["msg"][1:]
    return f"{name.replace('_', '-')} {first['input']!r} does not do: {reason}."


@dataclasses.dataclass(frozen=True)
class Measured:
    """What a recipe reached: validation accuracy as a fraction, of the log's best epoch, and minutes of training."""

    data: str
    top1: float
    minutes: float


@dataclasses.dataclass(frozen=True)
class NamedRecipe:
    """A recipe with its measured claim: what was reached, over how many seeds, on what, and the log that shows it."""

    recipe: Recipe
    claim: str
    log: str | None = None
    measured: Measured | None = None


def _recipe(**options: Any) -> Recipe:
    return Recipe().with_options(options)


# Found on CIFAR-10's validation images: docs/log.md has the rates that were tried.
_LECTURE = {"augment": "light", "batch_size": 128, "lr": 0.2, "weight_decay": 1e-3, "warmup": 0.2, "clip": 0.0}

# The rate, the batch and what the network's tricks are worth: docs/log.md.
_SPEED = {
    **{"model": "speednet", "optimizer": "muon", "augment": "light", "lr": 0.12},
    **{"warmup": 0.0, "clip": 0.0, "label_smoothing": 0.2},
}

RECIPES: dict[str, NamedRecipe] = {
    "default": NamedRecipe(_recipe(), "a sound start for any images; no claim"),
    "digits": NamedRecipe(
        _recipe(model="alexnet", width=32, augment="light", epochs=12, batch_size=64, lr=0.05, label_smoothing=0.05),
        "the built-in digits: 98.7 to 99.6 % test accuracy with 3 seeds, 8 seconds of training",
        "docs/logs/digits-seed0",
    ),
    "lecture-4": NamedRecipe(
        _recipe(model="alexnet", epochs=4, **_LECTURE),
        "the lecture's AlexNet on CIFAR-10: 77.6 % [76.4, 78.7] validation accuracy in 4 epochs (the lecture: 75 %)",
        "docs/logs/lecture-4-seed0",
        Measured("cifar10", 0.7756, 3.3),
    ),
    "lecture-6": NamedRecipe(
        _recipe(model="alexnet", epochs=6, **_LECTURE),
        "the lecture's AlexNet on CIFAR-10: 82.1 % [81.5, 82.8] validation accuracy in 6 epochs, mean of 3 seeds",
        "docs/logs/lecture-6-seed0",
        Measured("cifar10", 0.819, 5.1),
    ),
    "alexnet-20": NamedRecipe(
        _recipe(model="alexnet", epochs=20, **_LECTURE | {"augment": "standard"}),
        "the lecture's AlexNet on CIFAR-10: 86.3 % [85.3, 87.2] validation accuracy in 20 epochs",
        "docs/logs/alexnet-20-seed0",
        Measured("cifar10", 0.8628, 14.5),
    ),
    "vgg-20": NamedRecipe(
        _recipe(model="vgg", depth=6, epochs=20, **_LECTURE | {"augment": "standard"}),
        "a network by the VGG rules on CIFAR-10: 91.8 % [91.0, 92.5] validation accuracy in 20 epochs",
        "docs/logs/vgg-20-seed0",
        Measured("cifar10", 0.9182, 43.7),
    ),
    "resnet20-14": NamedRecipe(
        _recipe(model="resnet20", epochs=14, **_LECTURE),
        "the residual net of 20 layers on CIFAR-10: 89.4 % [88.6, 90.3] validation accuracy in 14 epochs",
        "docs/logs/resnet20-10min-seed0",
        Measured("cifar10", 0.8944, 9.8),
    ),
    "resnet-7": NamedRecipe(
        _recipe(model="resnet", epochs=7, **_LECTURE),
        "the lecture's residual net, made for large images, on CIFAR-10: 78.1 % [76.9, 79.2] in 7 epochs",
        "docs/logs/resnet-10min-seed0",
        Measured("cifar10", 0.7806, 11.4),
    ),
    "speed-small": NamedRecipe(
        _recipe(width=32, epochs=8, **_SPEED),
        "speednet on CIFAR-10 in 8 epochs: 90.8 % [89.9, 91.5] validation accuracy, 92.1 % with test-time views",
        "docs/logs/speed-small-8-seed0",
        Measured("cifar10", 0.9076, 2.4),
    ),
    "speed-medium": NamedRecipe(
        _recipe(width=64, epochs=8, **_SPEED),
        "speednet on CIFAR-10 in 8 epochs: 93.1 % [92.3, 93.8] validation accuracy, 94.0 % with test-time views",
        "docs/logs/speed-medium-8-seed0",
        Measured("cifar10", 0.9308, 7.5),
    ),
    "speed-large": NamedRecipe(
        _recipe(width=128, epochs=8, **_SPEED),
        "speednet on CIFAR-10 in 8 epochs: 94.2 % [93.5, 94.8] validation accuracy",
        "docs/logs/speed-large-8-seed0",
    ),
}

# The one dial: width, epochs and rate together, the smallest first.
SIZES = {"small": "speed-small", "medium": "speed-medium", "large": "speed-large"}


def find_recipe(name: str) -> NamedRecipe:
    """The named recipe; UnknownName otherwise."""
    if name not in RECIPES:
        raise UnknownName("recipe", name, RECIPES)
    return RECIPES[name]
