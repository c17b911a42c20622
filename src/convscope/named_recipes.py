"""The recipes that have a name, each with the claim that was measured of it."""

from __future__ import annotations

import dataclasses
from typing import Any

from .errors import UnknownName
from .recipes import Recipe


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

# What both of torchvision's recipes for ImageNet have in common, in our words.
_IMAGENET = {
    **{"model": "resnet50", "image_size": 224, "schedule": "cosine", "warmup": 0.01, "clip": 0.0},
    **{"augment": "light", "flip": "random", "zoom": 1.0, "translate": 0.125},
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
    "resnet50-90": NamedRecipe(
        _recipe(epochs=90, lr=0.1, weight_decay=1e-4, batch_size=256, label_smoothing=0.0, **_IMAGENET),
        "resnet50 on ImageNet, PUBLISHED by torchvision (first weights), not measured by us: 76.1 % in 90 epochs; "
        "their rate falls in steps, ours along a cosine; they crop from 8 % of an image on, we from a quarter",
    ),
    "resnet50-600": NamedRecipe(
        _recipe(
            **{"epochs": 600, "lr": 0.5, "weight_decay": 2e-5, "batch_size": 1024, "label_smoothing": 0.1},
            **{"mixup": 0.2, "cutmix": 1.0, "ema": 0.99997},
            **_IMAGENET | {"image_size": 176, "cutout": 0.25},
        ),
        "resnet50 on ImageNet, PUBLISHED by torchvision (second weights, 2021), not measured by us: 80.9 % in 600 "
        "epochs; of theirs ours lacks TrivialAugment, repeated augmentation and crops of less than a quarter",
    ),
}

# The one dial: width, epochs and rate together, the smallest first.
SIZES = {"small": "speed-small", "medium": "speed-medium", "large": "speed-large"}


def find_recipe(name: str) -> NamedRecipe:
    """The named recipe; UnknownName otherwise."""
    if name not in RECIPES:
        raise UnknownName("recipe", name, RECIPES)
    return RECIPES[name]
